"""The decision on a run: accepted, accepted under conditions, or not, and the rule that decided.

A behaviour is mandatory where the run planned a mandatory test of it, and stands as its worst test does
(:mod:`channover.report.deciding.endings`). :data:`RULES` are asked in their order; docs/certificate.md has them as a table. The
decision follows from results and waivers alone, so that whoever has both can make it again.

A verdict holds for one target. What namespaces, virtual machines or virtual NICs show is accepted for the emulated lab,
never for hardware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from channover.model.catalogue import CATALOGUE
from channover.report.deciding.deviations import deviations, in_words
from channover.report.deciding.endings import MEANING, STATES, Ended, State, Tests, ended
from channover.report.deciding.rules import RULES, Verdict
from channover.report.deciding.scope import Scope, scope
from channover.report.deciding.waivers import Waiver
from channover.report.facts import Planned
from channover.report.results import Results, Run


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
        """The verdict, and of how much: ``ACCEPTED: 4 of 31 behaviours``; what is not accepted is so for all."""
        if self.verdict == "NOT ACCEPTED":
            return self.verdict
        return f"{self.verdict}: {len(self.passed)} of {len(CATALOGUE)} behaviours"

    @property
    def text(self) -> str:
        """The first line with what it holds for: ``ACCEPTED: 4 of 31 behaviours for the emulated lab only``."""
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
    """Return the decision on a run; waivers are taken to be valid (:func:`channover.report.deciding.waivers.load` looks)."""
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


def _judged(ends: Tests, waivers: dict[str, Waiver]) -> Iterable[Judged]:
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


def _incomplete(run: Run, judged: Sequence[Judged], tests: Tests) -> Iterable[tuple[str, str]]:
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
    bad = ("failed", "error", "inconclusive", "not reported")
    if other := [end.nodeid for plan, end in tests.values() if plan.behaviour is None and end.state in bad]:
        yield "other failure", f"a test of no behaviour failed or was lost: {in_words(other)}"
    if run.target == "physical" and not run.hosts:
        yield "hosts not named", "the results do not name the hosts that were tested"


def _reason(judged: Judged) -> str:
    ways = Counter(test.state for test in judged.tests)
    tally = ", ".join(f"{ways[state]} {state}" for state in STATES if ways[state])
    return f"{judged.behaviour}: {judged.state} ({MEANING[judged.state]}); tests: {tally}"


def _of_states(judged: Sequence[Judged], tests: Tests) -> Iterable[str]:
    for each in judged:
        if not each.mandatory and each.state != "passed":
            yield f"{each.behaviour}, which is not mandatory: {each.state}"
    skipped = [end.nodeid for plan, end in tests.values() if plan.behaviour is None and end.state == "skipped"]
    if skipped:
        yield f"{len(skipped)} of no behaviour skipped: {in_words(skipped)}"
