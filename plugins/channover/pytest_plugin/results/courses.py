"""How fast data came over time, with what a test expected of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from channover.report.facts import Bound, Course

if TYPE_CHECKING:
    from channover.measure.record import Record, Sampled
    from channover.verdict.measured import Reading

_PHASE = re.compile(r"^goodput (?P<phase>.+?)(?:, from (?P<after>[\d.e+-]+) s on)?$")
"""The name of the goodput of one phase (:meth:`channover.measure.running.phased.Phased.goodput`)."""

SETTLED = "measured"
"""The phase of a flow that its verdict rests on: its start is left out."""


def courses(record: Record) -> list[Course]:
    """Return the rates of a test over time, each with the bounds of the comparisons of its goodput."""
    return [bounded(record, one) for one in record.sampled]


def bounded(record: Record, sampled: Sampled) -> Course:
    """Return rates over time with what the test expected of the goodput of what they are of."""
    found = [one for one in record.readings if one.about is sampled.about and "goodput" in one.name]
    return replace(sampled.course, bounds=tuple(bound for one in found for bound in _bounds(one, sampled)))


def _bounds(reading: Reading, sampled: Sampled) -> Iterator[Bound]:
    """Yield the range of a comparison: of the phase that its value names, or of the whole."""
    low, high, times = reading.expectation.low, reading.expectation.high, sampled.course.times
    if reading.unit != "bit/s" or reading.expectation.rule == "outside" or not times:
        return
    begin, end = times[0], times[-1]
    named, names = _PHASE.match(reading.name), [label for label, *_ in sampled.phases]
    for label, first, last in sampled.phases:
        if label == SETTLED and not (named and named["phase"] in names):
            begin, end = first, last
        elif named and label == named["phase"]:
            begin, end = min(first + float(named["after"] or 0), last), last
    bounds = [bound if math.isfinite(bound) else None for bound in (low, high, reading.estimate.mean)]
    yield Bound(round(begin, 3), round(end, 3), *bounds)
