"""How often a settled verdict is wrong, by simulation: samples that hang together, and series of real runs."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from channover.verdict.expectation import Expectation, at_least
from channover.verdict.settling import Source, settle
from channover.verdict.statistics import estimate

SERIES = Path(__file__).parents[1] / "data" / "series"
LIMIT, EXTENDED = 100, 300
"""Samples that a flow gives in ten seconds, and in three times as long."""
BOUND = 100.0


@dataclass
class Tape:
    """A source whose samples are known beforehand: ten seconds of them, and twenty more where a verdict is not settled."""

    values: Iterator[float]
    limit: int = LIMIT
    most: int = EXTENDED
    fixed: bool = False
    taken: list[float] = field(default_factory=list)

    def samples(self) -> list[float]:
        return self.taken

    def calm(self) -> list[float]:
        return self.taken

    def more(self) -> bool:
        if len(self.taken) == self.limit:
            return False
        self.taken.append(next(self.values))
        return True

    def extend(self) -> bool:
        more, self.limit = self.limit < self.most, max(self.limit, self.most)
        return more

    def finish(self) -> None:
        pass

    def disturbed(self, settled: bool) -> str:  # noqa: ARG002
        return ""


_: type[Source] = Tape


def alike(seed: int, mean: float, correlation: float) -> Iterator[float]:
    """Yield samples with a deviation of one, each correlated with the one before (first order)."""
    source = random.Random(seed)
    innovation = math.sqrt(1 - correlation * correlation)
    value = source.gauss(0, 1)
    while True:
        yield mean + value
        value = correlation * value + source.gauss(0, innovation)


def verdict(tape: Tape, expectation: Expectation) -> str:
    """Return how a comparison ends."""
    known, left = settle(tape, expectation)
    return "inconclusive" if left is not None else "met" if expectation.holds(known.mean) else "not met"


@pytest.mark.parametrize(("off", "trials"), [(-0.3, 100), (-0.02, 500), (0.02, 150)])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.8, 0.9, 0.95])
def test_one_verdict_in_a_hundred_at_most_is_wrong_however_alike_samples_are(
    correlation: float, off: float, trials: int
) -> None:
    """At 0.95 a series of samples of 0.1 s has a time constant of two seconds: behind a radio, or a long queue.

    ``off`` is how many deviations of a sample the true mean lies above the bound. A verdict in favour takes the fewest samples,
    so it is tried most.
    """
    wrong = "met" if off < 0 else "not met"
    ends = [verdict(Tape(alike(1000 + seed, BOUND + off, correlation)), at_least(BOUND)) for seed in range(trials)]
    assert ends.count(wrong) / trials <= 0.01, ends.count(wrong)


def test_a_value_just_beyond_the_bound_does_not_pass_by_its_mean() -> None:
    """A tenth of a per cent below the bound, with noise of three per cent: half of such means lie on the right side."""
    ends = [verdict(Tape(iter_scaled(seed, 0.999)), at_least(BOUND)) for seed in range(200)]
    assert ends.count("met") <= 2
    assert ends.count("inconclusive") >= 190


def iter_scaled(seed: int, share: float) -> Iterator[float]:
    return (BOUND * share + 3 * (value - BOUND) for value in alike(seed, BOUND, 0.0))


@pytest.mark.parametrize(("room", "most"), [(30.0, 10), (15.0, 19), (10.0, 26), (3.0, 36), (1.0, 50)])
def test_without_correlation_it_is_settled_as_soon_as_the_noise_allows(room: float, most: int) -> None:
    """``room`` is the way to the bound in deviations of a sample; the median of many tries counts."""
    taken = []
    for seed in range(101):
        tape = Tape(alike(seed, BOUND + room, 0.0))
        assert verdict(tape, at_least(BOUND)) == "met"
        taken.append(len(tape.taken))
    assert sorted(taken)[50] <= most


RECORDED = sorted(SERIES.glob("*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_of_real_series_the_interval_covers_the_mean_of_the_whole_as_often_as_it_says(path: Path) -> None:
    """Every stretch of two seconds and more is taken as a measurement; the mean of all samples stands for the truth.

    Stretches overlap, so that one odd moment may spoil several.
    """
    samples = json.loads(path.read_text())["samples"]
    whole = estimate(samples).mean
    missed = tried = 0
    for length in (20, 40, 60):
        for start in range(0, len(samples) - length + 1, 5):
            found = estimate(samples[start : start + length])
            tried += 1
            missed += not found.low <= whole <= found.high
    assert tried >= 20
    assert missed / tried <= 0.05, f"{missed} of {tried}"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_of_real_series_no_verdict_is_wrong_wherever_the_bound_is(path: Path) -> None:
    recorded = json.loads(path.read_text())
    whole = estimate(recorded["samples"]).mean
    for share in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1):
        tape = Tape(iter(recorded["samples"]), limit=min(len(recorded["samples"]), EXTENDED), most=0)
        assert verdict(tape, at_least(share * whole)) != ("not met" if share < 1 else "met"), share
