"""The pytest plugin: options, skips that say why, outcomes that tell a broken rig from a broken behaviour, results."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, cast

import allure
import pytest

from channover import collecting, evidencing, labelling, live, settings, words
from channover.behaviours import CATALOGUE, Behaviour
from channover.collecting import LEFT, REASON, RIG_BROKE, Collected
from channover.errors import ChannoverError, NotAllowed, UsageError
from channover.fixtures import (
    RECORD,
    SESSION,
    channover_record,
    copies,
    counted,
    forming_lag,
    lab,
    lag,
    loop_lab,
    marked,
    measuring,
    mptcp,
    multipath,
    switched,
    tcp,
    tunnels,
    udp,
)
from channover.hosts import kernel
from channover.hosts.base import Journal
from channover.hosts.isolated import environment
from channover.keeping import MASKER, AllureFiles
from channover.record import Record
from channover.report.facts import Planned
from channover.report.masking import Masker
from channover.report.results import planned_folder
from channover.report.terminal import show
from channover.reporting import LAB, MACHINES, Reporting, rig_of
from channover.rigging import Rigging
from channover.session import Session, target_of
from channover.topology import Topology, pair
from channover.verdict.expect import Expectation, Measured, quantity
from channover.words import pytest_load_initial_conftests

__all__ = [
    "channover_record",
    "copies",
    "counted",
    "forming_lag",
    "lab",
    "lag",
    "loop_lab",
    "measuring",
    "mptcp",
    "multipath",
    "pytest_load_initial_conftests",
    "switched",
    "tcp",
    "tunnels",
    "udp",
]

COLLECTED = pytest.StashKey[Collected]()
UNMET = pytest.StashKey[str]()
STRICT = "channover_strict"
EXPLAINED = pytest.StashKey[str]()
"""The last explanation of a comparison, whole: pytest cuts long ones short."""
_WORKER_FOLDER = "channover_folder"
_USAGE = "channover_usage"
_LOST = "channover_lost"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add channover's options."""
    settings.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and make ready. Raises pytest.UsageError with one clear line."""
    config.stash[MASKER] = Masker()
    config.stash[MASKER].learn()
    config.addinivalue_line("markers", "behaviour(id): the behaviour of channover's catalogue that a test states")
    config.addinivalue_line("markers", "topology(topology): the topology that a test asks for (default: a pair)")
    config.addinivalue_line("markers", "hash_policy(policy): the transmit hash policy of a test's LAGs")
    try:
        wanted = settings.read(config)
    except UsageError as error:
        raise pytest.UsageError(words.usable(config, str(error))) from None
    if _is_worker(config):
        kernel.die_with_parent()  # xdist itself ends a worker 5 to 15 s after the controller was killed
    config.stash[SESSION] = Session(wanted, target_of(wanted))
    config.stash[evidencing.LIVE] = lambda *_: None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Wait for the plots that are still being drawn; whoever interrupts a run does not want to wait."""
    if not evidencing.finish_plots(60.0 if exitstatus in (0, 1) else 0.5):
        session.config.issue_config_time_warning(UserWarning("some plots of NIC rates were not drawn"), stacklevel=2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what labs are made from."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.target.close()


def _behaviour(item: pytest.Item) -> Behaviour | None:
    """Return the behaviour that a test states; other suites may have a marker of the same name for ends of their own."""
    mark = item.get_closest_marker("behaviour")
    return CATALOGUE.get(mark.args[0]) if mark and mark.args and isinstance(mark.args[0], str) else None


def _topology(item: pytest.Item) -> Topology:
    return marked(item, "topology", Topology) or pair()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find out what cannot be tried here, and why. Raises pytest.UsageError where nothing can."""
    stated = [(item, behaviour) for item in items if (behaviour := _behaviour(item)) is not None]
    if not stated:
        return
    session = config.stash[SESSION]
    session.topologies = tuple(dict.fromkeys(_topology(item) for item, _ in stated))
    try:
        if not config.option.collectonly:
            session.ready()
        for item, behaviour in stated:
            topology = _topology(item)
            reason = session.lacks(topology) or (None if _unasked(config) else session.unmet(behaviour, topology))
            if reason:
                item.stash[UNMET] = reason
                if not session.settings.strict:
                    item.add_marker(pytest.mark.skip(reason=reason))
        if not config.option.collectonly:
            _start_results(config, session, [Planned(item.nodeid, behaviour.id) for item, behaviour in stated])
    except ChannoverError as error:
        said = words.usable(config, collecting.one_line(error))
        if not _is_worker(config):
            raise pytest.UsageError(said) from None
        # xdist takes an exception of a worker for a crash; so it ends without tests, and the controller says why.
        output: dict[str, object] = getattr(config, "workeroutput", {})
        output[_USAGE] = said
        items.clear()


def _unasked(config: pytest.Config) -> bool:
    """Say whether real hosts are left alone: who only collects, an editor for one, must not take and change them."""
    return bool(config.option.collectonly) and config.stash[SESSION].settings.place.lab is not None


def _start_results(config: pytest.Config, session: Session, planned: list[Planned]) -> None:
    """Make the run's folder, keep the plan there, and have Allure write into it unless the user named a folder."""
    masker = config.stash[MASKER]
    planned = [masker.of(one) for one in planned]
    told = getattr(config, "workerinput", {}).get(_WORKER_FOLDER)
    folder = Path(told) if told else _collected(config, session).folder
    if told:
        collecting.save_plan(folder, planned)
    else:
        collected = _collected(config, session)
        collected.planned = tuple(planned)
        collected.open()
    if not getattr(config.option, "allure_report_dir", None):
        from allure_pytest import plugin as allure_plugin

        config.option.allure_report_dir = str(folder / "allure-results")
        try:
            allure_plugin.pytest_configure(config)
        except OSError as error:
            raise UsageError(f"evidence cannot be kept in {folder}: {error.strerror or error}") from None
    place = Path(os.path.abspath(config.option.allure_report_dir))
    files = AllureFiles(place, masker, partial(_not_kept, config, place))
    files.register()
    config.add_cleanup(files.unregister)
    evidencing.plots_into(place, masker)


def _not_kept(config: pytest.Config, place: Path, error: OSError) -> None:
    words = f"evidence cannot be kept in {place}: {error.strerror or error}"
    if _is_worker(config):
        output: dict[str, object] = getattr(config, "workeroutput", {})
        output.setdefault(_LOST, words)
    else:
        collected = config.stash[COLLECTED]
        collected.lost = collected.lost or words


def _collected(config: pytest.Config, session: Session) -> Collected:
    if COLLECTED not in config.stash:
        start = datetime.now(timezone.utc)
        folder = planned_folder(session.settings.reports, start)
        place = session.settings.place
        config.stash[COLLECTED] = Collected(
            session.settings,
            folder,
            start,
            lab=place.lab.name if place.lab else "",
            revision=_revision(config.rootpath),
            masker=config.stash[MASKER],
        )
    return config.stash[COLLECTED]


def _revision(root: Path) -> str:
    """Return the revision of what is run, where git knows one; one that was changed since ends in ``-dirty``."""
    # What only looks must not refresh git's index, nor run what the settings of a repository name.
    harmless = ("core.fsmonitor=false", "core.hooksPath=/dev/null")
    git = ["git", "--no-optional-locks", *(word for one in harmless for word in ("-c", one)), "-C", str(root)]
    try:
        name, changed = (
            subprocess.run(
                [*git, *words], capture_output=True, text=True, timeout=5, check=False, env=environment()
            ).stdout.strip()
            for words in (
                ("describe", "--always", "--abbrev=12"),
                ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"),
            )
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{name}-dirty" if name and changed else name


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the run's folder is."""
    session = node.config.stash[SESSION]
    node.workerinput[_WORKER_FOLDER] = str(_collected(node.config, session).folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Begin the results as soon as a worker has found behaviours and made the run's folder."""
    collected = _collected(node.config, node.config.stash[SESSION])
    if collected.folder.exists():
        collected.planned = collecting.load_plan(collected.folder)
        collected.open()


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Name the target, where behaviours were collected."""
    if not any(map(_behaviour, items)):
        return []
    wanted = config.stash[SESSION].settings
    return [
        f"channover: target {wanted.target}, links of {', '.join(quantity(rate, 'bit/s') for rate in wanted.rates)}"
    ]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Set up the live line; with ``--collect-only``, print why tests would be skipped."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or _is_worker(config):
        return
    if config.option.collectonly:
        for item in session.items:
            if UNMET in item.stash:
                reporter.write_line(f"would skip {item.nodeid}: {item.stash[UNMET]}")
        if _unasked(config) and any(map(_behaviour, session.items)):
            reporter.write_line(
                "channover: no host was asked what it lacks; 'channover doctor --target physical' asks them"
            )
        return
    if (line := live.of(config)) is not None:
        config.stash[evidencing.LIVE] = line.tell
        config.pluginmanager.register(line, live.NAME)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make the test's record; with ``--no-skips``, fail what cannot be tried here."""
    behaviour = stated = _behaviour(item)
    if behaviour is not None:
        paths = sum(len(node.nics) for node in _topology(item).nodes[:1])
        stated = behaviour.measured_with(paths, item.config.stash[SESSION].settings.link_for(_topology(item)).rate)
    item.stash[RECORD] = Record(stated, Journal(scope=allure.step))
    if behaviour is not None:
        labelling.label(item, behaviour, item.config.stash[SESSION])
        if UNMET in item.stash and item.config.stash[SESSION].settings.strict:
            said = f"cannot be tried here, and --no-skips forbids to skip it: {item.stash[UNMET]}"
            pytest.fail(words.usable(item.config, said), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell a broken rig from a broken behaviour, and send what the test left with its last report."""
    report = yield
    record = item.stash.get(RECORD, None)
    if record is None or record.behaviour is None:
        return report
    last = call.excinfo.value if call.excinfo else None
    error = collecting.came_first(last)
    if report.failed and isinstance(error, NotAllowed) and not item.config.stash[SESSION].settings.strict:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, str(error))
    if report.failed:
        record.failed = True
        strict = UNMET in item.stash and item.config.stash[SESSION].settings.strict
        setattr(report, STRICT, strict)
        setattr(report, RIG_BROKE, not strict and collecting.broke(error))
        explained = item.config.stash.get(EXPLAINED, "")
        whole = explained and isinstance(error, AssertionError) and explained.partition("\n")[0] in str(error)
        if last is not error:
            said = f"{explained if whole else error}\nand on the way out of the lab: {last}"
        else:
            said = explained if whole else collecting.reason_of(report)
        item.config.stash[MASKER].learn()  # what the test itself has set is forgotten when it ends
        setattr(report, REASON, item.config.stash[MASKER].text(said))
    if report.when == "teardown":
        session = item.config.stash[SESSION]
        facts = {
            "kernel": session.kernel,
            "tools": dict(session.tools) if session.target_unmet is None else {},
            "lag_driver": record.lag_driver,
            "congestion_control": record.congestion_control or session.congestion_control,
        }
        hosts, cables = rig_of(item.stash[LAB], item.stash.get(MACHINES, {})) if LAB in item.stash else ([], [])
        left = {
            "hosts": [asdict(host) for host in hosts],
            "cables": [asdict(cable) for cable in cables],
            "behaviour": record.behaviour.id,
            "measurements": collecting.measurements(record),
            "nics": [asdict(one) for one in record.nics],
            "facts": facts,
            "spent": {"traffic": record.traffic, "converging": record.converging, "waiting": record.waiting},
        }
        setattr(report, LEFT, item.config.stash[MASKER].of(left))
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show a broken rig as an error, and what ``--no-skips`` forbids to skip as a failure, in whatever phase."""
    if getattr(report, RIG_BROKE, False) and report.when == "call":
        return "error", "E", "ERROR"
    if getattr(report, STRICT, False):
        return "failed", "F", "FAILED"
    return None


class _Reporter:
    """Collects what tests left, in the process that reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.stopped = False
        self.refused = ""
        """Why nothing could be run, as a worker found."""

    @property
    def _opened(self) -> bool:
        return COLLECTED in self.config.stash and self.config.stash[COLLECTED].opened

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report."""
        if COLLECTED in self.config.stash:
            self.config.stash[COLLECTED].add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has to say about the command line."""
        output = getattr(node, "workeroutput", {})
        self.refused = self.refused or output.get(_USAGE, "")
        if COLLECTED in self.config.stash:
            collected = self.config.stash[COLLECTED]
            collected.lost = collected.lost or output.get(_LOST, "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Remember it: a second Ctrl-C that comes now keeps pytest from setting its exit status."""
        self.stopped = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the results."""
        stopped = self.stopped or bool(session.shouldstop or session.shouldfail) or exitstatus not in (0, 1)
        if self._opened:
            collected = self.config.stash[COLLECTED]
            collected.write(interrupted=stopped)
            if collected.fault:
                collected.rescue(interrupted=stopped)
            if (collected.fault or collected.lost) and session.exitstatus == 0:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.refused:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the results as a table, and where they are."""
        if self.refused:
            terminalreporter.ensure_newline()
            terminalreporter.write_line(f"ERROR: {self.refused}", red=True)
        if not self._opened:
            return
        collected = self.config.stash[COLLECTED]
        terminalreporter.ensure_newline()
        terminalreporter.section("channover")
        for line in words.remarks(self.config):
            terminalreporter.write_line(line, yellow=True)
        show(collected.results(interrupted=False), terminalreporter._tw._file)
        skipped = {test.behaviour for test in collected.tests.values() if test.outcome == "skipped"}
        if skipped and not self.config.stash[SESSION].settings.place.dry_run:
            terminalreporter.write_line(
                f"not shown here, for want of something: {len(skipped)} behaviours", yellow=True
            )
        results = os.path.relpath(collected.folder / "results.json", self.config.invocation_params.dir)
        terminalreporter.write_line(collected.fault or f"results: {results}", red=bool(collected.fault))
        if collected.lost:
            terminalreporter.write_line(collected.lost, red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect results in the reporting process only: alone, or the controller of xdist's workers."""
    if not _is_worker(session.config):
        session.config.pluginmanager.register(_Reporter(session.config), "channover_reporter")
    reporting = Reporting(session.config, COLLECTED, reports=not _is_worker(session.config))
    session.config.pluginmanager.register(reporting, "channover_reporting")
    session.config.pluginmanager.register(Rigging(session.config), "channover_rigging")


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a comparison that did not hold: measured, expected and why, per NIC, the likely cause."""
    if not isinstance(left, Measured) or left.last is None:
        return None
    reading = left.last
    expected = (
        right.text(left.unit)
        if isinstance(right, Expectation)
        else f"{op} {quantity(float(cast('float', right)), left.unit)}"
    )
    lines = [f"{left!r}, expected {expected}"]
    if not reading.settled:
        lines.append("the verdict had not settled at the deadline: it is the mean's")
    lines += left.explain().splitlines()
    config.stash[EXPLAINED] = "\n".join(lines)
    return lines
