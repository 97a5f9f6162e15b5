"""Lays a topology on a lab of real hosts: which host is which node, which NIC is which, at which rate.

Nodes go to hosts of the same role, each topology cable to a way of the lab between the same two hosts: a cable, or two that end
in switches. What the lab has beside that is left alone. Cables of one ``speedup`` all have one rate, those of a higher speedup
are not slower, and those below 1 are slower; how many times faster they are is not looked at, since an access link has only to
be no bottleneck.

The search is depth first with forward checking: a node's candidates are the hosts with enough cables to the neighbours
already placed, and the open nodes must all find different hosts (a bipartite matching). The same question always has the
same answer; equal names come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from itertools import combinations

from channover.hosts.lab import Uplink
from channover.model.link import USUAL_MTU, Link
from channover.model.topology import Cable, Links, Node, Port, Role, Topology
from channover.targets.inventory.schema import LabEntry
from channover.targets.inventory.wiring import Way, Wiring
from channover.targets.physical.foreign import across
from channover.targets.physical.nic_choice import chosen

STEPS = 20_000
"""The most placements that are tried at one rate before the search gives up: some seconds."""

Pair = frozenset[str]


@dataclass(frozen=True)
class Fit:
    """A topology laid on a lab: hosts by node, NICs by topology port, and the rate of the cables of speedup 1."""

    nodes: Mapping[str, str]
    """The lab's host for each node."""
    nics: Mapping[Port, Port]
    """The lab's NIC for each NIC of a node."""
    rate: int
    """Rate (bit/s) of the cables of speedup 1; where there are none, of the slowest ones."""
    rates: Mapping[float, int]
    """Rate (bit/s) of the lab's cables for each speedup of the topology's."""
    mtu: int = USUAL_MTU
    """The MTU (bytes) of the cables: the smallest of theirs."""
    facing: Mapping[Port, Port] = field(default_factory=dict)
    """The switch's port that a NIC of a node faces, by the topology's port; one with a bare cable, or none, is not here."""
    crowded: frozenset[Port] = frozenset()
    """The topology's ports whose NICs share a broadcast domain with another NIC of their host."""
    uplinks: Mapping[Port, Uplink] = field(default_factory=dict)
    """The topology's ports whose path is routed."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """The switches of others that those of the topology are, by node: of what is behind them, only hosts are the lab's."""
    trunks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The ports of the LAG between those switches, by the switch's name."""

    def seen(self, topology: Topology) -> Topology:
        """Return what of a topology is the lab's: without switches of others, and the cables at them."""
        return replace(topology, nodes=topology.hosts, cables=()) if self.foreign else topology

    def beyond(self, node: str) -> dict[Port, list[str]]:
        """Return the ports of a node whose path is routed, each with the addresses at other nodes that may come by it."""
        others = [str(uplink.address.ip) for port, uplink in self.uplinks.items() if port.node != node]
        return {port: others for port in self.uplinks if port.node == node}

    def link(self, asked: Link) -> Link:
        """Return what one of its cables is, of the family that was asked for."""
        return replace(asked, rate=self.rate, mtu=self.mtu)

    def near(self, topology: Topology) -> frozenset[Port]:
        """Return the client's ports that are links of a LAG with a switch: of a way through it, that link alone is lost."""
        if topology.links is not Links.LAG or not self.facing:
            return frozenset()
        return frozenset(port for port in self.facing if port.node == topology.client)


def fit(topology: Topology, lab: LabEntry) -> Fit | str:
    """Return how a topology lies on a lab, or what the lab lacks for it, in one line."""
    wiring = Wiring(lab)
    if (laid := across(topology, lab)) is not None:
        nodes = {ours.node: theirs.node for ours, theirs in laid.nics.items()}
        facing = {ours: outlet for ours, nic in laid.nics.items() if (outlet := wiring.outlet(nic))}
        return Fit(
            nodes, laid.nics, laid.rate, {1.0: laid.rate}, facing=facing, foreign=laid.switches, trunks=laid.trunks
        )
    lacking = _lacking(topology, lab)
    if lacking:
        return lacking
    speedups = sorted({cable.speedup for cable in topology.cables})
    ways = wiring.ways(topology.links)
    have = _have(ways)
    gave_up = False
    for rates in _ascending(list(dict.fromkeys(way.rate for way in ways)), len(speedups)):
        by_speedup = dict(zip(speedups, rates, strict=True))
        if any(speedup < 1 and rate == by_speedup.get(1.0) for speedup, rate in by_speedup.items()):
            continue  # what is asked to be slower is of no use at the same rate
        search = _Search(topology, lab, by_speedup, have, ways)
        found = search.placed()
        if found is not None:
            nodes, nics = found
            base = by_speedup.get(1.0, min(rates, default=0))
            facing = {ours: outlet for ours, nic in nics.items() if (outlet := wiring.outlet(nic))}
            crowded = frozenset(ours for ours, nic in nics.items() if wiring.crowded(nic))
            mtu = min(
                (one.mtu for one in lab.cables_and_paths if {*nics.values()}.intersection(one.ports)),
                default=USUAL_MTU,
            )
            uplinks = {ours: uplink for ours, nic in nics.items() if (uplink := _uplink(lab, nic))}
            return Fit(nodes, _nics(topology, lab, nodes, nics), base, by_speedup, mtu, facing, crowded, uplinks)
        gave_up = gave_up or search.steps > STEPS
    if gave_up:
        return (
            f"no way was found, in {STEPS} steps, to lay the topology {topology.name} on lab {lab.name}; "
            "call its hosts as the topology's nodes are called"
        )
    return _uncabled(topology, lab)


def _uplink(lab: LabEntry, nic: Port) -> Uplink | None:
    for path in lab.paths:
        if nic in path.ports:
            end = path.ports.index(nic)
            return Uplink(ip_interface(path.addresses[end]), path.gateways[end])
    return None


def _pair(cable: Cable | Way) -> Pair:
    a, b = cable.ports
    return frozenset((a.node, b.node))


def _have(ways: Sequence[Way]) -> dict[Pair, Counter[int]]:
    """Return how many ways there are between two hosts at most, by rate: each NIC has one at a time."""
    found: dict[Pair, Counter[int]] = {}
    seen: dict[tuple[Pair, int], list[tuple[Port, Port]]] = {}
    for way in ways:
        seen.setdefault((_pair(way), way.rate), []).append(way.ports)
    for (pair, rate), ends in seen.items():
        nics = [{port for ports in ends for port in ports if port.node == host} for host in pair]
        found.setdefault(pair, Counter())[rate] = min(map(len, nics))
    return found


def _ascending(rates: Sequence[int], length: int, least: int = 0) -> Iterator[tuple[int, ...]]:
    """Yield each way to give ``length`` classes of cables a rate, none slower than the one before."""
    if length == 0:
        yield ()
        return
    for rate in rates:
        if rate >= least:
            for rest in _ascending(rates, length - 1, rate):
                yield rate, *rest


@dataclass
class _Search:
    """The search for hosts at given rates. ``need`` and ``have`` count cables by pair of nodes, then by rate."""

    topology: Topology
    lab: LabEntry
    by_speedup: Mapping[float, int]
    have: Mapping[Pair, Counter[int]]
    ways: Sequence[Way]
    need: dict[Pair, Counter[int]] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        for cable in self.topology.cables:
            self.need.setdefault(_pair(cable), Counter())[self.by_speedup[cable.speedup]] += 1
        self.order = self._ordered()

    def placed(self) -> tuple[dict[str, str], dict[Port, Port]] | None:
        """Return a host for every node, and a NIC for each of a node's that has a cable; or None."""
        return self._placed({}, {node.name: self._candidates(node) for node in self.topology.nodes})

    def _placed(
        self, nodes: dict[str, str], domains: Mapping[str, list[str]]
    ) -> tuple[dict[str, str], dict[Port, Port]] | None:
        if len(nodes) == len(self.order):
            nics = chosen(self.topology, nodes, self.by_speedup, self.ways)
            return None if nics is None else ({node.name: nodes[node.name] for node in self.topology.nodes}, nics)
        node = self.order[len(nodes)]
        for host in domains[node.name]:
            self.steps += 1
            if self.steps > STEPS:
                return None
            left = self._narrowed(node.name, host, {**nodes, node.name: host}, domains)
            if left is not None:
                found = self._placed({**nodes, node.name: host}, left)
                if found is not None:
                    return found
        return None

    def _narrowed(
        self, name: str, host: str, nodes: Mapping[str, str], domains: Mapping[str, list[str]]
    ) -> dict[str, list[str]] | None:
        """Return the candidates that are left for the open nodes, or None where they cannot all have one."""
        left = {
            other: [one for one in hosts if one != host and self._enough(name, other, host, one)]
            for other, hosts in domains.items()
            if other not in nodes
        }
        return left if _all_different(left) else None

    def _enough(self, name: str, other: str, host: str, other_host: str) -> bool:
        need = self.need.get(frozenset((name, other)))
        return need is None or need <= self.have.get(frozenset((host, other_host)), Counter())

    def _candidates(self, node: Node) -> list[str]:
        """Return the hosts that a node may be, by its role, its NICs and its cables: its namesake first."""
        names = {other.name for other in self.topology.nodes}
        needed = self._degree(node.name, self.need)
        found = [
            name
            for name, host in self.lab.hosts.items()
            if host.role == node.role and len(host.nics) >= len(node.nics) and needed <= self._degree(name, self.have)
        ]
        return sorted(found, key=lambda name: (name != node.name, name in names))

    @staticmethod
    def _degree(name: str, cables: Mapping[Pair, Counter[int]]) -> Counter[int]:
        total: Counter[int] = Counter()
        for pair, rates in cables.items():
            if name in pair:
                total += rates
        return total

    def _ordered(self) -> list[Node]:
        """Return the nodes so that each, if it can, follows a neighbour, and those with most cables come first."""
        rest, found = list(self.topology.nodes), list[Node]()
        neighbours: set[str] = set()
        while rest:
            ends = {node.name: self._degree(node.name, self.need).total() for node in rest}
            node = max(rest, key=lambda one: (one.name in neighbours, ends[one.name]))  # the first of equals
            rest.remove(node)
            found.append(node)
            neighbours |= {name for pair in self.need if node.name in pair for name in pair}
        return found


def _all_different(domains: Mapping[str, list[str]]) -> bool:
    """Say whether every node can have a host of its own (bipartite matching by augmenting paths)."""
    taken: dict[str, str] = {}

    def find(node: str, seen: set[str]) -> bool:
        for host in domains[node]:
            if host not in seen:
                seen.add(host)
                if host not in taken or find(taken[host], seen):
                    taken[host] = node
                    return True
        return False

    return all(find(node, set()) for node in domains)


def _nics(topology: Topology, lab: LabEntry, nodes: Mapping[str, str], laid: dict[Port, Port]) -> dict[Port, Port]:
    """Return a NIC for each NIC of the topology; ``laid`` are those that have a cable."""
    wired = {port for one in lab.cables_and_paths for port in one.ports}
    for node in topology.nodes:  # NICs that the topology leaves without a cable
        for nic in node.nics:
            if Port(node.name, nic) not in laid:
                host = nodes[node.name]
                spare = [Port(host, other) for other in lab.hosts[host].nics if Port(host, other) not in laid.values()]
                laid[Port(node.name, nic)] = min(spare, key=lambda port: (port in wired, port.nic != nic))
    return {Port(node.name, nic): laid[Port(node.name, nic)] for node in topology.nodes for nic in node.nics}


def _lacking(topology: Topology, lab: LabEntry) -> str | None:
    """Say what a lab lacks by mere numbers: hosts, switches, cables between two of them."""
    for role, word, hint in (
        (
            Role.SWITCH,
            "switches",
            "mark hosts that bridge with 'role: switch', or name two 'switches' with a LAG between them and hosts behind",
        ),
        _HOSTS,
    ):
        needed = sum(node.role == role for node in topology.nodes)
        there = sum(host.role == role for host in lab.hosts.values())
        if there < needed:
            return f"lab {lab.name} has {word}: {there}, and the topology {topology.name} needs {needed}; {hint}"
    have = _have(Wiring(lab).ways(topology.links))
    for one, other in combinations(topology.nodes, 2):
        drawn = list(topology.between(one.name, other.name))
        roles = sorted((one.role.value, other.role.value))
        fitting = [
            rates for pair, rates in have.items() if sorted(lab.hosts[name].role.value for name in pair) == roles
        ]
        words = _roles_word(roles)
        if drawn and max((rates.total() for rates in fitting), default=0) < len(drawn):
            needs = f"{_needs(topology, len(drawn))}{_of_switches(topology.links, lab)}"
            return f"no {words} in lab {lab.name} has {_cables(len(drawn))} between them; {needs}"
        alike = max(Counter(cable.speedup for cable in drawn).values(), default=0)
        if max((count for rates in fitting for count in rates.values()), default=0) < alike:
            return (
                f"no {words} in lab {lab.name} has {alike} cables of one rate between them; {_needs(topology, alike)}"
            )
    return None


def _of_switches(links: Links, lab: LabEntry) -> str:
    """Say what is asked of the switches that hosts face, where what they have was not found."""
    if not Wiring(lab).facing:
        return ""
    return {
        Links.LAG: "; of hosts that face a switch, each needs a LAG there of as many ports: name them in the switch's 'lags'",
        Links.PATHS: "; of hosts that face a switch, so many ports of each have to be in no LAG there, and in a VLAN of both",
        Links.EITHER: ", and no switch between",
    }[links]


_HOSTS = (Role.HOST, "hosts", "add hosts to the inventory, or choose another lab")


def _roles_word(roles: Sequence[str]) -> str:
    return {"hosthost": "pair of hosts", "hostswitch": "host and switch"}.get("".join(roles), "pair of switches")


def _cables(number: int) -> str:
    return f"{number} cable{'s' if number > 1 else ''}"


def _needs(topology: Topology, number: int) -> str:
    return f"the topology {topology.name} needs {'it' if number == 1 else 'them'}"


def _pace(speedup: float) -> str:
    """Say how fast a kind of cables has to be, beside those of speedup 1."""
    return " no slower" if speedup > 1 else " slower" if speedup < 1 else ""


def _uncabled(topology: Topology, lab: LabEntry) -> str:
    """Say what a lab would have to be, where each thing is there but not together."""
    return (
        f"the hosts of lab {lab.name} are not cabled as the topology {topology.name} needs: {cabling(topology)}, "
        "those of a kind at one rate; cable them so, and name the cables in the inventory"
    )


def cabling(topology: Topology) -> str:
    """Say which cables a topology needs between which hosts, by its own names for them: the first four kinds."""
    wanted = []
    for one, other, speedup in dict.fromkeys((cable.a.node, cable.b.node, cable.speedup) for cable in topology.cables):
        number = sum(cable.speedup == speedup for cable in topology.between(one, other))
        wanted.append(f"{one}–{other} {_cables(number)}{_pace(speedup)}")
    return ", ".join(wanted[:4]) + (", …" if len(wanted) > 4 else "")
