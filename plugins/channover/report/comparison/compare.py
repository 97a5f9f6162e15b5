"""What changed between runs, behaviour by behaviour, told from noise by how much runs differ from each other.

A value of one run has an interval, which knows the noise within that run; runs of the same code differ by more. How much they
do is told by all that is there: repetitions on either side, and former runs of the same lab. Where these are few, a usual
spread is weighed in (:mod:`channover.report.comparison.values`). A value has changed where Student's test with that spread
finds it different, and the difference is at least a share of the value's scale. Each run of a side counts.
All tests of a comparison together err with a probability of ``LEVEL`` at most (Holm). Counts are exact where none of the runs
shows them to vary: any difference is a change. A value whose noise nobody knows is shown, and is no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean, stdev
from typing import Literal

from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.report.comparison.changed_facts import Fact, changed_facts
from channover.report.comparison.values import (
    FLOOR_ONCE,
    FLOOR_REPEATED,
    LEVEL,
    Key,
    chance_of,
    counts,
    floor_of,
    scale_of,
    values_of,
)
from channover.report.deciding.endings import STATES, State, ended
from channover.report.results import Measurement, Results, Unit
from channover.verdict.significance import Spread, holm, of_runs, of_succession

Kind = Literal["changed", "same", "noise unknown", "only before", "only after"]


@dataclass(frozen=True)
class Verdict:
    """A test whose verdict is another one now, or that only one side has (None: not there)."""

    behaviour: str | None
    nodeid: str
    before: State | None
    after: State | None


@dataclass(frozen=True)
class Value:
    """One side of a comparison: mean, half of its interval (of repetitions: their standard deviation), how many runs."""

    mean: float
    half: float | None
    runs: int


@dataclass(frozen=True)
class Difference:
    """A measured value in both runs. ``share`` is the difference by the scale, ``chance`` the probability of it by noise.

    ``floor`` is the share below which no difference is a change.
    """

    behaviour: str | None
    nodeid: str
    name: str
    unit: Unit
    before: Value | None
    after: Value | None
    share: float | None = None
    chance: float | None = None
    floor: float = FLOOR_ONCE
    kind: Kind = "same"


@dataclass(frozen=True)
class Comparison:
    """Two runs, or two groups of repeated runs, side by side. ``method`` says how changes are told from noise."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    target: str
    facts: tuple[Fact, ...]
    verdicts: tuple[Verdict, ...]
    differences: tuple[Difference, ...]
    method: str

    @property
    def significant(self) -> bool:
        """Whether a verdict or a value changed, or a test came or went. Changed facts are a cause, no effect."""
        return bool(self.verdicts) or any(each.kind == "changed" for each in self.differences)


def compare(
    before: Sequence[Results], after: Sequence[Results], least: float | None = None, former: Sequence[Results] = ()
) -> Comparison:
    """Compare runs, one or more on each side. ``former`` are other runs of the same lab, in their order.

    ``least`` is the fraction of the scale below which no difference is a change (default: as the module says). Raises
    UsageError where the runs are of different targets, or of different families: what differs would be the testbed.
    """
    if len({results.run.family for results in (*before, *after)}) > 1:
        raise UsageError("runs over IPv4 and over IPv6 cannot be compared: their headers differ, and so do all rates")
    targets = {results.run.target for results in (*before, *after)}
    if len(targets) > 1:
        raise UsageError(
            f"runs of different targets cannot be compared ({', '.join(sorted(targets))}): the testbed differs"
        )
    differences = list(_differences(before, after, former, least))
    tried = [each for each in differences if each.chance is not None]
    found = iter(holm([each.chance for each in tried if each.chance is not None], LEVEL))
    judged = [each if each.chance is None else _judged(each, next(found)) for each in differences]
    return Comparison(
        tuple(results.run.id for results in before),
        tuple(results.run.id for results in after),
        targets.pop(),
        tuple(changed_facts(before, after)),
        tuple(_verdicts(before, after)),
        tuple(sorted(judged, key=lambda each: _place(each.behaviour))),
        _method(len(before), len(after), len(former), len(tried), least),
    )


def _method(before: int, after: int, former: int, tried: int, least: float | None) -> str:
    """Say how changes were told from noise."""
    runs = [f"{before} and {after} runs"] * (before + after > 2) + [f"{former} former runs"] * (former > 1)
    spread = f"of {' and '.join(runs)}, and a usual one" if runs else "taken as usual: no other runs tell it"
    share = f"{FLOOR_REPEATED * 100:g} to {FLOOR_ONCE * 100:g}" if least is None else f"{least * 100:g}"
    return (
        f"Student's test with the spread between runs ({spread}), {1 - LEVEL:.0%} over all {tried} values together (Holm), and "
        f"at least {share} % of the scale"
    )


def _place(identifier: str | None) -> tuple[int, str]:
    order = list(CATALOGUE)
    return (order.index(identifier), "") if identifier in order else (len(order), identifier or "")


# ------------------------------------------------------------------------------------------------------------ values


def _differences(
    before: Sequence[Results], after: Sequence[Results], former: Sequence[Results], least: float | None
) -> Iterator[Difference]:
    old, new, past = [list(map(values_of, side)) for side in (before, after, former)]
    link_rate = max(results.run.link_rate for results in (*before, *after))
    keys = dict.fromkeys(key for values in (*old, *new) for key in values)
    common = {test for values in old for test, *_ in values} & {test for values in new for test, *_ in values}
    for key in keys:
        if key[0] not in common:
            continue  # a test that only one side has is told as such
        test = next(values[key][0] for values in (*old, *new) if key in values)
        sides = [[values[key][1] for values in side if key in values] for side in (old, new)]
        earlier = [values[key] for values in past if key in values]
        passed = [one.value or 0.0 for test, one in earlier if test.outcome == "passed"]
        yield _difference(test.behaviour, key, sides[0], sides[1], of_succession(passed), link_rate, least)


def _difference(
    behaviour: str | None,
    key: Key,
    ones: Sequence[Measurement],
    others: Sequence[Measurement],
    former: Spread | None,
    link_rate: float,
    least: float | None,
) -> Difference:
    nodeid, name, unit, _ = key
    known = Difference(behaviour, nodeid, name, unit, _side(ones), _side(others))
    if not ones or not others:
        return replace(known, kind="only after" if not ones else "only before")
    scale = scale_of([*ones, *others], link_rate)
    found = [*(of_runs([each.value or 0.0 for each in side]) for side in (ones, others)), former]
    chance = chance_of(ones, others, found, scale)
    difference = fmean(each.value or 0.0 for each in others) - fmean(each.value or 0.0 for each in ones)
    floor = least if least is not None else floor_of([*ones, *others], found, scale)
    share = difference / scale if scale else 0.0
    return replace(known, share=share, chance=chance, floor=floor, kind="noise unknown" if chance is None else "same")


def _side(measurements: Sequence[Measurement]) -> Value | None:
    values = [each.value or 0.0 for each in measurements]
    if not values:
        return None
    half = stdev(values) if len(values) > 1 else measurements[0].uncertainty
    return Value(fmean(values), half, len(values))


def _judged(difference: Difference, significant: bool) -> Difference:
    large = counts(difference.share or 0.0, difference.chance or 0.0, difference.floor, difference.unit)
    return replace(difference, kind="changed" if significant and large else "same")


# ---------------------------------------------------------------------------------------------------------- verdicts


def _verdicts(before: Sequence[Results], after: Sequence[Results]) -> Iterator[Verdict]:
    old, new = _states(before), _states(after)
    changed = [
        nodeid for nodeid in dict.fromkeys([*old, *new]) if old.get(nodeid, (0, 0))[1] != new.get(nodeid, (0, 0))[1]
    ]
    found = [
        Verdict(
            (old.get(nodeid) or new[nodeid])[0],
            nodeid,
            old[nodeid][1] if nodeid in old else None,
            new[nodeid][1] if nodeid in new else None,
        )
        for nodeid in changed
    ]
    yield from sorted(found, key=lambda each: _place(each.behaviour))


def _states(side: Sequence[Results]) -> dict[str, tuple[str | None, State]]:
    """Return every test's behaviour and state; of repeated runs the worst."""
    found: dict[str, tuple[str | None, State]] = {}
    for results in side:
        for nodeid, (plan, end) in ended(results).items():
            former = found.get(nodeid)
            if former is None or STATES.index(end.state) < STATES.index(former[1]):
                found[nodeid] = (plan.behaviour, end.state)
    return found


# ------------------------------------------------------------------------------------------------------------- facts


def by_behaviour(comparison: Comparison) -> Iterator[tuple[str | None, list[Verdict], list[Difference]]]:
    """Yield each behaviour of either run, in the catalogue's order, with what changed in its verdicts and all its values."""
    parts: list[Verdict | Difference] = [*comparison.verdicts, *comparison.differences]
    parts.sort(key=lambda each: _place(each.behaviour))
    for behaviour, group in groupby(parts, key=lambda each: each.behaviour):
        members = list(group)
        verdicts = [each for each in members if isinstance(each, Verdict)]
        yield behaviour, verdicts, [each for each in members if isinstance(each, Difference)]
