"""What leaves a tunnel at the server, awaited until it is as wanted for some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from channover.measure.activity import Waiting
from channover.measure.measurement import Measuring
from channover.measure.record import Record
from channover.observe.nics import INTERVAL, Sampler

SECOND = round(1 / INTERVAL)
"""Samples of a second."""


@dataclass(frozen=True)
class TunnelOutput:
    """The rate at which IP packets leave a tunnel's device at the server, sampled since this was made."""

    sampler: Sampler = field(repr=False)
    device: str
    measuring: Measuring = field(repr=False)
    record: Record = field(repr=False)

    def lasts(self, title: str, limit: float, seconds: int, holds: Callable[[float], bool]) -> float | None:
        """Wait until each of some consecutive ``seconds`` has a rate (bit/s) as wanted; None where ``limit`` is over.

        Returns when those began, in seconds from the first sample. ``title`` says what is waited for.
        """
        waiting = Waiting(title, limit)
        found: float | None = None
        with self.record.converges():
            while found is None and waiting.elapsed < limit:
                self.measuring.progress(waiting)
                time.sleep(INTERVAL)
                found = self._first(seconds, holds)
        waiting.seconds = waiting.elapsed
        self.measuring.progress(waiting)
        return found

    def _first(self, seconds: int, holds: Callable[[float], bool]) -> float | None:
        series = self.sampler.so_far()
        rates = series.rate(self.device, "rx")
        for first in range(len(rates) - SECOND * seconds + 1):
            starts = range(first, first + SECOND * seconds, SECOND)
            if all(holds(fmean(rates[start : start + SECOND])) for start in starts):
                return series.times[first] - series.times[0]
        return None

    def __str__(self) -> str:
        recent = self.sampler.so_far().rate(self.device, "rx")[-SECOND:]
        if not recent:
            return "nothing was sampled"
        return f"in the last second {fmean(recent) / 1e6:.1f} Mbit/s left the tunnel"
