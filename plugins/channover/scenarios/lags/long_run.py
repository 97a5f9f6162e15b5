"""A flow that runs for long, judged over its whole series: its mean, its drift, its worst second, its longest dip."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from channover.measure.activity import End
from channover.measure.flow import Flow
from channover.measure.traffic import TrafficGenerator
from channover.network.programs.iperf_output import SLICE
from channover.observe.captures import ENOUGH as ENOUGH_FRAMES
from channover.verdict.long_series import LongSeries
from channover.verdict.measured import Measured
from channover.verdict.statistics import Estimate

SHORT = 20.0
"""Seconds that it runs where no other time is asked for."""
ALONE = 20.0
"""Seconds for which it has this machine to itself: what it takes of the processors is known by then."""
ROOM = 0.5
"""The share of all processors' time that must be idle beside it, so that others may measure meanwhile."""
PAUSE = 0.1
"""Seconds between two looks at a long series."""
LEVEL = 0.9
"""The share of what a link carries below which a rate is a dip."""
ENOUGH = 0.5
"""The share of its seconds that must have been judged, that what was worst in them tells of the flow."""


@dataclass(eq=False)
class LongRun:
    """A flow that has run for its time, and what its series shows. ``level`` (bit/s) is what a dip lies below."""

    flow: Flow
    level: float
    _series: LongSeries | None = field(default=None, repr=False)

    @property
    def goodput(self) -> Measured:
        """The mean of the whole, in bit/s."""
        return self.flow.goodput

    @property
    def series(self) -> LongSeries:
        """The whole series, its start-up left out. Ends the flow where it still runs."""
        if self._series is None:
            self.flow.run.close()
            slices = self.flow.run.slices
            self._series = LongSeries.of(slices.samples(), SLICE, slices.marked())
        return self._series

    @property
    def drift(self) -> Measured:
        """By how many per cent of its mean the rate changes from begin to end, by a line through the series."""
        return self._value(f"drift over {self.series.seconds:.0f} s", "%", self.series.drift())

    @property
    def worst_second(self) -> Measured:
        """The mean rate (bit/s) of the worst second: of those in which nothing waited for a processor."""
        found = self.series.seconds_judged()
        return self._value("goodput in the worst second", "bit/s", Estimate(min(found, default=0.0), 0.0, 1))

    @property
    def longest_dip(self) -> Measured:
        """The longest time (s) for which the rate was below the level, where nothing waited for a processor."""
        return self._value("longest dip", "s", Estimate(self.series.longest_below(self.level), 0.0, 1))

    def _value(self, name: str, unit: str, known: Estimate) -> Measured:
        flow = self.flow
        on_result, explain = flow.measuring.on_result, flow.explain
        return Measured(
            name, unit, known=known, on_result=on_result, explain=explain, about=flow, doubt=lambda _: self._doubt()
        )

    def _doubt(self) -> str:
        """Say that too much of it was disturbed for its worst to tell of the link, or nothing."""
        if self.series.judged >= ENOUGH:
            return ""
        why = self.flow.run.slices.doubt() or "run it again"
        return f"only {self.series.judged:.0%} of its seconds were undisturbed: {why}"


@dataclass(frozen=True)
class LongRuns:
    """What a test calls for a flow that runs for long: ``long_run(left, right)``. ``soak`` is seconds, None: a short one."""

    traffic: TrafficGenerator
    soak: float | None

    @property
    def seconds(self) -> float:
        """How long it runs."""
        return self.soak or max(SHORT, self.traffic.measuring.duration or 0.0)

    @property
    def frames(self) -> int:
        """More frames than LACP ever sends in the whole time: whoever listens for so many hears all of them."""
        return ENOUGH_FRAMES + int(10 * self.seconds)

    def __call__(self, source: End, target: End) -> LongRun:
        """Have a flow run for its whole time, and end it. Raises TestbedError.

        A long one has its turn to measure for its begin alone: nobody could measure on this machine for as long as it takes.
        Where it leaves the processors room, others measure beside it, and what they take from it does not count. Else it keeps
        its turn.
        """
        measuring = self.traffic.measuring
        flow = replace(self.traffic, measuring=replace(measuring, duration=self.seconds))(source, target)
        run = flow.run
        while not measuring.rehearsed and run.measurement.more():
            if run.measurement.elapsed > ALONE and run.slices.watch.whole.idle >= ROOM:
                run.share()
            time.sleep(PAUSE if run.measurement.elapsed > ALONE else 0.0)
        return LongRun(flow, LEVEL * measuring.link.tcp_goodput)
