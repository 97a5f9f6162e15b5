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

    def start(self, items: Iterable[pytest.Item]) -> None:
        """Be ready to tell of tests, where there are any of channover's. To be called while nothing is captured.

        pytest captures a test's output at the file descriptor; so the line is written to one of its own, made before that.
        """
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or is_worker(self._config) or self._config.option.verbose < 0:
            return
        if self._config.option.collectonly or not any(marks.takes_part(item) for item in items):
            return
        from channover.report.terminal import LiveLine

        try:
            file: TextIO = reporter._tw._file
            self._terminal = os.fdopen(os.dup(file.fileno()), "w", encoding=file.encoding, errors="replace")
        except (OSError, ValueError, AttributeError):  # no file of the system's: a program that has pytest in it
            return
        self._line = LiveLine(self._terminal, column=lambda: int(reporter._tw.width_of_current_line))

    def tell(self, record: Record, flow: UnderWay) -> None:
        """Tell how far something is; at its end the line goes."""
        if self._line is None:
            return
        if flow.seconds:
            self.clear()
            return
        from channover.report.terminal import progress

        samples = flow.samples()[-10:]
        rate = sum(samples) / len(samples) if samples else None
        name = record.behaviour.id if record.behaviour else None
        self._line.update(progress(name, flow.name, rate, flow.elapsed, max(flow.limit - flow.elapsed, 0.0)))

    def tell_phase(self, item: pytest.Item, words: str) -> None:
        """Tell that a lab is made, which takes minutes where machines boot, or of the test until there is more to tell."""
        record = item.stash.get(RECORD, None)
        if self._line is not None and record is not None and record.behaviour is not None:
            self._line.clear()
            self._line.update(f"{record.behaviour.id}  {words}")

    def clear(self) -> None:
        """Take the line away, so that something else can be written there."""
        if self._line is not None:
            self._line.clear()

    def give_way(self, report: pytest.TestReport) -> None:
        """Leave the place to pytest's dot; of a set-up that went well it writes none."""
        if report.when != "setup" or not report.passed:
            self.clear()

    def close(self) -> None:
        """Be gone, and let go of the terminal."""
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
