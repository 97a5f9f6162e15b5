"""How each planned test of a run ended: as one of the five outcomes of a test, or it was *not reported*.

That is: it was collected, and nothing says how it ended (the run was stopped, the worker that ran it was lost, its body was
never run). A test that was reported several times counts as its worst report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from channover.report.facts import Planned
from channover.report.results import Outcome, Results, Run, TestResult

State = Literal["failed", "error", "inconclusive", "not reported", "skipped", "passed"]
STATES: tuple[State, ...] = ("failed", "error", "inconclusive", "not reported", "skipped", "passed")
"""From the worst."""
MEANING: dict[State, str] = {
    "failed": "the behaviour is not there",
    "error": "the testbed broke: no verdict on the behaviour",
    "inconclusive": "measured, and neither there nor not when the time was up",
    "not reported": "collected, and nothing says how it ended",
    "skipped": "the testbed lacks what the test needs",
    "passed": "the behaviour is there",
}

SIGNS: dict[State, str] = {
    "passed": "✓",
    "failed": "✗",
    "error": "!",
    "inconclusive": "≈",
    "not reported": "?",
    "skipped": "–",
}
"""What stands beside the word, for whoever sees no colours."""


@dataclass(frozen=True)
class Ended:
    """How one planned test ended; ``result`` is None where nothing was reported of it."""

    nodeid: str
    state: State
    reason: str
    result: TestResult | None


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
    if unsettled := [one.name for one in result.measurements if not one.settled]:
        return "inconclusive", f"given as passed, and not settled when the time was up: {', '.join(unsettled)}", result
    if states_one and not result.measurements:
        return "failed", "given as passed, and compared nothing", result
    return state, result.reason, result


def state_of(outcome: Outcome, *, unknown: bool) -> State:
    """Return the state of a test that was reported; ``unknown``: nothing says how it ended, whatever the outcome is."""
    return "not reported" if unknown else outcome


Tests = Mapping[str, tuple[Planned, Ended]]
"""Tests by nodeid, as they were planned and as they ended."""
