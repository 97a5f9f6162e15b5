"""Whether two measured values differ by more than their noise: Welch's test, and Holm's correction for many of them.

B. L. Welch, *The generalization of "Student's" problem*, 1947; S. Holm, *A simple sequentially rejective multiple test
procedure*, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

from channover.verdict.statistics import FEWEST
from channover.verdict.student import student_quantile, student_tails


def of_repetitions(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the probability that repeated measurements differ so much by chance: Welch's test on their values.

    Each side needs two values at least. Where neither side varies, 0 or 1.
    """
    one, other = variance(before) / len(before), variance(after) / len(after)
    return _welch(fmean(after) - fmean(before), one, len(before) - 1, other, len(after) - 1)


def of_one_and_repetitions(one: float, half: float, many: Sequence[float], confidence: float) -> float:
    """Return the probability that one measurement differs so much from the mean of repeated ones by chance.

    Its interval (``half`` its width, at ``confidence``) knows the noise within its run alone; that from run to run is the
    repetitions'. The larger of the two counts for it. ``many`` has two values at least.
    """
    spread, freedom = variance(many), len(many) - 1
    within = (half / student_quantile((1 + confidence) / 2, FEWEST - 1)) ** 2
    if within > spread:
        return _welch(fmean(many) - one, within, FEWEST - 1, spread / len(many), freedom)
    return _welch(fmean(many) - one, spread * (1 + 1 / len(many)), freedom, 0.0, freedom)  # one estimate of both


def _welch(difference: float, one: float, one_freedom: float, other: float, other_freedom: float) -> float:
    """Return the probability of a difference by chance: variances of both means, with their degrees of freedom."""
    if one + other == 0.0:
        return float(difference == 0.0)
    freedom = (one + other) ** 2 / (one**2 / one_freedom + other**2 / other_freedom)
    return student_tails(difference / math.sqrt(one + other), freedom)


def of_intervals(difference: float, half_before: float, half_after: float, confidence: float) -> float:
    """Return the probability that two means with known intervals differ so much by chance.

    The intervals' degrees of freedom are not recorded: the fewest that an interval is made of are taken, so that the
    probability is rather too large than too small. At 1 - ``confidence`` this is the rule that the difference must be more
    than the root of the sum of both halves' squares.
    """
    freedom = FEWEST - 1
    quantile = student_quantile((1 + confidence) / 2, freedom)
    error = math.hypot(half_before, half_after) / quantile
    if error == 0.0:
        return float(difference == 0.0)
    return student_tails(difference / error, freedom)


def holm(probabilities: Sequence[float], level: float) -> list[bool]:
    """Say of each which is significant, so that all of them together err with a probability of ``level`` at most."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    found = [False] * len(probabilities)
    for rank, index in enumerate(order):
        if probabilities[index] > level / (len(probabilities) - rank):
            break
        found[index] = True
    return found
