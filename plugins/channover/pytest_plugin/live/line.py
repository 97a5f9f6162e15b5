"""The live line of a run: what is measured, on the terminal itself, while a test's output is captured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from channover.pytest_plugin.results import marks
from channover.pytest_plugin.stash import RECORD, is_worker

if TYPE_CHECKING:
    from channover.measure.activity import UnderWay
    from channover.measure.record import Record
    from channover.pytest_plugin.live.paint import LiveLine, Words
    from channover.pytest_plugin.live.workers import Far, Hearing


class Live:
    """Tells of the test that runs, behind what pytest has written of it, and leaves nothing for what pytest writes next.

    It tells nothing before it is started, and where nobody would see it. ``rich.live`` does not serve: it has lines of its
    own, from the first column on, and what pytest has written of a file's tests stands there.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terminal: TextIO | None = None
        self._line: LiveLine | None = None
        self._far: Far | None = None
        self._hearing: Hearing | None = None
        self._test = ""

    def start(self, items: Iterable[pytest.Item]) -> None:
        """Be ready to tell of tests, where there are any of channover's. To be called while nothing is captured.

        pytest captures a test's output at the file descriptor; so the line is written to one of its own, made before that.
        """
        if is_worker(self._config):
            from channover.pytest_plugin.live.workers import Far

            self._far = Far.of(self._config)
            return
        if not self._config.option.collectonly and any(marks.takes_part(item) for item in items):
            self._find_terminal()

    def start_of_workers(self) -> None:
        """Be ready to tell of xdist's workers, where this is their controller: what their tests are is not known here."""
        if getattr(self._config.option, "dist", "no") == "no" or is_worker(self._config):
            return
        self._find_terminal()
        if self._line is not None and self._line.enabled:
            from channover.pytest_plugin.live.workers import Hearing

            self._hearing = Hearing(self._line)

    def _find_terminal(self) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self._config.option.verbose < 0:
            return
        from channover.pytest_plugin.live.paint import LiveLine

        try:
            file: TextIO = reporter._tw._file
            self._terminal = os.fdopen(os.dup(file.fileno()), "w", encoding=file.encoding, errors="replace")
        except (OSError, ValueError, AttributeError):  # no file of the system's: a program that has pytest in it
            return
        self._line = LiveLine(self._terminal, column=lambda: int(reporter._tw.width_of_current_line))

    def tell_worker(self, node: Any) -> None:
        """Tell one of xdist's workers, before it is started, where to send its line."""
        from channover.pytest_plugin.live.workers import SOCKET, address

        node.workerinput[SOCKET] = address(os.getpid())

    def tell(self, record: Record, flow: UnderWay) -> None:
        """Tell how far something is; at its end the line goes."""
        if self._line is None and self._far is None:
            return
        if flow.seconds:
            self.clear()
            return
        if not self._due:  # a flow tells thirty times a second
            return
        from channover.pytest_plugin.live.paint import progress

        samples = flow.samples()[-10:]
        rate = sum(samples) / len(samples) if samples else None
        left = max(flow.limit - flow.elapsed, 0.0)
        names = [record.behaviour.id, self._test] if record.behaviour else [self._test]
        self._show(progress(names, flow.name, rate, flow.expected, flow.shares(), flow.elapsed, left))

    @property
    def _due(self) -> bool:
        return any(one is not None and one.due for one in (self._line, self._far))

    def _show(self, words: Words) -> None:
        if self._line is not None:
            self._line.update(words)
        if self._far is not None:
            self._far.send(words)

    def tell_phase(self, item: pytest.Item, words: str) -> None:
        """Tell that a lab is made, which takes minutes where machines boot, or of the test until there is more to tell."""
        record = item.stash.get(RECORD, None)
        if record is None:
            return
        from channover.text import readable

        self._test = readable(item.name)
        if record.behaviour is not None:
            self.clear()
            self._show([f"{record.behaviour.id} {self._test}  {words}", f"{record.behaviour.id}  {words}"])

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
            self._far.send([], always=True)
            self._far = None
        self.clear()
        self._line = None
        if self._terminal is not None:
            self._terminal.close()


LIVE = pytest.StashKey[Live]()


def write_line(config: pytest.Config, text: str) -> None:
    """Write a line to the terminal at once, also while a test runs and its output is captured."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capturing: Any = config.pluginmanager.get_plugin("capturemanager")
    config.stash[LIVE].clear()
    with capturing.global_and_fixture_disabled() if capturing is not None else contextlib.nullcontext():
        reporter.ensure_newline()
        reporter.write_line(text)
