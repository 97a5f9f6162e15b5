"""Hosts behind two switches that a LAG joins, the lab's own or of others, made ready for a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface

from channover.errors import NotAllowed
from channover.hosts.host import Host, each
from channover.hosts.lab import Interface, Lab
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd
from channover.model.plan import Plan
from channover.network import addressing
from channover.network.lag import Lag, LagEnd
from channover.observe.nics import nic_counters
from channover.scenarios.labs import HostEnd, apply_all
from channover.scenarios.lags import trunk_counts
from channover.scenarios.lags.trunk_counts import TrunkCounts


@dataclass(frozen=True)
class Switched:
    """Hosts behind two switches that a LAG joins: ``left[i]`` and ``right[i]`` stand at opposite ends.

    Of switches of others nothing is seen: there are no ``switches`` and no ``ends`` then, and the hosts tell what passes.
    """

    lab: Lab
    made: Lag | None
    left: tuple[HostEnd, ...]
    right: tuple[HostEnd, ...]

    @property
    def lag(self) -> Lag:
        """The LAG between the switches. Raises NotAllowed where they are not the lab's."""
        if self.made is None:
            raise NotAllowed("the switches are not the lab's: nobody logs in to them to look at their LAG")
        return self.made

    @property
    def link(self) -> Link:
        """One link of the LAG."""
        return self.lab.link

    @property
    def links(self) -> int:
        """How many links the LAG has."""
        return self.made.links if self.made else len(next(iter(self.lab.trunks.values())))

    @property
    def ends(self) -> tuple[LagEnd, ...]:
        """Both ends of the LAG, where they can be looked at."""
        return self.made.ends if self.made else ()

    @property
    def switches(self) -> tuple[Host, ...]:
        """Both switches, where they are the lab's."""
        return tuple(end.host for end in self.ends)

    @property
    def trunk(self) -> tuple[str, ...]:
        """The switches' NICs that their LAG consists of, by label: both call them alike."""
        switch = self.lag.left.host
        return tuple(label for label, nic in switch.nics.items() if nic.device in self.lag.left.members)

    @property
    def pairs(self) -> list[tuple[HostEnd, HostEnd]]:
        """Each host on the left with the one that stands opposite."""
        return list(zip(self.left, self.right, strict=True))

    @contextmanager
    def counting(self) -> Iterator[list[TrunkCounts]]:
        """Have the switches of others that may be read count what the hosts send across in a block; there is one for each.

        They are there when the block has ended: a switch may tell its counters late. Raises TestbedError where one tells of
        less, or of more, than the hosts sent.
        """
        found: list[TrunkCounts] = []
        if not self.lab.switches or self.made is not None:
            yield found
            return
        before, sent = trunk_counts.read(self.lab), self._crossed()
        yield found
        found += trunk_counts.counted(self.lab, before, self._crossed() - sent)

    def _crossed(self) -> int:
        """Return the bytes that the hosts on the left have sent and received: all of them cross the LAG."""
        hosts = [end.host for end in self.left]
        counted = zip(hosts, each(nic_counters, hosts), strict=True)
        return sum(counters[nic.device].total_bytes for host, counters in counted for nic in host.nics.values())


def _behind_switches(number: int, ipv6: bool) -> Interface:
    return ip_interface(f"fd00:94::{1 + number:x}/64" if ipv6 else f"10.92.{number // 200}.{1 + number % 200}/16")


def attach(lab: Lab, lag: Lag | None) -> Switched:
    """Give the hosts behind the switches an address each, all in one network; no ``lag``: of others. Raises TestbedError."""
    ends = {
        node.name: HostEnd(lab.hosts[node.name], _behind_switches(number, lab.link.ipv6))
        for number, node in enumerate(lab.topology.hosts)
    }
    behind = lab.behind if lag is None else _behind(lab, [end.host.name for end in lag.ends])
    devices = {name: next(iter(ends[name].host.nics.values())).device for names in behind.values() for name in names}
    network = "one network for all hosts"
    apply_all(lab, {at: Plan.of(network, [AddressAdd(devices[at], str(ends[at].address))]) for at in devices})
    for name, device in devices.items():
        addressing.wait_usable(lab.hosts[name], ends[name].address, device)
    left, right = (tuple(ends[name] for name in names) for names in behind.values())
    return Switched(lab, lag, left, right)


def _behind(lab: Lab, switches: Sequence[str]) -> dict[str, list[str]]:
    """Return the hosts behind each switch, in the order of the cables."""
    names = {node.name for node in lab.topology.hosts}
    ends = [pair for one in lab.topology.cables for pair in (one.ports, one.ports[::-1])]
    return {at: [near.node for near, far in ends if far.node == at and near.node in names] for at in switches}
