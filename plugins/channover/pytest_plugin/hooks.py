"""The pytest plugin: options, skips that say why, outcomes that tell a broken rig from a broken behaviour, results."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import allure
import pytest

from channover import syscalls as kernel
from channover.errors import ChannoverError, NotAllowed, UsageError
from channover.hosts.host import Journal
from channover.measure.record import Record
from channover.model import registry
from channover.model.topology import Topology, pair
from channover.pytest_plugin import live_line as live
from channover.pytest_plugin import option_names as words
from channover.pytest_plugin import options
from channover.pytest_plugin.allure import evidence as evidencing
from channover.pytest_plugin.allure import labels as labelling
from channover.pytest_plugin.allure.files import MASKER
from channover.pytest_plugin.allure.pages import LAB, MACHINES, Reporting, rig_of
from channover.pytest_plugin.fixtures import (
    RECORD,
    SESSION,
    bond,
    channover_record,
    copies,
    counted,
    forming_lag,
    lab,
    lag,
    listed,
    loop_lab,
    marked,
    measuring,
    mptcp,
    multipath,
    observe,
    switched,
    tcp,
    tunnels,
    udp,
)
from channover.pytest_plugin.option_names import pytest_load_initial_conftests
from channover.pytest_plugin.results import collector as collecting
from channover.pytest_plugin.results import judging, marks
from channover.pytest_plugin.results.beginning import (
    COLLECTED,
    LOST,
    USAGE,
    Beginning,
    is_worker,
    refuse,
    shows_fixtures,
)
from channover.pytest_plugin.results.collector import JUDGED, LEFT, REASON, RIG_BROKE
from channover.pytest_plugin.results.planning import Planning, uncollected
from channover.pytest_plugin.results.witness import Witness
from channover.pytest_plugin.testbed import Rigging
from channover.report.signoff.masking import Masker
from channover.report.terminal import show
from channover.run.environment import Session, target_of
from channover.verdict.expectation import quantity
from channover.verdict.measured import Measured, Reading, explanation
from channover.verdict.several import Each, Listed

__all__ = [
    "bond",
    "channover_record",
    "copies",
    "counted",
    "forming_lag",
    "lab",
    "lag",
    "listed",
    "loop_lab",
    "measuring",
    "mptcp",
    "multipath",
    "observe",
    "pytest_load_initial_conftests",
    "switched",
    "tcp",
    "tunnels",
    "udp",
]

UNMET = pytest.StashKey[str]()
EXPLAINED = pytest.StashKey[str]()
"""The last explanation of a comparison, whole: pytest cuts long ones short."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add channover's options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and make ready. Raises pytest.UsageError with one clear line."""
    config.stash[MASKER] = Masker()
    config.stash[MASKER].learn()
    config.addinivalue_line("markers", "behaviour(id): the behaviour of channover's catalogue that a test states")
    config.addinivalue_line("markers", "topology(topology): the topology that a test asks for (default: a pair)")
    config.addinivalue_line("markers", "hash_policy(policy): the transmit hash policy of a test's LAGs")
    try:
        wanted = options.read(config)
        target = target_of(wanted)
    except UsageError as error:
        raise pytest.UsageError(words.usable(config, str(error))) from None
    if is_worker(config):
        kernel.die_with_parent()  # xdist itself ends a worker 5 to 15 s after the controller was killed
    config.stash[SESSION] = Session(wanted, target)
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


def _topology(item: pytest.Item) -> Topology:
    return marked(item, "topology", Topology) or pair()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find out what cannot be tried here, and why. Raises pytest.UsageError where nothing can."""
    if shows_fixtures(config):
        return
    if any(marks.marked(item) or marks.takes_part(item) for item in items) and (fault := registry.fault()):
        refuse(config, items, UsageError(fault))
        return
    for item, fault in marks.wrong(items).items():
        items.remove(item)
        report = pytest.CollectReport(item.nodeid, "failed", f"{item.name}: {fault}", [])
        config.hook.pytest_collectreport(report=report)
    stated = [(item, behaviour) for item in items if (behaviour := marks.stated(item)) is not None]
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
    except ChannoverError as error:
        refuse(config, items, error)


def _unasked(config: pytest.Config) -> bool:
    """Say whether real hosts are left alone: who only collects, an editor for one, must not take and change them."""
    return bool(config.option.collectonly) and config.stash[SESSION].settings.place.lab is not None


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Name the target, where behaviours were collected."""
    if not any(map(marks.stated, items)):
        return []
    wanted = config.stash[SESSION].settings
    found = f"channover: target {wanted.target}, links of {', '.join(quantity(rate, 'bit/s') for rate in wanted.rates)}"
    if wanted.place.dry_run and not config.option.collectonly:
        found += f", LAG by {config.stash[SESSION].lag[0]}; a dry run measures nothing, and leaves nothing"
    return [found]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Set up the live line; with ``--collect-only``, print why tests would be skipped."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or is_worker(config):
        return
    if config.option.collectonly:
        for item in session.items:
            if UNMET in item.stash:
                reporter.write_line(f"would skip {item.nodeid}: {item.stash[UNMET]}")
        if _unasked(config) and any(map(marks.stated, session.items)):
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
    behaviour = stated = marks.stated(item)
    if behaviour is not None:
        paths = sum(len(node.nics) for node in _topology(item).nodes[:1])
        stated = behaviour.measured_with(paths, item.config.stash[SESSION].settings.link_for(_topology(item)).rate)
    item.stash[RECORD] = Record(stated, Journal(scope=allure.step))
    if marks.takes_part(item):
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
    if record is None:
        return report
    last = call.excinfo.value if call.excinfo else None
    error = collecting.came_first(last)
    if judging.missed(record) and report.failed and not collecting.broke(error):
        setattr(report, JUDGED, True)
    if not marks.takes_part(item):
        return report
    if report.failed and isinstance(error, NotAllowed) and not item.config.stash[SESSION].settings.strict:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, str(error))
    if report.failed:
        record.failed = True
        if UNMET in item.stash and item.config.stash[SESSION].settings.strict:
            setattr(report, JUDGED, True)
        setattr(report, RIG_BROKE, not getattr(report, JUDGED, False) and collecting.broke(error))
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
        facts = (
            {}
            if record.behaviour is None and LAB not in item.stash
            else {
                "kernel": session.kernel,
                "tools": dict(session.tools) if session.target_unmet is None else {},
                "lag_driver": record.lag_driver,
                "congestion_control": record.congestion_control or session.congestion_control,
            }
        )
        hosts, cables = rig_of(item.stash[LAB], item.stash.get(MACHINES, {})) if LAB in item.stash else ([], [])
        left = {
            "hosts": [asdict(host) for host in hosts],
            "cables": [asdict(cable) for cable in cables],
            "behaviour": record.behaviour.id if record.behaviour else None,
            "measurements": collecting.measurements(record),
            "nics": [asdict(one) for one in record.nics],
            "facts": facts,
            "spent": {"traffic": record.traffic, "converging": record.converging, "waiting": record.waiting},
        }
        setattr(report, LEFT, item.config.stash[MASKER].of(left))
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show a broken rig as an error, and what is a verdict or forbidden by ``--no-skips`` as a failure, in whatever phase."""
    if getattr(report, RIG_BROKE, False) and report.when == "call":
        return "error", "E", "ERROR"
    if getattr(report, JUDGED, False):
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

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take what could not be collected, by workers too: a plan may be lost with its worker."""
        if COLLECTED in self.config.stash and not report.passed:
            found = uncollected(report)
            self.config.stash[COLLECTED].uncollected[found.nodeid] = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report."""
        if COLLECTED in self.config.stash:
            self.config.stash[COLLECTED].add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has to say about the command line."""
        output = getattr(node, "workeroutput", {})
        self.refused = self.refused or output.get(USAGE, "")
        if COLLECTED in self.config.stash:
            collected = self.config.stash[COLLECTED]
            collected.lost = collected.lost or output.get(LOST, "")

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
        skipped = dict.fromkeys(
            test.behaviour or test.nodeid for test in collected.tests.values() if test.outcome == "skipped"
        )
        if skipped:
            terminalreporter.write_line(f"skipped: prerequisites missing: {', '.join(skipped)}", yellow=True)
        results = os.path.relpath(collected.folder / "results.json", self.config.invocation_params.dir)
        terminalreporter.write_line(collected.fault or f"results: {results}", red=bool(collected.fault))
        if collected.lost:
            terminalreporter.write_line(collected.lost, red=True)


def _register(config: pytest.Config, part: object, name: str) -> None:
    """Register a part of this plugin. Raises pytest.UsageError where it was taken away: verdicts rest on each of them."""
    if config.pluginmanager.is_blocked(name):
        raise pytest.UsageError(f"-p no:{name} takes away a part of channover that verdicts rest on: leave it out")
    config.pluginmanager.register(part, name)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect results in the reporting process only: alone, or the controller of xdist's workers. Raises pytest.UsageError."""
    if not is_worker(session.config):
        _register(session.config, _Reporter(session.config), "channover_reporter")
    reporting = Reporting(session.config, COLLECTED, reports=not is_worker(session.config))
    _register(session.config, reporting, "channover_reporting")
    _register(session.config, judging, "channover_judging")
    _register(session.config, Rigging(session.config), "channover_rigging")
    planning = Planning(session.config)
    _register(session.config, planning, "channover_planning")
    _register(session.config, Beginning(session.config, planning), "channover_beginning")
    _register(session.config, Witness(session.config), "channover_witness")


def pytest_assertrepr_compare(config: pytest.Config, left: object, right: object) -> list[str] | None:
    """Explain a comparison that did not hold: measured, expected and why, per NIC, the likely cause."""
    for value in (left, right):
        last = value.last if isinstance(value, (Measured, Each, Listed)) else None
        readings = [last] if isinstance(last, Reading) else last or ()
        if lines := explanation(readings):
            config.stash[EXPLAINED] = "\n".join(lines)
            return lines
    return None
