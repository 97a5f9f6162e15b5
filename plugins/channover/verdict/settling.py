"""When a comparison is settled: a value is measured until its confidence interval lies inside what is expected, or outside.

Where it does neither when the time is up, it gets more time, once, on whichever side its mean lies; and where it does neither
then, the comparison is inconclusive. What looks like too little is judged by its calm samples: a busy machine can only take
away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from channover.verdict.expectation import Expectation, quantity
from channover.verdict.statistics import CONFIDENCE, Estimate, estimate, settled_part

LOOKS = 12
"""How often a verdict is looked for, at most: each look gets its share of the error (Bonferroni)."""
SURE = 1 - (1 - CONFIDENCE) / (LOOKS + 2)
"""The confidence of one look: one more is at the deadline, and one after it."""
FIRST_LOOK = 10
"""How many samples there are when a verdict is looked for first: a second of slices of 0.1 s."""
SPARE = 1.3
"""How much longer than the spread demands an inconclusive verdict advises to measure: the spread is an estimate."""
CALM = 30
"""How many calm samples a verdict *against* takes: a busy machine can only take away, and is given time to pass."""


class Source(Protocol):
    """Where a value's samples come from while it is being measured."""

    def samples(self) -> list[float]:
        """Return the samples so far."""
        ...

    def calm(self) -> list[float]:
        """Return the samples in which nothing is known to have disturbed the testbed."""
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
        """Say what kept the testbed from a verdict, settled or not, against the behaviour; or nothing."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether to measure for the whole duration, settled or not."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A source that tells people what it is being compared with."""

    expected: Expectation | None


@runtime_checkable
class Timed(Protocol):
    """A source that knows how long it has measured."""

    @property
    def elapsed(self) -> float:
        """Seconds."""
        ...


def settled_by(found: Estimate, expectation: Expectation) -> bool:
    """Say whether an interval is wholly as expected, or wholly not."""
    return expectation.admits(found.low, found.high) or expectation.excludes(found.low, found.high)


def settle(source: Source, expectation: Expectation) -> tuple[Estimate, Estimate | None]:
    """Measure until a verdict is settled, or until the deadline; return what it rests on, and what is open, if anything is.

    That is the same with the interval by which a look judges: it is wider, since several looks share the error. An interval
    that still holds the bound at the deadline gets more time, on whichever side its mean lies.
    """
    looked = 0
    next_look = FIRST_LOOK
    while source.more() or _worth_more(source, expectation):
        samples = source.samples()
        if source.fixed or len(samples) < next_look:
            continue
        looked += 1
        next_look = max(len(samples) + 1, math.ceil(len(samples) * 1.35)) if looked < LOOKS else 1 << 30
        # A busy machine can only take away: what looks too little is given three times as long to recover, and is
        # judged without the samples in which other machines had the processors.
        for part, enough in ((samples, 1 << 30), (source.calm(), CALM)):
            found = estimate(settled_part(part), SURE)
            if expectation.possible(found.mean) and _decided(part, found, expectation, enough):
                return ended(source, part), None
    if source.fixed:
        known = ended(source, source.samples())
        return known, None if settled_by(known, expectation) else known
    part, enough = _last(source)
    known = ended(source, part)
    if not part:
        part, enough = _last(source)
    found = estimate(settled_part(part), SURE)
    return known, None if _decided(part, found, expectation, enough) else found


def _last(source: Source) -> tuple[list[float], int]:
    """Return the samples that are judged when the time is up, and how many of them a verdict against takes."""
    calm = source.calm()
    return (calm, CALM) if len(calm) >= FIRST_LOOK else (source.samples(), 1 << 30)


def _decided(part: Sequence[float], found: Estimate, expectation: Expectation, enough: int) -> bool:
    """Say whether samples settle a verdict: one against takes ``enough`` of them."""
    if expectation.admits(found.low, found.high):
        return len(part) >= FIRST_LOOK
    return expectation.excludes(found.low, found.high) and len(part) >= enough


def ended(source: Source, samples: list[float]) -> Estimate:
    """Stop measuring, and return the estimate from ``samples``, on which the verdict rests.

    It is taken first: ending the traffic disturbs the last samples.
    """
    found = estimate(settled_part(samples))
    source.finish()
    # Where nothing had come by then, what that means is known once the traffic has ended.
    return found if samples else estimate(settled_part(source.samples()))


def _worth_more(source: Source, expectation: Expectation) -> bool:
    """Say whether to go on past the deadline: the verdict is not settled, whichever way it seems to go.

    Or the mean is above what theory allows: what was late may have come before the rest.
    """
    if source.fixed:
        return False
    part, enough = _last(source)
    found = estimate(settled_part(part), SURE)
    if expectation.possible(found.mean) and _decided(part, found, expectation, enough):
        return False
    return source.extend()


LONGEST = 600.0
"""Seconds of measuring that an inconclusive verdict still advises: beyond, the value is said to lie on the bound."""


def advice(known: Estimate, expectation: Expectation, unit: str, source: Source | None) -> str:
    """Say what would settle a verdict that is open: how much longer at this spread, or that the value lies on the bound."""
    if known.samples < FIRST_LOOK or not math.isfinite(known.half):
        return f"there are {known.samples} samples, and it takes {FIRST_LOOK} at least: --measure-limit gives more time"
    bounds = [bound for bound in (expectation.low, expectation.high) if known.low <= bound <= known.high]
    if not bounds:  # wholly not as expected, by too few samples
        return f"a verdict against takes {CALM} samples in which nothing disturbed the testbed: --measure-limit gives more time"
    bound = min(bounds, key=lambda each: abs(each - known.mean))
    room = abs(bound - known.mean)
    held = f"the interval still holds the bound of {quantity(bound, unit)}"
    times = SPARE * (known.half / room) ** 2 if room else math.inf
    seconds = source.elapsed if isinstance(source, Timed) else 0.0
    if max(seconds, 1.0) * times > LONGEST:
        return f"{held}, on which the value lies to within {quantity(known.half, unit)}: measuring it longer may not settle it"
    if not seconds:
        return f"{held}: at this spread it takes {math.ceil(times)} times as many samples"
    enough = math.ceil(seconds * times)
    return f"{held}: at this spread it takes about {enough} s, as by --duration {enough}"
