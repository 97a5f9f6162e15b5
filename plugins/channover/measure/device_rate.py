"""What comes out of one device, measured until a verdict settles: the rate behind a tunnel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from channover.measure.measurement import Measurement, Measuring, Rates
from channover.measure.record import Record
from channover.measure.running.watch import ProcessorWatch, processor_use
from channover.observe.nics import Sampler
from channover.observe.processors import processors
from channover.verdict.settling import CALM
from channover.verdict.shortage import THIS_MACHINE, Shortage


@dataclass
class DeviceRate:
    """The received rate of a device, in bit/s of what it hands on (:class:`channover.measure.measurement.Rates`)."""

    name: str
    sampler: Sampler
    device: str
    measuring: Measuring
    record: Record
    measurement: Measurement = field(init=False)
    watch: ProcessorWatch = field(init=False, repr=False)
    _seen: int = 0

    def __post_init__(self) -> None:
        self.measurement = Measurement(self.name, self.measuring, self)
        self.watch = ProcessorWatch(self.measuring.processors or partial(processors, self.sampler.host))
        self.watch.begin()

    def samples(self) -> list[float]:
        """Return the rates so far, in bit/s."""
        return list(self.sampler.so_far().rate(self.device, "rx"))

    def calm(self) -> list[float]:
        """Return those in which none of the run's programs waited for a processor."""
        return [rate for number, rate in enumerate(self.samples()) if number not in self.watch.waited]

    def shares(self) -> Mapping[str, float]:
        """Return nothing: a tunnel's device is no NIC."""
        return {}

    @property
    def shortage(self) -> Shortage:
        """How the processors were so far, and the share of the samples that had waited for one."""
        where = THIS_MACHINE if self.measuring.processors is not None else self.sampler.host.name
        return Shortage(self.watch.whole, len(self.watch.waited) / max(self._seen, 1), where)

    @property
    def disturbed_for(self) -> float:
        """None: a tunnel's load is a span of time, and not as much as it takes."""
        return 0.0

    @property
    def hopeless(self) -> bool:
        """Whether more time changes nothing: the lab's own work is more than the processors can do."""
        return self.overloaded

    @property
    def overloaded(self) -> bool:
        """Whether the lab's own work fills the processors: that does not pass, and what has not settled will not."""
        return self.shortage.full and not self.shortage.by_others

    def take(self) -> bool:
        """Say whether a sample was taken since this was asked last."""
        found = self.sampler.taken
        if found <= self._seen:
            return False
        if self.measuring.processors is not None:
            self.watch.look(self._seen, found)
        self._seen = found
        return True

    def runs(self) -> bool:
        """Say that there will be more: a device is there as long as its tunnel."""
        return True

    def disturbed(self, settled: bool) -> str:
        """Say that the processors were too busy for a verdict against, or nothing: a settled one rests on calm samples."""
        if self.measuring.processors is None:
            self.watch.look(self._seen, self._seen)
        short = self.shortage
        if settled and len(self.calm()) >= CALM and not (self.hopeless or short.mostly):
            return ""
        return short.reason(fmean(self.samples() or [0.0]), 1)

    def finish(self) -> None:
        """End the sampler, and count its time as traffic. Raises TestbedError."""
        if self.measurement.is_open:
            self.measurement.is_open = False
            self.sampler.stop()
            self.record.traffic += self.measurement.over()
            self.record.processors.append(processor_use(self.name, self.shortage))
            self.measuring.progress(self.measurement)


_: type[Rates] = DeviceRate
