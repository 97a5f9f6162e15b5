"""How a test measures, and what takes a while as the live line tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING
from typing import Protocol as Role

from channover.hosts.host import Host
from channover.model.link import Link
from channover.network.programs.iperf import ports
from channover.observe.counters import Processors
from channover.verdict.expectation import Reading

if TYPE_CHECKING:
    from channover.measure.flow import Flow

EXTENSION = 3.0
"""How many times its limit something is measured where the verdict would be against the behaviour and has not settled."""


class End(Role):
    """One end of what is measured: a host and the address by which the other end knows it."""

    @property
    def host(self) -> Host:
        """The host."""
        ...

    @property
    def address(self) -> IPv4Interface:
        """The address."""
        ...


class UnderWay(Role):
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

    def samples(self) -> list[float]:
        """Return its rates so far, in bit/s; none where nobody measures them."""
        ...


@dataclass
class Waiting:
    """Something awaited (:class:`UnderWay`)."""

    name: str
    limit: float
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since it was started."""
        return self.seconds or time.monotonic() - self.started

    def samples(self) -> list[float]:
        """Return nothing."""
        return []


@dataclass(frozen=True)
class Measuring:
    """How a test measures: the run's settings, and what is told of each flow as it goes."""

    link: Link
    duration: float | None
    limit: float
    native_mptcp: bool = False
    record: Callable[[Reading], None] = field(default=lambda _: None, repr=False)
    opened: Callable[[Flow], None] = field(default=lambda _: None, repr=False)
    progress: Callable[[UnderWay], None] = field(default=lambda _: None, repr=False)
    closed: Callable[[Flow], None] = field(default=lambda _: None, repr=False)
    explain: Callable[[Flow], str] = field(default=lambda _: "", repr=False)
    processors: Callable[[], Processors] | None = field(default=None, repr=False)
    """Reads the processors that the lab shares with other machines, as often as wanted; None where it shares none."""
    on_this_machine: bool = True
    """Whether this machine's processors are the wires: then one test measures at a time."""
    ports: Iterator[int] = field(default_factory=ports, repr=False)
    """TCP and UDP ports for what is measured at once: no two have the same."""
    under_way: list[Flow] = field(default_factory=list, repr=False)
    """The flows that have been started and not ended."""
