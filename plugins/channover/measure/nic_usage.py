"""What each NIC carried while something was measured, as values to compare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from channover.hosts.host import Host
from channover.model.link import Link
from channover.observe.nics import NicCounters, NicSeries
from channover.verdict.measured import Measured
from channover.verdict.several import Each

USED_SHARE = 0.02
"""A NIC counts as used when it carried at least this share of its host's bytes: more than chatter, less than a path."""
ACKNOWLEDGEMENTS = 0.08
"""The most that acknowledgements are of a flow's bytes: one frame of 66 to 90 bytes for two full segments."""

Count = Callable[[str, float, str], Measured]
"""Makes a value of a name, a number and a unit."""


def used_at(host: Host) -> str:
    """Return the name of the value that counts the NICs of an end which carried data."""
    return f"NICs used at {host.name}"


def carriers(
    moved: Mapping[str, NicCounters], ways: Collection[str] = ("tx", "rx"), least: float = USED_SHARE
) -> list[str]:
    """Return which NICs or ports carried data in some of the directions: ``least`` (0 to 1) of its bytes, by their counters.

    A direction that has acknowledgements alone counts for none.
    """
    both = sum(one.total_bytes for one in moved.values())
    found: list[str] = []
    for way in ways:
        sizes = {name: int(getattr(one, f"{way}_bytes")) for name, one in moved.items()}
        total = sum(sizes.values())
        if total > both * ACKNOWLEDGEMENTS:
            found += [name for name, size in sizes.items() if size >= total * least and name not in found]
    return found


def lesser_share(moved: Collection[NicCounters]) -> float:
    """Return the share (0 to 0.5) of the bytes, in the data's direction, that the least loaded of two NICs or ports carried."""
    sizes = max(([one.tx_bytes for one in moved], [one.rx_bytes for one in moved]), key=sum)
    return min(sizes) / max(sum(sizes), 1)


@dataclass(frozen=True)
class Idle:
    """A NIC that carried no data, and what it did carry: bytes as a value to compare."""

    nic: str
    bytes: Measured


@dataclass(frozen=True)
class NicUse:
    """NICs during a measurement: series by host name, and the hosts between which the data went.

    ``ways`` are the directions of the data at each end, ``beside`` what was measured at once. A NIC's counters do not tell
    one flow's bytes from another's: names of values say so, and of what ran the other way only acknowledgements count.
    """

    series: Mapping[str, NicSeries]
    ends: Sequence[Host]
    link: Link
    count: Count = field(repr=False)
    ways: Mapping[str, Collection[str]] = field(default_factory=dict)
    beside: Sequence[str] = ()

    def _value(self, name: str, number: float, unit: str = "1") -> Measured:
        together = f" ({1 + len(self.beside)} at once)" if self.beside else ""
        return self.count(name + together, number, unit)

    def carried(self, host: Host) -> dict[str, int]:
        """Return the bytes that each cabled NIC of a host carried, both directions together."""
        return {name: self._moved(host, name).total_bytes for name in self._sampled(host)}

    def used(self, host: Host, among: Sequence[str] = ()) -> list[str]:
        """Return the NICs of a host (``among`` these, if any are named) that carried data in some direction.

        Acknowledgements that come back another way, and chatter, are no data; nor is what runs the other way at once.
        """
        ways = self.ways.get(host.name, ("tx", "rx")) if self.beside else ("tx", "rx")
        least = ACKNOWLEDGEMENTS if self.beside else USED_SHARE
        names = [name for name in self._sampled(host) if not among or name in among]
        return carriers({name: self._moved(host, name) for name in names}, ways, least)

    def _sampled(self, host: Host) -> list[str]:
        return [nic.name for nic in host.nics.values() if nic.device in self.series[host.name].devices]

    def _moved(self, host: Host, name: str) -> NicCounters:
        return self.series[host.name].delta(host.nic(name).device)

    @property
    def used_count(self) -> Each:
        """On how many NICs the data travelled, at each end: a number is compared with every end's."""
        return Each([self._value(used_at(host), len(self.used(host)), "1") for host in self.ends])

    def trunk_count(self, host: Host, nics: Sequence[str]) -> Measured:
        """Return on how many of these NICs of a host, a switch's trunk, data travelled."""
        return self._value(f"links used at {host.name}", len(self.used(host, nics)), "1")

    def share(self, host: Host, nic: str, direction: str) -> Measured:
        """Return the share (0 to 1) of a host's bytes in a direction (``tx``, ``rx``) that one of its NICs carried.

        It is of the second half of the time: by then each path has found its rate.
        """
        series, sizes = self.series[host.name], {}
        for name in self._sampled(host):
            samples = series.samples[host.nic(name).device]
            sizes[name] = int(getattr(samples[-1] - samples[len(samples) // 2], f"{direction}_bytes"))
        return self._value(f"share of {host.name}.{nic} of {direction} bytes", sizes[nic] / max(sum(sizes.values()), 1))

    def lesser_share(self, host: Host, nics: Sequence[str]) -> Measured:
        """Return the share (0 to 0.5) of these NICs' bytes, in the data's direction, that the least loaded of two carried."""
        share = lesser_share([self._moved(host, name) for name in nics])
        return self._value(f"lesser link's share at {host.name}", share, "1")

    def idle(self, host: Host, direction: str) -> list[Idle]:
        """Return the NICs of a host that carried no data in a direction (``tx``, ``rx``), with what they did carry."""
        sizes = {name: int(getattr(self._moved(host, name), f"{direction}_bytes")) for name in self._sampled(host)}
        return [
            Idle(name, self._value(f"{direction} bytes of idle {host.name}.{name}", size, "bytes"))
            for name, size in sizes.items()
            if size < sum(sizes.values()) * USED_SHARE
        ]

    def least(self, host: Host, direction: str, nics: Sequence[str]) -> Measured:
        """Return the median rate (bit/s on the wire) of whichever of a host's NICs carried least, slice by slice.

        NICs that are full in turns have little of it. What a host receives (``rx``) has crossed the cable; what it sends
        (``tx``) may be dropped on the way. Start and end do not count.
        """
        series = self.series[host.name]
        slices = zip(*(series.rate(host.nic(nic).device, direction) for nic in nics), strict=True)
        rate = median([min(one) for one in slices] or [0.0])
        name = f"lesser {direction} rate of {host.name}'s NICs"
        return self._value(name, self.link.counted(rate), "bit/s")
