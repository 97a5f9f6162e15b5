"""Expectations: what a test compares a measured value with, and when the comparison is settled.

``assert flow.goodput == near(link.tcp_goodput)`` reads as it is meant: the value goes on being measured until its
confidence interval lies inside what is expected (it holds) or outside (it does not), or until the deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from channover.errors import RigError
from channover.verdict.statistics import CONFIDENCE, Estimate, estimate, settled_part

LOOKS = 12
"""How often a verdict is looked for, at most: each look gets its share of the error (Bonferroni)."""
CALM = 30
"""How many calm samples a verdict *against* takes: a busy machine can only take away, and is given time to pass."""

BEYOND = 1.05
"""How much more than theory allows may be read where more is better: what was queued before comes out as well."""


@dataclass(frozen=True)
class Expectation:
    """The range in which a value must lie, the value that theory gives (or None), and why."""

    low: float
    high: float
    value: float | None = None
    why: str = ""

    def holds(self, value: float) -> bool:
        """Say whether a value lies in the range."""
        return self.low <= value <= self.high

    def possible(self, value: float) -> bool:
        """Say whether theory allows a value. Where there is an upper bound, that one tells."""
        return self.value is None or math.isfinite(self.high) or value <= BEYOND * self.value

    def __repr__(self) -> str:
        return self.text("bit/s")

    def text(self, unit: str) -> str:
        """Return the range in words."""
        reason = f" ({self.why})" if self.why else ""
        if self.low == self.high:
            return f"exactly {quantity(self.low, unit)}{reason}"
        if math.isinf(self.high):
            return f"at least {quantity(self.low, unit)}{reason}"
        if self.low <= 0:
            return f"at most {quantity(self.high, unit)}{reason}"
        return f"{quantity(self.low, unit)} to {quantity(self.high, unit)}{reason}"


def near(value: float, within: float = 0.01, why: str = "") -> Expectation:
    """Expect ``value``, give or take the fraction ``within``."""
    return Expectation(value * (1 - within), value * (1 + within), value, why)


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


def quantity(value: float, unit: str) -> str:
    """Return a value in words: rates in Mbit/s, the rest with its unit."""
    if math.isinf(value) or math.isnan(value):
        return "unknown"
    if unit == "bit/s":
        return f"{value / 1e6:.4g} Mbit/s" if value < 1e9 else f"{value / 1e9:.4g} Gbit/s"
    return f"{value:g}" if unit == "1" else f"{value:.6g} {unit}"


class Source(Protocol):
    """Where a value's samples come from while it is being measured."""

    def samples(self) -> list[float]:
        """Return the samples so far."""
        ...

    def calm(self) -> list[float]:
        """Return the samples in which nothing is known to have disturbed the rig."""
        ...

    def more(self) -> bool:
        """Wait for more samples; False when no more will come."""
        ...

    def extend(self) -> bool:
        """Allow more time, once; False where there is none to allow."""
        ...

    def finish(self) -> None:
        """Stop measuring."""
        ...

    def disturbed(self, settled: bool) -> str:
        """Say what kept the rig from a verdict, settled or not, against the behaviour; or nothing."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether to measure for the whole duration, settled or not."""
        ...


@dataclass(frozen=True)
class Reading:
    """A comparison that was made: the value, what was expected, and whether it held."""

    name: str
    unit: str
    estimate: Estimate
    expectation: Expectation
    held: bool
    settled: bool


@dataclass
class Measured:
    """A value that can be compared with an :class:`Expectation`. ``record`` is told of every comparison.

    A value is either known (``known``) or still being measured (``source``).
    """

    name: str
    unit: str = "bit/s"
    source: Source | None = None
    known: Estimate | None = None
    record: Callable[[Reading], None] = field(default=lambda _: None, repr=False)
    explain: Callable[[], str] = field(default=lambda: "", repr=False)
    last: Reading | None = None

    @property
    def value(self) -> float:
        """The mean. Ends the measurement where it still runs."""
        return self.result().mean

    def result(self) -> Estimate:
        """Return the estimate. Ends the measurement where it still runs."""
        if self.known is None:
            assert self.source is not None
            self._end(self.source.samples())
        assert self.known is not None
        return self.known

    def compare(self, expectation: Expectation) -> Reading:
        """Compare, measuring for as long as it takes, and record the comparison.

        Raises RigError where the verdict would be against the behaviour and the rig was too disturbed for one, and where
        more was read than theory allows.
        """
        source = self.source if self.known is None else None
        self.last = self._read(expectation)
        self.record(self.last)
        if source is not None and not self.last.held and (cause := source.disturbed(self.last.settled)):
            raise RigError(f"{self!r}, expected {expectation.text(self.unit)}: no verdict, since {cause}")
        if source is not None and not expectation.possible(self.last.estimate.mean):
            theory = quantity(expectation.value or 0.0, self.unit)
            raise RigError(
                f"{self!r}, of the {theory} that the wire allows: no verdict, since the receivers gave their figures late"
            )
        return self.last

    def _read(self, expectation: Expectation) -> Reading:
        settled = self._settle(expectation) if self.known is None else True
        found = self.result()
        return Reading(self.name, self.unit, found, expectation, expectation.holds(found.mean), settled)

    def _settle(self, expectation: Expectation) -> bool:
        source = self.source
        assert source is not None
        looked = 0
        confidence = 1 - (1 - CONFIDENCE) / (LOOKS + 1)  # one more at the deadline
        next_look = 10
        while source.more() or self._worth_more(source, expectation, confidence):
            samples = source.samples()
            if source.fixed or len(samples) < next_look:
                continue
            looked += 1
            next_look = max(len(samples) + 1, math.ceil(len(samples) * 1.35)) if looked < LOOKS else 1 << 30
            # A busy machine can only take away: what looks too little is given three times as long to recover, and is
            # judged without the samples in which other machines had the processors.
            calm = source.calm()
            for part, enough in ((samples, 1 << 30), (calm, CALM)):
                if len(part) < 10:
                    continue
                found = estimate(settled_part(part), confidence)
                if not expectation.possible(found.mean):
                    continue
                inside = expectation.low <= found.low and found.high <= expectation.high
                if inside or (_settles(found, expectation) and len(part) >= enough):
                    self._end(part)
                    return True
        calm = source.calm()
        part = source.samples() if source.fixed or len(calm) < 20 else calm
        self._end(part)
        if source.fixed:
            return self.known is not None and _settles(self.known, expectation)
        return len(calm) >= CALM and _settles(estimate(settled_part(part), confidence), expectation)

    def _worth_more(self, source: Source, expectation: Expectation, confidence: float) -> bool:
        """Say whether to go on past the deadline: the mean is against the behaviour, and may well be a passing stall's.

        Or it is above what theory allows: what was late may have come before the rest.
        """
        if source.fixed:
            return False
        found = estimate(settled_part(source.calm()), confidence)
        if not expectation.possible(found.mean):
            return source.extend()
        return not expectation.holds(found.mean) and not _settles(found, expectation) and source.extend()

    def _end(self, samples: list[float]) -> None:
        """Take the estimate from the samples that the verdict rests on: ending the traffic disturbs the last ones."""
        assert self.source is not None
        self.known = estimate(settled_part(samples))
        self.source.finish()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Expectation):
            return self.compare(other).held
        if isinstance(other, (int, float)):
            return self.compare(exactly(float(other))).held
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        if not isinstance(other, (Expectation, int, float)):
            return NotImplemented
        # "Anything but this" is no range, so no comparison is recorded.
        expectation = other if isinstance(other, Expectation) else exactly(float(other))
        self.last = self._read(expectation)
        return not self.last.held

    def __ge__(self, other: float) -> bool:
        return self.compare(at_least(float(other))).held

    def __le__(self, other: float) -> bool:
        return self.compare(at_most(float(other))).held

    __gt__, __lt__ = __ge__, __le__  # a measured value does not know "equal": the border belongs to both

    __hash__ = None  # type: ignore[assignment]

    def scaled(self, factor: float, name: str, unit: str) -> Measured:
        """Return the value times a factor, under another name."""
        found = self.result()
        known = Estimate(found.mean * factor, found.half * abs(factor), found.samples)
        return replace(self, name=name, unit=unit, known=known, source=None)

    def __repr__(self) -> str:
        if self.known is None:
            return f"{self.name}: still being measured"
        text = quantity(self.known.mean, self.unit)
        if 0 < self.known.half < math.inf:
            text += f" ± {quantity(self.known.half, self.unit)}"
        return f"{self.name} of {text}"


def _settles(found: Estimate, expectation: Expectation) -> bool:
    """Say whether an interval lies wholly inside a range, or wholly outside."""
    inside = expectation.low <= found.low and found.high <= expectation.high
    return inside or found.high < expectation.low or found.low > expectation.high


def count(name: str, number: float, record: Callable[[Reading], None], unit: str = "1") -> Measured:
    """Return a value that is known exactly: a number of NICs, of subflows, of bytes."""
    return Measured(name, unit, known=Estimate(float(number), 0.0, 1), record=record)
