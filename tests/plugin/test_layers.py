"""The layers of these tests: the quick ones first and free of labs, and few tests that may be tried again."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMED = {
    "tests/lab/test_cleanup.py",
    "tests/lab/test_faults.py",
    "tests/lab/test_files.py",
    "tests/lab/test_iperf.py",
    "tests/lab/test_rack_suites.py",
    "tests/lab/test_without_root.py",
    "tests/plugin/test_judging.py",
}
"""Modules whose tests rest on time: only these may be tried again, since a second try hides a fault of anything else."""
SUITE = """
import pytest
from pathlib import Path

@pytest.mark.{marker}
def test_a_lab():
    tries = Path("tries")
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    assert len(tries.read_text()) > 1, "no verdict: other work took the processors"
"""


@cache
def collected(*options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options, "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line]


def test_the_quick_layers_come_first() -> None:
    layers = [layer for layer, _ in groupby(collected(), key=lambda path: path.split("/")[1])]
    assert layers == ["unit", "plugin", "lab", "vm"]


def test_no_other_module_s_tests_may_be_tried_again() -> None:
    assert set(collected("-m", "timed")) == TIMED
    assert collected("-m", "timed") == collected("-m", "timed and lab")


@pytest.mark.parametrize(("marker", "passed"), [("timed", 1), ("lab", 0)])
def test_only_a_timed_test_is_tried_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marker: str, passed: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'plugins'}:{ROOT}")
    pytester.makepyfile(SUITE.format(marker=marker))
    done = pytester.runpytest_subprocess("-p", "tests.support.timed", "-W", "ignore")
    done.assert_outcomes(passed=passed, failed=1 - passed)
    assert (pytester.path / "tries").read_text() == "x" * (1 + passed)


def test_a_lab_in_the_unit_layer_is_refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'plugins'}:{ROOT}")
    unit = pytester.mkpydir("tests") / "unit"
    unit.mkdir()
    (unit / "test_it.py").write_text(SUITE.format(marker="lab"))
    (unit.parent / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (unit.parent / "support").symlink_to(ROOT / "tests" / "support")
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "tests")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*tests/unit/test_it.py::test_a_lab takes a lab: its place is tests/lab*"])
