"""What a run's tests left, as the process that reports takes it: written at the end, and shown as a table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results.outcomes import REGRESSED
from channover.pytest_plugin.results.planning import uncollected
from channover.pytest_plugin.stash import is_worker

if TYPE_CHECKING:
    from channover.pytest_plugin.results.collector import Collected
    from channover.report.results import TestResult

COLLECTED: pytest.StashKey[Collected] = pytest.StashKey()
"""In the process that reports: the results of the run, once it has begun."""
USAGE = "channover_usage"
"""What a worker has to say about the command line."""
LOST = "channover_lost"
"""What a worker has to say about evidence that it could not keep."""


def not_kept(config: pytest.Config, said: str) -> None:
    """Have it said at the run's end that evidence could not be kept, once."""
    if is_worker(config):
        output: dict[str, object] = getattr(config, "workeroutput", {})
        output.setdefault(LOST, said)
    elif COLLECTED in config.stash:
        config.stash[COLLECTED].lost = config.stash[COLLECTED].lost or said


class Writer:
    """Takes reports, and writes the results; a worker of xdist has begun none, and takes nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._stopped = False
        self._refused = ""
        """Why nothing could be run, as a worker found."""
        self._summaries: list[str] = []
        self._dropped: list[str] = []
        self._gate = ""
        self._against: set[int] = set()
        """The exit codes that reports ask for which did not pass: the smallest is of the worst."""

    @property
    def _opened(self) -> bool:
        return COLLECTED in self._config.stash and self._config.stash[COLLECTED].opened

    def take_uncollected(self, report: pytest.CollectReport) -> None:
        """Take what could not be collected, by workers too: a plan may be lost with its worker."""
        if COLLECTED in self._config.stash and not report.passed:
            found = uncollected(report)
            self._config.stash[COLLECTED].uncollected[found.nodeid] = found

    def take(self, report: pytest.TestReport) -> TestResult | None:
        """Take a report, and the exit code that it asks for where it did not pass; return its test's result, if complete."""
        if COLLECTED not in self._config.stash:
            return None
        result = self._config.stash[COLLECTED].add(report)
        if report.failed:
            from channover.pytest_plugin.results.outcomes import exit_code

            self._against.add(exit_code(report))
        return result

    def hear(self, node: Any) -> None:
        """Take what a worker has to say about the command line."""
        output = getattr(node, "workeroutput", {})
        self._refused = self._refused or output.get(USAGE, "")
        if COLLECTED in self._config.stash:
            collected = self._config.stash[COLLECTED]
            collected.lost = collected.lost or output.get(LOST, "")

    def stop(self) -> None:
        """Remember Ctrl-C: a second one that comes now keeps pytest from setting its exit status."""
        self._stopped = True

    def write(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the results."""
        stopped = self._stopped or bool(session.shouldstop or session.shouldfail) or exitstatus not in (0, 1)
        if self._opened:
            stopped = stopped and not (exitstatus in (0, 1, 2) and self._config.stash[COLLECTED].whole)
            if session.exitstatus == pytest.ExitCode.TESTS_FAILED and self._against:
                session.exitstatus = min(self._against)
            collected = self._config.stash[COLLECTED]
            collected.write(interrupted=stopped)
            if collected.fault:
                collected.rescue(interrupted=stopped)
            from channover.pytest_plugin.results import gate, summary

            results = collected.results(interrupted=stopped)
            if gate.asked(self._config):
                self._dropped, self._gate = gate.regressed(results, collected.folder.parent)
                if self._dropped and session.exitstatus == 0:
                    session.exitstatus = REGRESSED
            self._summaries = summary.leave(self._config, results, collected.folder, self._dropped)
            if (collected.fault or collected.lost) and session.exitstatus == 0:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._refused:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def mend_junit(self) -> None:
        """Let JUnit's file, which pytest has written by now, accuse no behaviour that did not fail."""
        junit = self._config.getoption("xmlpath", None)
        if junit and not is_worker(self._config):
            from channover.pytest_plugin.results import properties

            whole = os.path.expanduser(os.path.expandvars(junit))  # as pytest reads it
            properties.accuse_nobody(Path(self._config.invocation_params.dir, whole))

    def show(self, terminalreporter: Any) -> None:
        """Show the results as a table, and where they are."""
        if self._refused:
            terminalreporter.ensure_newline()
            terminalreporter.write_line(f"ERROR: {self._refused}", red=True)
        if not self._opened:
            return
        from channover.report.terminal import show

        collected = self._config.stash[COLLECTED]
        terminalreporter.ensure_newline()
        terminalreporter.section("channover")
        for line in words.remarks(self._config):
            terminalreporter.write_line(line, yellow=True)
        show(collected.results(interrupted=False), terminalreporter._tw._file)
        skipped = dict.fromkeys(
            test.behaviour or test.nodeid for test in collected.tests.values() if test.outcome == "skipped"
        )
        if skipped:
            terminalreporter.write_line(f"skipped: prerequisites missing: {', '.join(skipped)}", yellow=True)
        results = os.path.relpath(collected.folder / "results.json", self._config.invocation_params.dir)
        terminalreporter.write_line(collected.fault or f"results: {results}", red=bool(collected.fault))
        for line in self._dropped:
            terminalreporter.write_line(f"dropped: {line}", red=True)
        for line in (self._gate, *self._summaries):
            if line:
                terminalreporter.write_line(line)
        if collected.lost:
            terminalreporter.write_line(collected.lost, red=True)
