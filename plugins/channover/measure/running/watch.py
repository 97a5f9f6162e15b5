"""The processors beside what is measured: looked at as its samples come, and from its begin to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean

from channover.hosts.host import Host, each
from channover.model.processors import Processors, Strain, strain
from channover.observe.processors import processors
from channover.report.facts import ProcessorUse
from channover.verdict import shortage
from channover.verdict.shortage import Shortage

NAMED, LEAST = 3, 0.01
"""How many programs of others results name at most, and what one has to use of a processor to be named."""


@dataclass(eq=False)
class ProcessorWatch:
    """Looks at processors by ``read``, and notes which samples waited for one (``waited``, by number)."""

    read: Callable[[], Processors]
    waited: set[int] = field(default_factory=set)
    looks: list[Strain] = field(default_factory=list, repr=False)
    _first: Processors | None = field(default=None, repr=False)
    _last: Processors | None = field(default=None, repr=False)

    @property
    def shortage(self) -> Shortage:
        """How the processors were so far, and the share of the looks in which a program of the run had waited."""
        return Shortage(self.whole, sum(map(shortage.waited, self.looks)) / max(len(self.looks), 1))

    def begin(self) -> None:
        """Look as what is measured begins. Raises TestbedError."""
        self._first = self._last = self.read()
        self.looks.clear()

    def look(self, seen: int, found: int) -> None:
        """Look again: samples ``seen`` to ``found``, and their neighbours, are new. Raises TestbedError."""
        now = self.read()
        if self._last is not None:
            self.looks.append(strain(self._last, now))
            if shortage.waited(self.looks[-1]):
                self.waited.update(range(seen - 1, found + 1))
        self._last = now

    @property
    def whole(self) -> Strain:
        """How the processors were from the begin to the last look; what the run's programs waited is the looks' mean."""
        if self._first is None or self._last is None or self._last is self._first:
            return Strain(0.0, 1.0, 0.0)
        found = strain(self._first, self._last)
        if not self.looks:
            return found
        most = max(self.looks, key=lambda one: one.waited)
        return replace(found, waited=fmean(one.waited for one in self.looks), waiter=most.waiter)


@dataclass(eq=False)
class HostsWatch:
    """Looks at the processors of hosts that have their own, twice: each look is a round trip to the host."""

    hosts: Sequence[Host]
    watches: dict[str, ProcessorWatch] = field(default_factory=dict)

    def begin(self) -> None:
        """Look as what is measured begins. Raises TestbedError."""
        self.watches = {host.name: ProcessorWatch(partial(processors, host)) for host in self.hosts}
        each(ProcessorWatch.begin, list(self.watches.values()))

    def end(self) -> None:
        """Look while what is measured still runs, or has just ended. Raises TestbedError."""
        each(lambda one: one.look(0, 0), list(self.watches.values()))

    @property
    def shortage(self) -> Shortage:
        """How the processors were at the host which had the fullest one: a flow is bound by one of them."""
        if not self.watches:
            return Shortage(Strain(0.0, 1.0, 0.0))
        found = {name: watch.whole for name, watch in self.watches.items()}
        name = max(found, key=lambda one: found[one].full)
        return Shortage(found[name], where=name)


def processor_use(traffic: str, short: Shortage) -> ProcessorUse:
    """Return how busy the processors were during some traffic, as results hold it."""
    found = short.strain
    shares = (found.waited, short.share, found.idle, found.stolen, found.full, found.softirq)
    waited, samples, idle, stolen, full, softirq = (round(min(share, 1.0), 4) for share in shares)
    pressure = None if found.pressure is None else round(found.pressure, 4)
    others = {name: round(share, 4) for name, share in found.others[:NAMED] if share >= LEAST}
    return ProcessorUse(
        traffic, waited, found.waiter, samples, idle, stolen, pressure, found.core, full, softirq, others
    )
