"""A line a test where there is no terminal, such as in continuous integration: its verdict and its value, as it ends.

They stand in the place of pytest's dots. With ``-v`` pytest writes a line a test itself, and its value stands behind the word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from channover.pytest_plugin.results.writer import COLLECTED
from channover.pytest_plugin.stash import RECORD, is_worker

if TYPE_CHECKING:
    from channover.report.results import TestResult

Status = tuple[str, str, str | tuple[str, Mapping[str, bool]]]
SAID = "channover_said"
"""Set on each report of a test of channover's: the value that it stands on so far, with what was expected of it."""


def note(item: pytest.Item, report: pytest.TestReport) -> None:
    """Have a report of a test of channover's carry the value that it stands on."""
    record = item.stash.get(RECORD, None)
    if record is None:
        return
    said = ""
    if report.when == "call" and record.readings:
        from channover.pytest_plugin.results.collector import measurement
        from channover.report.terminal import compared

        said = compared([measurement(one, None) for one in record.readings])
    setattr(report, SAID, said)


class Lines:
    """Writes a line for each test that has ended, where nobody sees a live line."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._wanted: bool | None = None

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    @property
    def on(self) -> bool:
        """Whether lines stand in the place of dots: in the process that reports, not with ``-q`` or ``-v``."""
        if COLLECTED not in self._config.stash or not self._config.stash[COLLECTED].opened:
            return False
        if self._wanted is None:
            from channover.report.terminal import is_terminal

            reporter = self._reporter
            plain = reporter is not None and self._config.option.verbose == 0 and not is_terminal(reporter._tw._file)
            self._wanted = plain and not is_worker(self._config)
        return self._wanted

    def start(self) -> None:
        """Keep pytest from writing a file's name before each line."""
        if self.on:
            self._reporter.showfspath = False

    def status(self, report: Any, found: Status) -> Status:
        """Return what pytest shows of a report: no dot where there is a line to come, and the value beside a word."""
        category, letter, word = found
        if not letter:
            return found
        if self.on:
            return category, "", ""
        said = getattr(report, SAID, "")
        if said and self._config.option.verbose > 0:
            text, markup = word if isinstance(word, tuple) else (word, None)
            return category, letter, f"{text} {said}" if markup is None else (f"{text} {said}", markup)
        return found

    def tell(self, result: TestResult | None) -> None:
        """Write the line of a test that has ended, at once."""
        if result is not None and self.on:
            from channover.report.terminal import encodable, line_of

            reporter = self._reporter
            reporter.write_line(encodable(line_of(result), reporter._tw._file))
            reporter.flush()
