"""When a comparison is settled: a value is measured until its confidence interval lies inside what is expected, or outside.

What only looks like too little is given more time, and judged by its calm samples: a busy machine can only take away.
"""

from __future__ import annotations

import math
from typing import Protocol

from channover.verdict.expectation import (
    Expectation,
)
from channover.verdict.statistics import CONFIDENCE, Estimate, estimate, settled_part

LOOKS = 12
"""How often a verdict is looked for, at most: each look gets its share of the error (Bonferroni)."""
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


def _settles(found: Estimate, expectation: Expectation) -> bool:
    """Say whether an interval is wholly as expected, or wholly not."""
    return expectation.admits(found.low, found.high) or expectation.excludes(found.low, found.high)


def settle(source: Source, expectation: Expectation) -> tuple[Estimate, bool]:
    """Measure until a verdict is settled, or until the deadline; return what it rests on, and whether it settled."""
    looked = 0
    confidence = 1 - (1 - CONFIDENCE) / (LOOKS + 1)  # one more at the deadline
    next_look = 10
    while source.more() or _worth_more(source, expectation, confidence):
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
                return ended(source, part), True
    calm = source.calm()
    part = source.samples() if source.fixed or len(calm) < 20 else calm
    known = ended(source, part)
    if source.fixed:
        return known, _settles(known, expectation)
    return known, len(calm) >= CALM and _settles(estimate(settled_part(part), confidence), expectation)


def ended(source: Source, samples: list[float]) -> Estimate:
    """Stop measuring, and return the estimate from ``samples``, on which the verdict rests.

    It is taken first: ending the traffic disturbs the last samples.
    """
    found = estimate(settled_part(samples))
    source.finish()
    return found


def _worth_more(source: Source, expectation: Expectation, confidence: float) -> bool:
    """Say whether to go on past the deadline: the mean is against the behaviour, and may well be a passing stall's.

    Or it is above what theory allows: what was late may have come before the rest.
    """
    if source.fixed:
        return False
    found = estimate(settled_part(source.calm()), confidence)
    if not expectation.possible(found.mean):
        return source.extend()
    return not expectation.holds(found.mean) and not _settles(found, expectation) and source.extend()
