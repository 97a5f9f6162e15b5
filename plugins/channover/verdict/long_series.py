"""What a long series of rates shows beside its mean: whether it drifts, its worst second, its longest dip.

A busy machine takes from a rate what no link has lost. So samples in which the lab's own programs waited for a processor are
left out: of the drift their batches are made of the others, a second that holds one is not judged, and a dip ends at one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from channover.verdict.statistics import CONFIDENCE, FEWEST, LARGEST, STARTUP, Estimate
from channover.verdict.student import student_quantile

MOST_BATCHES = 120
"""Of a series: their means are what the line is laid through, of a second each at least."""


@dataclass(frozen=True)
class LongSeries:
    """Rates in slices of ``slice`` seconds, the start-up left out; ``waited`` are the numbers of samples that do not count."""

    samples: Sequence[float]
    slice: float
    waited: Collection[int] = ()

    @classmethod
    def of(cls, samples: Sequence[float], slice: float, waited: Collection[int] = ()) -> LongSeries:
        """Return the series of all samples but the first two seconds, in which a connection begins."""
        return cls(samples[STARTUP:], slice, frozenset(number - STARTUP for number in waited if number >= STARTUP))

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) * self.slice

    @property
    def _second(self) -> int:
        return max(round(1 / self.slice), 1)

    def drift(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return by how many per cent of its mean the rate changes from the begin of the series to its end.

        It is the slope of the line by least squares through the means of batches, with its interval by Student's t. Where
        neighbours among the residuals are alike it is as much wider (of a series of first order, its largest spread).
        """
        points = list(self._batches())
        count = len(points)
        if count < FEWEST:
            return Estimate(math.nan if not points else 0.0, math.inf, count)
        middle, mean = fmean(time for time, _ in points), fmean(rate for _, rate in points)
        spread = sum((time - middle) ** 2 for time, _ in points)
        slope = sum((time - middle) * (rate - mean) for time, rate in points) / spread
        left = [rate - mean - slope * (time - middle) for time, rate in points]
        squares = sum(one * one for one in left)
        alike = sum(one * other for one, other in pairwise(left)) / squares if squares else 0.0
        alike = min(max(alike, 0.0), LARGEST)
        error = math.sqrt(squares / (count - 2) / spread * (1 + alike) / (1 - alike))
        whole = 100 * self.seconds / mean if mean else math.inf
        return Estimate(slope * whole, student_quantile((1 + confidence) / 2, count - 2) * error * whole, count)

    def _batches(self) -> Iterator[tuple[float, float]]:
        """Yield the middle (seconds) and the mean of each batch of which at least half the samples count."""
        size = max(self._second, math.ceil(len(self.samples) / MOST_BATCHES))
        for start in range(0, len(self.samples) - size + 1, size):
            kept = [self.samples[one] for one in range(start, start + size) if one not in self.waited]
            if 2 * len(kept) >= size:
                yield (start + size / 2) * self.slice, fmean(kept)

    def seconds_judged(self) -> list[float]:
        """Return the mean rate of each second in which every sample counts, a new one beginning with every sample."""
        size = self._second
        disturbed = [0]
        for number in range(len(self.samples)):
            disturbed.append(disturbed[-1] + (number in self.waited))
        return [
            fmean(self.samples[start : start + size])
            for start in range(len(self.samples) - size + 1)
            if disturbed[start] == disturbed[start + size]
        ]

    @property
    def judged(self) -> float:
        """The share (0 to 1) of its seconds that are judged."""
        return len(self.seconds_judged()) / max(len(self.samples) - self._second + 1, 1)

    def longest_below(self, level: float) -> float:
        """Return for how long (seconds) the rate was below a level, at most."""
        longest = now = 0
        for number, sample in enumerate(self.samples):
            now = now + 1 if sample < level and number not in self.waited else 0
            longest = max(longest, now)
        return longest * self.slice
