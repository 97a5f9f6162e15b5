"""The live line of a run: what is measured, on the terminal itself, while a test's output is captured."""

from __future__ import annotations

import contextlib
import os
from typing import Any, TextIO

import pytest

from channover.measure.activity import UnderWay
from channover.measure.record import Record
from channover.pytest_plugin.fixtures import RECORD
from channover.report.terminal import LiveLine, progress

NAME = "channover_live"


class Live:
    """Tells of the test that runs, behind what pytest has written of it, and leaves nothing for what pytest writes next."""

    def __init__(self, reporter: Any, terminal: TextIO) -> None:
        self._terminal = terminal
        self._line = LiveLine(terminal, column=lambda: int(reporter._tw.width_of_current_line))

    def tell(self, record: Record, flow: UnderWay) -> None:
        """Tell how far something is; at its end the line goes."""
        if flow.seconds:
            self.clear()
            return
        samples = flow.samples()[-10:]
        rate = sum(samples) / len(samples) if samples else None
        name = record.behaviour.id if record.behaviour else None
        self._line.update(progress(name, flow.name, rate, flow.elapsed, max(flow.limit - flow.elapsed, 0.0)))

    def say(self, text: str) -> None:
        """Tell at once what is done, or who is waited for."""
        self._line.clear()
        self._line.update(text)

    def clear(self) -> None:
        """Take the line away, so that something else can be written there."""
        self._line.clear()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Tell that a lab is made: it takes a second, and minutes where machines boot."""
        self._of(item, "setting up")

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Tell of the test until there is more to tell."""
        self._of(item, "running")

    def _of(self, item: pytest.Item, words: str) -> None:
        record = item.stash.get(RECORD, None)
        if record is not None and record.behaviour is not None:
            self.say(f"{record.behaviour.id}  {words}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Leave the place to pytest's dot; of a set-up that went well it writes none."""
        if report.when != "setup" or not report.passed:
            self.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Leave the place to the debugger."""
        self.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Be gone: what is torn down now is not told of."""
        self.clear()
        self._terminal.close()

    def pytest_unconfigure(self) -> None:
        """Let go of the terminal."""
        self._terminal.close()


def write_line(config: pytest.Config, text: str) -> None:
    """Write a line to the terminal at once, also while a test runs and its output is captured."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capturing: Any = config.pluginmanager.get_plugin("capturemanager")
    line = config.pluginmanager.get_plugin(NAME)
    if isinstance(line, Live):
        line.clear()
    with capturing.global_and_fixture_disabled() if capturing is not None else contextlib.nullcontext():
        reporter.ensure_newline()
        reporter.write_line(text)


def of(config: pytest.Config) -> Live | None:
    """Return the live line of this process, None where nobody would see one. To be called while nothing is captured.

    pytest captures a test's output at the file descriptor; so the line is written to one of its own, made before that.
    """
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or config.option.verbose < 0:
        return None
    try:
        file: TextIO = reporter._tw._file
        return Live(reporter, os.fdopen(os.dup(file.fileno()), "w", encoding=file.encoding, errors="replace"))
    except (OSError, ValueError, AttributeError):  # no file of the system's: a program that has pytest in it
        return None
