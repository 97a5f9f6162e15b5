"""What changed between two runs, behaviour by behaviour, with the noise taken into account.

A value of one run has an interval, which knows the noise within that run. Two such values have changed where Welch's test
finds them different, and the difference is at least ``FLOOR_ONCE`` of the value's scale: from run to run rates vary more
than within one. Where both sides are repeated, Welch's test is made on the repetitions, and ``FLOOR_REPEATED`` is enough;
where one is, its repetitions tell of either side how much runs vary. Each run of a side counts, for the difference and for
its chance.
All tests of a comparison together err with a probability of ``LEVEL`` at most (Holm). Counts are exact: any difference is a
change. A value whose noise nobody knows is shown, and is no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean, stdev
from typing import Literal

from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.report.endings import STATES, State, ended
from channover.report.results import Measurement, Results, Run, TestResult, Unit
from channover.text import readable
from channover.verdict.significance import holm, of_intervals, of_one_and_repetitions, of_repetitions

LEVEL = 0.01
FLOOR_ONCE, FLOOR_REPEATED = 0.05, 0.01
"""Differences below these fractions of the scale are no change: the scale is the largest of both values, their bounds, and,
of rates, the link's rate."""
Kind = Literal["changed", "same", "noise unknown", "only before", "only after"]


@dataclass(frozen=True)
class Fact:
    """Something about the testbed or the plan that is not the same in both runs."""

    name: str
    before: str
    after: str


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


def compare(before: Sequence[Results], after: Sequence[Results], least: float | None = None) -> Comparison:
    """Compare runs: one or more on each side, the first of which give the facts.

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
    repeated, either = len(before) > 1 and len(after) > 1, len(before) > 1 or len(after) > 1
    floor = least if least is not None else FLOOR_REPEATED if repeated else None
    differences = list(_differences(before, after, floor))
    tried = [each for each in differences if each.chance is not None]
    found = iter(holm([each.chance for each in tried if each.chance is not None], LEVEL))
    judged = [each if each.chance is None else _judged(each, next(found)) for each in differences]
    least_share = (
        f"at least {FLOOR_REPEATED * 100:g} to {FLOOR_ONCE * 100:g} %" if floor is None else f"{floor * 100:g} %"
    )
    way = f"Welch's test on the {'repeated runs' if either else 'recorded intervals'}"
    way += " and the interval of the single one" * (either and not repeated)
    return Comparison(
        tuple(results.run.id for results in before),
        tuple(results.run.id for results in after),
        targets.pop(),
        (*_facts(before[0].run, after[0].run), *_noted(before[0], after[0])),
        tuple(_verdicts(before, after)),
        tuple(sorted(judged, key=lambda each: _place(each.behaviour))),
        f"{way}, {1 - LEVEL:.0%} over all {len(tried)} values together (Holm), and {least_share} of the scale",
    )


def _place(identifier: str | None) -> tuple[int, str]:
    order = list(CATALOGUE)
    return (order.index(identifier), "") if identifier in order else (len(order), identifier or "")


# ------------------------------------------------------------------------------------------------------------ values


def _differences(before: Sequence[Results], after: Sequence[Results], floor: float | None) -> Iterator[Difference]:
    old, new = [list(map(_values, side)) for side in (before, after)]
    link_rate = max(before[0].run.link_rate, after[0].run.link_rate)
    keys = dict.fromkeys(key for values in (*old, *new) for key in values)
    common = {test for values in old for test, *_ in values} & {test for values in new for test, *_ in values}
    for key in keys:
        if key[0] not in common:
            continue  # a test that only one side has is told as such
        ones = [values[key] for values in old if key in values]
        others = [values[key] for values in new if key in values]
        behaviour = (ones or others)[0][0]
        yield _difference(behaviour, key, [m for _, m in ones], [m for _, m in others], link_rate, floor)


_Key = tuple[str, str, Unit, int]
_Values = dict[_Key, tuple[str | None, Measurement]]


def _values(results: Results) -> _Values:
    """Return the measurements by test, name, unit, and which of that name it is."""
    found: _Values = {}
    for test in results.tests:
        for key, measurement in _numbered(test):
            found[key] = (test.behaviour, measurement)
    return found


def _numbered(test: TestResult) -> Iterable[tuple[_Key, Measurement]]:
    seen: dict[tuple[str, Unit], int] = {}
    for each in test.measurements:
        number = seen[each.name, each.unit] = seen.get((each.name, each.unit), -1) + 1
        if each.value is not None:
            yield (test.nodeid, each.name, each.unit, number), each


def _difference(
    behaviour: str | None,
    key: _Key,
    ones: Sequence[Measurement],
    others: Sequence[Measurement],
    link_rate: float,
    floor: float | None,
) -> Difference:
    nodeid, name, unit, _ = key
    known = Difference(behaviour, nodeid, name, unit, _side(ones), _side(others))
    if not ones or not others:
        return replace(known, kind="only after" if not ones else "only before")
    before, after = [[each.value or 0.0 for each in side] for side in (ones, others)]
    difference = fmean(after) - fmean(before)
    bounds = [abs(b) for each in (*ones, *others) for b in (each.low, each.high, each.expected) if b is not None]
    scale = max([*map(abs, before), *map(abs, after), *bounds, link_rate if unit == "bit/s" else 0.0])
    share = difference / scale if scale else 0.0
    chance = _chance(before, after, ones[0].uncertainty, others[0].uncertainty)
    least = floor if floor is not None else _floor((*ones, *others), scale)
    return replace(known, share=share, chance=chance, floor=least, kind="noise unknown" if chance is None else "same")


def _floor(measurements: Sequence[Measurement], scale: float) -> float:
    """Return the share that counts: half the width of the narrowest range that is expected, within the two floors."""
    widths = [(m.high - m.low) / 2 for m in measurements if m.low is not None and m.high is not None]
    return min(max(min(widths, default=scale) / scale, FLOOR_REPEATED), FLOOR_ONCE) if scale else FLOOR_ONCE


def _chance(
    before: Sequence[float], after: Sequence[float], half_before: float | None, half_after: float | None
) -> float | None:
    """Return the probability of the difference by noise; the halves (of intervals) matter on a side of one run only."""
    if len(before) > 1 and len(after) > 1:
        return of_repetitions(before, after)
    if len(before) > 1 or len(after) > 1:
        (one,), many, half = (before, after, half_before) if len(after) > 1 else (after, before, half_after)
        return of_one_and_repetitions(one, half or 0.0, many, 1 - LEVEL)
    if half_before is None or half_after is None:
        return 1.0 if before == after else None
    return of_intervals(after[0] - before[0], half_before, half_after, 1 - LEVEL)


def _side(measurements: Sequence[Measurement]) -> Value | None:
    values = [each.value or 0.0 for each in measurements]
    if not values:
        return None
    half = stdev(values) if len(values) > 1 else measurements[0].uncertainty
    return Value(fmean(values), half, len(values))


def _judged(difference: Difference, significant: bool) -> Difference:
    exact = difference.unit == "1" and (difference.before, difference.after) != (None, None)
    exact = exact and all(side is not None and side.half == 0 for side in (difference.before, difference.after))
    large = abs(difference.share or 0.0) >= difference.floor or exact
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


def _facts(before: Run, after: Run) -> Iterator[Fact]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield Fact(name, old.get(name, "–") or "–", new.get(name, "–") or "–")


def _noted(before: Results, after: Results) -> Iterator[Fact]:
    """Yield the tests whose notes are of other kinds now; their figures differ from run to run."""
    old, new = ({test.nodeid: test for test in results.tests} for results in (before, after))
    for nodeid in (nodeid for nodeid in old if nodeid in new):
        kinds = [", ".join(dict.fromkeys(note.id for note in side[nodeid].notes)) for side in (old, new)]
        if kinds[0] != kinds[1]:
            yield Fact(f"{new[nodeid].behaviour or readable(nodeid)}: noted", kinds[0] or "–", kinds[1] or "–")


def _flat(run: Run) -> Iterator[tuple[str, str]]:
    yield "lab", run.lab
    yield "kernel", run.kernel
    yield "link rate, bit/s", f"{run.link_rate:g}"
    yield "MTU, bytes", f"{run.mtu}"
    yield "LAG driver", run.lag_driver or ""
    yield "congestion control", run.congestion_control
    yield "suites", run.revision
    for name, seconds in run.durations.items():
        yield f"{name}, s", f"{seconds:g}"
    for name, version in run.tools.items():
        yield name, version
    for host in run.hosts:
        yield f"{host.name}: machine", host.machine
        yield f"{host.name}: kernel or firmware", host.kernel
        for nic in host.nics:
            place = f"{host.name}.{nic.name}"
            yield f"{place}: device", nic.device
            yield f"{place}: driver", nic.driver
            yield f"{place}: firmware", nic.firmware
            yield f"{place}: speed, bit/s", "" if nic.speed is None else f"{nic.speed:g}"
    if run.cables:
        yield "cables", ", ".join(sorted(f"{cable.a}–{cable.b}" for cable in run.cables))


def by_behaviour(comparison: Comparison) -> Iterator[tuple[str | None, list[Verdict], list[Difference]]]:
    """Yield each behaviour of either run, in the catalogue's order, with what changed in its verdicts and all its values."""
    parts: list[Verdict | Difference] = [*comparison.verdicts, *comparison.differences]
    parts.sort(key=lambda each: _place(each.behaviour))
    for behaviour, group in groupby(parts, key=lambda each: each.behaviour):
        members = list(group)
        verdicts = [each for each in members if isinstance(each, Verdict)]
        yield behaviour, verdicts, [each for each in members if isinstance(each, Difference)]
