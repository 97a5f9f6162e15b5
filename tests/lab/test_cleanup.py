"""Nothing of a run stays behind, however it ends: each way once. ``tools/cleanup.py`` does it at random moments."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from channover import isolated
from channover.hosts.netns.protocol import receive

SCRIPT = Path(__file__).parents[2] / "tools" / "cleanup.py"
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
    reports = Path(request.config.getoption("channover_reports"))
    (reports.parent / f"{reports.name}.holding").touch()
    subprocess.run(["sleep", "60"])
"""

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timed,
    pytest.mark.skipif(os.getuid() != 0, reason="root is needed to see all that a run could leave: run as root"),
]


WAYS = {
    "Ctrl-C": ("--signal", "INT"),
    "terminated": ("--signal", "TERM"),
    "a lab's first process killed": ("--signal", "LABINIT"),
    "the terminal closed": ("--signal", "CLOSE"),
    "the labs' parent killed": ("--signal", "NURSERY"),
    "killed, and one beside it goes on": ("--signal", "KILL", "--beside"),
    "workers' controller killed": ("--signal", "KILL", "--xdist", "2"),
    "killed, without root": ("--signal", "KILL", "--user", "nobody"),
}


def cleanup(*words: str) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), "--hold", "--moments", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """The chosen ways, two at a time: a run mostly waits."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {spec.params.get("way") for spec in specs if spec}
    with ThreadPoolExecutor(2) as pool:
        yield {way: pool.submit(cleanup, *words) for way, words in WAYS.items() if way in chosen}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left(runs: dict[str, Future[tuple[int, str]]], way: str) -> None:
    status, text = runs[way].result()
    if "nobody" in WAYS[way] and any(word in text for word in ("Permission denied", "namespaces are refused")):
        pytest.skip(f"the user nobody cannot read this project, or may make no namespaces: {text[-300:]}")
    assert status == 0, text


def test_labs_are_waited_for_whenever_their_parent_hears_of_the_end() -> None:
    """A run's death closes a socket and sends a signal; what the one began, the other must not break off."""
    for _ in range(20):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = isolated.python("channover.hosts.netns.fork_server", str(theirs.fileno()))
            parent = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
            theirs.close()
            receive(ours)
        for _ in range(20_000):
            parent.send_signal(signal.SIGUSR1)
        _, said = parent.communicate(timeout=30)
        assert (parent.returncode, said) == (0, "")


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
