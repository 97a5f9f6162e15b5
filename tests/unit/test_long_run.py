"""How a long run has this machine: to itself as it begins, and beside others where it leaves them room."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channover.errors import TestbedError
from channover.measure.measurement import Measuring
from channover.model.link import Link
from channover.scenarios.lags.long_run import LongRun, LongRuns
from channover.verdict.causes.cause import said
from channover.verdict.expectation import at_least

STEADY = [94.15e6] * 200


class Run:
    """A flow under way, whose clock goes on by a second a look; ``marked`` are its samples that do not count."""

    def __init__(self, idle: float, samples: list[float], marked: set[int]) -> None:
        self.shared: list[float] = []
        self.measurement = SimpleNamespace(elapsed=0.0, more=self.more)
        watch = SimpleNamespace(whole=SimpleNamespace(idle=idle))
        self.slices = SimpleNamespace(watch=watch, samples=lambda: samples, marked=lambda: marked, doubt=lambda: "")
        self.limit = 0.0

    def more(self) -> bool:
        self.measurement.elapsed += 1.0
        return bool(self.measurement.elapsed <= self.limit)

    def share(self) -> None:
        self.shared.append(self.measurement.elapsed)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Traffic:
    measuring: Measuring
    run: Run

    def __call__(self, *_: object) -> Any:
        self.run.limit = self.measuring.duration or 0.0
        return SimpleNamespace(run=self.run, measuring=self.measuring, explain=lambda _: said())


def ran(seconds: float | None, idle: float = 0.8, samples: list[float] = STEADY, marked: set[int] = set()) -> Any:  # noqa: B006
    made = Run(idle, samples, marked)
    runs = LongRuns(cast(Any, Traffic(Measuring(Link(), None, 10.0), made)), seconds)
    return runs(cast(Any, None), cast(Any, None)), made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channover.scenarios.lags.long_run.time.sleep", lambda _: None)


def test_without_soak_it_runs_for_twenty_seconds_and_keeps_its_turn() -> None:
    _, made = ran(None)
    assert (made.limit, made.shared) == (20.0, [])


def test_a_soak_gives_its_turn_back_once_it_is_known_to_leave_others_room() -> None:
    _, made = ran(120.0)
    assert made.limit == 120.0
    assert made.shared[0] == 21.0


def test_a_soak_that_fills_the_processors_keeps_its_turn() -> None:
    _, made = ran(120.0, idle=0.3)
    assert made.shared == []


def test_what_was_mostly_disturbed_accuses_nobody() -> None:
    dips = STEADY[:100] + [10e6] * 20 + STEADY[120:]
    found, _ = ran(60.0, samples=dips)
    assert not found.worst_second.compare(at_least(80e6)).held
    found, _ = ran(60.0, samples=dips, marked={*range(20, 100), *range(130, 200)})
    with pytest.raises(TestbedError, match=r"goodput in the worst second .* no verdict: only \d+% of its seconds were"):
        found.worst_second.compare(at_least(80e6))
    found, _ = ran(60.0, samples=dips, marked=set(range(98, 122)))
    assert found.worst_second.compare(at_least(80e6)).held


def test_the_level_of_a_dip_is_nine_tenths_of_a_link() -> None:
    found, _ = ran(60.0)
    assert isinstance(found, LongRun)
    assert found.level == pytest.approx(0.9 * Link().tcp_goodput)
