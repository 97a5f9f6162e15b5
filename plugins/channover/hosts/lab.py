"""A lab: the live hosts and cables of a test's topology, and their addresses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from channover.errors import UsageError
from channover.hosts.host import Host, Journal
from channover.model.link import Link
from channover.model.state import State
from channover.model.topology import Cable, Port, Topology

if TYPE_CHECKING:
    from channover.hosts.snmp.switch import Switch

if TYPE_CHECKING:
    pass

CableEnd = tuple[Host, str]
"""A host at an end of a cable, and its device there."""


class Cabling(Protocol):
    """What can be done to a cable while the lab runs."""

    def cut(self, cable: Cable) -> None:
        """Pull a cable: both ends lose their carrier. Raises TestbedError."""
        ...

    def mute(self, cable: Cable, sender: Port | None = None) -> None:
        """Let frames vanish on a cable, of one of its ports or of both, and leave the carrier. Raises TestbedError.

        Raises NotAllowed where nothing between the hosts can do that.
        """
        ...

    def delay(self, cable: Cable, seconds: float, ends: Sequence[CableEnd]) -> None:
        """Have the frames of a cable take so long, each way; ``ends`` are who may hold them back. Raises TestbedError.

        Raises NotAllowed where nothing can do that.
        """
        ...

    def restore(self, cable: Cable) -> None:
        """Plug it in again, and let frames through again, without delay. Raises TestbedError."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """Cabling that knows which cables a test has pulled, those that it has plugged in again among them."""

    pulled: Collection[Cable]


def mutes(cable: Cable, sender: Port | None) -> tuple[Port, ...]:
    """Return the ports whose frames are to vanish (:meth:`Cabling.mute`). Raises UsageError for a port of another cable."""
    if sender is None:
        return cable.ports
    if sender not in cable.ports:
        raise UsageError(f"{sender} is no port of the cable {cable}")
    return (sender,)


SUBNETS = ("10.93.93.0/30", "10.94.94.0/30", "10.10.0.0/24")
"""The article's networks on its first, second and third link."""


def subnet(number: int) -> IPv4Network:
    """Return the network of the lab's cable with that number: the article's three, then 10.101.1.0/30 and so on."""
    return IPv4Network(SUBNETS[number] if number < len(SUBNETS) else f"10.101.{number}.0/30")


def subnet_of_ipv6(number: int) -> IPv6Network:
    """Return the IPv6 network of the lab's cable with that number: of a prefix of local use (RFC 4193)."""
    return IPv6Network(f"fd00:93:{number:x}::/64")


Interface = IPv4Interface | IPv6Interface
"""An address of a NIC with its network, of either family."""


@dataclass(frozen=True)
class Uplink:
    """What a NIC has of a network with routers beyond it: its address there, and the gateway by which it reaches others."""

    address: Interface
    gateway: str


@runtime_checkable
class Asking(Protocol):
    """Something that was asked of a lab beside its hosts' plans, such as a LAG, and that can tell what became of it."""

    def unmet(self, states: Mapping[str, State]) -> Iterable[str]:
        """Yield, in words, what was asked for and is not in force; ``states`` are what hosts show now. Raises TestbedError."""
        ...


@dataclass(frozen=True)
class Lab:
    """A topology come alive: its hosts by name, its cables, the link that its cables are."""

    topology: Topology
    hosts: Mapping[str, Host]
    link: Link
    cabling: Cabling
    journal: Journal = field(default_factory=Journal)
    rates: Mapping[float, int] = field(default_factory=dict)
    """Rates (bit/s) of real cables, by the topology's speedup; emulated ones are what it asks for."""
    probe: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Probes NICs of all hosts at once (:func:`channover.hosts.prober.probe`); None where each host has to by itself."""
    patience: float = 1.0
    """By what the times are multiplied that programs may take: emulated processors are slow."""
    switches: Sequence[Switch] = ()
    """The switches beside its hosts that may be read: what they count and say is evidence, and no host's."""
    proved: Collection[Cable] = ()
    """The cables that the target has proved already (:mod:`channover.observe.proof`)."""
    asked: list[Asking] = field(default_factory=list, compare=False)
    """What is asked of it beside its hosts' plans, and is to be read back with these (:mod:`channover.hosts.readback`)."""
    facing: Mapping[Port, str] = field(default_factory=dict)
    """The ports of switches that NICs face, as ``tor.7``: such a NIC's cable ends there, and not at another host.

    A cable of the topology between two of them is a way through the switches.
    """
    uplinks: Mapping[Port, Uplink] = field(default_factory=dict)
    """The NICs whose path to the other end is routed: their addresses are the network's own, and not the lab's."""
    crowded: Collection[Port] = ()
    """The NICs that share a broadcast domain with another NIC of their host."""
    behind: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The hosts behind each of two switches of others, which the lab's topology leaves out."""
    trunks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The ports of the LAG between those two, by the switch's name in the inventory."""
    over_ipv6: set[Cable] = field(default_factory=set, compare=False)
    """The cables whose ends the lab knows by their IPv6 addresses now: all where the link's packets are of IPv6."""

    def __post_init__(self) -> None:
        if self.link.ipv6:
            self.over_ipv6.update(self.topology.cables)

    @property
    def left(self) -> Host:
        """The host that connects: the topology's client, the article's host 1."""
        return self.hosts[self.topology.client]

    @property
    def right(self) -> Host:
        """The host that listens: the topology's server, the article's host 2."""
        return self.hosts[self.topology.server]

    def __getitem__(self, name: str) -> Host:
        """Return the host of a name. Raises UsageError where the topology has none."""
        if name not in self.hosts:
            raise UsageError(f"topology {self.topology.name} has no host '{name}'; it has: {', '.join(self.hosts)}")
        return self.hosts[name]

    def having(self, role: str) -> list[Host]:
        """Return the hosts that the topology gives a role, such as ``relay``, in its order; none where it gives it to none."""
        return [self.hosts[node.name] for node in self.topology.having(role)]

    def rate(self, cable: Cable) -> float:
        """Return a cable's rate in bit/s."""
        return self.rates.get(cable.speedup, self.link.rate * cable.speedup)

    @contextmanager
    def lost(self, cable: Cable, *, silently: bool = False, sender: Port | None = None) -> Iterator[None]:
        """Lose a cable for the length of a block, with its carrier, or ``silently``: its frames vanish. Raises TestbedError.

        Those of one ``sender`` vanish silently, and the other's get through. Raises NotAllowed where the lab's hosts, or what
        lies between them, cannot do that.
        """
        if silently or sender is not None:
            self.cabling.mute(cable, sender)
        else:
            self.cabling.cut(cable)
        try:
            yield
        finally:
            self.cabling.restore(cable)

    @contextmanager
    def delayed(self, cable: Cable, seconds: float) -> Iterator[None]:
        """Have the frames of a cable take so long (seconds), each way, for the length of a block. Raises TestbedError.

        Raises NotAllowed where neither the lab's hosts, nor what lies between them, can do that.
        """
        ends = [(self.hosts[port.node], self.hosts[port.node].nic(port.nic).device) for port in cable.ports]
        self.cabling.delay(cable, seconds, ends)
        try:
            yield
        finally:
            self.cabling.restore(cable)

    def address(self, port: Port) -> Interface:
        """Return the address that the lab plans for a port: the cable's network, first host for its first end.

        On a routed path it is the one that the NIC has of its network, of that family alone.
        """
        if (uplink := self.uplinks.get(port)) is not None:
            return uplink.address
        for number, cable in enumerate(self.topology.cables):
            if port in cable.ports:
                offset = 1 + cable.ports.index(port)
                if cable in self.over_ipv6:
                    return IPv6Interface((subnet_of_ipv6(number)[offset], subnet_of_ipv6(number).prefixlen))
                return IPv4Interface((subnet(number)[offset], subnet(number).prefixlen))
        raise KeyError(str(port))
