"""What a test asks for: hosts and switches, their NICs, the cables between them. No addresses, no target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from channover.errors import UsageError


class Role(Enum):
    """What a node does with frames."""

    HOST = "host"
    SWITCH = "switch"


class Links(Enum):
    """What a test makes of the cables between two hosts; a port of a switch that is not the lab's is for one of the two."""

    LAG = "LAG"
    PATHS = "paths"
    EITHER = "cables"


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
    """A host or a switch with the names of its NICs, in order.

    ``duty`` is what a host is there for: ``client`` (it connects), ``server`` (it listens), or a word of the author's own.
    """

    name: str
    nics: tuple[str, ...]
    role: Role = Role.HOST
    duty: str = ""


def node(name: str, nics: str, role: str = "host") -> Node:
    """Return a node: ``node("alpha", "ab", role="client")``. A word is a NIC; of a single word, each letter is one.

    Roles are ``host``, ``switch``, and of hosts ``client`` (it connects), ``server`` (it listens) and any word of your own, by
    which ``lab.having(role)`` finds them. Raises ValueError.

    >>> node("beta", "eth0 eth1", role="relay").nics
    ('eth0', 'eth1')
    """
    if not _ROLE.fullmatch(role):
        raise ValueError(f"node {name}: '{role}' is no role; write a word, such as relay")
    words = nics.split()
    named = tuple(words[0]) if len(words) == 1 else tuple(words)
    if role in ("host", "switch"):
        return Node(name, named, Role(role))
    return Node(name, named, duty=role)


_ROLE = re.compile(r"[\w-]+")
_CABLE = re.compile(r"([\w-]+)\.(\w+)-([\w-]+)\.(\w+)(?:\*(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Topology:
    """Nodes and cables. Each NIC has at most one cable; ValueError where the two do not fit.

    One host connects and one listens: those whose ``duty`` says so, else the first and the second.
    """

    name: str
    nodes: tuple[Node, ...]
    cables: tuple[Cable, ...]
    links: Links = Links.EITHER

    def __post_init__(self) -> None:
        known = {Port(node.name, nic) for node in self.nodes for nic in node.nics}
        used = [port for cable in self.cables for port in cable.ports]
        for port in used:
            if port not in known:
                raise ValueError(f"topology {self.name}: a cable ends in {port}, which no node has")
            if used.count(port) > 1:
                raise ValueError(f"topology {self.name}: {port} has more than one cable")
        names = [node.name for node in self.nodes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"topology {self.name}: there are two nodes '{twice[0]}'")
        for duty in ("client", "server"):
            if len(self.having(duty)) > 1:
                raise ValueError(f"topology {self.name}: more than one host has the role '{duty}'")

    @classmethod
    def of(cls, name: str, *nodes: Node, cables: str) -> Topology:
        """Return a topology, its cables in words: ``"alpha.b-beta.a beta.b-gamma.a*10"``, the last ten times as fast.

        Raises ValueError.
        """
        found = []
        for word in cables.split():
            match = _CABLE.fullmatch(word)
            if match is None:
                raise ValueError(f"topology {name}: '{word}' is no cable such as alpha.a-beta.a or alpha.a-beta.a*10")
            found.append(Cable(Port(match[1], match[2]), Port(match[3], match[4]), float(match[5] or 1)))
        return cls(name, nodes, tuple(found))

    @property
    def hosts(self) -> tuple[Node, ...]:
        """The nodes that are no switches."""
        return tuple(node for node in self.nodes if node.role is Role.HOST)

    @property
    def switches(self) -> tuple[Node, ...]:
        """The nodes that are switches."""
        return tuple(node for node in self.nodes if node.role is Role.SWITCH)

    def having(self, duty: str) -> tuple[Node, ...]:
        """Return the hosts of a role, in the order in which they were named."""
        return tuple(node for node in self.nodes if node.duty == duty)

    @property
    def client(self) -> str:
        """The name of the host that connects. Raises UsageError where there is none."""
        return self._end("client", "server")

    @property
    def server(self) -> str:
        """The name of the host that listens. Raises UsageError where there is none."""
        return self._end("server", "client")

    def _end(self, end: str, other: str) -> str:
        hosts = self.hosts
        told = [node.name for node in hosts if node.duty == end]
        rest = [node.name for node in hosts if node.duty != other]
        whole = len(rest) == len(hosts) and end == "server"  # then the first one is the client
        found = told or rest[1 if whole else 0 :]
        if not found:
            raise UsageError(f"topology {self.name}: no host is left to be the {end}")
        return found[0]

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


def unequal(share: float = 0.1) -> Topology:
    """Two hosts, two cables: the second is of a ``share`` of the first one's rate, which its name has in per cent."""
    base = pair()
    fast, slow = base.cables
    return Topology(f"unequal-{share * 100:g}", base.nodes, (fast, replace(slow, speedup=share)))


def gateway() -> Topology:
    """Two hosts as in a pair, and ``beyond``: a host behind ``right`` on a cable ten times as fast."""
    base = pair()
    right = Node("right", ("a", "b", "out"))
    return Topology(
        "gateway",
        (base.nodes[0], right, Node("beyond", ("a",))),
        (*base.cables, Cable(Port("right", "out"), Port("beyond", "a"), speedup=10)),
    )


def unstacked() -> Topology:
    """Four cables from one host, two each to two others, ``right`` and ``stray``: as to two switches that are not stacked."""
    return Topology.of(
        "unstacked",
        node("left", "abcd", role="client"),
        node("right", "ab", role="server"),
        node("stray", "ab", role="stray"),
        cables="left.a-right.a left.b-right.b left.c-stray.a left.d-stray.b",
    )


def with_members(topology: Topology, members: int) -> Topology:
    """Return a topology whose LAG has so many links, 2 to 8: of two hosts, or between two switches; others stay as they are.

    Raises ValueError.
    """
    if topology == pair() and members != 2:
        return parallel(members)
    if len(topology.switches) == 2 and members != 2:
        per_side = len(topology.hosts) // 2
        return two_switches(per_side, members) if topology == two_switches(per_side) else topology
    return topology


def two_switches(hosts_per_side: int = 1, links: int = 2) -> Topology:
    """Hosts ``left1``… and ``right1``… behind two switches, ``west`` and ``east``, with two cables between them, or more.

    A host's cable is ten times as fast as one between the switches: the article's sketches 1 (one host a side) and 2.
    """
    if not 1 <= hosts_per_side <= 32:
        raise ValueError(f"a switch takes 1 to 32 hosts, not {hosts_per_side}")
    if not 2 <= links <= len(LETTERS):
        raise ValueError(f"two switches have 2 to {len(LETTERS)} cables between them, not {links}")
    trunk = tuple(LETTERS[:links])
    access = tuple(f"p{number}" for number in range(1, hosts_per_side + 1))
    nodes = [Node("west", trunk + access, Role.SWITCH), Node("east", trunk + access, Role.SWITCH)]
    cables = [Cable(Port("west", nic), Port("east", nic)) for nic in trunk]
    for side, switch in (("left", "west"), ("right", "east")):
        for number, port in enumerate(access, start=1):
            nodes.append(Node(f"{side}{number}", ("a",)))
            cables.append(Cable(Port(f"{side}{number}", "a"), Port(switch, port), speedup=10))
    name = f"two-switches-{hosts_per_side}" + ("" if links == 2 else f"-by-{links}")
    return Topology(name, tuple(nodes), tuple(cables))
