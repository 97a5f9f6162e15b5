"""What comes out of one device, measured until a verdict settles: the rate behind a tunnel."""

from __future__ import annotations

from dataclasses import dataclass, field

from channover.measure.measurement import Measurement, Measuring, Rates
from channover.measure.record import Record
from channover.observe.counters import Processors, processors
from channover.observe.nics import Sampler


@dataclass
class DeviceRate:
    """The received rate of a device, in bit/s of what it hands on (:class:`channover.measure.measurement.Rates`)."""

    name: str
    sampler: Sampler
    device: str
    measuring: Measuring
    record: Record
    measurement: Measurement = field(init=False)
    disturbed_for: float = 0.0
    _processors: Processors = field(init=False)
    _seen: int = 0

    def __post_init__(self) -> None:
        self.measurement = Measurement(self.name, self.measuring, self)
        self._processors = processors(self.sampler.host)

    def samples(self) -> list[float]:
        """Return the rates so far, in bit/s."""
        return list(self.sampler.so_far().rate(self.device, "rx"))

    def calm(self) -> list[float]:
        """Return all of them: which were disturbed is not known."""
        return self.samples()

    def take(self) -> bool:
        """Say whether a sample was taken since this was asked last."""
        taken, self._seen = self.sampler.taken > self._seen, self.sampler.taken
        return taken

    def runs(self) -> bool:
        """Say that there will be more: a device is there as long as its tunnel."""
        return True

    def disturbed(self, settled: bool) -> str:
        """Say that the host's processors had no pause, where the verdict has not settled; or nothing."""
        starved = processors(self.sampler.host).starved_since(self._processors)
        return "" if settled else starved

    def finish(self) -> None:
        """End the sampler, and count its time as traffic. Raises TestbedError."""
        if self.measurement.is_open:
            self.measurement.is_open = False
            self.sampler.stop()
            self.record.traffic += self.measurement.over()
            self.measuring.progress(self.measurement)


_: type[Rates] = DeviceRate
