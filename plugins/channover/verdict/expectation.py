"""What a test expects of a value: a range, what theory gives, and why, such as ``near(94.1e6)`` and ``at_least(2)``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

BEYOND = 1.05
"""How much more than theory allows may be read where more is better: what was queued before comes out as well."""

Rule = Literal["within", "strictly", "outside"]
"""How a value must lie to a range: in it, in it and on neither bound, or not in it."""


@dataclass(frozen=True)
class Expectation:
    """The range in which a value must lie, the value that theory gives (or None), why, and how it must lie to the range.

    Raises ValueError where every value would be as expected, or none: a comparison with that compares nothing.
    """

    low: float
    high: float
    value: float | None = None
    why: str = ""
    rule: Rule = "within"

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"from {self.low:g} to {self.high:g} lies no value that could be expected")
        if self.low == self.high and math.isinf(self.low):
            raise ValueError("a value without an end is none that could be expected")
        if math.isinf(self.low) and math.isinf(self.high):
            raise ValueError("an expectation without a bound is none: whatever is measured would be as expected")

    def holds(self, value: float) -> bool:
        """Say whether a value is as expected; one that is not finite is not known."""
        return math.isfinite(value) and self.admits(value, value)

    def admits(self, low: float, high: float) -> bool:
        """Say whether every value of an interval is as expected."""
        if self.rule == "outside":
            return high < self.low or low > self.high
        inside = self.low <= low and high <= self.high
        return inside and not (self.rule == "strictly" and self._bounds & {low, high})

    def excludes(self, low: float, high: float) -> bool:
        """Say whether no value of an interval is as expected."""
        if self.rule == "outside":
            return self.low <= low and high <= self.high
        return high < self.low or low > self.high or (self.rule == "strictly" and low == high and low in self._bounds)

    @property
    def _bounds(self) -> set[float]:
        return {bound for bound in (self.low, self.high) if math.isfinite(bound)}

    def possible(self, value: float) -> bool:
        """Say whether theory allows a value. Where there is an upper bound, that one tells."""
        return self.value is None or math.isfinite(self.high) or value <= BEYOND * self.value

    def __repr__(self) -> str:
        return self.text("bit/s")

    def text(self, unit: str) -> str:
        """Return the range in words."""
        reason = f" ({self.why})" if self.why else ""
        if self.rule == "outside":
            return f"anything but {replace(self, rule='within').text(unit).removeprefix('exactly ')}"
        if self.rule == "strictly":
            words, bound = ("more than", self.low) if math.isinf(self.high) else ("less than", self.high)
            return f"{words} {quantity(bound, unit)}{reason}"
        if self.low == self.high:
            return f"exactly {quantity(self.low, unit)}{reason}"
        if math.isinf(self.high):
            return f"at least {quantity(self.low, unit)}{reason}"
        if self.low == 0 or math.isinf(self.low):
            return f"at most {quantity(self.high, unit)}{reason}"
        return f"{quantity(self.low, unit)} to {quantity(self.high, unit)}{reason}"


def near(value: float, within: float = 0.01, why: str = "") -> Expectation:
    """Expect ``value``, give or take the fraction ``within``."""
    spread = abs(value) * within
    return Expectation(value - spread, value + spread, value, why)


def at_least(low: float, why: str = "", *, theory: float | None = None) -> Expectation:
    """Expect ``low`` or more, of the ``theory`` that the wire allows."""
    return Expectation(low, math.inf, theory, why)


def at_most(high: float, why: str = "", *, theory: float | None = None) -> Expectation:
    """Expect ``high`` or less, of the ``theory`` that the wire allows."""
    return Expectation(-math.inf, high, theory, why)


def between(low: float, high: float, why: str = "", *, theory: float | None = None) -> Expectation:
    """Expect ``low`` to ``high``, of the ``theory`` that the wire allows."""
    return Expectation(low, high, theory, why)


def exactly(value: float, why: str = "") -> Expectation:
    """Expect ``value`` itself: for counts."""
    return Expectation(value, value, value, why)


def more_than(low: float, why: str = "") -> Expectation:
    """Expect more than ``low``: for what is known exactly, as a count is."""
    return Expectation(low, math.inf, None, why, "strictly")


def less_than(high: float, why: str = "") -> Expectation:
    """Expect less than ``high``: for what is known exactly, as a count is."""
    return Expectation(-math.inf, high, None, why, "strictly")


def anything_but(unwanted: Expectation | float, why: str = "") -> Expectation:
    """Expect what ``unwanted`` does not: the word for a wanted negation, which ``!=`` means as well."""
    one = unwanted if isinstance(unwanted, Expectation) else exactly(float(unwanted))
    reason = why or one.why
    if one.rule == "outside":
        return Expectation(one.low, one.high, None, reason)
    if math.isfinite(one.low) and math.isfinite(one.high):
        return Expectation(one.low, one.high, None, reason, "outside")
    low, high = (one.high, math.inf) if math.isinf(one.low) else (-math.inf, one.low)
    return Expectation(low, high, None, reason, "within" if one.rule == "strictly" else "strictly")


def quantity(value: float, unit: str) -> str:
    """Return a value in words: rates in Mbit/s, the rest with its unit."""
    if math.isinf(value) or math.isnan(value):
        return "unknown"
    if unit == "bit/s":
        return f"{value / 1e6:.4g} Mbit/s" if value < 1e9 else f"{value / 1e9:.4g} Gbit/s"
    return f"{value:g}" if unit == "1" else f"{value:.6g} {unit}"
