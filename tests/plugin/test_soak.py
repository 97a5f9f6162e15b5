"""The suites run again and again: what came out is data, it goes on where it was stopped, and leaves nothing behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import os, time
from channover.testing import behaviour

@behaviour("MP-8")
def test_ports(counted):
    assert counted("ports", int(os.environ.get("PORTS", "1"))) == 1

@behaviour("MP-7")
def test_slow(observe):
    time.sleep(float(os.environ.get("SLOW", "0")))
    assert observe("rate", 94e6, "bit/s") >= 90e6
"""


def command(folder: Path, suite: Path, runs: int) -> list[str]:
    return [sys.executable, str(ROOT / "tools/soak.py"), str(runs), "--into", str(folder), "--", str(suite)]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "plugins"), **changes}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "test_it.py"
    path.write_text(SUITE)
    return path


@pytest.mark.lab
def test_what_came_out_is_data_and_it_goes_on_where_it_was_stopped(tmp_path: Path, suite: Path) -> None:
    folder = tmp_path / "soak"
    done = subprocess.run(command(folder, suite, 2), env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        command(folder, suite, 3), env=environment(PORTS="2"), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1, "one failure is one, and is not tried again"
    assert sorted(path.name for path in folder.glob("0*")) == ["0001-quiet.json", "0002-quiet.json", "0003-loaded.json"]
    found = json.loads((folder / "soak.json").read_text())
    assert [one["loaded"] for one in found["runs"]] == [False, False, True]
    slow, ports = found["tests"]
    assert (ports["quiet"], ports["loaded"]) == ({"passed": 2}, {"failed": 1})
    assert ports["reasons"][0].startswith("0003-loaded: failed: ports of 2, expected exactly 1")
    assert ports["values"]["0 ports, 1"] | {"count": 3, "least": 1, "most": 2} == ports["values"]["0 ports, 1"]
    assert slow["values"]["0 rate, bit/s"]["deviation"] == 0 and slow["durations"]["count"] == 3
    with open(folder / "soak.csv", newline="") as file:
        rows = {(row["test"].rpartition("::")[2], row["load"]): row for row in csv.DictReader(file)}
    assert rows["test_ports", "loaded"]["failed"] == "1" and rows["test_ports", "quiet"]["passed"] == "2"
    assert "3 runs, 1 of them beside 2 busy loops" in done.stdout
    assert "rate: 94.00 ± 0.00 Mbit/s, 94.00 to 94.00" in (folder / "soak.txt").read_text()


@pytest.mark.lab
def test_after_ctrl_c_the_run_under_way_does_not_count_and_no_load_is_left(tmp_path: Path, suite: Path) -> None:
    folder = tmp_path / "soak"
    words = command(folder, suite, 9)
    words[words.index("--into") : words.index("--into")] = ["--load", "always"]
    hearing = ["env", "--default-signal=INT", *words]  # whoever started these tests may have SIGINT ignored
    process = subprocess.Popen(hearing, env=environment(SLOW="60"), stdout=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while len(started := children.read_text().split()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(started) == 3, "two loops and pytest"
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"to go on: python tools/soak.py 9 --into {folder}" in said
    assert not list(folder.glob("0*"))
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
