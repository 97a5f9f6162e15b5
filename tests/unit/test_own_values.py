"""Values of a test's own: units, and samples that a function or a source gives."""

from __future__ import annotations

from itertools import count as numbers

import pytest

from channover.errors import Inconclusive, UsageError
from channover.hosts.host import Journal
from channover.measure.own_values import Observing, Polled
from channover.measure.record import Record
from channover.testing import Source, at_least, near


@pytest.fixture
def record() -> Record:
    return Record(None, Journal())


def test_a_number_has_its_unit(record: Record) -> None:
    value = Observing(record)("temperature", 41.5, "°C")
    assert value <= 70
    assert not value >= 50
    assert [str(one) for one in record.readings] == [
        "temperature of 41.5 °C, expected at most 70 °C",
        "temperature of 41.5 °C, expected at least 50 °C",
    ]
    assert [one.name for one in record.made] == ["temperature"]
    assert all(reading.about is record.made[0] for reading in record.readings)


@pytest.mark.parametrize("unit", ["", " ", "Mbit/s", "kbps", "a\nb", "x" * 25, " s"])
def test_what_is_no_unit_is_refused(record: Record, unit: str) -> None:
    with pytest.raises(
        UsageError, match=r"temperature: .* is no unit: up to 24 characters such as °C; of rates, bit/s alone"
    ):
        Observing(record)("temperature", 41.5, unit)


def test_a_function_is_sampled_until_the_verdict_is_settled(record: Record) -> None:
    told: list[tuple[str, str, list[float]]] = []
    ticks = numbers()
    observe = Observing(record, limit=30.0, sampled=lambda *words: told.append(words))
    value = observe("packets", lambda: 100.0 + next(ticks) % 2, "packets/s", every=0.002)
    assert value == near(100.5, 0.05)
    ((name, unit, samples),) = told
    assert (name, unit) == ("packets", "packets/s") and 10 <= len(samples) < 1000, "not to the limit"
    (reading,) = record.readings
    assert reading.settled and reading.held and reading.estimate.samples >= 10


@pytest.mark.parametrize("bound", [0.5, 50.0])
def test_too_few_samples_are_inconclusive_after_more_time_whichever_way_they_lie(record: Record, bound: float) -> None:
    value = Observing(record, limit=0.1)("packets", lambda: 1.0, "packets/s", every=0.05)
    with pytest.raises(Inconclusive, match=r"INCONCLUSIVE: there are 7 samples, and it takes 10 at least"):
        _ = value == at_least(bound)


def test_a_duration_is_sampled_to_its_end(record: Record) -> None:
    value = Observing(record, duration=0.2)("packets", lambda: 100.0, "packets/s", every=0.01)
    assert value == at_least(50)
    assert value.source is not None and len(value.source.samples()) == 21


def test_polled_is_a_source() -> None:
    source: Source = Polled(lambda: 1.0)
    assert source.samples() == []
