"""How sure one may be of a rate that was sampled for a while.

Rates of consecutive slices are not independent. What is late in one comes in the next, which makes a mean better known
than it seems; and where a radio, a queue or a fail-over sets the pace, neighbours are alike for seconds, which makes it worse
known. So an interval is as wide as the widest of what speaks for it:

- the series cut into four batches, which grow with it: the spread of their means, and how far the sum wanders from its
  straight line within each (batch means, and the area under a standardized time series: Schruben, *Confidence Interval
  Estimation Using Standardized Time Series*, 1983; Goldsman and Schruben, 1990);
- where neighbours, or means of five, are alike: that of a series with the *largest* correlation that these samples do not
  contradict (first order; a short series' estimate of it is put right as Marriott and Pope, *Bias in the Estimation of
  Autocorrelations*, 1954, have it). A short series contradicts little: its interval is wide, and it is measured on.

The start-up is cut off where that makes the standard error smallest (MSER: White, *An Effective Truncation Heuristic for
Bias Reduction in Simulation Output*, 1997). ``tests/unit/test_settling.py`` has the simulation of what this comes to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

from channover.verdict.student import student_quantile

CONFIDENCE = 0.99
"""The confidence of every interval that channover states, unless said otherwise."""
STARTUP = 20
"""The longest start-up of a short series, in samples: two seconds, for a TCP connection's slow start and its joins."""
FEWEST = 8
"""Fewer samples than this make no interval."""
BATCHES = 4
"""How many batches a series is cut into: the more, the better known is their spread, and the less a slow course shows."""
BATCHED = 20
"""From so many samples on there are batches, of five at least."""
FIVE = 5
"""So many samples are one where a slow course is looked for below a fast noise: half a second of slices of 0.1 s."""
UNSURE, UNSURE_SHORT, UNSURE_FIVES = 2.5, 5.0, 1.5
"""How many standard errors a correlation may be larger than it was found: of samples, the more of these the shorter a series
below forty is, of means of five. Chosen by simulation: one verdict in a hundred is wrong, whatever the correlation."""
LARGEST = 0.97
"""The largest correlation of neighbours that is reckoned with: a time constant of three seconds."""
FREE, FREE_FIVES = 3, 4
"""The fewest degrees of freedom that are left to a series of samples, of means of five, however alike they are."""
STRAYS, SHORTENS = 10.7, 0.87
"""How far the mean of a short series may be from the true one, however alike its samples are: so many of their standard
deviations, by its length to this power and by Student's t of the fewest degrees of freedom. By simulation, too."""


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


def estimate(samples: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of equally long slices with its interval; the interval is infinite below eight samples."""
    count = len(samples)
    if count == 0:
        return Estimate(math.nan, math.inf, 0)
    mean = fmean(samples)
    if count < FEWEST:
        return Estimate(mean, math.inf, count)
    probability = (1 + confidence) / 2
    if count < BATCHED:
        return Estimate(mean, _alike(samples, probability, _unsure(count), FREE, always=True), count)
    halves = [_batched(samples, probability), _alike(samples, probability, _unsure(count), FREE)]
    if count >= FIVE * FEWEST:
        fives = [fmean(samples[start : start + FIVE]) for start in range(count % FIVE, count, FIVE)]
        halves.append(_alike(fives, probability, UNSURE_FIVES, FREE_FIVES))
    return Estimate(mean, max(halves), count)


def _unsure(count: int) -> float:
    return UNSURE + UNSURE_SHORT * max(0.0, 1 - count / (FIVE * FEWEST))


def _batched(samples: Sequence[float], probability: float) -> float:
    """Return half the interval that the batches make: of their means, and of the area that the sum goes round within each.

    Of a series without correlation both say the same. What is late in one slice and comes in the next moves neither much.
    """
    size = len(samples) // BATCHES
    first = len(samples) % BATCHES
    means, area = [], 0.0
    for start in range(first, first + BATCHES * size, size):
        batch = samples[start : start + size]
        mean = fmean(batch)
        means.append(mean)
        area += sum(total * total for total in accumulate(sample - mean for sample in batch))
    middle = fmean(means)
    by_means = size * sum((mean - middle) ** 2 for mean in means) / (BATCHES - 1)
    by_area = 6 * area / (BATCHES * (size * size - 1))
    freedom = 2.5 * BATCHES  # of the areas: twice the square of their mean by their variance
    variance = (freedom * by_area + (BATCHES - 1) * by_means) / (freedom + BATCHES - 1)
    return student_quantile(probability, int(freedom) + BATCHES - 1) * math.sqrt(variance / len(samples))


def _alike(samples: Sequence[float], probability: float, unsure: float, free: int, *, always: bool = False) -> float:
    """Return half the interval of a series whose neighbours are as alike as these may be; nothing where they are not alike."""
    count, mean = len(samples), fmean(samples)
    deviations = [sample - mean for sample in samples]
    squares = sum(deviation * deviation for deviation in deviations)
    if squares == 0:
        return 0.0
    found = sum(one * other for one, other in pairwise(deviations)) / squares
    found = min((count * found + 1) / (count - 4), LARGEST)
    if found <= 0 and not always:
        return 0.0
    error = math.sqrt((1 - found * found) / count) if found > -1 else 0.0
    largest = min(max(found + unsure * error, 0.0), LARGEST)
    # What the mean's variance is of a sample's; so much less do the samples spread about their own mean.
    share = ((1 + largest) / (1 - largest) - 2 * largest * (1 - largest**count) / (count * (1 - largest) ** 2)) / count
    freedom = max(int(count * (1 - largest * largest) / (1 + largest * largest)) - 1, free)
    half = student_quantile(probability, freedom) * math.sqrt(squares / count * share / (1 - share))
    if count >= FIVE * FEWEST or free != FREE:
        return half
    return min(
        half, STRAYS * student_quantile(probability, FREE) * math.sqrt(squares / count) / math.pow(count, SHORTENS)
    )


def settled_part(samples: Sequence[float]) -> Sequence[float]:
    """Return the samples without their start-up: the cut that minimises the standard error (MSER).

    It lies in the first half, and among the first STARTUP samples, or in the first quarter of a long series, which had
    time for more: a stall at first that is not repeated. What comes later is no start-up, however odd.
    """
    count = len(samples)
    best, cut = math.inf, 0
    total = squares = 0.0
    errors: list[float] = []
    for kept, sample in enumerate(reversed(samples), start=1):
        total += sample
        squares += sample * sample
        errors.append(max(squares - total * total / kept, 0.0) / (kept * kept))
    for start in range(min(count // 2, max(STARTUP, count // 4)) + 1):
        error = errors[count - start - 1] if start < count else math.inf
        if error < best:
            best, cut = error, start
    return samples[cut:]
