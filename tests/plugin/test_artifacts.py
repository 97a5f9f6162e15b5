"""What a test that did not pass leaves as plain files, without Allure's report, in xdist's workers too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import channover
from channover.report.results import Results

PLUGINS = str(Path(channover.__file__).parent.parent)
SUITE = """
import pytest
from channover.testing import behaviour

@behaviour("MP-8")
@pytest.mark.parametrize("case", ["../ä b/" + "x" * 200, "other"])
def test_a_count(lab, counted, case):
    left = lab.left
    left.run("sh", "-c", "echo of the command; echo and its errors >&2; exit 3", check=False)
    left.run("ip", "route", "show", "table", "main", quiet=True)
    left.write(f"{left.folder}/daemon.log", "the daemon's own log, token=" + "s3cr3t-of-the-run" + "\\n")
    process = left.spawn("sh", "-c", "echo told by a program; exec sleep 60")
    process.wait_for("told", 5.0)
    assert counted("ports", 1 if case == "other" else 3) == 1

@behaviour("MP-8")
def test_set_up_that_fails(broken, lab, counted):
    assert counted("ports", 1) == 1

@pytest.fixture
def broken(channover_record):
    from channover.testing import TestbedError
    raise TestbedError("no lab today")
"""


@pytest.mark.lab
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_failure_leaves_what_each_host_showed_as_plain_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider"]
    command += ["--pcap", "on-failure", "--no-report", *options]
    environment = {**os.environ, "PYTHONPATH": PLUGINS, "MY_TOKEN": "s3cr3t-of-the-run"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    run = (tmp_path / "reports/latest").resolve()
    tests = {one.outcome: one for one in Results.from_json((run / "results.json").read_text()).tests}
    assert {one.outcome for one in tests.values()} == {"failed", "passed", "error"}, done.stdout
    assert not tests["passed"].artifacts and len(list((run / "artifacts").iterdir())) == 2
    folder = run / tests["failed"].artifacts
    assert folder.is_dir() and len(folder.name) <= 100 and folder.name.isascii()
    assert f"reports/{run.name}/{tests['failed'].artifacts}" in done.stdout, "the failure names it"
    assert "ports of 3, expected exactly 1" in (folder / "failure.txt").read_text()
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    commands = files["left/commands.txt"].read_text()
    assert "exit 3'\nof the command\nand its errors\n(ended with code 3)\n" in commands
    assert "] ? ip route show table main" in commands
    (program,) = folder.glob("left/programs/*-sh.log")
    assert "\ntold by a program\n" in program.read_text()
    assert "; ran as long as its lab\n" in program.read_text()
    addresses = files["right/state/addresses.txt"].read_text()
    assert addresses.startswith("$ ip address show\n") and "eth1" in addresses
    assert {
        "left/state/counters.txt",
        "left/state/nics.txt",
        "left/packets/a.pcap",
        "panel/commands.txt",
    } <= files.keys()
    assert files["left/packets/a.pcap"].read_bytes()[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")
    assert files["left/logs/daemon.log"].read_text().startswith("the daemon's own log, token=")
    assert not any(b"s3cr3t" in file.read_bytes() for file in files.values()), "secrets are taken out"
    assert "no lab today" in (run / tests["error"].artifacts / "failure.txt").read_text()
