"""The live line on a real terminal: seen while a test runs, however pytest captures, and nowhere else."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import channover

PLUGINS = str(Path(channover.__file__).parent.parent)
WAITS = """
import sys, time
from pathlib import Path
from channover.pytest_plugin.live.line import LIVE
from channover.pytest_plugin.testbed import TESTBED
from channover.measure.activity import Waiting
from channover.testing import behaviour

@behaviour("MP-8")
def test_waits(request, channover_record, counted):
    print("of the test itself")
    print("and its errors", file=sys.stderr)
    waiting = Waiting("copy by nobody", 60.0)
    while waiting.elapsed < 3:
        request.config.stash[LIVE].tell(channover_record, waiting)
        time.sleep(0.05)
    request.config.stash[TESTBED].say("left is taken by another run")
    assert counted("ports", 1) == 1
    Path("ended").touch()
"""
MEASURES = """
from pathlib import Path
from channover.testing import Multipath, TrafficGenerator, at_least, behaviour

@behaviour("MP-1")
def test_measures(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)
    assert flow.goodput == at_least(1e6)
    Path("ended").touch()
"""
LIVE = re.compile(r"MP-8 test_waits  copy by nobody  \d\.\d s, at most \d+\.\d s more\x1b\[K\x1b\[\d+D")
MEASURED = re.compile(
    r"MP-1  mptcp left→right  [\d.]+ Mbit/s of ≥ 1\.0  a \d+% b \d+%  \d\.\d s, at most \d+\.\d s more\x1b\[K\x1b\[\d+D"
)


@dataclass
class Terminal:
    """A pseudo-terminal with a run of pytest on it."""

    master: int
    run: subprocess.Popen[bytes]
    shown: str = ""
    _raw: bytes = field(default=b"", repr=False)

    def read(self, until: Callable[[], object], seconds: float = 60.0) -> None:
        """Read what is written, until something is so, or the run has ended."""
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    got = os.read(self.master, 65536)
                except OSError:  # EIO: nobody has the other end any more
                    got = b""
                if not got:
                    return
                self._raw += got
                self.shown = self._raw.decode(errors="ignore")

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(WAITS)
    return tmp_path


@contextmanager
def running(folder: Path, *options: str, columns: int = 100) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": PLUGINS, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "channover.pytest_plugin.hooks",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    hearing = ["env", "--default-signal=INT", *command]  # whoever started these tests may have SIGINT ignored
    run = subprocess.Popen(hearing, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        yield Terminal(master, run)
    finally:
        run.kill()
        run.wait()
        os.close(master)


def ended(terminal: Terminal) -> str:
    """Wait for the run's end and return all that was shown."""
    terminal.read(lambda: False)
    terminal.run.wait(timeout=30)
    return terminal.shown


def kept(folder: Path) -> str:
    """Return all text that the run left in its report."""
    return "\n".join(file.read_text(errors="replace") for file in folder.glob("reports/*/**/*") if file.is_file())


@pytest.mark.lab
def test_a_flow_is_told_of_at_second_two(folder: Path) -> None:
    (folder / "test_it.py").write_text(MEASURES)
    with running(folder, "--duration", "5", "-rA") as terminal:
        terminal.read(lambda: re.search(r"test_it.py MP-1 .*?(running|s more|≤ \d+ s)", terminal.shown))  # it is set up
        began = time.monotonic()
        terminal.read(lambda: time.monotonic() > began + 2)
        assert re.search(r"(running|s more|≤ \d+ s)\x1b\[K\x1b\[\d+D$", terminal.shown), terminal.shown
        terminal.read(lambda: MEASURED.search(terminal.shown))  # others may hold the machine's measuring slot
        assert MEASURED.search(terminal.shown), terminal.shown
        assert not (folder / "ended").exists() and terminal.run.poll() is None
        shown = ended(terminal)
    assert terminal.run.returncode == 0, shown
    after = shown[shown.rindex("s more") :]
    assert re.match(r"s more\x1b\[K\x1b\[\d+D\x1b\[K", after), "it leaves its place to pytest's dot"
    assert "Captured stdout" not in after and "more" not in after[len("s more") :]
    text = kept(folder)
    assert "goodput" in text and "\x1b" not in text and "s more" not in text


@pytest.mark.parametrize("capture", ["fd", "sys", "no", "tee-sys"])
def test_it_is_seen_however_pytest_captures_and_never_captured(folder: Path, capture: str) -> None:
    with running(folder, f"--capture={capture}", "-rA") as terminal:
        terminal.read(lambda: "test_it.py " in terminal.shown)
        began = time.monotonic()
        terminal.read(lambda: time.monotonic() > began + 2)
        assert LIVE.search(terminal.shown), terminal.shown
        assert not (folder / "ended").exists()
        terminal.read(lambda: "left is taken by another run\r\n" in terminal.shown)
        assert not (folder / "ended").exists() or capture == "no" or terminal.run.poll() is None
        shown = ended(terminal)
    assert terminal.run.returncode == 0, shown
    summary = shown[shown.rindex("s more") :]
    assert ("of the test itself" in summary) == (capture != "no")
    assert summary.count("left is taken by another run") == 1
    text = kept(folder)
    assert "\x1b" not in text and "s more" not in text and ("of the test itself" in text) == (capture != "no")


@pytest.mark.parametrize("options", [("-q",), ("-p", "no:terminal"), ("-q", "-n", "1")], ids=" ".join)
def test_there_is_none_where_it_is_not_wanted(folder: Path, options: tuple[str, ...]) -> None:
    with running(folder, *options) as terminal:
        shown = ended(terminal)
    assert terminal.run.returncode == 0, shown
    assert (folder / "ended").exists() and "copy by nobody" not in shown
    assert ("left is taken" in shown) == (options != ("-p", "no:terminal"))


def test_each_of_xdist_s_workers_has_a_line_below_what_pytest_writes(folder: Path) -> None:
    text = (folder / "test_it.py").read_text()
    first, head, body = text.partition("@behaviour")
    (folder / "test_it.py").write_text(
        f'{first}import pytest\n\n@pytest.mark.parametrize("number", [1, 2])\n{head}'
        + body.replace("counted):", "counted, number):")
    )
    told = r"MP-8 test_waits\[[12]\]  copy by nobody  \d\.\d s, at most \d+\.\d s more"
    both = re.compile(rf"\x1b\[J\r\n{told}\r\n{told}\x1b\[2A\x1b\[\d+G")
    with running(folder, "-n", "2", "-rA") as terminal:
        terminal.read(lambda: both.search(terminal.shown))
        assert both.search(terminal.shown), terminal.shown
        shown = ended(terminal)
    assert terminal.run.returncode == 0, shown
    assert "copy by nobody" not in shown[shown.rindex("\x1b[J") :], "they are gone before the summary"
    assert "2 passed" in shown and "s more" not in kept(folder)


@pytest.mark.parametrize("options", [(), ("-n", "2"), ("-v",), ("-q",)], ids=" ".join)
def test_where_there_is_no_terminal_each_test_is_a_line(folder: Path, options: tuple[str, ...]) -> None:
    suite = (folder / "test_it.py").read_text().replace("waiting.elapsed < 3", "waiting.elapsed < 0.1")
    (folder / "test_it.py").write_text(
        f"""{suite}

@behaviour("MP-8")
def test_fails(counted):
    assert counted("ports", 2) == 1

def test_of_others():
    pass
"""
    )
    command = [sys.executable, "-m", "pytest", "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": PLUGINS, "TERM": "xterm"}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    shown = done.stdout.partition("= FAILURES")[0]
    assert "copy by nobody" not in shown + done.stderr and "\x1b" not in shown
    lines = [re.sub(r"\d+\.\d s: ", "", line) for line in shown.splitlines()]
    told = {"PASSED MP-8 ports 1 (1), test_it.py::test_waits", "FAILED MP-8 ports 2 (1), test_it.py::test_fails"}
    told.add("PASSED test_it.py::test_of_others")
    if options in ((), ("-n", "2")):
        assert told <= set(lines), shown
        assert {line for line in lines if "test_it.py" in line} == told
    elif options == ("-v",):
        assert "test_it.py::test_fails FAILED ports 2 (1) " in shown and "test_it.py::test_of_others PASSED " in shown
    else:
        assert "ports" not in shown


def test_ctrl_c_takes_it_away(folder: Path) -> None:
    with running(folder) as terminal:
        terminal.read(lambda: LIVE.search(terminal.shown))
        terminal.run.send_signal(signal.SIGINT)
        shown = ended(terminal)
    assert terminal.run.returncode == pytest.ExitCode.INTERRUPTED, shown
    after = shown[shown.rindex("s more") :]
    assert re.match(r"s more\x1b\[K\x1b\[\d+D\x1b\[K", after) and "KeyboardInterrupt" in after


def test_it_fits_narrow_terminals_and_such_as_are_resized(folder: Path) -> None:
    with running(folder, columns=40) as terminal:
        terminal.read(lambda: "copy by nobody" in terminal.shown)
        (first, *_) = re.findall(r"(MP-8  copy[^\x1b]*)", terminal.shown)
        assert len("test_it.py " + first) < 40 and first.endswith("  ≤ 60 s"), "it is not cut, but shorter"
        terminal.resize(100)
        terminal.read(lambda: LIVE.search(terminal.shown))
        terminal.resize(30)
        before = len(terminal.shown)
        terminal.read(lambda: re.search("…\x1b\\[K", terminal.shown[before:]))
        assert "\x1b[JMP-8" in terminal.shown[before:], "what the terminal has wrapped goes"
        short = re.findall(r"(MP-8[^\x1b]*)", terminal.shown)[-1]
        assert len("test_it.py " + short) < 30
        shown = ended(terminal)
    assert terminal.run.returncode == 0, shown
