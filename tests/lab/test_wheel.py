"""The wheel: a stranger installs channover and runs its suites, without the clone that they were written in."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from channover.cli.stated import STATED
from channover.report.signoff import certificate
from tests.support import packages
from tests.support.certificates import Page
from tests.support.workers import WORKERS

ROOT = Path(__file__).parents[2]
SUITES = "channover_suites"
ONE = f"{SUITES}.lacp.test_lag::test_one_tcp_flow_rides_one_link"


class Installed:
    """An environment with channover from its wheel, and a folder of a user who has nothing else."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
        self.python = folder / "env/bin/python"
        self.packages = Path(self._said("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        self.install(wheel)
        # What channover needs comes from the environment of these tests. Python reads no .pth file of a folder that is
        # named in one, so that the clone stays out.
        (self.packages / "others.pth").write_text("".join(f"{one}\n" for one in site.getsitepackages()))
        program = self.python.with_name("pytest")
        program.write_text(f"#!{self.python}\nimport pytest\nraise SystemExit(pytest.console_main())\n")
        program.chmod(0o755)

    def install(self, wheel: Path) -> None:
        words = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "-q", "--no-deps", "--no-index"]
        subprocess.run([*words, str(wheel)], check=True)

    def _said(self, code: str) -> str:
        return subprocess.check_output([self.python, "-c", code], cwd=self.home, text=True)

    def pytest(self, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
        return subprocess.run(
            [self.python.with_name("pytest"), "-p", "no:cacheprovider", *words],
            cwd=self.home,
            env={**kept, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *words: str) -> tuple[dict[str, Any], str]:
        """Run the suites, and return the results and the certificate's text."""
        done = self.pytest("--no-report", "--pyargs", "--target=netns", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        latest = self.home / "reports/latest"
        results: dict[str, Any] = json.loads((latest / "results.json").read_text())
        page = certificate.write(latest, now=datetime.now(timezone.utc), pdf=False).page
        return results, Page(page.read_text("utf-8")).text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_wheel_holds_all_that_the_clone_has_of_package_and_suites(wheel: Path) -> None:
    tracked = subprocess.check_output(["git", "ls-files", "plugins/channover", "suites"], cwd=ROOT, text=True).split()
    wanted = {
        file.removeprefix("plugins/") if file.startswith("plugins/") else file.replace("suites", SUITES, 1)
        for file in tracked
        if (ROOT / file).exists()
    }
    assert any(file.endswith("guardian.sh") for file in wanted)
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert wanted <= held
    assert {name.partition("/")[0] for name in held} == {"channover", SUITES}


def test_the_clone_does_not_have_the_installed_suites_beside_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import importlib.util as u; print(u.find_spec('{SUITES}'))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "None"


@pytest.mark.slow
def test_the_installed_suites_are_those_of_the_clone_by_their_package_s_name(installed: Installed) -> None:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "suites/"]
    clone = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = [line.replace("suites", SUITES, 1) for line in clone.splitlines() if line.startswith("suites/")]
    for argument in (SUITES, f"{SUITES}.lacp", f"{SUITES}.lacp.test_lag"):
        done = installed.pytest("--collect-only", "-q", "--pyargs", argument)
        found = [line for line in done.stdout.splitlines() if "::" in line and not line.startswith("would skip")]
        assert found == [line for line in wanted if line.startswith(argument.replace(".", "/"))] != []


def test_doctor_and_schema_are_there_without_the_clone(installed: Installed) -> None:
    done = subprocess.run(
        [installed.python.with_name("channover"), "doctor", "--target", "netns"],
        cwd=installed.home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert all(behaviour in done.stdout for behaviour in STATED)
    assert not done.stderr


@pytest.mark.lab
@WORKERS
def test_a_stranger_runs_the_main_job_from_the_wheel(installed: Installed, workers: tuple[str, ...]) -> None:
    results, sheet = installed.run(SUITES, "-k", "one_tcp_flow_rides_one_link", *workers)
    node = f"{SUITES}/lacp/test_lag.py::test_one_tcp_flow_rides_one_link"
    assert [(test["nodeid"], test["outcome"]) for test in results["tests"]] == [(node, "passed")]
    run = results["run"]
    assert [planned["nodeid"] for planned in run["planned"]] == [node]
    assert all(one["nodeid"].startswith(f"{SUITES}/") for one in run["left_out"]) and len(run["left_out"]) > 10
    assert run["revision"].startswith("channover 0.1.0 RECORD sha256:") and not run["revision"].endswith("-dirty")
    assert run.get("changes", []) == []
    assert sheet.count(run["revision"]) == 2  # as the method, and in an annex
    assert "the revision of the suites" not in sheet and "revision not recorded" not in sheet


@pytest.mark.lab
@pytest.mark.slow
def test_installed_suites_that_are_not_as_they_were_installed_are_told(installed: Installed) -> None:
    clean = installed.run(ONE)[0]["run"]["revision"]
    subprocess.run(
        ["git", "init", "-q", installed.home], check=True
    )  # somebody's own, which says nothing of the suites
    changed, more, beside = (
        installed.packages / SUITES / "lacp/test_lag.py", installed.packages / SUITES / "more.py",
        installed.home / "conftest.py",
    )  # fmt: skip
    before = changed.read_bytes()
    try:
        changed.write_bytes(before + b"\n")
        more.write_text("")
        beside.write_text("")
        results, sheet = installed.run(ONE)
    finally:
        changed.write_bytes(before)
        more.unlink()
        beside.unlink()
    words = [
        f"{SUITES}/lacp/test_lag.py (changed)", f"{SUITES}/more.py (not of the distribution)",
        "conftest.py (beside the distribution)",
    ]  # fmt: skip
    assert (results["run"]["revision"], results["run"]["changes"]) == (f"{clean}-dirty", words)
    assert f"the suites were not as their revision {clean}-dirty has them: {', '.join(words)}" in sheet


@pytest.mark.lab
def test_a_third_party_s_package_uses_every_door_from_its_wheel_without_the_clone(
    installed: Installed, tmp_path: Path
) -> None:
    """Last of this module: its package stays. ``make wheel-check`` does so in fresh environments of several Pythons."""
    installed.install(packages.wheel(packages.ACME, tmp_path))
    words = ("--pyargs", "acme_bonds", "--target=acme", "--acme-pod=7", "--lag-driver=acme", "--no-report")
    done = installed.pytest(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    latest = installed.home / "reports/latest"
    results: dict[str, Any] = json.loads((latest / "results.json").read_text())
    run, tests = results["run"], {test["nodeid"].split("::")[1]: test for test in results["tests"]}
    assert (run["target"], run["lag_driver"], run["link_rate"]) == ("acme", "acme", 50e6)
    assert {name: (test.get("behaviour"), test["outcome"]) for name, test in tests.items()} == {
        "test_the_desk_has_four_legs": ("ACME-1", "passed"),
        "test_the_desk_flies": ("ACME-2", "skipped"),
        "test_a_bond_has_an_address": ("ACME-3", "passed"),
        "test_two_bonds_meet_in_one_host": ("ACME-3", "passed"),
        "test_a_camera_counts_frames": (None, "passed"),
        "test_a_host_is_cool": (None, "passed"),
    }
    units = {one["name"]: one["unit"] for test in tests.values() for one in test["measurements"]}
    assert units.items() >= {"frames": "frames/s", "temperature": "°C", "load": "processes"}.items()
    assert "acme-bonds 1.2 RECORD sha256:" in run["revision"]
    command = [str(installed.python.with_name("channover")), "certificate", "reports/latest"]
    subprocess.run(command, cwd=installed.home, capture_output=True, check=False)  # its code is that of the verdict
    sheet = Page((latest / "certificate.html").read_text("utf-8")).text
    assert "ACME-3" in sheet and "a bond has an address" in sheet and "not in this version" not in sheet
