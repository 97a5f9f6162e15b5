"""What became worse over the runs of a lab, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from channover.report.comparison.changed_facts import changed_facts
from channover.report.comparison.over_time import Change, Course, courses
from channover.report.figures import with_uncertainty
from channover.report.results import Results
from channover.text import printable, readable

FACTS = 3
"""Changed facts that a sentence names."""


def regressions(history: Sequence[Results]) -> list[str]:
    """Return a line for each value of the last run that is on a level worse than before, or left its level for the worse.

    Of a test that did not pass its own verdict says more.
    """
    found = [one for one in courses(history) if one.regressed and one.points[-1].outcome == "passed"]
    return [sentence(one, one.change, history) for one in found if one.change is not None]


def sentence(course: Course, change: Change, history: Sequence[Results]) -> str:
    """Return what became of a value: now and before, since when, and what else changed with that run."""
    level, now = change.before, course.points[-1]
    by = f"{abs(now.value - level.mean) / abs(level.mean):.1%} " if level.mean else ""
    way = "below" if now.value < level.mean else "above"
    text = (
        f"{course.behaviour or '–'} {course.name} ({readable(course.nodeid.rpartition('::')[2] or course.nodeid)}): "
        f"{with_uncertainty(now.value, now.half, course.unit)}, {by}{way} the {level.runs} runs before "
        f"({with_uncertainty(level.mean, level.spread, course.unit)} from run to run)"
    )
    text += f", since run {change.run}" if change.run != history[-1].run.id else ""
    facts = _changed_with(change.run, history)
    return printable(f"{text}; changed with it: {facts}" if facts else text)


def _changed_with(run: str, history: Sequence[Results]) -> str:
    place = [results.run.id for results in history].index(run)
    facts = [
        f"{fact.name} {fact.before} → {fact.after}"
        for fact in changed_facts(history[place - 1 : place], history[place:][:1])
    ]
    return ", ".join(facts[:FACTS]) + (f" and {len(facts) - FACTS} more" if len(facts) > FACTS else "")
