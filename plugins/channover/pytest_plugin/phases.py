"""The phases of a test, set-up, call and teardown: its record, what its reports say, and what it leaves for the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from channover.errors import Inconclusive, NotAllowed, TestbedError
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results import artifacts, judging, marks, outcomes
from channover.pytest_plugin.results.outcomes import JUDGED, LEFT, REASON, TESTBED_BROKE, UNSETTLED
from channover.pytest_plugin.stash import EXPLAINED, LAB, MACHINES, PHASES, RECORD, UNMET, masker, topology_of
from channover.pytest_plugin.testbed import TESTBED

if TYPE_CHECKING:
    from channover.measure.record import Record


def begin(item: pytest.Item) -> None:
    """Make the record of a test of channover's, and label it; with ``--no-skips``, fail what cannot be tried here."""
    if RECORD in item.stash:
        del item.stash[RECORD]  # of a first try
    if not marks.takes_part(item):
        return
    from channover.pytest_plugin.allure import labels

    record_of(item)
    labels.label(item, marks.stated(item), item.config.stash[TESTBED].session)
    if UNMET in item.stash and item.config.stash[TESTBED].settings.strict:
        said = f"cannot be tried here, and --no-skips forbids to skip it: {item.stash[UNMET]}"
        pytest.fail(words.usable(item.config, said), pytrace=False)


def record_of(item: pytest.Item) -> Record:
    """Return a test's record: what it leaves for the report."""
    if RECORD not in item.stash:
        import allure

        from channover.hosts.host import Journal
        from channover.measure import steps
        from channover.measure.record import Record

        steps.show_by(allure.step)
        stated = marks.stated(item)
        if stated is not None:
            paths = sum(len(node.nics) for node in topology_of(item).nodes[:1])
            rate = item.config.stash[TESTBED].settings.link_for(topology_of(item)).rate
            stated = stated.measured_with(paths, rate)
        item.stash[RECORD] = Record(stated, Journal(scope=allure.step))
    return item.stash[RECORD]


def judge(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Tell a broken testbed from a broken behaviour, and say in the report why a test did not pass."""
    record = item.stash.get(RECORD, None)
    if record is None:
        return
    strict = item.config.stash[TESTBED].settings.strict
    last = call.excinfo.value if call.excinfo else None
    error = outcomes.came_first(last)
    missed = judging.missed(record)
    if isinstance(error, Inconclusive) and not report.passed:
        setattr(report, UNSETTLED, True)
    elif missed and report.failed and not outcomes.broke(error):
        setattr(report, JUDGED, True)
    if not marks.takes_part(item):
        return
    if report.failed and isinstance(error, NotAllowed) and not strict:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, str(error))
    if not report.failed:
        return
    record.failed = True
    if UNMET in item.stash and strict:
        setattr(report, JUDGED, True)
    setattr(report, TESTBED_BROKE, not getattr(report, JUDGED, False) and outcomes.broke(error))
    explained = item.config.stash.get(EXPLAINED, "")
    whole = explained and isinstance(error, AssertionError) and explained.partition("\n")[0] in str(error)
    if last is not error:
        said = f"{explained if whole else error}\nand on the way out of the lab: {last}"
    else:
        said = explained if whole else outcomes.reason_of(report)
    notes = [note for note in getattr(error, "__notes__", ()) if note not in said]
    if isinstance(error, TestbedError) and error.kind:
        from channover.verdict.causes.cause import Cause

        record.other_causes.insert(0, Cause(error.kind, str(error), certainty="shown"))
    asked = () if report.when == "teardown" else _asked(item, record, error, said)
    said = "\n".join([said, *notes, *asked])
    masker(item.config).learn()  # what the test itself has set is forgotten when it ends
    setattr(report, REASON, masker(item.config).text(said))


def _asked(item: pytest.Item, record: Record, error: BaseException | None, said: str) -> tuple[str, ...]:
    """Ask the lab, while it is there, why a test failed that no comparison has explained; return that in lines.

    What is no verdict, and what the lab was found to be instead, explains itself.
    """
    place = item.config.stash[TESTBED].settings.place
    if LAB not in item.stash or record.causes or place.dry_run or isinstance(error, (Inconclusive, outcomes.Instead)):
        return ()
    if any(reading.undecided for reading in record.readings):
        return ()
    from channover.scenarios.diagnosis.asking import Diagnosis

    try:
        found = Diagnosis(item.stash[LAB], record).of_failure(said, verdict=not outcomes.broke(error))
    except (TestbedError, ValueError):  # a host that says no more is what the test has failed of
        return ()
    record.other_causes += found.causes
    return found.lines


def leave(item: pytest.Item, report: pytest.TestReport) -> None:
    """Send what a test left with its last report: a worker of xdist has no other way."""
    record = item.stash.get(RECORD, None)
    if report.when != "teardown" or record is None or not marks.takes_part(item):
        return
    from channover.pytest_plugin.allure import switches
    from channover.pytest_plugin.allure.page_facts import lab_facts
    from channover.pytest_plugin.results import properties
    from channover.pytest_plugin.results.collector import measurements
    from channover.pytest_plugin.results.courses import courses
    from channover.verdict.notes import once

    session = item.config.stash[TESTBED].session
    facts: dict[str, object] = (
        {}
        if record.behaviour is None and LAB not in item.stash
        else {
            "kernel": session.kernel,
            "tools": dict(session.tools) if session.target_unmet is None else {},
            "lag_driver": record.lag_driver,
            "congestion_control": record.congestion_control or session.congestion_control,
        }
    )
    if LAB in item.stash:
        facts["mtu"] = item.stash[LAB].link.mtu
    read = switches.facts(item.stash.get(switches.SEEN, None))
    hosts, cables = lab_facts(item.stash[LAB], item.stash.get(MACHINES, {}), read) if LAB in item.stash else ([], [])
    left = {
        "hosts": [asdict(host) for host in hosts],
        "cables": [asdict(cable) for cable in cables],
        "behaviour": record.behaviour.id if record.behaviour else None,
        "measurements": measurements(record),
        "causes": [asdict(one) for one in record.causes],
        "nics": [asdict(one) for one in record.nics],
        "processors": [asdict(one) for one in record.processors],
        "metrics": [asdict(one) for one in record.metrics],
        "notes": [asdict(one) for one in once(record.notes)],
        "facts": facts,
        "artifacts": artifacts.left(item),
        "courses": [asdict(one) for one in courses(record)],
        "spent": {"traffic": record.traffic, "converging": record.converging, "waiting": record.waiting},
    }
    masked = masker(item.config).of(left)
    setattr(report, LEFT, masked)
    properties.record(report, masked, outcomes.outcome_of([*item.stash.get(PHASES, ()), report])[0])


def status(report: pytest.TestReport) -> tuple[str, str, str | tuple[str, Mapping[str, bool]]] | None:
    """Show a broken testbed as an error, and a verdict, or what ``--no-skips`` forbids, as a failure, in whatever phase.

    What was not settled is a category of its own.
    """
    if getattr(report, UNSETTLED, False):
        return "inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})
    if getattr(report, TESTBED_BROKE, False) and report.when == "call":
        return "error", "E", "ERROR"
    if getattr(report, JUDGED, False):
        return "failed", "F", "FAILED"
    return None


def explain(config: pytest.Config, *values: Any) -> list[str] | None:
    """Explain a comparison that did not hold: measured, expected and why, per NIC, the likely cause."""
    readings = [value for value in values if str(type(value).__module__).startswith("channover.")]
    if not readings:
        return None
    from channover.verdict.measured import Measured, Reading, explanation
    from channover.verdict.several import Each, Listed

    for value in readings:
        last = value.last if isinstance(value, (Measured, Each, Listed)) else None
        compared = [last] if isinstance(last, Reading) else last or ()
        if lines := explanation(compared):
            config.stash[EXPLAINED] = "\n".join(lines)
            return lines
    return None
