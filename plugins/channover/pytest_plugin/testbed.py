"""What a run does about its testbed: dry runs, labs that are kept, machines that died, hosts at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol
from _pytest.skipping import evaluate_skip_marks

from channover.errors import TestbedError, UsageError
from channover.pytest_plugin.live import line as live
from channover.pytest_plugin.options import command_line
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results import marks
from channover.pytest_plugin.results.outcomes import REPEATED
from channover.pytest_plugin.results.witness import WITNESSED
from channover.pytest_plugin.stash import CAPTURES, FAULTS, LAB, MACHINES, PHASES, RECORD, UNMET, is_worker
from channover.run.defaults import TARGETS

if TYPE_CHECKING:
    from channover.run.environment import Environment
    from channover.run.settings import Settings
    from channover.targets.dry_run import DryTarget

_REMARKS = "channover_remarks"
_NOTES = "channover_notes"
RESTORED = 60.0
"""Seconds after which hosts are free again whose run has died, however slow they are (docs/safety.md)."""
_OF_A_TRY: tuple[Any, ...] = (PHASES, LAB, MACHINES, FAULTS, CAPTURES)
"""What a test leaves behind that its second try must not find."""


class Testbed:
    """Looks after what one process's tests run on: a target, made when the first of them asks for it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._remarks: list[str] = []
        self._notes: list[str] = []
        self._free: list[str] = []
        self._used: set[str] = set()

    @cached_property
    def settings(self) -> Settings:
        """What the options say. Raises UsageError."""
        from channover.pytest_plugin.options import values

        return values.read(self._config)

    @cached_property
    def session(self) -> Environment:
        """What is known of the place where the tests run."""
        from channover.run import environment
        from channover.targets.base import Talking

        made = environment.Environment(self.settings, environment.target_of(self.settings))
        if isinstance(made.target, Talking):
            made.target.say = self.say
        return made

    def require(self) -> None:
        """Check the options, where any was given; another package's target is made, and checks its own. Raises UsageError."""
        if not words.given(self._config):
            return
        self._free = list(self.settings.place.labs)
        if self.settings.target not in TARGETS:
            assert self.session

    @property
    def _opened(self) -> bool:
        return "session" in vars(self)

    def say(self, text: str) -> None:
        """Show a line at once; a worker has no terminal, and its lines are shown at the end."""
        if not self._config.pluginmanager.has_plugin("terminalreporter") or is_worker(self._config):
            self._notes.append(text)
        else:
            live.write_line(self._config, text)

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test, and once more where a machine of its lab died: that is no verdict on anything.

        None: there are no machines that could die, and pytest is to run it.
        """
        if not (self._opened or marks.takes_part(item)):
            return None
        from channover.targets.base import Mortal

        if not isinstance(target := self.session.target, Mortal):
            return None
        import allure

        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        words = target.dead()
        for number, text in enumerate(words, start=1):  # now, since a second try may not come to an end
            allure.attach(text, f"console of a machine that died ({number})", allure.attachment_type.TEXT)
        if words:
            with contextlib.suppress(TestbedError):  # then the second try says so
                target.revive()
            if any(report.failed for report in reports):
                reports = self._again(item, nextitem)
                for report in reports:
                    report.user_properties.append((REPEATED, words[0].splitlines()[0]))
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _again(self, item: Any, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        """Run a test a second time, as if there had been no first."""
        import allure

        dynamic: Any = allure.dynamic
        dynamic.label(REPEATED, "a machine died")
        for key in _OF_A_TRY:
            if key in item.stash:
                del item.stash[key]
        self._config.stash[WITNESSED].pop(item.nodeid, None)
        item._initrequest()
        return runtestprotocol(item, nextitem=nextitem, log=False)

    def skip_dry(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Skip every test of a dry run, with what it noted; what would stop a real run stays an error."""
        if item.stash.get(RECORD, None) is None or not self.settings.place.dry_run:
            return
        from channover.targets.dry_run import DryTarget

        if isinstance(target := self.session.target, DryTarget):
            error = call.excinfo.value if call.excinfo else None
            stays = isinstance(error, UsageError) or (isinstance(error, TestbedError) and not target.guesses)
            if report.when == "teardown":
                if not stays:
                    report.outcome, report.longrepr = "passed", None
                self._show(item.nodeid, target)
            elif not stays and (report.when == "call" or report.failed):
                report.outcome = "skipped"
                report.longrepr = (str(item.path), 0, "dry run: nothing was changed")

    def _show(self, nodeid: str, target: DryTarget) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(nodeid, bold=True)
            for line in target.said:
                reporter.write_line(f"  {line}")
        target.said.clear()
        target.guesses.clear()

    def keep_lab(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Keep the lab that was asked for, until Ctrl-C. A run whose last lab it was goes on: all of its tests are run."""
        record, lab = item.stash.get(RECORD, None), item.stash.get(LAB, None)
        if lab is None or record is None or not self.settings.place.keep_lab:
            return
        last = nextitem is None or _only_skips(item, item.session.items)
        if record.failed or last:
            from channover.run import kept_labs as kept  # here, since hosts behind SSH take long to import

            reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
            with kept.offered(lab, item.nodeid) as hosts:
                reporter.ensure_newline()
                reporter.write_line(
                    f"the lab of {item.nodeid} stands: channover shell {'|'.join(hosts)}; Ctrl-C ends it"
                )
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(3600)
            if not last:
                item.session.shouldstop = "the lab was kept, and is given back"

    def interrupt(self) -> None:
        """Tell the target of Ctrl-C before fixtures are torn down."""
        if self._opened:
            from channover.targets.base import Interruptible

            if isinstance(self.session.target, Interruptible):
                self.session.target.interrupt()

    def give_back(self, session: pytest.Session) -> None:
        """Give hosts back once the last fixture is torn down; one that is not as it was makes the run fail."""
        self.close()
        if self._opened:
            self._remarks += self.session.target.remarks
        held = self._config.stash.get(words.HELD, None)
        if held is not None and (said := held.close()):
            self._notes.append(said)
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_REMARKS], output[_NOTES] = self._remarks, self._notes
        elif self._remarks and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def close(self) -> None:
        """End what labs are made from."""
        if self._opened:
            self.session.target.close()

    def hand_out(self, node: Any) -> None:
        """Give an xdist worker a lab of its own; one that stands in for a dead worker waits until the hosts are restored."""
        if self._free:
            name = node.workerinput[command_line.LAB] = self._free.pop(0)
            node.workerinput[command_line.WAIT] = RESTORED if name in self._used else 0.0
            self._used.add(name)

    def take_back(self, node: Any) -> None:
        """Take what a worker has to say about its hosts, and its lab back."""
        told = getattr(node, "workeroutput", {})
        self._remarks += told.get(_REMARKS, [])
        self._notes += told.get(_NOTES, [])
        if command_line.LAB in node.workerinput:
            self._free.append(node.workerinput[command_line.LAB])

    def tell(self, terminalreporter: Any) -> None:
        """Say what workers found about hosts, and which hosts were not as they had been."""
        if self._notes:
            terminalreporter.section("noted about hosts", sep="=")
            for note in dict.fromkeys(self._notes):
                terminalreporter.write_line(note)
        if self._remarks:
            terminalreporter.section("hosts", sep="=", red=True)
            for remark in self._remarks:
                terminalreporter.write_line(remark)


def _only_skips(item: pytest.Item, items: Sequence[pytest.Item]) -> bool:
    """Say whether none of the tests behind one will make a lab, since each is skipped."""
    return all(UNMET in one.stash or _skipped(one) for one in items[items.index(item) + 1 :])


def _skipped(item: pytest.Item) -> bool:
    try:
        return evaluate_skip_marks(item) is not None
    except pytest.fail.Exception:  # a condition that cannot be evaluated: the test itself says so
        return False


TESTBED = pytest.StashKey[Testbed]()
