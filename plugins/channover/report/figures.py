"""Measured values in words, for people: the value with its uncertainty, what was expected, the margin that is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from channover.report.results import Measurement, TestResult, Unit
from channover.report.terminal import expectation, figure, scale
from channover.text import readable


@dataclass(frozen=True)
class Line:
    """One measurement of a test in words.

    ``bounds`` are what is expected, without the unit; ``share`` is the margin by the bound. ``inside`` says whether the
    value lies in the expected range, and was settled to do so, ``rate`` whether it is in bit/s.
    """

    test: str
    name: str
    measured: str
    bounds: str
    expected: str
    why: str
    article: str
    margin: str
    share: str
    inside: bool
    rate: bool = False


def with_uncertainty(value: float | None, half: float | None, unit: Unit) -> str:
    """Return a value with half its interval, such as ``94.15 ± 0.02 Mbit/s``: two figures of the uncertainty."""
    if value is None:
        return "–"
    if not half:
        return f"{figure(value, unit)} {scale(unit)}".rstrip()
    by = 1e6 if unit == "bit/s" else 1.0
    digits = min(max(1 - math.floor(math.log10(half / by)), 0), 6)
    return f"{value / by:.{digits}f} ± {half / by:.{digits}f} {scale(unit)}".rstrip()


def margin(measurement: Measurement) -> float | None:
    """Return how far the value lies inside the nearer bound, negative where it lies outside; None without a bound."""
    value, low, high = measurement.value, measurement.low, measurement.high
    if value is None or (low is None and high is None):
        return None
    room = min(value - low if low is not None else math.inf, high - value if high is not None else math.inf)
    return -room if measurement.rule == "outside" else room


def _margins(measurement: Measurement) -> tuple[str, str]:
    """Return the margin in words, and by the bound."""
    left = margin(measurement)
    if left is None or measurement.value is None:
        return "–", "–"
    unit = measurement.unit
    if measurement.low == measurement.high and measurement.rule == "within":
        return ("exact" if left == 0 else f"off by {figure(-left, unit)}",) * 2
    bounds = [bound for bound in (measurement.low, measurement.high) if bound is not None]
    bound = min(bounds, key=lambda each: abs((measurement.value or 0.0) - each))
    plain = f"{'+' if left >= 0 else '−'}{figure(abs(left), unit)} {scale(unit)}".rstrip()
    share = f"{left / abs(bound) * 100:+.1f} %".replace("-", "−") if bound else plain
    return f"{plain} ({share})" if bound else plain, share


def lines_of(test: TestResult) -> list[Line]:
    """Return a test's measurements in words, in their order."""
    return [
        Line(
            readable(test.nodeid.rpartition("::")[2] or test.nodeid),
            each.name,
            with_uncertainty(each.value, each.uncertainty, each.unit),
            expectation(each),
            f"{expectation(each)} {scale(each.unit)}".rstrip(),
            each.why,
            f"{figure(each.article, each.unit)} {scale(each.unit)}".rstrip() if each.article is not None else "",
            *_margins(each),
            each.held and each.settled,
            each.unit == "bit/s",
        )
        for each in test.measurements
    ]


def main_line(lines: Sequence[Line]) -> Line | None:
    """Return the one value that stands for several.

    That is one outside its range, else the one beside the article's figure, else the first rate, else the first.
    """
    beside = next((line for line in lines if line.article), next((line for line in lines if line.rate), None))
    first = next((line for line in lines if not line.inside), next(iter(lines), None))
    return first if first is None or not first.inside or beside is None else beside
