"""What one test leaves for the report: comparisons, flows, spans of time, notes; and how it goes live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from channover.hosts.host import Journal
from channover.hosts.readback import Carriers
from channover.measure.flow import Flow
from channover.model.catalogue import Behaviour
from channover.observe.lags.bond import LagStatus
from channover.report.facts import Course, NicBytes, ProcessorUse, TrafficMetrics
from channover.verdict.causes.cause import Cause
from channover.verdict.measured import Reading
from channover.verdict.notes import Note


@dataclass(eq=False)
class Made:
    """A value that a test made itself, by its name: what its comparisons are about (:attr:`Reading.about`)."""

    name: str


@dataclass(frozen=True)
class Sampled:
    """Rates over time of what a test measured (``about``): its phases, each with begin and end (s), and the plot of it.

    That is the attachment's file, None where none is kept, and the data that it is drawn from.
    """

    about: object
    course: Course
    phases: Sequence[tuple[str, float, float]] = ()
    plot: str | None = None
    drawn: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Record:
    """One test.

    ``plots`` are titles, each with its attachment's file; ``sampled`` are rates over time; ``lags`` what each end of a
    LAG said of itself, last, by host and device. ``metrics`` are how what it measured fared beside its rates, ``notes``
    what a reader wants to know beside a verdict: neither touches that. ``made`` are the values that the test made itself
    (``counted``, ``listed``). ``told`` counts the comparisons of the phases that are over (set-up, call). ``converging``
    and ``waiting`` are seconds spent on protocols and on the measuring slot. ``seen`` is what was measured, each with
    what hosts showed of themselves at its end, by host and section. ``carriers`` are the NICs' as what is being measured
    began. ``standing`` are the LAGs, tunnels and guards that are there now, ``other_causes`` those of what ended it before
    a comparison could.
    """

    behaviour: Behaviour | None
    journal: Journal
    readings: list[Reading] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    plots: list[tuple[str, str]] = field(default_factory=list)
    lags: dict[tuple[str, str], LagStatus] = field(default_factory=dict)
    sampled: list[Sampled] = field(default_factory=list)
    nics: list[NicBytes] = field(default_factory=list)
    processors: list[ProcessorUse] = field(default_factory=list)
    metrics: list[TrafficMetrics] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    seen: list[tuple[str, Mapping[str, Mapping[str, str]]]] = field(default_factory=list, repr=False)
    made: list[Made] = field(default_factory=list)
    told: int = 0
    traffic: float = 0.0
    converging: float = 0.0
    waiting: float = 0.0
    lag_driver: str | None = None
    congestion_control: str | None = None
    failed: bool = False
    standing: list[object] = field(default_factory=list)
    carriers: Carriers = field(default=Carriers({}), repr=False)
    other_causes: list[Cause] = field(default_factory=list)

    @property
    def causes(self) -> list[Cause]:
        """Why it most likely does not pass: the causes of what it compared, and those of what kept it from comparing."""
        told = [cause for reading in self.readings if reading.missed for cause in reading.causes]
        return list(dict.fromkeys([*self.other_causes, *told]))

    def making(self, name: str) -> Made:
        """Note that the test makes a value itself: it is to be compared."""
        self.made.append(Made(name))
        return self.made[-1]

    def waits(self, seconds: float) -> None:
        """Count so many seconds as spent on waiting for a turn."""
        self.waiting += seconds

    @contextmanager
    def converges(self) -> Iterator[None]:
        """Count the block's time as a protocol converging."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.converging += time.monotonic() - start
