"""Expectations: what a test compares a measured value with, and when the comparison is settled.

``assert flow.goodput == near(link.tcp_goodput)`` reads as it is meant: the value goes on being measured until its
confidence interval lies inside what is expected (it holds) or outside (it does not), or until the deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from channover.errors import RigError
from channover.verdict.statistics import CONFIDENCE, Estimate, estimate, settled_part

LOOKS = 12
"""How often a verdict is looked for, at most: each look gets its share of the error (Bonferroni)."""
CALM = 30
"""How many calm samples a verdict *against* takes: a busy machine can only take away, and is given time to pass."""

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
        if self.low <= 0:
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
    """A comparison that was made: the value, what was expected, and whether it held.

    ``undecided`` says why it is no verdict, and is empty where it is one. ``explained`` is what was seen where it did not
    hold. ``about`` is what was measured, None for a number of the test's own.
    """

    name: str
    unit: str
    estimate: Estimate
    expectation: Expectation
    held: bool
    settled: bool
    undecided: str = ""
    explained: tuple[str, ...] = field(default=(), repr=False)
    about: object = field(default=None, compare=False, repr=False)

    @property
    def missed(self) -> bool:
        """Whether it is a verdict against what was expected."""
        return not (self.held or self.undecided)

    def __str__(self) -> str:
        return f"{_stated(self.name, self.unit, self.estimate)}, expected {self.expectation.text(self.unit)}"


def explanation(readings: Iterable[Reading]) -> list[str]:
    """Return, line by line, which of some comparisons did not hold, and what was seen; nothing where all held."""
    missed = [reading for reading in readings if reading.missed]
    lines = [str(reading) for reading in missed]
    if not all(reading.settled for reading in missed):
        lines.append("inconclusive: decided by the mean")
    return lines + list(dict.fromkeys(line for reading in missed for line in reading.explained))


@dataclass
class Measured:
    """A value that can be compared with an :class:`Expectation`. ``record`` is told of every comparison.

    A value is either known (``known``) or still being measured (``source``); ``about`` is what it was measured of. Where
    it is ``of_rig``, what the test itself was to do, it is never a verdict on a behaviour that it is not as expected.
    """

    name: str
    unit: str = "bit/s"
    source: Source | None = None
    known: Estimate | None = None
    record: Callable[[Reading], None] = field(default=lambda _: None, repr=False)
    explain: Callable[[], str] = field(default=lambda: "", repr=False)
    about: object = field(default=None, repr=False)
    of_rig: bool = False
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
        found = self._read(expectation)
        undecided = self._undecided(source, found)
        found = replace(found, undecided=undecided)
        self.last = replace(found, explained=self._explained() if found.missed else ())
        self.record(self.last)
        if undecided:
            raise RigError(undecided)
        return self.last

    def _read(self, expectation: Expectation) -> Reading:
        settled = self._settle(expectation) if self.known is None else True
        found = self.result()
        held = expectation.holds(found.mean)
        return Reading(self.name, self.unit, found, expectation, held, settled, about=self.about)

    def _undecided(self, source: Source | None, found: Reading) -> str:
        """Say why what was found is no verdict, or nothing."""
        if self.of_rig and not found.held:
            return f"{found}: INCONCLUSIVE: the lab did not do what was asked of it"
        if source is None:
            return ""
        if not found.held and (cause := source.disturbed(found.settled)):
            return f"{found}: INCONCLUSIVE: {cause}"
        if not found.expectation.possible(found.estimate.mean):
            theory = quantity(found.expectation.value or 0.0, self.unit)
            return (
                f"{self!r}, of the {theory} that the wire allows: INCONCLUSIVE: the receivers gave their figures late"
            )
        return ""

    def _explained(self) -> tuple[str, ...]:
        try:
            return tuple(self.explain().splitlines())
        except RigError as error:  # a verdict stands though its host says no more
            return (f"not explained: {error}",)

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
                if expectation.admits(found.low, found.high) or (_settles(found, expectation) and len(part) >= enough):
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
        return self.compare(self._expected(other)).held

    def __ne__(self, other: object) -> bool:
        return self.compare(anything_but(self._expected(other))).held

    def __ge__(self, other: float) -> bool:
        return self.compare(at_least(self._number(other))).held

    def __le__(self, other: float) -> bool:
        return self.compare(at_most(self._number(other))).held

    def __gt__(self, other: float) -> bool:
        self._require_exact(">", "at_least")
        return self.compare(more_than(self._number(other))).held

    def __lt__(self, other: float) -> bool:
        self._require_exact("<", "at_most")
        return self.compare(less_than(self._number(other))).held

    def _expected(self, other: object) -> Expectation:
        return other if isinstance(other, Expectation) else exactly(self._number(other))

    def _number(self, other: object) -> float:
        if isinstance(other, (int, float)):
            return float(other)
        raise TypeError(
            f"{self.name} cannot be compared so with {other!r}: ==, != take an expectation or a number, the others a number"
        )

    def _require_exact(self, sign: str, word: str) -> None:
        if self.source is not None or (self.known is not None and self.known.half):
            raise TypeError(
                f"{self.name} is known to within an interval, which lies on no side of its own border: "
                f"write == {word}(…) instead of {sign}"
            )

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value: compare it, as in == 2, >= 1 or == near(…)")

    __hash__ = None  # type: ignore[assignment]

    def scaled(self, factor: float, name: str, unit: str) -> Measured:
        """Return the value times a factor, under another name."""
        found = self.result()
        known = Estimate(found.mean * factor, found.half * abs(factor), found.samples)
        return replace(self, name=name, unit=unit, known=known, source=None)

    def __repr__(self) -> str:
        return f"{self.name}: still being measured" if self.known is None else _stated(self.name, self.unit, self.known)


def _stated(name: str, unit: str, found: Estimate) -> str:
    text = quantity(found.mean, unit)
    if 0 < found.half < math.inf:
        text += f" ± {quantity(found.half, unit)}"
    return f"{name} of {text}"


def _settles(found: Estimate, expectation: Expectation) -> bool:
    """Say whether an interval is wholly as expected, or wholly not."""
    return expectation.admits(found.low, found.high) or expectation.excludes(found.low, found.high)


def count(name: str, number: float, record: Callable[[Reading], None], unit: str = "1") -> Measured:
    """Return a value that is known exactly: a number of NICs, of subflows, of bytes."""
    return Measured(name, unit, known=Estimate(float(number), 0.0, 1), record=record)
