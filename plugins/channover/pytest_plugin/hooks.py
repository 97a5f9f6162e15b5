"""pytest's hooks, all of them: what a run does at each moment, call by call, in the order in which it happens.

What is called stands in the other modules of this room. Where something has to come before other plugins and something
after them, a hook has two or three entries; ``specname`` is then the hook's name.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from channover.errors import UsageError
from channover.pytest_plugin import failures, fixtures, phases, prerequisites
from channover.pytest_plugin.allure import pages
from channover.pytest_plugin.allure.report import Report
from channover.pytest_plugin.beginning import Beginning
from channover.pytest_plugin.live import line as live_line
from channover.pytest_plugin.live import lines
from channover.pytest_plugin.live.lines import Lines
from channover.pytest_plugin.options import command_line
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results import artifacts, judging, marks
from channover.pytest_plugin.results.planning import Planning
from channover.pytest_plugin.results.witness import Witness
from channover.pytest_plugin.results.writer import Writer
from channover.pytest_plugin.stash import ENVIRONMENT, is_worker
from channover.pytest_plugin.testbed import TESTBED, Testbed

NAME = "channover_hooks"
Reports = Generator[None, pytest.TestReport, pytest.TestReport]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add channover's options."""
    command_line.add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Let short names of options be used, where no other plugin has them."""
    words.find_folders(early_config, parser, args)
    yield
    words.lengthen(early_config, parser, args)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and make ready. Raises pytest.UsageError with one clear line."""
    command_line.take_password(config)
    config.stash[ENVIRONMENT] = dict(os.environ)
    config.pluginmanager.register(fixtures, "channover_fixtures")
    marks.declare(config)
    try:
        config.stash[TESTBED] = Testbed(config)
        config.stash[TESTBED].require()
        command_line.ask_password(config)
    except UsageError as error:
        raise pytest.UsageError(words.usable(config, str(error))) from None
    if is_worker(config):
        from channover import syscalls

        syscalls.die_with_parent()  # xdist itself ends a worker 5 to 15 s after the controller was killed


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin: all other hooks are the session's. Raises pytest.UsageError where they were taken away: verdicts rest on them."""
    if session.config.pluginmanager.is_blocked(NAME):
        raise pytest.UsageError(f"-p no:{NAME} takes away a part of channover that verdicts rest on: leave it out")
    session.config.pluginmanager.register(Hooks(session.config), NAME)


class Hooks:
    """The hooks of a session. They are registered as it starts: of two that want to be first or last, the later one is."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.testbed = config.stash[TESTBED]
        self.live = config.stash[live_line.LIVE] = live_line.Live(config)
        self.lines = Lines(config)
        self.planning = Planning(config)
        self.beginning = Beginning(config, self.planning)
        self.witness = Witness(config)
        self.results = Writer(config)
        self.report = Report(config)

    # Tests are collected.

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        return self.planning.named(module_path, parent)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "lacp_rate" in metafunc.fixturenames and self.testbed.settings.soak:
            from channover.network.lag import LacpRate

            metafunc.parametrize("lacp_rate", list(LacpRate)[::-1], indirect=True, ids=lambda one: one.value)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        self.planning.note_test(item)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        self.planning.note_children(collector, report)
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.planning.note_uncollected(report)
        self.results.take_uncollected(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> Generator[None, bool | None, bool | None]:
        ignored = yield
        if ignored:
            self.planning.note_ignored(collection_path)
        return ignored

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        prerequisites.find_out(self.config, items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> Generator[None, object, object]:
        self.beginning.leave_plan(session)  # before xdist tells the controller what was collected
        done = yield
        prerequisites.say_unmet(self.config, session.items)
        self.live.start(session.items)
        return done

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        return prerequisites.headline(self.config, items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        self.beginning.begin(session)
        self.live.start_of_workers()
        self.lines.start()

    # A test is run.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        return self.testbed.run(item, nextitem)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        phases.begin(item)

    @pytest.hookimpl(specname="pytest_runtest_setup")
    def pytest_runtest_setup_of_what_is_not_skipped(self, item: pytest.Item) -> None:
        self.live.tell_phase(item, "setting up")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        made = yield
        pages.meet(request, fixturedef.argname, made)
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self.live.tell_phase(item, "running")
        with judging.judged(item):
            return (yield)

    def pytest_assertrepr_compare(self, config: pytest.Config, left: object, right: object) -> list[str] | None:
        return phases.explain(config, left, right)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        artifacts.take(item)
        self.testbed.keep_lab(item, nextitem)
        refused = pages.look(item)  # while the lab is there
        done = yield
        judging.judge_teardown(item)
        if refused is not None:
            raise refused
        return done

    @pytest.hookimpl(wrapper=True, trylast=True, specname="pytest_runtest_makereport")
    def pytest_runtest_makereport_before_others(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Reports:
        failures.hide_own_frames(item, call)
        report = yield
        failures.tell_in_words(call, report)
        self.witness.note(item, call, report)
        self.testbed.skip_dry(item, call, report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Reports:
        report = yield  # pytest has said of it what is skipped and what was expected to fail
        phases.judge(item, call, report)
        failures.add_commands(item, report)
        artifacts.claim(item, report)
        lines.note(item, report)
        phases.leave(item, report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_runtest_makereport")
    def pytest_runtest_makereport_after_others(self, item: pytest.Item) -> Reports:
        report = yield
        pages.tell(item, report)
        artifacts.finish(item, report)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.live.give_way(report)
        self.lines.tell(self.results.take(report))
        self.witness.forget(report)

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, str | tuple[str, Mapping[str, bool]]] | None:
        return phases.status(report)

    @pytest.hookimpl(wrapper=True, specname="pytest_report_teststatus")
    def pytest_report_teststatus_beside_lines(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        found = yield
        return self.lines.status(report, found) if found else found

    # Workers of xdist, seen from their controller.

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        self.beginning.tell_folder(node)
        self.live.tell_worker(node)
        command_line.tell_password(node)
        self.testbed.hand_out(node)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        if self.beginning.take_plan(node):
            prerequisites.say_of_workers(self.config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.results.hear(node)
        self.testbed.take_back(node)

    # The end.

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        self.live.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.results.stop()  # at once: a second Ctrl-C may come at any moment
        self.live.close()
        self.testbed.interrupt()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self.results.write(session, exitstatus)
        self.testbed.give_back(session)  # others may wait for the hosts; nobody waits for the report
        self.results.mend_junit()
        self.report.finish_plots(exitstatus)
        self.report.make(exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        failures.show_inconclusive(terminalreporter)
        self.testbed.tell(terminalreporter)
        self.results.show(terminalreporter)
        self.report.say(terminalreporter)

    def pytest_unconfigure(self) -> None:
        self.live.close()
        self.testbed.close()
