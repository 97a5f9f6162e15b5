"""Values that a test makes itself, of what it counted, found or observed: compared and reported as what is measured."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from channover.errors import UsageError
from channover.measure.measurement import EXTENSION
from channover.measure.record import Record
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.settling import Source
from channover.verdict.several import Listed

Counted = Callable[[str, float], Measured]
"""Makes a value of a name and a number that is known exactly."""
Listing = Callable[[str, Collection[object]], Listed]
"""Makes a value of a name and things that were found."""
_UNIT = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,22}[^\s\x00-\x1f\x7f])?")


@dataclass
class Polled:
    """Samples that a function gives, one every so often (seconds), until the verdict settles or the limit (seconds) is over.

    It is a :class:`channover.verdict.settling.Source`. ``fixed`` says that it is polled to the limit, settled or not.
    """

    take: Callable[[], float]
    every: float = 0.1
    limit: float = 10.0
    fixed: bool = False
    taken: list[float] = field(default_factory=list)
    _start: float | None = None
    _extended: bool = False

    @property
    def elapsed(self) -> float:
        """Seconds for which it was polled."""
        return len(self.taken) * self.every

    def samples(self) -> list[float]:
        """Return the samples so far."""
        return list(self.taken)

    def calm(self) -> list[float]:
        """Return all of them: nothing is known of what may have disturbed them."""
        return self.samples()

    def more(self) -> bool:
        """Wait for the next sample and take it; False when the time is over."""
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        due = self._start + len(self.taken) * self.every
        if due > self._start + self.limit * (EXTENSION if self._extended else 1.0):
            return False
        time.sleep(max(due - now, 0.0))
        self.taken.append(float(self.take()))
        return True

    def extend(self) -> bool:
        """Allow the time of a verdict that is not settled, once."""
        once, self._extended = not self._extended, True
        return once

    def finish(self) -> None:
        """Stop; there is nothing to be ended."""

    def disturbed(self, settled: bool) -> str:  # noqa: ARG002
        """Say nothing: nothing is known of what may have disturbed them."""
        return ""


@dataclass
class Observing:
    """Makes a value of a name, what was observed, and its unit: ``observe("temperature", 41.5, "°C")``.

    What was observed is a number, a function that gives a sample when it is called, or a :class:`Source` of samples.
    ``limit`` is how long (seconds) a function is asked when the verdict does not settle, ``duration`` for how long it is asked
    in any case. ``sampled`` is told the name, the unit and the samples once a comparison is made.
    """

    record: Record
    limit: float = 10.0
    duration: float | None = None
    sampled: Callable[[str, str, list[float]], None] = lambda _name, _unit, _samples: None

    def __call__(
        self, name: str, value: float | Callable[[], float] | Source, unit: str = "1", *, every: float = 0.1
    ) -> Measured:
        """Return the value, to be compared. Raises UsageError for a unit that results cannot hold.

        ``every`` is how many seconds lie between two calls of a function.
        """
        if not _UNIT.fullmatch(unit) or (unit.endswith(("bit/s", "bps")) and unit != "bit/s"):
            raise UsageError(f"{name}: {unit!r} is no unit: up to 24 characters such as °C; of rates, bit/s alone")
        made = self.record.making(name)
        if isinstance(value, (int, float)):
            return replace(count(name, value, self.record.readings.append, unit), about=made)
        polled = (every, self.duration or self.limit, bool(self.duration))
        source: Source = Polled(value, *polled) if callable(value) else value

        def compared(reading: Reading) -> None:
            self.record.readings.append(reading)
            self.sampled(name, unit, source.samples())

        return Measured(name, unit, source=source, on_result=compared, about=made)


def counting(record: Record) -> Counted:
    """Return what makes values of numbers in a test of that record."""

    def make(name: str, number: float) -> Measured:
        return replace(count(name, number, record.readings.append), about=record.making(name))

    return make


def listing(record: Record) -> Listing:
    """Return what makes values of things that were found in a test of that record."""

    def make(name: str, found: Collection[object]) -> Listed:
        return Listed(name, found, record.readings.append, about=record.making(name))

    return make
