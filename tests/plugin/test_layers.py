"""The layers of these tests: the quick ones first and free of labs, and few tests that may be tried again."""

from __future__ import annotations

import os
import subprocess
import sys
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


MARKS = """
def pytest_collection_finish(session):
    for item in session.items:
        print("MARKS", item.nodeid.partition("::")[0], *{mark.name for mark in item.iter_markers()})
"""


def test_the_quick_layers_come_first_and_few_tests_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "tells_marks.py").write_text(MARKS)
    words = "--collect-only -q -p no:cacheprovider -p tells_marks tests"
    command = [sys.executable, "-m", "pytest", *words.split()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("MARKS ")]
    layers = [layer for layer, _ in groupby(tests, key=lambda test: test[0].split("/")[1])]
    assert layers == ["unit", "plugin", "lab", "vm"]
    timed = [test for test in tests if "timed" in test]
    assert {test[0] for test in timed} == TIMED
    assert all("lab" in test for test in timed)


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
