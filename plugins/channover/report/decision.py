"""The decision on a run: accepted, accepted under conditions, or not, and the rule that decided.

A behaviour is mandatory where the run planned a mandatory test of it. Each planned test has one of five states: the four
outcomes of a test, or *not reported*: it was collected, and nothing says how it ended (the run was stopped, the worker
that ran it was lost, its body was never run). A test that was reported several times counts as its worst report, and a
behaviour stands as its worst test does.

:data:`RULES` are asked in their order; docs/certificate.md has them as a table. The decision follows from results and
waivers alone, so that whoever has both can make it again.

A verdict holds for one target. What namespaces, virtual machines or virtual NICs show is accepted for the emulated lab,
never for hardware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from channover.model.catalogue import CATALOGUE
from channover.report.deviations import deviations, in_words
from channover.report.facts import Planned
from channover.report.results import Outcome, Results, Run, TestResult
from channover.report.scope import Scope, scope
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
class Rule:
    """One rule: the verdict of a run that it applies to, whether a waiver helps, its words, and an example of it."""

    verdict: Verdict
    waiver: bool
    words: str
    example: str


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "no plan": Rule(
            "NOT ACCEPTED",
            False,
            "Results without a plan do not show which tests there should have been.",
            "results of a version that recorded no plan",
        ),
        "nothing planned": Rule(
            "NOT ACCEPTED",
            False,
            "A run that planned no mandatory behaviour shows nothing.",
            "a suite whose tests state no behaviour",
        ),
        "stopped": Rule(
            "NOT ACCEPTED",
            False,
            "A run that was stopped before its end shows only a part of what it planned.",
            "Ctrl-C, `-x` or `--maxfail` after a failure, a process that was killed",
        ),
        "not collected": Rule(
            "NOT ACCEPTED",
            False,
            "Of a file that could not be collected nobody knows which behaviours it tests.",
            "an import error with `--continue-on-collection-errors`; a behaviour mark that is malformed or unknown",
        ),
        "skipped whole": Rule(
            "NOT ACCEPTED",
            False,
            "Of a file that skipped itself as a whole nobody knows which behaviours it tests.",
            "`pytest.skip(allow_module_level=True)`, `pytest.importorskip` outside a test",
        ),
        "no body": Rule(
            "NOT ACCEPTED",
            False,
            "A test that was only set up and torn down has shown nothing.",
            "`--setup-only`, `--setup-plan`",
        ),
        "other failure": Rule(
            "NOT ACCEPTED",
            False,
            "A test of no behaviour that failed, or was lost, puts the rig in doubt, and no waiver names it.",
            "a test of a project's own, without a behaviour mark, that fails",
        ),
        "hosts not named": Rule(
            "NOT ACCEPTED",
            False,
            "A run on physical hosts that does not name them holds for nothing.",
            "results of a version that recorded no hosts",
        ),
        "not passed": Rule(
            "NOT ACCEPTED",
            True,
            "A mandatory behaviour that failed, ended in an error of the rig, was skipped, or was collected and not reported "
            "is not accepted without a waiver.",
            "one failure among several reports of a test (`--keep-duplicates`, reruns, `--dist each`); a test marked xfail "
            "that failed",
        ),
        "nothing passed": Rule(
            "NOT ACCEPTED",
            False,
            "Waivers alone accept nothing: one mandatory behaviour at least has to pass.",
            "a run of which every behaviour is waived",
        ),
        "waived": Rule(
            "CONDITIONAL",
            True,
            "Each mandatory behaviour passed or is waived by name, for a reason, until a day.",
            "LAG-8 failed and is waived, all others passed",
        ),
        "passed": Rule(
            "ACCEPTED",
            True,
            "Each mandatory behaviour passed in every test of it that was planned, and in every report of these.",
            "all planned tests passed",
        ),
    }
)
"""In the order in which they are asked: the first that applies decides."""


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
    """The verdict on a run, the words of the rule that decided, what the rule was applied to, and what else is to be said.

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
    def passed(self) -> tuple[str, ...]:
        """The mandatory behaviours of the catalogue that passed."""
        return tuple(
            each.behaviour
            for each in self.behaviours
            if each.mandatory and each.state == "passed" and each.behaviour in CATALOGUE
        )

    @property
    def first_line(self) -> str:
        """The verdict, and of how much: ``ACCEPTED: 4 of 27 behaviours``; what is not accepted is so for all."""
        if self.verdict == "NOT ACCEPTED":
            return self.verdict
        return f"{self.verdict}: {len(self.passed)} of {len(CATALOGUE)} behaviours"

    @property
    def text(self) -> str:
        """The first line with what it holds for: ``ACCEPTED: 4 of 27 behaviours for the emulated lab only``."""
        return self.first_line if self.verdict == "NOT ACCEPTED" else f"{self.first_line} {self.scope.holds_for}"

    def left(self) -> list[tuple[str, list[str]]]:
        """Return what became of the behaviours that the verdict does not hold for, each with their ids, from the worst."""
        waived = {each.behaviour for each in self.waived}
        words = {
            each.behaviour: "waived" if each.behaviour in waived else each.state if each.mandatory else "not mandatory"
            for each in self.behaviours
            if each.behaviour not in self.passed
        }
        words |= dict.fromkeys(self.uncovered, "not planned")
        order = [*STATES, "waived", "not mandatory", "not planned"]
        return [(word, ids) for word in order if (ids := [name for name, each in words.items() if each == word])]

    @property
    def others(self) -> str:
        """The same in one line; empty where the verdict holds for all."""
        return "; ".join(f"{word}: {', '.join(ids)}" for word, ids in self.left())

    @property
    def waived(self) -> tuple[Judged, ...]:
        """The behaviours that a waiver is needed for."""
        return tuple(each for each in self.behaviours if each.mandatory and each.state != "passed" and each.waiver)


def decide(results: Results, waivers: Sequence[Waiver] = ()) -> Decision:
    """Return the decision on a run. Waivers are taken to be valid (:func:`channover.report.waivers.load` sees to it)."""
    by_id = {waiver.behaviour: waiver for waiver in waivers}
    tests = ended(results)
    judged = tuple(_judged(tests, by_id))
    against = [each for each in judged if each.mandatory and each.state != "passed"]
    waived = [each for each in against if each.waiver]
    open_ones = [each for each in against if not each.waiver]
    incomplete = list(_incomplete(results.run, judged, tests))
    if incomplete:
        rule = incomplete[0][0]
    elif open_ones:
        rule = "not passed"
    elif waived:
        passed = any(each.mandatory and each.state == "passed" for each in judged)
        rule = "waived" if passed else "nothing passed"
    else:
        rule = "passed"
    reasons = [*(words for _, words in incomplete), *(_reason(each) for each in open_ones)]
    reasons += [f"{_reason(each)}; waived by {each.waiver.who}" for each in waived if each.waiver]
    needed = {each.behaviour for each in waived}
    ids = {each.behaviour for each in judged}
    return Decision(
        RULES[rule].verdict,
        RULES[rule].words,
        tuple(reasons),
        tuple(words for _, words in incomplete),
        scope(results.run),
        judged,
        tuple(identifier for identifier in CATALOGUE if identifier not in ids),
        tuple(waiver for waiver in waivers if waiver.behaviour not in needed),
        (*_of_states(judged, tests), *deviations(results)),
    )


def ended(results: Results) -> dict[str, tuple[Planned, Ended]]:
    """Return every test that was planned or reported, by nodeid, with its behaviour and how it ended."""
    reported: dict[str, list[TestResult]] = {}
    for test in results.tests:
        reported.setdefault(test.nodeid, []).append(test)
    planned = {test.nodeid: test for test in results.run.planned or ()}
    times = Counter(test.nodeid for test in results.run.planned or ())
    found: dict[str, tuple[Planned, Ended]] = {}
    for nodeid in dict.fromkeys([*planned, *reported]):
        of_it = reported.get(nodeid, [])
        plan = planned.get(nodeid) or Planned(nodeid, of_it[0].behaviour)
        found[nodeid] = (plan, _ended(plan, of_it, times[nodeid], results.run))
    return found


def _ended(plan: Planned, results: Sequence[TestResult], times: int, run: Run) -> Ended:
    nodeid, states_one = plan.nodeid, plan.behaviour is not None
    if not results:
        why = "the run was stopped before the test ended" if run.interrupted else "nothing was reported of it"
        return Ended(nodeid, "not reported", why, None)
    state, reason, result = min(
        (_shown(one, states_one=states_one) for one in results), key=lambda one: STATES.index(one[0])
    )
    reports = sum(len(one.outcomes) or 1 for one in results)
    if reports < times and STATES.index(state) > STATES.index("not reported"):
        return Ended(nodeid, "not reported", f"to be run {times} times, and reported {reports} times", result)
    return Ended(nodeid, state, reason, result)


def _shown(result: TestResult, *, states_one: bool) -> tuple[State, str, TestResult]:
    """Return the state of a result and why: what says *passed* may hold nothing else, and shows the behaviour it states."""
    state = state_of(result.outcome, unknown=result.lost or result.unrun)
    if state != "passed":
        return state, result.reason, result
    if worst := min(result.outcomes, key=STATES.index, default=None):
        state = worst
    if state != "passed":
        return state, f"one of its reports is '{state}', though it is given as passed", result
    if missed := [one.name for one in result.measurements if not one.held]:
        return "failed", f"given as passed, and not as expected: {', '.join(missed)}", result
    if states_one and not result.measurements:
        return "failed", "given as passed, and compared nothing", result
    return state, result.reason, result


def state_of(outcome: Outcome, *, unknown: bool) -> State:
    """Return the state of a test that was reported; ``unknown``: nothing says how it ended, whatever the outcome is."""
    return "not reported" if unknown else outcome


_Tests = Mapping[str, tuple[Planned, Ended]]


def _judged(ends: _Tests, waivers: dict[str, Waiver]) -> Iterable[Judged]:
    tests: dict[str, list[tuple[Planned, Ended]]] = {}
    for plan, end in ends.values():
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


def _incomplete(run: Run, judged: Sequence[Judged], tests: _Tests) -> Iterable[tuple[str, str]]:
    """Yield what decides by itself, as the rule's name and a reason."""
    if run.planned is None:
        yield (
            "no plan",
            "the results hold no plan: a test that was collected and not reported would not be noticed",
        )
    if not any(each.mandatory for each in judged):
        yield "nothing planned", "no mandatory behaviour was planned"
    if run.interrupted:
        yield "stopped", "the run was stopped before its end"
    for rule, words, skipped in (
        ("not collected", "could not be collected", False),
        ("skipped whole", "skipped as a whole", True),
    ):
        if found := [f"{one.nodeid} ({one.reason})" for one in run.uncollected if one.skipped is skipped]:
            yield rule, f"{words}: {in_words(found)}"
    if unrun := [end.nodeid for _, end in tests.values() if end.result and end.result.unrun]:
        yield "no body", f"only set up and torn down, no body ran: {in_words(unrun)}"
    bad = ("failed", "error", "not reported")
    if other := [end.nodeid for plan, end in tests.values() if plan.behaviour is None and end.state in bad]:
        yield "other failure", f"a test of no behaviour failed or was lost: {in_words(other)}"
    if run.target == "physical" and not run.hosts:
        yield "hosts not named", "the results do not name the hosts that were tested"


def _reason(judged: Judged) -> str:
    ways = Counter(test.state for test in judged.tests)
    tally = ", ".join(f"{ways[state]} {state}" for state in STATES if ways[state])
    return f"{judged.behaviour}: {judged.state} ({MEANING[judged.state]}); tests: {tally}"


def _of_states(judged: Sequence[Judged], tests: _Tests) -> Iterable[str]:
    for each in judged:
        if not each.mandatory and each.state != "passed":
            yield f"{each.behaviour}, which is not mandatory: {each.state}"
    skipped = [end.nodeid for plan, end in tests.values() if plan.behaviour is None and end.state == "skipped"]
    if skipped:
        yield f"{len(skipped)} of no behaviour skipped: {in_words(skipped)}"
