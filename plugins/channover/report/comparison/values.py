"""Measured values as they are compared over runs: which is which, what they are a share of, how much runs differ in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from channover.report.results import Measurement, Results, TestResult, Unit
from channover.verdict.significance import Spread, of_groups, of_intervals, pooled, variance_of

LEVEL = 0.01
"""How likely all the tests of one comparison together may err."""
FLOOR_ONCE, FLOOR_REPEATED = 0.05, 0.01
"""Differences below these fractions of the scale are no change: the scale is the largest of all values, their bounds, and,
of rates, the link's rate. The larger one is for what no other runs tell how much runs differ."""
USUAL = 0.5
"""How much sampled values of runs of the same code are taken to differ where nothing else tells: a standard deviation of so
much of the floor (2.5 % of the scale; 0.5 % of what is expected within 1 %). Between runs beside each other at most 1.5 % and
0.5 % were measured, on a machine that others used."""
SURE, UNSURE = 10.0, 2.0
"""How well that is known, in degrees of freedom; and how well it is where runs tell themselves: then it is that of the lower
floor, and keeps few runs that are alike by chance from saying that all are."""
KNOWN = 3.0
"""From so many degrees of freedom on it is known of runs how much these differ."""
Key = tuple[str, str, Unit, int]
"""A value: the test, its name and unit, and which of these it is in the test."""


def values_of(results: Results) -> dict[Key, tuple[TestResult, Measurement]]:
    """Return the measured values of a run, each with its test."""
    return {key: (test, one) for test in results.tests for key, one in _numbered(test)}


def _numbered(test: TestResult) -> Iterator[tuple[Key, Measurement]]:
    seen: dict[tuple[str, Unit], int] = {}
    for each in test.measurements:
        number = seen[each.name, each.unit] = seen.get((each.name, each.unit), -1) + 1
        if each.value is not None:
            yield (test.nodeid, each.name, each.unit, number), each


def scale_of(measurements: Sequence[Measurement], link_rate: float) -> float:
    """Return what differences are taken as a share of: the largest of values and bounds, and of rates the link's (bit/s)."""
    sizes = [abs(b) for m in measurements for b in (m.value, m.low, m.high, m.expected) if b is not None]
    return max([*sizes, *(link_rate for m in measurements if m.unit == "bit/s")], default=0.0)


def closeness(measurements: Sequence[Measurement], scale: float) -> float:
    """Return half the width of the narrowest range that is expected, as a share of the scale, within the two floors."""
    widths = [(m.high - m.low) / 2 for m in measurements if m.low is not None and m.high is not None]
    return min(max(min(widths, default=scale) / scale, FLOOR_REPEATED), FLOOR_ONCE) if scale else FLOOR_ONCE


def chance_of(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    found: Sequence[Spread | None],
    scale: float,
) -> float | None:
    """Return the probability of the difference of two sides by noise within runs and between them; None where it is unknown.

    ``found`` is what runs tell of how much they differ. Where few do, sampled values are taken to differ as usual; counts are
    exact where none does.
    """
    sides = [[one.value or 0.0 for one in side] for side in (before, after)]
    sampled = before[0].unit == "bit/s" or any(one.uncertainty for one in (*before, *after))
    spread = pooled(found, _usual([*before, *after], found, scale) if sampled else None)
    halves = [side[0].uncertainty for side in (before, after)]
    if all(each is None for each in found):
        if halves[0] is None or halves[1] is None:
            return 1.0 if sides[0] == sides[1] else None
        if spread is None:
            return of_intervals(sides[1][0] - sides[0][0], halves[0], halves[1], 1 - LEVEL)
    assert spread is not None
    within = [variance_of(half or 0.0, 1 - LEVEL) for half in halves]
    return of_groups(sides[0], sides[1], spread, (within[0], within[1]))


def floor_of(measurements: Sequence[Measurement], found: Sequence[Spread | None], scale: float) -> float:
    """Return the share of the scale below which no difference is a change."""
    return FLOOR_REPEATED if _told(found) else closeness(measurements, scale)


def _usual(measurements: Sequence[Measurement], found: Sequence[Spread | None], scale: float) -> Spread:
    share = USUAL * floor_of(measurements, found, scale)
    return Spread((share * scale) ** 2, UNSURE if _told(found) else SURE)


def _told(found: Sequence[Spread | None]) -> bool:
    """Say whether runs tell how much they differ."""
    return sum(each.freedom for each in found if each is not None) >= KNOWN


def counts(share: float, chance: float, floor: float, unit: Unit) -> bool:
    """Say whether a difference is large enough to be one: of counts that are exact, and never varied, any is."""
    return abs(share) >= floor or (unit == "1" and chance == 0.0 and share != 0.0)
