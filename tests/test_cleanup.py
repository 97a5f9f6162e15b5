"""Nothing of a run stays behind, however it ends: each way once. ``tests/cleanup.py`` does it at random moments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cleanup.py")
LEAK = """
import subprocess
from pathlib import Path


def test_leaks(request):
    subprocess.Popen(["unshare", "--net", "sleep", "600"], start_new_session=True)
    for words in "link add leak type veth peer leak2", "rule add from 192.0.2.1 table 9", "mptcp limits set subflows 5":
        subprocess.run(["ip", *words.split()], check=True)
    subprocess.run(["nft", "add", "table", "inet", "leak"], check=True)
    Path("/tmp/leak").touch()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    reports = Path(request.config.getoption("--reports"))
    (reports.parent / f"{reports.name}.holding").touch()
    subprocess.run(["sleep", "60"])
"""

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.getuid() != 0, reason="root is needed to see all that a run could leave: run as root"),
]


def cleanup(*words: str) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), "--hold", "--moments", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("way", ["INT", "CLOSE", "NURSERY"])
def test_nothing_is_left_of_a_run_that_ends_by(way: str) -> None:
    status, text = cleanup("--signal", way)
    assert status == 0, text


def test_nothing_is_left_when_the_controller_of_workers_is_killed() -> None:
    status, text = cleanup("--signal", "KILL", "--xdist", "2")
    assert status == 0, text


def test_nothing_is_left_of_a_killed_run_and_one_beside_it_goes_on() -> None:
    status, text = cleanup("--signal", "KILL", "--beside")
    assert status == 0, text


def test_nothing_is_left_of_a_run_without_root() -> None:
    status, text = cleanup("--signal", "KILL", "--user", "nobody")
    if "Permission denied" in text or "unprivileged" in text or "refused" in text:
        pytest.skip(f"the user nobody cannot read this project, or may make no namespaces: {text[-300:]}")
    assert status == 0, text


def test_what_stays_is_found(tmp_path: Path) -> None:
    path = tmp_path / "test_leak.py"
    path.write_text(LEAK)
    status, text = cleanup("--signal", "KILL", "--patience", "5.1", str(path))
    assert status == 1
    for kind in (
        "(sleep) lives",
        "net:[",
        "interface",
        "rule",
        "MPTCP limits",
        "nftables line",
        "/tmp/leak",
        "ip_forward=1",
    ):
        assert kind in text, text
