"""Whether measured values differ by more than their noise, within runs and between them; and Holm's correction for many.

S. Holm, *A simple sequentially rejective multiple test procedure*, 1979. ``tests/unit/test_over_time.py`` has the simulation of
what all of this comes to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, variance

from channover.verdict.statistics import FEWEST
from channover.verdict.student import student_quantile, student_tails


@dataclass(frozen=True)
class Spread:
    """How much runs of the same code differ in one value: the variance of single runs, and how well that is known.

    ``freedom`` are degrees of freedom, not necessarily a whole number of them.
    """

    variance: float
    freedom: float


UNLIKE = 4.0
"""How many times the spread a side's own variance may be: beyond it, only that side tells how well it is known."""


def of_runs(values: Sequence[float]) -> Spread | None:
    """Return the spread of repeated runs; None of fewer than two."""
    return Spread(variance(values), len(values) - 1.0) if len(values) > 1 else None


def of_succession(values: Sequence[float]) -> Spread | None:
    """Return the spread of runs that followed each other while things changed; None of fewer than two.

    Half the mean square of successive differences: a change of level counts once, and not for every run after it. It knows as
    much as two thirds of as many degrees of freedom would tell (von Neumann and others, *The Mean Square Successive
    Difference*, 1941).
    """
    steps = [(other - one) ** 2 for one, other in pairwise(values)]
    return Spread(fmean(steps) / 2, 2 * len(steps) / 3) if steps else None


def pooled(found: Iterable[Spread | None], assumed: Spread | None) -> Spread | None:
    """Return what several spreads of one value tell together, with what is assumed where they are less.

    Few runs tell little of how much runs differ, and some that are alike by chance say that all are. So a usual spread is
    weighed in, as if it were that of more runs (G. K. Smyth, *Linear Models and Empirical Bayes Methods*, 2004: of genes, which
    are many values with few repetitions as well).
    """
    own = _pooled([each for each in found if each is not None])
    if own is None or assumed is None:
        return own or assumed
    return own if own.variance > assumed.variance else _pooled([own, assumed])


def _pooled(spreads: Sequence[Spread]) -> Spread | None:
    freedom = sum(each.freedom for each in spreads)
    return Spread(sum(each.variance * each.freedom for each in spreads) / freedom, freedom) if spreads else None


def of_groups(
    before: Sequence[float], after: Sequence[float], spread: Spread, within: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Return the probability that the means of two groups of runs differ so much by chance: Student's test.

    ``within`` are the variances that a run's own interval tells of its value, of either side: they count for a side of one
    run. A side of several has felt them: its own variance counts where it is more. Where nothing varies, 0 or 1.
    """
    difference, total, freedom = fmean(after) - fmean(before), 0.0, spread.freedom
    for values, once in zip((before, after), within, strict=True):
        own, known = (variance(values), len(values) - 1.0) if len(values) > 1 else (once, FEWEST - 1.0)
        total += max(spread.variance, own) / len(values)
        if own > UNLIKE * spread.variance:
            freedom = min(freedom, known)
    return student_tails(difference / math.sqrt(total), freedom) if total else float(difference == 0.0)


def variance_of(half: float, confidence: float) -> float:
    """Return the variance that an interval tells of a value, of the fewest samples that intervals are made of."""
    return (half / student_quantile((1 + confidence) / 2, FEWEST - 1)) ** 2


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
