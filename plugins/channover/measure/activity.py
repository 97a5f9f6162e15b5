"""What takes a while in a test, as the live line tells of it, and the ends of what is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from channover.hosts.host import Host
from channover.hosts.lab import Interface
from channover.observe.nics import Sampler
from channover.verdict.expectation import Expectation


class End(Protocol):
    """One end of what is measured: a host and the address by which the other end knows it."""

    @property
    def host(self) -> Host:
        """The host."""
        ...

    @property
    def address(self) -> Interface:
        """The address."""
        ...


class UnderWay(Protocol):
    """What takes a while, as the live line tells of it: times in seconds, ``seconds`` once it has ended."""

    name: str
    seconds: float

    @property
    def elapsed(self) -> float:
        """Since it was started."""
        ...

    @property
    def limit(self) -> float:
        """The longest that it may take."""
        ...

    @property
    def expected(self) -> Expectation | None:
        """What its rate is being compared with; None where it is with nothing, or not yet."""
        ...

    def samples(self) -> list[float]:
        """Return its rates so far, in bit/s; none where nobody measures them."""
        ...

    def shares(self) -> Mapping[str, float]:
        """Return what each NIC of the receiving host carries now, by label, as shares (0 to 1); none where nobody looks."""
        ...


@dataclass
class Waiting:
    """Something awaited (:class:`UnderWay`)."""

    name: str
    limit: float
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    expected: Expectation | None = None
    receiver: Sampler | None = field(default=None, repr=False)
    """What samples the NICs of the host that gets the data meanwhile, if there are any."""

    @property
    def elapsed(self) -> float:
        """Seconds since it was started."""
        return self.seconds or time.monotonic() - self.started

    def samples(self) -> list[float]:
        """Return what the receiver's NICs got of late, in bit/s as they count."""
        return self.receiver.rates("rx") if self.receiver is not None else []

    def shares(self) -> Mapping[str, float]:
        """Return what each NIC of the receiver carries now, by label, as shares (0 to 1)."""
        return self.receiver.shares("rx") if self.receiver is not None else {}
