"""What an inventory says of who reaches whom: by bare cables, and through switches that nobody logs in to.

A NIC is in a broadcast domain: a VLAN of its switch, and of the switches that it is cabled to (IEEE 802.1Q, 3). Where its port
is in a LAG of the switch, it carries nothing by itself: that LAG's partner is the switch, or several that are of one MLAG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from channover.model.topology import Links, Port
from channover.targets.inventory.schema import LabEntry

Bundle = tuple[str, str]
"""A LAG of a switch: the switch or the MLAG, and the LAG's name there."""
_Segment = tuple[str, str]
"""A VLAN of one switch; the name is empty for the ports that are in none."""


@dataclass(frozen=True)
class Way:
    """Two NICs of two hosts that reach each other, at a rate (bit/s): by a cable, or through switches.

    ``bundles`` are the LAGs that the two switch ports are in: both ends are, or neither.
    """

    ports: tuple[Port, Port]
    rate: int
    bundles: tuple[Bundle, ...] = ()


@dataclass(frozen=True)
class Wiring:
    """The cables and switches of one lab."""

    lab: LabEntry

    @cached_property
    def _far(self) -> Mapping[Port, Port]:
        return {one: other for cable in self.lab.cables for one, other in (cable.ports, cable.ports[::-1])}

    @cached_property
    def _rates(self) -> Mapping[Port, int]:
        return {port: one.rate for one in self.lab.cables_and_paths for port in one.ports}

    def outlet(self, nic: Port) -> Port | None:
        """Return the switch's port that a NIC's cable ends in, or None."""
        far = self._far.get(nic)
        return far if far is not None and far.node in self.lab.switches else None

    def rate(self, nic: Port) -> int | None:
        """Return the rate (bit/s) of a NIC's cable or routed path; None where it has neither."""
        return self._rates.get(nic)

    @cached_property
    def facing(self) -> tuple[Port, ...]:
        """The NICs of hosts that face a switch, in the order of the inventory."""
        nics = (Port(name, nic) for name, host in self.lab.hosts.items() for nic in host.nics)
        return tuple(nic for nic in nics if self.outlet(nic) is not None)

    def system(self, switch: str) -> str:
        """Return the LACP system that a switch is: its MLAG, or itself."""
        return self.lab.switches[switch].mlag or switch

    def bundle(self, nic: Port) -> Bundle | None:
        """Return the LAG of the switch that a NIC's cable leads to, or None where its port stands alone."""
        outlet = self.outlet(nic)
        if outlet is None:
            return None
        lags = self.lab.switches[outlet.node].lags
        return next(((self.system(outlet.node), name) for name, ports in lags.items() if outlet.nic in ports), None)

    def members(self, bundle: Bundle) -> tuple[Port, ...]:
        """Return the NICs whose cables lead to a LAG of a switch."""
        return tuple(nic for nic in self.facing if self.bundle(nic) == bundle)

    def vlan(self, outlet: Port) -> str:
        """Return the VLAN of a switch's port, empty where it is in none."""
        vlans = self.lab.switches[outlet.node].vlans
        return next((name for name, ports in vlans.items() if outlet.nic in ports), "")

    @cached_property
    def _domains(self) -> Mapping[_Segment, int]:
        """Return a number for each VLAN of a switch: the same for those that cables between switches join."""
        segments = {(name, vlan) for name, switch in self.lab.switches.items() for vlan in ("", *switch.vlans)}
        everywhere = {vlan for _, vlan in segments}
        found = {
            (name, vlan): number
            for number, (name, vlan) in enumerate(
                (name, vlan) for name in self.lab.switches for vlan in sorted(everywhere)
            )
        }
        for a, b in self._joins():
            one, other = found[a], found[b]
            found = {segment: one if number == other else number for segment, number in found.items()}
        return found

    def _joins(self) -> Iterator[tuple[_Segment, _Segment]]:
        """Yield the VLANs that cables between switches, and what joins the switches of an MLAG, carry from one to another."""
        everywhere = {"", *(vlan for switch in self.lab.switches.values() for vlan in switch.vlans)}
        for one, other in combinations(self.lab.switches, 2):
            if self.lab.switches[one].mlag and self.system(one) == self.system(other):
                yield from (((one, vlan), (other, vlan)) for vlan in everywhere)
        for cable in self.lab.cables:
            a, b = cable.ports
            if a.node in self.lab.switches and b.node in self.lab.switches:
                near, far = self.vlan(a), self.vlan(b)
                if not near and not far:
                    yield from (((a.node, vlan), (b.node, vlan)) for vlan in everywhere)
                else:
                    yield (a.node, near), (b.node, far)

    def domain(self, nic: Port) -> int | None:
        """Return the number of a NIC's broadcast domain; None where its cable does not end in a switch."""
        outlet = self.outlet(nic)
        return None if outlet is None else self._domains[outlet.node, self.vlan(outlet)]

    def crowded(self, nic: Port) -> bool:
        """Say whether another NIC of the same host is in a NIC's broadcast domain, by a port that stands alone as its own."""
        domain = self.domain(nic) if self.bundle(nic) is None else None
        others = [other for other in self.facing if other != nic and other.node == nic.node and not self.bundle(other)]
        return domain is not None and any(self.domain(other) == domain for other in others)

    def ways(self, links: Links) -> list[Way]:
        """Return the ways between hosts that serve for what a test makes of them, in the order of the inventory.

        What is to be one LAG, or paths, as a test has it, are bare cables only: a switch's port is one or the other.
        """
        return [*self._bare(), *({Links.PATHS: self._paths, Links.LAG: self._bundled}.get(links, tuple)())]

    def _bare(self) -> Iterator[Way]:
        for cable in self.lab.cables:
            if all(port.node in self.lab.hosts for port in cable.ports):
                yield Way(cable.ports, cable.rate)

    def _paths(self) -> Iterator[Way]:
        alone = [nic for nic in self.facing if self.bundle(nic) is None]
        for one, other in combinations(alone, 2):
            if one.node != other.node and self.domain(one) == self.domain(other):
                yield self._way(one, other)
        for path in self.lab.paths:
            yield Way(path.ports, path.rate)

    def _bundled(self) -> Iterator[Way]:
        bundles = dict.fromkeys(bundle for nic in self.facing if (bundle := self.bundle(nic)) is not None)
        for one, other in combinations(bundles, 2):
            near, far = self.members(one), self.members(other)
            hosts = {nic.node for nic in near}, {nic.node for nic in far}
            alike = len(near) == len(far) and self.domain(near[0]) == self.domain(far[0])
            if alike and hosts[0] != hosts[1] and all(len(some) == 1 for some in hosts):
                for a, b in _paired(near, far):
                    yield self._way(a, b, (one, other))

    def _way(self, one: Port, other: Port, bundles: tuple[Bundle, ...] = ()) -> Way:
        return Way((one, other), min(self._rates[one], self._rates[other]), bundles)


def _paired(near: Iterable[Port], far: Iterable[Port]) -> Iterator[tuple[Port, Port]]:
    """Yield each NIC of one host with one of the other's: those of one name first, then in order."""
    left, right = list(near), list(far)
    for one in list(left):
        if same := next((other for other in right if other.nic == one.nic), None):
            left.remove(one)
            right.remove(same)
            yield one, same
    yield from zip(left, right, strict=True)
