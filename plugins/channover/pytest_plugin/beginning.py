"""How a run's results begin: with the plan, in the process that reports, and not before there is something to measure.

xdist's workers collect, and leave their plans in the run's folder for the controller, which collects nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from channover.errors import ChannoverError, UsageError
from channover.pytest_plugin.allure.report import PLOTS
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results import marks, planning
from channover.pytest_plugin.results.artifacts import FOLDER
from channover.pytest_plugin.results.outcomes import one_line
from channover.pytest_plugin.results.planning import Planning
from channover.pytest_plugin.results.writer import COLLECTED, USAGE, not_kept
from channover.pytest_plugin.stash import is_worker, masker, shows_fixtures
from channover.pytest_plugin.testbed import TESTBED

if TYPE_CHECKING:
    from channover.pytest_plugin.results.collector import Collected
    from channover.pytest_plugin.results.plan import Plan


def refuse(config: pytest.Config, items: list[pytest.Item], error: ChannoverError) -> None:
    """End a run, in one line, that cannot be had as it was asked for. Raises pytest.UsageError."""
    said = words.usable(config, one_line(error))
    if not is_worker(config):
        raise pytest.UsageError(said) from None
    # xdist takes an exception of a worker for a crash; so it ends without tests, and the controller says why.
    output: dict[str, object] = getattr(config, "workeroutput", {})
    output[USAGE] = said
    items.clear()


class Beginning:
    """Begins the results of a run that measures; who only looks at tests, fixtures or commands leaves none."""

    def __init__(self, config: pytest.Config, planning: Planning) -> None:
        self._config = config
        self._planning = planning

    def _plan(self, session: pytest.Session) -> Plan | None:
        """Return the plan of a process that is about to run tests which compare something, else None."""
        config = self._config
        if config.option.collectonly or shows_fixtures(config) or not any(map(marks.takes_part, session.items)):
            return None
        stops = bool(session.testsfailed) and not config.option.continue_on_collection_errors
        if stops or config.stash[TESTBED].settings.place.dry_run:
            return None
        return self._planning.plan(session.items)

    def begin(self, session: pytest.Session) -> None:
        """Make the run's folder and begin its results. Raises pytest.UsageError."""
        if not is_worker(self._config) and (plan := self._plan(session)):
            self._begin(plan)
            try:
                self._evidence(self._collected.folder)
            except UsageError as error:
                refuse(self._config, session.items, error)

    def leave_plan(self, session: pytest.Session) -> None:
        """In a worker, leave the plan in the run's folder before xdist tells the controller what was collected."""
        if is_worker(self._config) and (plan := self._plan(session)):
            told: dict[str, Any] = getattr(self._config, "workerinput", {})
            folder = Path(told[FOLDER])
            from channover.pytest_plugin.results.plan import save

            try:
                masked = replace(masker(self._config).of(plan), files=plan.files, packages=plan.packages)
                save(folder, told["workerid"], masked)
                self._evidence(folder)
            except UsageError as error:
                refuse(self._config, session.items, error)

    def tell_folder(self, node: Any) -> None:
        """Tell an xdist worker where the run's folder is."""
        node.workerinput[FOLDER] = str(self._collected.folder)

    def take_plan(self, node: Any) -> bool:
        """Begin the results as soon as a worker has found tests that compare something; go on with a further worker's plan.

        Say whether this one has found any.
        """
        from channover.pytest_plugin.results.plan import take

        plan = take(self._collected.folder, node.gateway.id)
        if plan is not None:
            self._begin(plan)
        return plan is not None

    def _begin(self, plan: Plan) -> None:
        from channover.run.revision import revision

        collected = self._collected
        each = getattr(self._config.option, "dist", "no") == "each"
        collected.plan = collected.plan.joined(plan, each=each) if collected.plan else plan
        plan = collected.plan
        collected.revision, collected.changes = revision(self._config.rootpath, plan.files, plan.packages, own=plan.own)
        collected.open()

    @property
    def _collected(self) -> Collected:
        config = self._config
        if COLLECTED not in config.stash:
            from channover.pytest_plugin.results.collector import Collected
            from channover.report.store import planned_folder

            start = datetime.now(timezone.utc)
            settings = config.stash[TESTBED].settings
            config.stash[COLLECTED] = Collected(
                settings,
                planned_folder(settings.reports, start),
                start,
                command=("pytest", *map(str, config.invocation_params.args)),
                options=planning.options_in_force(config),
                lab=settings.place.lab.name if settings.place.lab else "",
                masker=masker(config),
            )
        return config.stash[COLLECTED]

    def _evidence(self, folder: Path) -> None:
        """Have Allure write into the run's folder unless the user named another. Raises UsageError."""
        from channover.pytest_plugin.allure.evidence import plots_into
        from channover.pytest_plugin.allure.files import AllureFiles

        config = self._config
        if not getattr(config.option, "allure_report_dir", None):
            from allure_pytest import plugin as allure_plugin

            config.option.allure_report_dir = str(folder / "allure-results")
            try:
                allure_plugin.pytest_configure(config)
            except OSError as error:
                raise UsageError(f"evidence cannot be kept in {folder}: {error.strerror or error}") from None
        place = Path(os.path.abspath(config.option.allure_report_dir))
        files = AllureFiles(place, masker(config), partial(self._not_kept, place))
        files.register()
        config.add_cleanup(files.unregister)
        config.stash[PLOTS] = plots_into(place, masker(config))

    def _not_kept(self, place: Path, error: OSError) -> None:
        not_kept(self._config, f"evidence cannot be kept in {place}: {error.strerror or error}")
