"""Means, their intervals, and the cut of a start-up, on samples that are known."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channover.verdict.statistics import Estimate, estimate, settled_part
from channover.verdict.student import student_quantile

RATES = st.lists(st.floats(0, 1e9, allow_nan=False), max_size=80)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.995, 8, 3.3554),
        (0.995, 10, 3.1693),
        (0.995, 30, 2.7500),
        (0.995, 100, 2.6259),
        (0.975, 10, 2.2281),
        (0.975, 60, 2.0003),
        (0.9995, 30, 3.6460),
        (0.995, 3, 5.8409),
        (0.995, 4, 4.6041),
        (0.9995, 3, 12.9240),
        (0.9995, 7, 5.4079),
    ],
)
def test_student_s_quantiles_are_those_of_the_tables(probability: float, freedom: int, expected: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=2e-3)


@given(st.floats(0.6, 0.999), st.integers(3, 500))
def test_quantiles_fall_with_freedom_and_rise_with_probability(probability: float, freedom: int) -> None:
    found = student_quantile(probability, freedom)
    assert found >= student_quantile(probability, freedom + 1) > 0
    assert found < student_quantile(probability + 0.0005, freedom)


def test_no_samples() -> None:
    found = estimate([])
    assert math.isnan(found.mean)
    assert (found.half, found.samples) == (math.inf, 0)


@pytest.mark.parametrize("count", range(1, 8))
def test_too_few_samples_make_no_interval(count: int) -> None:
    found = estimate([94e6] * count)
    assert found == Estimate(94e6, math.inf, count)


def test_equal_samples_are_certain() -> None:
    assert estimate([5.0] * 8) == Estimate(5.0, 0.0, 8)


def ar1(seed: int, count: int, correlation: float) -> list[float]:
    """Samples of mean 100 and deviation 5, each correlated with the one before."""
    source = random.Random(seed)
    innovation = 5 * math.sqrt(1 - correlation * correlation)
    value = source.gauss(0, 5)
    found = []
    for _ in range(count):
        found.append(100 + value)
        value = correlation * value + source.gauss(0, innovation)
    return found


@pytest.mark.parametrize(
    ("correlation", "count", "least"),
    [(0.0, 20, 0.98), (0.0, 100, 0.98), (0.3, 30, 0.97), (0.3, 100, 0.98), (0.6, 100, 0.96), (-0.4, 30, 0.99)],
)
def test_the_interval_covers_the_mean_as_often_as_it_says(correlation: float, count: int, least: float) -> None:
    """Stated: 0.99. Short correlated series fall a little short: their correlation is underestimated."""
    runs = [estimate(ar1(seed, count, correlation)) for seed in range(1500)]
    assert fmean(one.low <= 100 <= one.high for one in runs) >= least


def test_the_interval_is_wider_for_correlated_samples() -> None:
    independent = fmean(estimate(ar1(seed, 100, 0.0)).half for seed in range(50))
    correlated = fmean(estimate(ar1(seed, 100, 0.6)).half for seed in range(50))
    assert correlated > 1.5 * independent


def test_of_a_short_series_alternating_samples_are_not_trusted_to_be_exact() -> None:
    """A negative correlation would narrow the interval; it is taken as none, and of many samples only batches know it."""
    samples = [95.0 + (at % 2) for at in range(18)]
    independent = student_quantile(0.995, 17) * math.sqrt(sum((x - 95.5) ** 2 for x in samples) / 17 / 18)
    assert estimate(samples).half == pytest.approx(independent, rel=0.01)
    assert 0 < estimate([95.0 + (at % 2) for at in range(40)]).half < independent


def test_what_is_late_in_one_slice_and_comes_in_the_next_widens_little() -> None:
    """A receiver that hands on in bursts: of three hundred slices the mean is known far better than their spread tells."""
    source = random.Random(1)
    late = [source.uniform(0, 10) for _ in range(301)]
    samples = [90 + after - before for before, after in pairwise(late)]
    as_independent = student_quantile(0.995, 299) * stdev(samples) / math.sqrt(300)
    assert estimate(samples).half < 0.5 * as_independent


@given(RATES.filter(lambda samples: len(samples) >= 8), st.floats(0.5, 0.99))
def test_more_confidence_is_a_wider_interval(samples: list[float], confidence: float) -> None:
    found, surer = estimate(samples, confidence), estimate(samples, confidence + 0.005)
    assert found.mean == surer.mean
    assert found.half <= surer.half
    assert found.low <= found.mean <= found.high


@given(RATES.filter(lambda samples: len(samples) >= 8), st.sampled_from([0.5, 2.0, 1024.0]))
def test_an_interval_has_its_samples_unit(samples: list[float], factor: float) -> None:
    assert estimate([sample * factor for sample in samples]).half == pytest.approx(estimate(samples).half * factor)


def test_a_slow_start_is_cut_off() -> None:
    samples = [10.0, 40.0, 70.0, *(94.0 + 0.1 * (at % 3) for at in range(30))]
    assert list(settled_part(samples)) == samples[3:]


def test_a_burst_at_the_start_is_cut_off() -> None:
    samples = [99.0, *(94.0 + 0.1 * (at % 3) for at in range(15))]
    assert list(settled_part(samples)) == samples[1:]


def test_the_end_is_never_cut() -> None:
    samples = [*(94.0 + 0.1 * (at % 3) for at in range(30)), 10.0, 10.0]
    assert samples[-2:] == list(settled_part(samples))[-2:]


def test_equal_samples_are_kept() -> None:
    assert list(settled_part([7.0] * 12)) == [7.0] * 12


@given(RATES)
def test_at_most_the_first_half_is_cut(samples: list[float]) -> None:
    part = list(settled_part(samples))
    assert samples[len(samples) - len(part) :] == part
    assert len(part) >= len(samples) - len(samples) // 2


def test_the_cut_does_not_suffer_from_large_numbers() -> None:
    """Rates of bit/s have squares of 1e20: what is left of their difference still has to choose the cut."""
    samples = [9.0e10, *(9.4e10 + 1e6 * (at % 3) for at in range(30))]
    assert list(settled_part(samples)) == samples[1:]
