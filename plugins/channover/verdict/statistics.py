"""How sure one may be of a rate that was sampled for a while.

Rates of consecutive slices are not independent: a queue that overflows in one makes a hole in the next. So the variance
of the mean is taken with the effective sample size for first-order autocorrelation (Wilks, *Statistical Methods in the
Atmospheric Sciences*, 5.2.4), and the start-up is cut off where that makes the standard error smallest (MSER: White,
*An Effective Truncation Heuristic for Bias Reduction in Simulation Output*, 1997).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean

CONFIDENCE = 0.99
"""The confidence of every interval that channover states, unless said otherwise."""
STARTUP = 20
"""The longest start-up, in samples: two seconds of slices of 0.1 s, for a TCP connection's slow start and its joins."""
FEWEST = 8
"""Fewer samples than this make no interval."""
BATCH = 5
"""How many samples are one where there are enough of them (batch means: Law, *Simulation Modeling and Analysis*, 9.5.3)."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval (``mean - half`` to ``mean + half``), and how many samples it rests on."""

    mean: float
    half: float
    samples: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t (Cornish-Fisher expansion: Abramowitz and Stegun, 26.7.5).

    Good to 0.1 % from eight degrees of freedom at 0.995.
    """
    z = NormalDist().inv_cdf(probability)
    v = float(freedom)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4


def estimate(samples: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of equally long slices with its interval; the interval is infinite below eight samples.

    From forty on it is that of the means of five each: what is late in one slice comes in the next.
    """
    count = len(samples)
    if count == 0:
        return Estimate(math.nan, math.inf, 0)
    mean = fmean(samples)
    if count < FEWEST:
        return Estimate(mean, math.inf, count)
    if count < BATCH * FEWEST:
        return Estimate(mean, _half(samples, confidence), count)
    batches = [fmean(samples[start : start + BATCH]) for start in range(count % BATCH, count, BATCH)]
    return Estimate(mean, _half(batches, confidence), count)


def _half(samples: Sequence[float], confidence: float) -> float:
    """Return half the interval of the mean of at least FEWEST samples."""
    count, mean = len(samples), fmean(samples)
    deviations = [sample - mean for sample in samples]
    squares = sum(deviation * deviation for deviation in deviations)
    if squares == 0:
        return 0.0
    neighbours = sum(one * other for one, other in pairwise(deviations))
    # What overflows one slice is missing from the next: a negative correlation narrows the mean, but is not trusted.
    correlation = min(max(neighbours / squares, 0.0), 0.9)
    effective = max(count * (1 - correlation) / (1 + correlation), 2.0)
    error = math.sqrt(squares / (count - 1) / effective)
    freedom = max(int(effective) - 1, FEWEST - 1)
    return student_quantile((1 + confidence) / 2, freedom) * error


def settled_part(samples: Sequence[float]) -> Sequence[float]:
    """Return the samples without their start-up: the cut that minimises the standard error (MSER).

    It lies in the first half, and among the first STARTUP samples: what comes later is no start-up, however odd.
    """
    count = len(samples)
    best, cut = math.inf, 0
    total = squares = 0.0
    errors: list[float] = []
    for kept, sample in enumerate(reversed(samples), start=1):
        total += sample
        squares += sample * sample
        errors.append(max(squares - total * total / kept, 0.0) / (kept * kept))
    for start in range(min(count // 2, STARTUP) + 1):
        error = errors[count - start - 1] if start < count else math.inf
        if error < best:
            best, cut = error, start
    return samples[cut:]
