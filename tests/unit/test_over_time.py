"""Changes over runs are told from noise by how much runs differ: simulations of how often that errs, and what it finds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from channover.report.comparison.values import LEVEL, chance_of, scale_of
from channover.report.results import Measurement
from channover.verdict.significance import holm, of_runs, of_succession
from tests.support import runs

VALUES = 30
"""Values of a comparison: about as many rates as the suites have."""


def measured(chance: random.Random, spread: float, mean: float = 185e6) -> Measurement:
    """A rate of one run: off by the spread between runs, and by the noise within it, as its interval says."""
    value = mean * (1 + chance.gauss(0, spread) + chance.gauss(0, 0.002))
    return replace(runs.RATE, value=value, low=150e6, high=None, expected=mean, uncertainty=3.5 * 0.002 * mean)


def found(chance: random.Random, sides: tuple[int, int, int], spread: float, drop: float = 0.0) -> bool:
    """Whether a comparison of so many runs before, after and former finds a change, of the first value in truth or of none."""
    probabilities = []
    for number in range(VALUES):
        mean = 185e6 * (1 - drop if number == 0 else 1)
        before, after = (
            [measured(chance, spread, m) for _ in range(n)] for m, n in ((185e6, sides[0]), (mean, sides[1]))
        )
        past = [measured(chance, spread) for _ in range(sides[2])]
        rates = [[one.value or 0.0 for one in side] for side in (before, after, past)]
        told = [of_runs(rates[0]), of_runs(rates[1]), of_succession(rates[2])]
        probability = chance_of(before, after, told, scale_of([*before, *after], 1e8))
        assert probability is not None
        probabilities.append(probability)
    return any(holm(probabilities, LEVEL))


@pytest.mark.parametrize("sides", [(1, 1, 0), (1, 1, 10), (3, 3, 0), (10, 1, 0)], ids=str)
@pytest.mark.parametrize("spread", [0.002, 0.015, 0.025])
def test_runs_of_the_same_code_are_called_the_same(sides: tuple[int, int, int], spread: float) -> None:
    # One comparison in a hundred may err: of fifty, four or more do so in two of a thousand trials.
    chance = random.Random(f"{sides} {spread}")
    assert sum(found(chance, sides, spread) for _ in range(50)) <= 3


@pytest.mark.parametrize(
    ("sides", "spread", "drop"),
    [((1, 1, 0), 0.01, 0.30), ((1, 1, 12), 0.004, 0.07), ((4, 4, 0), 0.01, 0.10), ((10, 1, 0), 0.01, 0.10)],
    ids=str,
)
def test_a_drop_is_found(sides: tuple[int, int, int], spread: float, drop: float) -> None:
    chance = random.Random(f"{sides} {drop}")
    assert sum(found(chance, sides, spread, drop) for _ in range(25)) >= 20
