"""What a test asks for: hosts and switches, their NICs, the cables between them. No addresses, no target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a node does with frames."""

    HOST = "host"
    SWITCH = "switch"


@dataclass(frozen=True)
class Port:
    """One NIC of one node, by the names that the topology gives them."""

    node: str
    nic: str

    def __str__(self) -> str:
        return f"{self.node}.{self.nic}"


@dataclass(frozen=True)
class Cable:
    """Two ports and the rate between them, as a multiple of the lab's link rate (``--link-rate``)."""

    a: Port
    b: Port
    speedup: float = 1.0

    @property
    def ports(self) -> tuple[Port, Port]:
        """Both ends."""
        return self.a, self.b

    def __str__(self) -> str:
        return f"{self.a}–{self.b}"


@dataclass(frozen=True)
class Node:
    """A host or a switch with the names of its NICs, in order."""

    name: str
    nics: tuple[str, ...]
    role: Role = Role.HOST


@dataclass(frozen=True)
class Topology:
    """Nodes and cables. Each NIC has at most one cable; ValueError where the two do not fit."""

    name: str
    nodes: tuple[Node, ...]
    cables: tuple[Cable, ...]

    def __post_init__(self) -> None:
        known = {Port(node.name, nic) for node in self.nodes for nic in node.nics}
        used = [port for cable in self.cables for port in cable.ports]
        for port in used:
            if port not in known:
                raise ValueError(f"topology {self.name}: a cable ends in {port}, which no node has")
            if used.count(port) > 1:
                raise ValueError(f"topology {self.name}: {port} has more than one cable")

    def node(self, name: str) -> Node:
        """Return the node of that name. Raises KeyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def between(self, one: str, other: str) -> Iterator[Cable]:
        """Yield the cables between two nodes, in the order in which they were drawn."""
        for cable in self.cables:
            if {cable.a.node, cable.b.node} == {one, other}:
                yield cable


LETTERS = "abcdefgh"


def parallel(links: int = 2, name: str = "") -> Topology:
    """Two hosts back to back, ``left`` and ``right``, with ``links`` cables: the article's mini lab."""
    if not 1 <= links <= len(LETTERS):
        raise ValueError(f"a pair of hosts has 1 to {len(LETTERS)} cables, not {links}")
    nics = tuple(LETTERS[:links])
    return Topology(
        name or f"parallel-{links}",
        (Node("left", nics), Node("right", nics)),
        tuple(Cable(Port("left", nic), Port("right", nic)) for nic in nics),
    )


def pair() -> Topology:
    """Two hosts, two cables."""
    return parallel(2, "pair")


def trio() -> Topology:
    """Two hosts, three cables: three NICs a host."""
    return parallel(3, "trio")


def gateway() -> Topology:
    """Two hosts as in a pair, and ``beyond``: a host behind ``right`` on a cable ten times as fast."""
    base = pair()
    right = Node("right", ("a", "b", "out"))
    return Topology(
        "gateway",
        (base.nodes[0], right, Node("beyond", ("a",))),
        (*base.cables, Cable(Port("right", "out"), Port("beyond", "a"), speedup=10)),
    )


def two_switches(hosts_per_side: int = 1) -> Topology:
    """Hosts ``left1``… and ``right1``… behind two switches, ``west`` and ``east``, with two cables between them.

    A host's cable is ten times as fast as one between the switches: the article's sketches 1 (one host a side) and 2.
    """
    if not 1 <= hosts_per_side <= 32:
        raise ValueError(f"a switch takes 1 to 32 hosts, not {hosts_per_side}")
    trunk = ("a", "b")
    access = tuple(f"p{number}" for number in range(1, hosts_per_side + 1))
    nodes = [Node("west", trunk + access, Role.SWITCH), Node("east", trunk + access, Role.SWITCH)]
    cables = [Cable(Port("west", nic), Port("east", nic)) for nic in trunk]
    for side, switch in (("left", "west"), ("right", "east")):
        for number, port in enumerate(access, start=1):
            nodes.append(Node(f"{side}{number}", ("a",)))
            cables.append(Cable(Port(f"{side}{number}", "a"), Port(switch, port), speedup=10))
    return Topology(f"two-switches-{hosts_per_side}", tuple(nodes), tuple(cables))
