"""The loop by which whatever gives rates is measured until its verdict settles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count as counted
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest

from channover.errors import TestbedError
from channover.measure.activity import UnderWay
from channover.measure.measurement import EXTENSION, Measurement, Measuring
from channover.measure.running.phased import Phased
from channover.model.link import Link
from channover.model.processors import Core, Processors
from channover.network.programs.numbered import StreamSeen
from channover.observe.nics import NicSeries
from channover.verdict.expectation import at_least, at_most
from channover.verdict.measured import Measured


@dataclass
class Tape:
    """Rates that come one at each look, until what gives them ends."""

    values: Iterator[float]
    ends_after: int = 1 << 30
    disturbed_for: float = 0.0
    hopeless: bool = False
    overloaded: bool = False
    taken: list[float] = field(default_factory=list)
    finished: int = 0

    def samples(self) -> list[float]:
        return list(self.taken)

    def calm(self) -> list[float]:
        return self.samples()

    def take(self) -> bool:
        self.taken.append(next(self.values))
        return True

    def runs(self) -> bool:
        return len(self.taken) < self.ends_after

    def disturbed(self, settled: bool) -> str:
        return "" if settled else "other work"

    def finish(self) -> None:
        self.finished += 1


def measurement(tape: Tape, duration: float | None = None, limit: float = 5.0, **changes: object) -> Measurement:
    return Measurement("a rate", Measuring(Link(), duration, limit, **changes), tape)  # type: ignore[arg-type]


def test_a_comparison_ends_it_as_soon_as_it_is_settled_and_its_course_is_told() -> None:
    tape, told = Tape(repeat(90.0)), list[UnderWay]()
    measured = measurement(tape, progress=told.append)
    value = Measured("a rate", source=measured)
    assert value == at_least(80.0)
    assert tape.finished == 1 and len(tape.taken) < 30
    assert told and all(one is measured for one in told)


def test_its_time_is_the_limit_longer_for_what_disturbed_it_and_once_for_a_verdict_that_is_not_settled() -> None:
    tape = Tape(repeat(90.0))
    measured = measurement(tape, limit=5.0)
    assert measured.limit == 5.0
    tape.disturbed_for = 2.0
    assert measured.limit == 7.0
    assert measured.extend() and measured.limit == EXTENSION * 5.0 + 2.0
    assert not measured.extend(), "once only"
    assert not measurement(Tape(repeat(90.0), hopeless=True)).extend(), "more time would change nothing"
    assert not measurement(Tape(repeat(90.0), overloaded=True)).extend(), "nor would it make the machine faster"
    assert measurement(tape, duration=3.0).limit == 3.0, "the whole duration, and no longer"


def test_it_ends_at_its_limit_with_its_programs_and_when_it_is_closed() -> None:
    late = measurement(Tape(repeat(90.0)), limit=5.0)
    late.started -= 6.0
    assert not late.more()
    late.anew()
    assert late.elapsed < 1.0 and late.more(), "another has begun: its time counts from then on"
    gone = measurement(Tape(repeat(90.0), ends_after=2))
    assert gone.more() and not gone.more() and not gone.extend()
    closed = measurement(Tape(repeat(90.0)))
    closed.is_open = False
    assert not closed.more() and not closed.extend()


def test_once_it_is_over_its_time_stands_still() -> None:
    measured = measurement(Tape(repeat(90.0)))
    measured.started -= 2.0
    took = measured.over()
    assert 2.0 <= took < 3.0
    time.sleep(0.01)
    assert measured.over() == measured.seconds == measured.elapsed == took


@pytest.mark.parametrize("waited", [0.05, 0.9], ids=["at leisure", "busy"])
def test_a_phase_in_which_the_traffic_s_programs_waited_for_a_processor_shows_nothing_against(waited: float) -> None:
    """The processors are made up: how busy a real machine is cannot be chosen to a tenth."""
    reads = counted()

    def read() -> Processors:
        number = next(reads)
        core = Core(10 * number, 2 * number, 0, 0)
        return Processors((core, core), at=0.1 * number, waited={(7, "numbered"): 0.1 * number * waited})

    measuring = Measuring(Link(), None, 5.0, processors=read)
    end = SimpleNamespace(host=SimpleNamespace(name="left", nics={}))
    ends = SimpleNamespace(client=end, server=end, upload=True)
    made: Any = (
        SimpleNamespace(now=0.0),
        [],
        ends,
        measuring,
        SimpleNamespace(by_host={"left": SimpleNamespace(taken=0)}),
    )
    moving = Phased("a stream", *made)
    moving.phase("fault: path lost", 0.5)
    gap = moving.value("longest gap", 3.0, "s", ["fault: path lost"])
    if waited > 0.2:
        with pytest.raises(
            TestbedError, match=r"^longest gap of 3 s, .*: no verdict: fault: path lost: .*waited 90% of"
        ):
            assert gap == at_most(1.0)
    else:
        assert not gap.compare(at_most(1.0)).held
    moving.series = {"left": NicSeries("left", (), {})}
    moving._came = StreamSeen(9, 9, False, True, (), ())
    assert moving.whole != at_least(1), "no shortage makes bytes of others"
    assert moving.spoilt == "9 bytes were sent, 9 arrived, and they are not the same (SHA-256)"
    moving._came = StreamSeen(9, 4, False, False, (), ())
    if waited > 0.2:
        with pytest.raises(TestbedError, match="no verdict: fault: path lost"):
            assert moving.whole == at_least(1)
    else:
        assert moving.whole != at_least(1)
