"""The decision on a run: accepted, accepted under conditions, or not, and the rule that decided.

A behaviour is mandatory where the run planned a mandatory test of it. Each planned test has one of five states: the four
outcomes of a test, or *not reported*: it was collected, and nothing says how it ended (the run was stopped, or the
worker that ran it was lost). A behaviour stands as its worst test does.

The rules, in the order in which they are asked:

1. Evidence that is not whole decides by itself, and no waiver helps: no plan, nothing planned, a run that was stopped,
   hardware that is not named.
2. A mandatory behaviour that is in any other state than passed, and is not waived: NOT ACCEPTED.
3. One that is waived: CONDITIONAL.
4. Else ACCEPTED.

A verdict holds for one target. What namespaces or virtual machines show is accepted for the emulated lab, never for hardware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from channover.behaviours import CATALOGUE
from channover.report.facts import Planned
from channover.report.results import Results, Run, TestResult
from channover.report.waivers import Waiver

State = Literal["failed", "error", "not reported", "skipped", "passed"]
STATES: tuple[State, ...] = ("failed", "error", "not reported", "skipped", "passed")
"""From the worst."""
Verdict = Literal["ACCEPTED", "CONDITIONAL", "NOT ACCEPTED"]
MEANING: dict[State, str] = {
    "failed": "the behaviour is not there",
    "error": "the rig broke: no verdict on the behaviour",
    "not reported": "collected, and nothing says how it ended",
    "skipped": "the rig lacks what the test needs",
    "passed": "the behaviour is there",
}


@dataclass(frozen=True)
class Scope:
    """What a target's runs can prove. ``holds_for`` follows the verdict; ``proves`` is a sentence or two."""

    name: str
    emulated: bool
    holds_for: str
    proves: str


_SCOPES = {
    "netns": Scope(
        "network namespaces",
        True,
        "for the emulated lab only",
        "The hosts were network namespaces of one machine, the cables virtual and shaped to the stated rate. This proves "
        "the method, and the protocol software of this kernel. It proves nothing about NICs, drivers, firmware, cables or "
        "switches.",
    ),
    "vm": Scope(
        "virtual machines",
        True,
        "for the emulated lab only",
        "The hosts were virtual machines with kernels of their own, the cables virtual and shaped to the stated rate. This "
        "proves the method, and the software of the stated kernels. It proves nothing about NICs, their drivers and "
        "firmware, cables or switches.",
    ),
    "physical": Scope(
        "physical hosts",
        False,
        "for the hardware named here",
        "The hosts, NICs and cables were real. This holds for the items named here, as they were at the time of the run.",
    ),
}


def scope(target: str) -> Scope:
    """Return what runs of a target can prove; of a target that is not known, that is nothing about hardware."""
    other = Scope(target, True, f"for the target '{target}' only", "Nothing is known of what this target proves.")
    return _SCOPES.get(target, other)


@dataclass(frozen=True)
class Ended:
    """How one planned test ended; ``result`` is None where nothing was reported of it."""

    nodeid: str
    state: State
    reason: str
    result: TestResult | None


@dataclass(frozen=True)
class Judged:
    """A behaviour of the run: the state of its worst test, its tests from the worst, the waiver that it has."""

    behaviour: str
    statement: str
    mandatory: bool
    state: State
    tests: tuple[Ended, ...]
    waiver: Waiver | None = None

    @property
    def worst(self) -> tuple[Ended, ...]:
        """The tests in the state in which the behaviour stands."""
        return tuple(test for test in self.tests if test.state == self.state)


@dataclass(frozen=True)
class Decision:
    """The verdict on a run, the rule that decided (one sentence), what the rule was applied to, and what else is to be said.

    ``incomplete`` is what the evidence lacks. ``behaviours`` are in the catalogue's order. ``uncovered`` are ids of the
    catalogue that the run did not plan, ``unused`` waivers that were not needed.
    """

    verdict: Verdict
    rule: str
    reasons: tuple[str, ...]
    incomplete: tuple[str, ...]
    scope: Scope
    behaviours: tuple[Judged, ...]
    uncovered: tuple[str, ...]
    unused: tuple[Waiver, ...]
    deviations: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict with what it holds for, such as ``ACCEPTED for the emulated lab only``."""
        return self.verdict if self.verdict == "NOT ACCEPTED" else f"{self.verdict} {self.scope.holds_for}"

    def against(self) -> list[tuple[State, list[str]]]:
        """Return the mandatory behaviours that did not pass and are not waived, by their state, from the worst."""
        open_ones = [each for each in self.behaviours if each.mandatory and not each.waiver]
        found = [(state, [each.behaviour for each in open_ones if each.state == state]) for state in STATES[:-1]]
        return [(state, ids) for state, ids in found if ids]

    @property
    def waived(self) -> tuple[Judged, ...]:
        """The behaviours that a waiver is needed for."""
        return tuple(each for each in self.behaviours if each.mandatory and each.state != "passed" and each.waiver)


def decide(results: Results, waivers: Sequence[Waiver] = ()) -> Decision:
    """Return the decision on a run. Waivers are taken to be valid (:func:`channover.report.waivers.load` sees to it)."""
    by_id = {waiver.behaviour: waiver for waiver in waivers}
    judged = tuple(_judged(results, by_id))
    against = [each for each in judged if each.mandatory and each.state != "passed"]
    waived = [each for each in against if each.waiver]
    open_ones = [each for each in against if not each.waiver]
    incomplete = _incomplete(results.run, judged)
    verdict: Verdict
    if incomplete:
        verdict, rule = "NOT ACCEPTED", "Evidence that is not whole decides by itself; no waiver helps."
    elif open_ones:
        verdict, rule = (
            "NOT ACCEPTED",
            (
                "A mandatory behaviour that failed, ended in an error of the rig, was skipped, or was collected and not "
                "reported is not accepted without a waiver."
            ),
        )
    elif waived:
        verdict, rule = (
            "CONDITIONAL",
            "Each mandatory behaviour passed or is waived by name, for a reason, until a day.",
        )
    else:
        verdict, rule = "ACCEPTED", "Each mandatory behaviour passed in every test of it that was planned."
    reasons = [*incomplete, *(_reason(each) for each in open_ones)]
    reasons += [f"{_reason(each)}; waived by {each.waiver.who}" for each in waived if each.waiver]
    needed = {each.behaviour for each in waived}
    ids = {each.behaviour for each in judged}
    return Decision(
        verdict,
        rule,
        tuple(reasons),
        tuple(incomplete),
        scope(results.run.target),
        judged,
        tuple(identifier for identifier in CATALOGUE if identifier not in ids),
        tuple(waiver for waiver in waivers if waiver.behaviour not in needed),
        tuple(_deviations(results, judged)),
    )


def ended(results: Results) -> dict[str, tuple[Planned, Ended]]:
    """Return every test that was planned or reported, by nodeid, with its behaviour and how it ended."""
    reported = {test.nodeid: test for test in results.tests}
    planned = {test.nodeid: test for test in results.run.planned or ()}
    found: dict[str, tuple[Planned, Ended]] = {}
    for nodeid in dict.fromkeys([*planned, *reported]):
        result = reported.get(nodeid)
        plan = planned.get(nodeid) or Planned(nodeid, result.behaviour if result else None)
        found[nodeid] = (plan, _ended(nodeid, result))
    return found


def _ended(nodeid: str, result: TestResult | None) -> Ended:
    if result is None:
        return Ended(nodeid, "not reported", "the run or its worker ended before the test did", None)
    if result.lost:
        return Ended(nodeid, "not reported", result.reason, result)
    return Ended(nodeid, result.outcome, result.reason, result)


def _judged(results: Results, waivers: dict[str, Waiver]) -> Iterable[Judged]:
    tests: dict[str, list[tuple[Planned, Ended]]] = {}
    for plan, end in ended(results).values():
        if plan.behaviour is not None:
            tests.setdefault(plan.behaviour, []).append((plan, end))
    order = [identifier for identifier in CATALOGUE if identifier in tests]
    for identifier in [*order, *sorted(set(tests) - set(order))]:
        of_it = tests[identifier]
        mandatory = [end for plan, end in of_it if plan.mandatory]
        counted = sorted(mandatory or [end for _, end in of_it], key=lambda end: STATES.index(end.state))
        known = CATALOGUE.get(identifier)
        yield Judged(
            identifier,
            known.statement if known else "(not in this version's catalogue)",
            bool(mandatory),
            counted[0].state,
            tuple(sorted((end for _, end in of_it), key=lambda end: STATES.index(end.state))),
            waivers.get(identifier),
        )


def _incomplete(run: Run, judged: Sequence[Judged]) -> list[str]:
    found = []
    if run.planned is None:
        found.append("the results hold no plan: a test that was collected and not reported would not be noticed")
    if not any(each.mandatory for each in judged):
        found.append("no mandatory behaviour was planned")
    if run.interrupted:
        found.append("the run was stopped before its end")
    if run.target == "physical" and not run.hosts:
        found.append("the results do not name the hosts that were tested")
    return found


def _reason(judged: Judged) -> str:
    ways = Counter(test.state for test in judged.tests)
    tally = ", ".join(f"{ways[state]} {state}" for state in STATES if ways[state])
    return f"{judged.behaviour}: {judged.state} ({MEANING[judged.state]}); tests: {tally}"


def _deviations(results: Results, judged: Sequence[Judged]) -> Iterable[str]:
    run = results.run
    for each in judged:
        if not each.mandatory and each.state != "passed":
            yield f"{each.behaviour}, which is not mandatory: {each.state}"
    if run.planned is not None:
        names = {test.nodeid for test in run.planned}
        if surplus := [test.nodeid for test in results.tests if test.nodeid not in names]:
            yield f"{len(surplus)} reported and not planned: {_names(surplus)}"
    other = [end.nodeid for plan, end in ended(results).values() if plan.behaviour is None and end.state != "passed"]
    if other:
        yield f"{len(other)} of no behaviour did not pass: {_names(other)}"
    if repeated := [test.nodeid for test in results.tests if test.repeated]:
        yield f"{len(repeated)} repeated: a machine died in the first try: {_names(repeated)}"
    unsettled = [test.nodeid for test in results.tests if not all(each.settled for each in test.measurements)]
    if unsettled:
        yield f"{len(unsettled)} with a value that had not settled at the deadline; the mean decided: {_names(unsettled)}"
    if not run.revision:
        yield "the revision of the suites was not recorded"
    elif "dirty" in run.revision:
        yield f"the suites had changes beside their revision: {run.revision}"
    if not run.hosts:
        yield "hosts and NICs were not recorded"


def _names(nodeids: Sequence[str], most: int = 3) -> str:
    rest = len(nodeids) - most
    return ", ".join(nodeids[:most]) + (f" and {rest} more" if rest > 0 else "")
