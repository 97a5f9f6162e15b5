"""Chooses NICs for a topology whose hosts are chosen: each cable of it goes to a way of the lab, each NIC to one cable.

Between hosts that face switches a NIC may have ways to several, so that the first that fits is not always right: the search
goes back. Ways whose NICs are called as the topology's come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from channover.model.topology import Cable, Port, Topology
from channover.targets.inventory.wiring import Bundle, Way

STEPS = 20_000
"""The most choices that are tried."""


def chosen(
    topology: Topology, nodes: Mapping[str, str], by_speedup: Mapping[float, int], ways: Sequence[Way]
) -> dict[Port, Port] | None:
    """Return the lab's NIC for each NIC of a topology that has a cable, or None.

    The links between two hosts that are members of a switch's LAG are all of its members.
    """
    fitting = {cable: _fitting(cable, nodes, by_speedup[cable.speedup], ways) for cable in topology.cables}
    order = sorted(topology.cables, key=lambda cable: -max((alike for alike, _ in fitting[cable]), default=0))
    return _Choice(order, fitting, _members(ways)).made({}, {})


def _fitting(
    cable: Cable, nodes: Mapping[str, str], rate: int, ways: Sequence[Way]
) -> list[tuple[int, dict[Port, Port]]]:
    """Return the ways that a cable may be, each with how many of its NICs are called alike, most first."""
    found = []
    for way in ways:
        ends = {port.node: port for port in way.ports}
        a, b = ends.get(nodes[cable.a.node]), ends.get(nodes[cable.b.node])
        if a is not None and b is not None and way.rate == rate:
            alike = (a.nic == cable.a.nic) + (b.nic == cable.b.nic)
            found.append((alike, {cable.a: a, cable.b: b}))
    return sorted(found, key=lambda one: -one[0])


def _members(ways: Sequence[Way]) -> Mapping[Port, tuple[tuple[Bundle, ...], int]]:
    """Return of each NIC in a switch's LAG the two LAGs of its way, and how many NICs they have at each end."""
    sizes = Counter(way.bundles for way in ways)
    return {port: (way.bundles, sizes[way.bundles]) for way in ways if way.bundles for port in way.ports}


class _Choice:
    """The search: depth first, cable by cable."""

    def __init__(
        self,
        order: Sequence[Cable],
        fitting: Mapping[Cable, Sequence[tuple[int, dict[Port, Port]]]],
        members: Mapping[Port, tuple[tuple[Bundle, ...], int]],
    ) -> None:
        self.order, self.fitting, self.members = order, fitting, members
        self.steps = 0

    def made(self, laid: dict[Port, Port], taken: dict[Port, Cable]) -> dict[Port, Port] | None:
        """Return the rest of a choice, or None."""
        number = len(laid) // 2
        if number == len(self.order):
            return laid if self._whole(laid) else None
        for _, ends in self.fitting[self.order[number]]:
            self.steps += 1
            if self.steps > STEPS:
                return None
            if not any(port in taken for port in ends.values()):
                cable = self.order[number]
                found = self.made({**laid, **ends}, {**taken, **dict.fromkeys(ends.values(), cable)})
                if found is not None:
                    return found
        return None

    def _whole(self, laid: Mapping[Port, Port]) -> bool:
        """Say whether the links between two hosts that lead into LAGs of a switch are all members of one LAG at each end."""
        used: dict[frozenset[str], Counter[tuple[Bundle, ...]]] = {}
        for cable in self.order:
            bundles = self.members[laid[cable.a]][0] if laid[cable.a] in self.members else ()
            used.setdefault(frozenset((cable.a.node, cable.b.node)), Counter())[bundles] += 1
        sizes = {bundles: size for bundles, size in self.members.values()}
        return all(
            bundles == () or (len(some) == 1 and count == sizes[bundles])
            for some in used.values()
            for bundles, count in some.items()
        )
