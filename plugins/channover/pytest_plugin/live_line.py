"""The live line of a run: what is measured, on the terminal itself, while a test's output is captured.

Of xdist's workers each has a line of its own, below what pytest writes. A worker has no terminal: it sends its line to the
controller, by a socket in the abstract namespace of unix sockets (``unix(7)``), of which nothing is left when a process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from channover.pytest_plugin.results import marks
from channover.pytest_plugin.stash import RECORD, is_worker

if TYPE_CHECKING:
    from channover.measure.activity import UnderWay
    from channover.measure.record import Record
    from channover.report.terminal import LiveLine


class Live:
    """Tells of the test that runs, behind what pytest has written of it, and leaves nothing for what pytest writes next.

    It tells nothing before it is started, and where nobody would see it. ``rich.live`` does not serve: it has lines of its
    own, from the first column on, and what pytest has written of a file's tests stands there.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terminal: TextIO | None = None
        self._line: LiveLine | None = None
        self._far: _Far | None = None
        self._hearing: _Hearing | None = None

    def start(self, items: Iterable[pytest.Item]) -> None:
        """Be ready to tell of tests, where there are any of channover's. To be called while nothing is captured.

        pytest captures a test's output at the file descriptor; so the line is written to one of its own, made before that.
        """
        if is_worker(self._config):
            self._far = _Far.of(self._config)
            return
        if not self._config.option.collectonly and any(marks.takes_part(item) for item in items):
            self._find_terminal()

    def start_of_workers(self) -> None:
        """Be ready to tell of xdist's workers, where this is their controller: what their tests are is not known here."""
        if getattr(self._config.option, "dist", "no") == "no" or is_worker(self._config):
            return
        self._find_terminal()
        if self._line is not None and self._line.enabled:
            self._hearing = _Hearing(self._line)

    def _find_terminal(self) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self._config.option.verbose < 0:
            return
        from channover.report.terminal import LiveLine

        try:
            file: TextIO = reporter._tw._file
            self._terminal = os.fdopen(os.dup(file.fileno()), "w", encoding=file.encoding, errors="replace")
        except (OSError, ValueError, AttributeError):  # no file of the system's: a program that has pytest in it
            return
        self._line = LiveLine(self._terminal, column=lambda: int(reporter._tw.width_of_current_line))

    def tell_worker(self, node: Any) -> None:
        """Tell one of xdist's workers, before it is started, where to send its line."""
        node.workerinput[_SOCKET] = _name(os.getpid())

    def tell(self, record: Record, flow: UnderWay) -> None:
        """Tell how far something is; at its end the line goes."""
        if self._line is None and self._far is None:
            return
        if flow.seconds:
            self.clear()
            return
        from channover.report.terminal import progress

        samples = flow.samples()[-10:]
        rate = sum(samples) / len(samples) if samples else None
        name = record.behaviour.id if record.behaviour else None
        self._show(progress(name, flow.name, rate, flow.elapsed, max(flow.limit - flow.elapsed, 0.0)))

    def _show(self, text: str) -> None:
        if self._line is not None:
            self._line.update(text)
        if self._far is not None:
            self._far.send(text)

    def tell_phase(self, item: pytest.Item, words: str) -> None:
        """Tell that a lab is made, which takes minutes where machines boot, or of the test until there is more to tell."""
        record = item.stash.get(RECORD, None)
        if record is not None and record.behaviour is not None:
            self.clear()
            self._show(f"{record.behaviour.id}  {words}")

    def clear(self) -> None:
        """Take the line away, so that something else can be written there."""
        if self._line is not None:
            self._line.clear()
        if self._far is not None:
            self._far.forget()

    def give_way(self, report: pytest.TestReport) -> None:
        """Leave the place to pytest's dot; of a set-up that went well it writes none."""
        if report.when != "setup" or not report.passed:
            self.clear()

    def close(self) -> None:
        """Be gone, and let go of the terminal."""
        if self._hearing is not None:
            self._hearing.close()
        if self._far is not None:
            self._far.send("", always=True)
            self._far = None
        self.clear()
        self._line = None
        if self._terminal is not None:
            self._terminal.close()


_SOCKET = "channover_live"
"""Key of a worker's input: the name of the controller's socket."""
_PERIOD = 0.2
"""Seconds between two lines of a worker, and between two paints of all."""


def _name(controller: int) -> str:
    return f"\0channover/live/{controller}"


class _Far:
    """Sends a worker's line to the controller; one that does not listen is no error."""

    def __init__(self, worker: str, name: str) -> None:
        self._worker = worker
        self._name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._sent = 0.0

    @classmethod
    def of(cls, config: pytest.Config) -> _Far | None:
        """Return that of a worker; None where its controller did not say where it listens."""
        told: dict[str, Any] = getattr(config, "workerinput", {})
        return cls(str(told.get("workerid", "")), str(told[_SOCKET])) if _SOCKET in told else None

    def send(self, text: str, *, always: bool = False) -> None:
        """Send a line, unless the last one is too recent."""
        if always or time.monotonic() - self._sent >= _PERIOD:
            self._sent = time.monotonic()
            with contextlib.suppress(OSError):
                self._socket.sendto(json.dumps([self._worker, text]).encode(), self._name)

    def forget(self) -> None:
        """Send the next line at once."""
        self._sent = 0.0


class _Hearing:
    """Paints what workers send, a line each, until it is closed."""

    def __init__(self, line: LiveLine) -> None:
        self._line = line
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_PERIOD)
        self._texts: dict[str, str] = {}
        self._open = True
        try:
            self._socket.bind(_name(os.getpid()))
        except OSError:  # a run within this very process: its workers have no lines
            self._open = False
        self._thread = threading.Thread(target=self._hear, name="live lines", daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        painted = 0.0
        while self._open:
            with contextlib.suppress(OSError, ValueError):
                worker, text = json.loads(self._socket.recv(65536))
                self._texts[worker] = text
            if time.monotonic() - painted >= _PERIOD and self._open:
                painted = time.monotonic()
                told = sorted((int(name.lstrip("gw") or 0), text) for name, text in self._texts.items() if text)
                self._line.show_below([text for _, text in told])

    def close(self) -> None:
        """Paint no more."""
        self._open = False
        self._thread.join()
        self._socket.close()


LIVE = pytest.StashKey[Live]()


def write_line(config: pytest.Config, text: str) -> None:
    """Write a line to the terminal at once, also while a test runs and its output is captured."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capturing: Any = config.pluginmanager.get_plugin("capturemanager")
    config.stash[LIVE].clear()
    with capturing.global_and_fixture_disabled() if capturing is not None else contextlib.nullcontext():
        reporter.ensure_newline()
        reporter.write_line(text)
