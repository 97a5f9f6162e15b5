"""Lays a topology of two switches with a LAG between them on switches of others: only the hosts behind are the lab's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from channover.model.topology import Node, Port, Role, Topology
from channover.targets.inventory.schema import CableEntry, LabEntry
from channover.targets.inventory.wiring import Wiring


@dataclass(frozen=True)
class Laid:
    """Such a topology on a lab: its switches by node, each host's NIC by port, the rate (bit/s) of a link of the LAG.

    ``trunks`` are the ports of the LAG at each of the two switches, by the switch's own name.
    """

    switches: Mapping[str, str]
    nics: Mapping[Port, Port]
    rate: int
    trunks: Mapping[str, Sequence[str]]


def across(topology: Topology, lab: LabEntry) -> Laid | None:
    """Return how a topology lies on two of a lab's switches that a LAG joins, or None."""
    if len(topology.switches) != 2 or any(host.role is Role.SWITCH for host in lab.hosts.values()):
        return None
    wiring = Wiring(lab)
    west, east = topology.switches
    links = len(list(topology.between(west.name, east.name)))
    for one, other in permutations(lab.switches, 2):
        trunk = _trunk(wiring, one, other)
        if len(trunk) != links or len({cable.rate for cable in trunk}) > 1:
            continue
        rate = trunk[0].rate
        for domain in dict.fromkeys(wiring.domain(nic) for nic in wiring.facing):
            near = _chosen(topology, west, list(_behind(wiring, one, domain, rate)))
            far = _chosen(topology, east, list(_behind(wiring, other, domain, rate)))
            if near is not None and far is not None:
                ports = [port for cable in trunk for port in cable.ports]
                trunks = {at: tuple(port.nic for port in ports if port.node == at) for at in (one, other)}
                return Laid({west.name: one, east.name: other}, {**near, **far}, rate, trunks)
    return None


def _trunk(wiring: Wiring, one: str, other: str) -> list[CableEntry]:
    """Return the cables between two switches that are in one LAG at both ends."""
    lags = {name: switch.lags for name, switch in wiring.lab.switches.items()}
    found: dict[tuple[str, str], list[CableEntry]] = {}
    for cable in wiring.lab.cables:
        ends = {port.node: port.nic for port in cable.ports}
        if ends.keys() == {one, other}:
            bundles = [next((lag for lag, ports in lags[at].items() if ends[at] in ports), "") for at in (one, other)]
            if all(bundles):
                found.setdefault((bundles[0], bundles[1]), []).append(cable)
    return max(found.values(), key=len, default=[])


def _behind(wiring: Wiring, switch: str, domain: int | None, rate: int) -> Iterator[Port]:
    """Yield the NICs behind a switch that are in a broadcast domain, by ports in no LAG, and no slower than a rate (bit/s)."""
    for nic in wiring.facing:
        outlet = wiring.outlet(nic)
        fast = (wiring.rate(nic) or 0) >= rate
        there = outlet is not None and outlet.node == switch and wiring.domain(nic) == domain
        if there and fast and wiring.bundle(nic) is None:
            yield nic


def _chosen(topology: Topology, switch: Node, nics: Sequence[Port]) -> dict[Port, Port] | None:
    """Return a host's NIC for each host of the topology behind a switch, namesakes first; None where there are too few."""
    wanted = [
        near
        for cable in topology.cables
        for near, far in (cable.ports, cable.ports[::-1])
        if far.node == switch.name and topology.node(near.node).role is Role.HOST
    ]
    free = {nic.node: nic for nic in reversed(nics)}  # the first NIC of each host
    found = {}
    for port in sorted(wanted, key=lambda one: one.node not in free):
        host = port.node if port.node in free else next(iter(reversed(free)), None)
        if host is None:
            return None
        found[port] = free.pop(host)
    return {port: found[port] for port in wanted}
