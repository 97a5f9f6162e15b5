"""What each NIC carried while something was measured, as values to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from channover.hosts.base import Host
from channover.observe.nics import NicCounters, NicSeries
from channover.verdict.expect import Measured
from channover.wire import Link

USED_SHARE = 0.02
"""A NIC counts as used when it carried at least this share of its host's bytes: more than chatter, less than a path."""
ACKNOWLEDGEMENTS = 0.08
"""The most that acknowledgements are of a flow's bytes: one frame of 66 to 90 bytes for two full segments."""

Count = Callable[[str, float, str], Measured]
"""Makes a value of a name, a number and a unit."""


@dataclass(frozen=True)
class Idle:
    """What a NIC that carried no data did carry: bytes as a value to compare, and frames."""

    bytes: Measured
    packets: int


@dataclass(frozen=True)
class NicUse:
    """NICs during a measurement: series by host name, and the hosts between which the data went."""

    series: Mapping[str, NicSeries]
    ends: Sequence[Host]
    link: Link
    count: Count = field(repr=False)

    def carried(self, host: Host) -> dict[str, int]:
        """Return the bytes that each cabled NIC of a host carried, both directions together."""
        return {name: self._moved(host, name).total_bytes for name in self._sampled(host)}

    def used(self, host: Host, among: Sequence[str] = ()) -> list[str]:
        """Return the NICs of a host (``among`` these, if any are named) that carried data in some direction.

        Acknowledgements that come back another way, and chatter, are no data.
        """
        names = [name for name in self._sampled(host) if not among or name in among]
        sent = {name: self._moved(host, name) for name in names}
        both = sum(moved.total_bytes for moved in sent.values())
        found: list[str] = []
        for direction in ("tx_bytes", "rx_bytes"):
            sizes = {name: int(getattr(moved, direction)) for name, moved in sent.items()}
            total = sum(sizes.values())
            if total > both * ACKNOWLEDGEMENTS:
                found += [name for name, size in sizes.items() if size >= total * USED_SHARE and name not in found]
        return found

    def _sampled(self, host: Host) -> list[str]:
        return [nic.name for nic in host.nics.values() if nic.device in self.series[host.name].devices]

    def _moved(self, host: Host, name: str) -> NicCounters:
        return self.series[host.name].delta(host.nic(name).device)

    @property
    def used_count(self) -> Measured:
        """On how many NICs the data travelled at each end.

        Where the ends differ it is their mean, which is no number that a test expects, and its name tells both.
        """
        numbers = {host.name: len(self.used(host)) for host in self.ends}
        name = "NICs used"
        if len(set(numbers.values())) > 1:
            name += f" ({', '.join(f'{host} {number}' for host, number in numbers.items())})"
        return self.count(name, fmean(numbers.values()), "1")

    def trunk_count(self, host: Host, nics: Sequence[str]) -> Measured:
        """Return on how many of these NICs of a host, a switch's trunk, data travelled."""
        return self.count(f"links used at {host.name}", len(self.used(host, nics)), "1")

    def idle(self, host: Host, direction: str) -> list[Idle]:
        """Return the NICs of a host that carried no data in a direction (``tx``, ``rx``), with what they did carry."""
        moved = {name: self._moved(host, name) for name in self._sampled(host)}
        sizes = {name: int(getattr(one, f"{direction}_bytes")) for name, one in moved.items()}
        found = []
        for name, size in sizes.items():
            if size < sum(sizes.values()) * USED_SHARE:
                what = f"{direction} bytes of idle {host.name}.{name}"
                found.append(Idle(self.count(what, size, "bytes"), getattr(moved[name], f"{direction}_packets")))
        return found

    def wire_rate(self, host: Host, nic: str) -> Measured:
        """Return the median rate (bit/s on the wire) of a NIC's busier direction: start and end do not count."""
        series = self.series[host.name]
        rate = max(median(series.rate(host.nic(nic).device, direction) or (0.0,)) for direction in ("tx", "rx"))
        return self.count(f"wire rate of {host.name}.{nic}", self.link.counted(rate), "bit/s")
