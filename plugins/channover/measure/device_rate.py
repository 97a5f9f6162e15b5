"""What comes out of one device, measured until a verdict settles: the rate behind a tunnel."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from channover.measure.activity import EXTENSION
from channover.measure.flow import Measuring
from channover.measure.record import Record
from channover.observe.counters import Processors, processors
from channover.observe.nics import Sampler


@dataclass
class DeviceRate:
    """The received rate of a device, in bit/s of what it hands on (:class:`channover.verdict.settling.Source`)."""

    name: str
    sampler: Sampler
    device: str
    measuring: Measuring
    record: Record
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _processors: Processors = field(init=False)
    _seen: int = 0
    _open: bool = True
    limit: float = 0.0

    def __post_init__(self) -> None:
        self._processors = processors(self.sampler.host)
        self.limit = self.measuring.duration or self.measuring.limit

    @property
    def elapsed(self) -> float:
        return self.seconds or time.monotonic() - self.started

    @property
    def fixed(self) -> bool:
        return self.measuring.duration is not None

    def disturbed(self, settled: bool) -> str:
        starved = processors(self.sampler.host).starved_since(self._processors)
        return "" if settled else starved

    def calm(self) -> list[float]:
        return self.samples()

    def samples(self) -> list[float]:
        return list(self.sampler.so_far().rate(self.device, "rx"))

    def more(self) -> bool:
        while self._open and self.elapsed <= self.limit:
            self.measuring.progress(self)
            if self.sampler.taken > self._seen:
                self._seen = self.sampler.taken
                return True
            time.sleep(0.03)
        return False

    def extend(self) -> bool:
        longest = EXTENSION * self.measuring.limit
        if not self._open or self.limit == longest:
            return False
        self.limit = longest
        return True

    def finish(self) -> None:
        if self._open:
            self._open = False
            self.sampler.stop()
            self.seconds = self.elapsed
            self.record.traffic += self.seconds
            self.measuring.progress(self)
