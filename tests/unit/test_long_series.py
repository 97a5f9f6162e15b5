"""A long series of rates: what drifts is told from what only wanders, and what a busy machine took does not count."""

from __future__ import annotations

import math
import random

import pytest

from channover.verdict.expectation import between
from channover.verdict.long_series import LongSeries

RATE = 94.15


def series(seconds: float, seed: int = 1, drift: float = 0.0, alike: float = 0.0, spread: float = 0.5) -> list[float]:
    """Return rates that drift by so many per cent from begin to end, of which neighbours are alike."""
    chance, count, off, found = random.Random(seed), int(seconds * 10), 0.0, []
    for number in range(count):
        off = alike * off + chance.gauss(0.0, spread)
        found.append(RATE * (1 + drift / 100 * (number / count - 0.5)) + off)
    return found


@pytest.mark.parametrize("seconds", [20.0, 120.0, 1200.0])
@pytest.mark.parametrize("drift", [0.0, -3.0, 2.0])
def test_a_drift_is_found_and_what_only_wanders_has_none(seconds: float, drift: float) -> None:
    found = LongSeries.of(series(seconds, drift=drift), 0.1).drift()
    whole = seconds - 2.0
    assert found.low <= drift * whole / seconds <= found.high
    assert found.half < 1.0
    assert between(-1.0, 1.0).holds(found.mean) == (not drift)


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_the_interval_of_a_drift_is_as_wide_as_it_must_be(alike: float) -> None:
    found = [LongSeries.of(series(120.0, seed, alike=alike), 0.1).drift() for seed in range(300)]
    assert sum(not one.low <= 0.0 <= one.high for one in found) <= 9  # three in a hundred; one is what is said


def test_a_short_series_has_no_interval() -> None:
    assert math.isinf(LongSeries.of(series(8.0), 0.1).drift().half)
    assert math.isinf(LongSeries.of([], 0.1).drift().half)


def test_the_worst_second_and_the_longest_dip_are_found_wherever_they_are() -> None:
    rates = [RATE] * 600
    rates[305:318] = [40.0] * 13
    found = LongSeries.of(rates, 0.1)
    assert min(found.seconds_judged()) == pytest.approx(40.0)
    assert found.longest_below(0.9 * RATE) == pytest.approx(1.3)
    assert found.judged == 1.0


def test_what_the_processors_took_is_no_dip_of_the_link() -> None:
    rates = [RATE] * 600
    rates[305:318] = [40.0] * 13
    found = LongSeries.of(rates, 0.1, set(range(300, 320)))
    assert min(found.seconds_judged()) == pytest.approx(RATE)
    assert found.longest_below(0.9 * RATE) == 0.0
    assert 0.9 < found.judged < 1.0
    assert found.drift().mean == pytest.approx(0.0, abs=1e-6)


def test_the_start_of_a_connection_is_no_part_of_it() -> None:
    found = LongSeries.of([0.0] * 15 + [RATE] * 200, 0.1, {3, 30})
    assert min(found.seconds_judged()) == pytest.approx(RATE)
    assert found.waited == {10}
