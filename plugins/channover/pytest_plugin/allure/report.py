"""The end of a run in the process that reports: the last plots, the certificate, the HTML report, the first page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from channover.errors import ChannoverError
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results.writer import COLLECTED

if TYPE_CHECKING:
    from channover.pytest_plugin.allure.evidence import Plots
    from channover.pytest_plugin.results.collector import Collected

PLOTS: pytest.StashKey[Plots] = pytest.StashKey()
"""The plots of the run, which are drawn meanwhile."""
PATIENCE, HURRIED = 120.0, 5.0
"""Seconds that the report may take at the end of a run, and of a run that somebody wants to end."""


class Report:
    """Makes what a run leaves for people; a worker of xdist has collected nothing, and makes nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._said: list[str] = []
        self._page: list[str] = []

    def finish_plots(self, exitstatus: int) -> None:
        """Wait for the plots that are still being drawn; whoever interrupts a run does not want to wait."""
        plots = self._config.stash.get(PLOTS, None)
        if plots is not None and not plots.finish(60.0 if exitstatus in (0, 1) else 0.5):
            self._config.issue_config_time_warning(UserWarning("some plots of NIC rates were not drawn"), stacklevel=2)

    def make(self, exitstatus: int) -> None:
        """Make the certificate and the report. A second Ctrl-C ends that too, and leaves nothing half-made."""
        collected = self._config.stash.get(COLLECTED, None)
        if collected is None or not collected.opened or words.value(self._config, "--no-report"):
            return
        if collected.fault:
            return  # there is nothing whole that they could be made of, and no room for them
        shown = os.path.relpath(collected.folder, self._config.invocation_params.dir)
        try:
            if collected.plan and any(test.behaviour for test in collected.plan.planned):
                self._certificate(collected)
            self._front_page(collected, report=False)  # first: whatever becomes of the report
            if self._report(collected, shown, exitstatus):
                self._front_page(collected, report=True)
            self._said = [*self._page, *self._said]
        except KeyboardInterrupt:
            self._said += [f"report: stopped; channover report {shown} makes it"]

    def _certificate(self, collected: Collected) -> None:
        from channover.report.signoff import certificate

        try:
            decided = certificate.write(collected.folder, pdf=False)
            page = os.path.relpath(decided.page, self._config.invocation_params.dir)
            found = decided.decision
            self._said += [f"certificate: {page}: {found.text}"]
            self._said += [f"  {words}" for words in (*found.incomplete, found.others) if words]
        except (ChannoverError, OSError) as error:
            self._said += [f"certificate: not made: {' '.join(str(error).split())}"]

    def _front_page(self, collected: Collected, *, report: bool) -> None:
        from channover.report import front_page

        try:
            page = front_page.write(collected.folder, report=report, allure_results=self._allure_results)
            self._page = [f"index: {os.path.relpath(page, self._config.invocation_params.dir)}"]
        except (ChannoverError, OSError) as error:
            self._page = [f"index: not made: {' '.join(str(error).split())}"]

    @property
    def _allure_results(self) -> Path | None:
        told = getattr(self._config.option, "allure_report_dir", None)
        return Path(told) if told else None

    def _report(self, collected: Collected, shown: str, exitstatus: int) -> bool:
        """Make the report, and say whether it is there."""
        from channover.report.allure import make as allure_report
        from channover.report.allure.generator import GeneratorMissing

        try:
            patience = PATIENCE if exitstatus in (0, 1) else HURRIED
            made = allure_report.make(collected.folder, self._allure_results, patience)
        except GeneratorMissing as error:
            self._said += [f"report: not made: {' '.join(str(error).split())}"]
        except (ChannoverError, OSError) as error:
            self._said += [f"report: not made: {' '.join(str(error).split())}; channover report {shown} tries again"]
        else:
            self._said += [*made.notes, f"report: {os.path.join(shown, made.path.name)}"]
            return True
        return False

    def say(self, terminalreporter: Any) -> None:
        """Say where the report is, or in one line why there is none."""
        for line in self._said:
            terminalreporter.write_line(line)
