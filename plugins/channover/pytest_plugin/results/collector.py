"""What a run's tests left, gathered in the process that reports: outcomes, measurements, and the results file."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from channover.errors import UsageError
from channover.measure.record import Record
from channover.model.catalogue import CATALOGUE
from channover.pytest_plugin.results.outcomes import LEFT, REPEATED, outcome_of
from channover.pytest_plugin.results.plan import Plan
from channover.pytest_plugin.results.witness import against
from channover.report.deciding.endings import STATES, ended, state_of
from channover.report.facts import (
    CableFacts,
    HostFacts,
    NicBytes,
    ProcessorUse,
    Uncollected,
    course,
    host_facts,
    moment,
    traffic_metrics,
)
from channover.report.results import Measurement, Results, Run, TestResult
from channover.report.signoff.masking import Masker
from channover.report.store import open_folder
from channover.run.settings import Settings
from channover.text import printable
from channover.verdict.causes.cause import cause_of
from channover.verdict.measured import Reading
from channover.verdict.notes import Note
from channover.verdict.statistics import CONFIDENCE

_SHARE = 20.0
"""How much longer than a write of results.json the next one waits: one part in twenty-one of a run, at most."""


def measurement(reading: Reading, article: float | None) -> Measurement:
    """Return a comparison as results hold it; the article's figure goes with the first rate of a test."""
    expected = reading.expectation
    return Measurement(
        reading.name,
        reading.estimate.mean,
        reading.unit,
        expected.value,
        expected.low,
        expected.high,
        article,
        uncertainty=_uncertainty(reading),
        samples=reading.estimate.samples,
        why=expected.why,
        settled=reading.settled,
        rule=expected.rule,
    )


def _uncertainty(reading: Reading) -> float | None:
    """Return half the interval: 0 for a whole number that was counted, None for a value that was taken once."""
    found = reading.estimate
    if found.samples <= 1:
        return 0.0 if reading.unit == "1" and float(found.mean).is_integer() else None
    return found.half if math.isfinite(found.half) else None


def measurements(record: Record) -> list[dict[str, Any]]:
    """Return a test's comparisons as plain data, in the order in which they were made."""
    article = record.behaviour.article if record.behaviour else None
    found: list[dict[str, Any]] = []
    for reading in record.readings:
        fits = reading.unit == "bit/s" and not any(one["article"] for one in found)
        found.append(asdict(measurement(reading, article if fits else None)))
    return found


@dataclass
class Collected:
    """What has been reported so far, by nodeid.

    What the plugin learns of the testbed and of the plan goes into the fields that :class:`Run` has for it.
    """

    settings: Settings
    folder: Path
    start: datetime
    command: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    opened: bool = False
    tests: dict[str, TestResult] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    lab: str = ""
    revision: str = ""
    changes: tuple[str, ...] = ()
    hosts: tuple[HostFacts, ...] = ()
    cables: tuple[CableFacts, ...] = ()
    plan: Plan | None = None
    uncollected: dict[str, Uncollected] = field(default_factory=dict)
    """What the process that reports was told of itself: a worker's plan may be lost with it."""
    fault: str = ""
    """Why results could not be kept, the last time that they were to be."""
    lost: str = ""
    """Why evidence could not be kept, the first time that it could not."""
    masker: Masker = field(default_factory=Masker)
    _next_write: float = 0.0
    _pending: dict[tuple[str, str], list[pytest.TestReport]] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> TestResult | None:
        """Take a phase's report; return the test's result where it is complete with it.

        It is so with its teardown, or where it begins again without one. Several workers may run the same test at once
        (xdist's ``--dist each``).
        """
        if not self.opened:
            return None  # a run in which nothing is compared
        key = (report.nodeid, _worker(report))
        reports = self._pending.setdefault(key, [])
        if report.when == "setup" and reports:
            self._complete(report.nodeid, reports)
            reports = self._pending[key] = []
        reports.append(report)
        if report.when not in ("setup", "call"):
            self._complete(report.nodeid, self._pending.pop(key))
            return self.masker.of(self.tests[report.nodeid])
        return None

    def _meet(self, hosts: Sequence[HostFacts], cables: Sequence[CableFacts]) -> None:
        """Add what a test's lab consisted of: a host may have shown more of its NICs to another test."""
        known = {(host.name, host.machine): host for host in self.hosts}
        for host in hosts:
            key = (host.name, host.machine)
            nics = {nic.name: nic for one in (known.get(key), host) if one for nic in one.nics}
            known[key] = replace(host, nics=tuple(nics.values()))
        self.hosts = tuple(known.values())
        self.cables = tuple({(one.a, one.b): one for one in (*self.cables, *cables)}.values())

    def open(self) -> None:
        """Make the run's folder, where that has not been done. Raises pytest.UsageError in one line."""
        if not self.opened:
            try:
                open_folder(self.folder)
            except UsageError as error:
                raise pytest.UsageError(str(error)) from None
            self.opened = True
            self.write(interrupted=True)
            if self.fault:
                raise pytest.UsageError(self.fault)

    def _complete(self, nodeid: str, reports: list[pytest.TestReport]) -> None:
        last = reports[-1]
        left: Mapping[str, Any] = getattr(last, LEFT, None) or {}
        outcome, reason = outcome_of(reports)
        lost = last.when not in ("setup", "call", "teardown")
        unrun = outcome == "passed" and not any(report.when == "call" for report in reports)
        if unrun:
            outcome, reason = "error", "only set up and torn down: its body did not run"
        if outcome == "passed" and (found := against(last)):
            outcome, reason = found
        self.facts |= {key: value for key, value in left.get("facts", {}).items() if value}
        self._meet(
            [host_facts(one) for one in left.get("hosts", ())], [CableFacts(**one) for one in left.get("cables", ())]
        )
        result = TestResult(
            nodeid,
            left.get("behaviour"),
            outcome,
            printable(reason),
            sum(max(report.duration, 0.0) for report in reports),
            tuple(Measurement(**one) for one in left.get("measurements", [])),
            nics=tuple(NicBytes(**one) for one in left.get("nics", [])),
            processors=tuple(ProcessorUse(**one) for one in left.get("processors", [])),
            metrics=tuple(traffic_metrics(one) for one in left.get("metrics", [])),
            causes=() if outcome == "passed" else tuple(cause_of(one) for one in left.get("causes", ())),
            repeated=any(name == REPEATED for name, _ in last.user_properties),
            lost=lost,
            unrun=unrun,
            notes=tuple(Note(**one) for one in left.get("notes", [])),
            artifacts=left.get("artifacts", ""),
            spent=_spent(reports, left.get("spent", {})),
            courses=tuple(course(one) for one in left.get("courses", ())),
        )
        self.tests[nodeid] = _worse(self.tests[nodeid], result) if nodeid in self.tests else result
        if time.monotonic() >= self._next_write:
            self.write(interrupted=True)

    def results(self, *, interrupted: bool) -> Results:
        """Return what there is as results, without secrets."""
        plan = self.plan
        uncollected = {one.nodeid: one for one in plan.uncollected} if plan else {}
        run = Run(
            id=self.folder.name,
            target=self.settings.target,
            kernel=str(self.facts.get("kernel", "")),
            lag_driver=self.facts.get("lag_driver"),
            tools=self.facts.get("tools", {}),
            link_rate=min((one.rate for one in self.cables if one.rate and self.lab), default=self.settings.link.rate),
            congestion_control=str(self.facts.get("congestion_control", "")),
            start=moment(self.start),
            end=moment(datetime.now(timezone.utc)),
            command=self.command,
            interrupted=interrupted,
            lab=self.lab,
            revision=self.revision,
            hosts=self.hosts,
            cables=self.cables,
            planned=plan.planned if plan else None,
            confidence=CONFIDENCE,
            durations=self._durations(),
            left_out=plan.left_out if plan else (),
            uncollected=tuple((self.uncollected | uncollected).values()),
            options=self.options,
            changes=self.changes,
            family=self.settings.family,
            mtu=self.facts.get("mtu", self.settings.link.mtu),
        )
        order = list(CATALOGUE)
        tests = sorted(
            self.tests.values(),
            key=lambda test: (order.index(test.behaviour) if test.behaviour in order else len(order), test.nodeid),
        )
        self.masker.learn()
        return self.masker.of(Results(run, tuple(tests)))

    @property
    def whole(self) -> bool:
        """Whether all that was planned has been run to its end, so that nothing is missing however the run itself ended."""
        if self.plan is None or self._pending:
            return False
        return all(end.state != "not reported" for _, end in ended(self.results(interrupted=False)).values())

    def write(self, *, interrupted: bool) -> None:
        """Write results.json, whole or not at all; where it cannot be written, :attr:`fault` says why.

        What comes in while tests run is written at once unless the last write was long and recent: a run of a thousand
        tests is not to spend its time on its own record.
        """
        start = time.monotonic()
        try:
            self.results(interrupted=interrupted).write(self.folder / "results.json")
            self.fault = ""
        except OSError as error:
            self.fault = f"results cannot be kept in {self.folder}: {error.strerror or error}"
        end = time.monotonic()
        self._next_write = end + _SHARE * (end - start)

    def rescue(self, *, interrupted: bool) -> None:
        """Write the results elsewhere, where their folder cannot take them; :attr:`fault` says where, if that is possible."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"channover-{self.folder.name}-"))
        except OSError:
            return
        try:
            self.results(interrupted=interrupted).write(folder / "results.json")
            self.fault += f"; they are in {folder / 'results.json'}"
        except OSError:
            folder.rmdir()

    def _durations(self) -> dict[str, float]:
        wanted = self.settings
        if wanted.duration is not None:
            return {"each flow": wanted.duration}
        return {"each flow at most": wanted.limit}


def _spent(reports: Sequence[pytest.TestReport], told: Mapping[str, float]) -> dict[str, float]:
    """Return on what a test spent how long (seconds), to a millisecond; what took none is left out."""
    phases = {"setup": "set-up", "teardown": "teardown"}
    found = {phases[one.when]: max(one.duration, 0.0) for one in reports if one.when in phases}
    return {name: round(seconds, 3) for name, seconds in {**found, **told}.items() if seconds >= 0.001}


def _worker(report: pytest.TestReport) -> str:
    """Return the name of the xdist worker that a report comes from; empty: from this process."""
    return str(getattr(getattr(getattr(report, "node", None), "gateway", None), "id", ""))


def _worse(one: TestResult, other: TestResult) -> TestResult:
    """Return the worse of two results of a test, with the outcomes of all its reports."""
    outcomes = (*(one.outcomes or (one.outcome,)), other.outcome)
    ranks = [STATES.index(state_of(each.outcome, unknown=each.lost or each.unrun)) for each in (one, other)]
    return replace(one if ranks[0] <= ranks[1] else other, outcomes=outcomes)
