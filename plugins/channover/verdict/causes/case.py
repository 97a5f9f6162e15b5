"""What was seen of a lab when a comparison did not hold: plain data, from which causes are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from channover.model.state import State
from channover.verdict.causes.cause import Missed

IDLE_SHARE = 0.02
"""A NIC with less than this share of its host's bytes carried no data."""
PARTLY = 0.85
"""A NIC with less than this share of what the busiest carried worked only partly."""


SENDING = 0.6
"""The least share of its time in which a sender that fills its paths has something to send."""


class SocketLike(Protocol):
    """What is looked at in a TCP socket, as ``ss -tain`` shows it (:class:`channover.observe.sockets.Subflow`)."""

    @property
    def source(self) -> str: ...
    @property
    def source_port(self) -> int: ...
    @property
    def destination(self) -> str: ...
    @property
    def destination_port(self) -> int: ...
    @property
    def device(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def mptcp(self) -> bool: ...
    @property
    def token(self) -> str | None: ...
    @property
    def join(self) -> bool: ...
    @property
    def backup(self) -> bool: ...
    @property
    def listening(self) -> bool: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_retransmitted(self) -> int: ...
    @property
    def congestion_control(self) -> str | None: ...
    @property
    def cwnd(self) -> int: ...
    @property
    def rtt(self) -> float: ...
    @property
    def backoff(self) -> int: ...
    @property
    def receive_queue(self) -> int: ...
    @property
    def busy(self) -> float: ...
    @property
    def receiver_limited(self) -> float: ...
    @property
    def buffer_limited(self) -> float: ...


@dataclass(frozen=True)
class NicView:
    """What was seen of one NIC during the traffic: bytes in all, sent and received, its own drops; address, MAC, MTU."""

    name: str
    device: str
    carried: int
    address: str = ""
    sent: int = 0
    received: int = 0
    drops: int = 0
    mac: str = ""
    mtu: int = 0
    flaps: int = 0
    """How often its carrier came or went meanwhile, though nobody pulled its cable."""

    def __str__(self) -> str:
        return f"NIC {self.name} ({self.device})"


@dataclass(frozen=True)
class QdiscView:
    """A queueing discipline of a device: its line of ``tc -s qdisc``, and the packets that it has dropped."""

    device: str
    kind: str
    text: str
    dropped: int


@dataclass(frozen=True)
class FilterView:
    """A rule of a packet filter that takes something from a flow: table, chain and rule, packets it met (None: no counter).

    ``does`` is *drop*, *reject*, *limit* or *strip* (an option of TCP).
    """

    table: str
    chain: str
    rule: str
    does: str
    packets: int | None = None

    @property
    def met(self) -> str:
        """What it met, in words."""
        return "it has no counter" if self.packets is None else f"it met {self.packets:,} packets"


@dataclass(frozen=True)
class NeighbourView:
    """An entry of the neighbour table: whose address, by which device, its MAC, and its state (``ip-neighbour(8)``)."""

    address: str
    device: str
    mac: str
    state: str


@dataclass(frozen=True)
class WayView:
    """One way of a path: from a host's address to the other's.

    ``device`` is what the kernel chose for it, or ``refused`` why it chose none; ``expected`` is the device of the address.
    ``small`` and ``full`` are echo requests of ``sent`` that came back, None where it was not tried. ``round_trip`` is seconds.
    """

    host: str
    source: str
    destination: str
    expected: str
    device: str = ""
    refused: str = ""
    sent: int = 0
    small: int | None = None
    full: int | None = None
    round_trip: float = 0.0

    def __str__(self) -> str:
        return f"{self.source} to {self.destination}"


@dataclass(frozen=True)
class HostView:
    """What was seen of one host.

    ``counters`` are differences over the traffic. ``refusals`` are its routes and rules that refuse (blackhole and the like).
    """

    name: str
    nics: Sequence[NicView]
    state: State
    subflow_sources: Mapping[str, int] = field(default_factory=dict)
    sockets: Sequence[SocketLike] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    qdiscs: Sequence[QdiscView] = ()
    filters: Sequence[FilterView] = ()
    neighbours: Sequence[NeighbourView] = ()
    refusals: Sequence[str] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    middlebox: bool = False
    """Whether the test itself has a middlebox stand before its NICs."""

    @property
    def total(self) -> int:
        """Bytes on all NICs."""
        return sum(nic.carried for nic in self.nics)

    def idle(self) -> list[NicView]:
        """NICs that carried no data."""
        return [nic for nic in self.nics if nic.carried < max(self.total, 1) * IDLE_SHARE]

    def lesser(self) -> list[NicView]:
        """NICs that carried less than the busiest one by more than a trifle: idle ones, and those that worked partly."""
        most = max((nic.carried for nic in self.nics), default=0)
        return [nic for nic in self.nics if nic.carried < most * PARTLY or not most]

    def counted(self, *names: str) -> int:
        """Return how often MPTCP's counters of these names went up during the traffic, in all."""
        return sum(self.counters.get(f"MPTcpExt{name}", 0) for name in names)

    def has(self, name: str) -> bool:
        """Say whether the kernel has an MPTCP counter of this name."""
        return f"MPTcpExt{name}" in self.counters

    def told(self, *names: str) -> str:
        """Return MPTCP's counters of these names with what they counted, as evidence."""
        return f"{self.name}: " + ", ".join(f"{name} {self.counted(name)}" for name in names)

    def __str__(self) -> str:
        parts = [f"{nic.name} ({nic.device}) {nic.carried:,} bytes" for nic in self.nics]
        return f"{self.name}: " + ", ".join(parts)


@dataclass(frozen=True)
class PathView:
    """A cable between both ends as a path: the NIC and address of the client's end, and of the server's; both ways."""

    client_nic: str
    server_nic: str
    near: str
    far: str
    ways: Sequence[WayView] = ()


@dataclass(frozen=True)
class MemberView:
    """One member of a LAG at one end, as its driver tells: state bits of actor and partner, keys, and what is wrong."""

    device: str
    linked: bool
    aggregator: int | None
    actor: frozenset[str]
    partner: frozenset[str]
    partner_system: str
    actor_key: int
    partner_key: int
    used: bool
    note: str
    heard: bool
    carried: int = 0
    actor_system: str = ""


@dataclass(frozen=True)
class LagView:
    """One end of a LAG: what was asked of it and what it is, and why LACP has not converged (empty: it has).

    ``refused`` is why its driver tells nothing of it. ``buckets`` says how many hash buckets each member has, where known.
    """

    host: str
    device: str
    asked_policy: str
    policy: str
    asked_rate: str
    rate: str
    links: int
    members: Sequence[MemberView] = ()
    pending: str = ""
    refused: str = ""
    active_ports: int = 0
    text: str = ""
    buckets: Mapping[str, int] = field(default_factory=dict)
    lost: Sequence[str] = ()
    """The members that have lost their link or their partner since LACP converged, if only for a moment."""
    asked_passive: bool = False


@dataclass(frozen=True)
class HashedView:
    """Flows over a LAG from one of its hosts, in words: those sent by several links, and by others than the hash said.

    ``astray`` are those that arrived by another cable than that by which they were sent.
    """

    name: str
    host: str
    moved: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    astray: Sequence[str] = ()


@dataclass(frozen=True)
class ProgramView:
    """A program that the traffic rests on: what it is for, whether it runs, is stopped or has ended, and its last words."""

    host: str
    name: str
    state: str
    words: str = ""


@dataclass(frozen=True)
class GuardView:
    """A guard of a tunnel at one host: packets met by each of its rules; None where it is not loaded."""

    host: str
    name: str
    met: Mapping[str, int] | None


@dataclass(frozen=True)
class TunnelView:
    """A tunnel that the traffic goes through: device, network and MTU at each end, its carrier's port, signs of a loop."""

    kind: str
    port: int
    network: str
    devices: Mapping[str, str]
    mtus: Mapping[str, int]
    loops: Sequence[str] = ()
    guards: Sequence[GuardView] = ()


@dataclass(frozen=True)
class Case:
    """What was seen.

    ``client`` opened the connection to ``server``; the data went from client to server, or, where ``upload`` is not so, the
    other way. ``others`` are hosts on the way, such as switches. ``missed`` is how what was measured lay to what was
    expected, ``several`` whether more than one path was to carry it. ``fallbacks`` say which connections are MPTCP no more.
    ``ports`` are the servers' of the traffic, ``link`` the rate (bit/s) of one cable, ``measured`` what was measured.
    """

    client: HostView
    server: HostView
    mptcp: bool = False
    missed: Missed = "too little"
    fallbacks: Sequence[str] = ()
    others: Sequence[HostView] = ()
    upload: bool = True
    several: bool = True
    ports: frozenset[int] = frozenset()
    paths: Sequence[PathView] = ()
    crossing: Sequence[WayView] = ()
    """What the kernels chose for the other pairs of addresses; nothing was sent there."""
    lags: Sequence[LagView] = ()
    hashed: Sequence[HashedView] = ()
    programs: Sequence[ProgramView] = ()
    tunnel: TunnelView | None = None
    link: float = 0.0
    transport: str = ""
    measured: float = 0.0
    seconds: float = 0.0
    about: str = ""
    """The name of the value."""
    unit: str = "1"
    said: Sequence[str] = ()
    """What programs said that bears on it, such as an error of iperf3."""
    spoilt: str = ""
    """How a stream that arrived to its end is not what was sent; empty where it is."""

    @property
    def hosts(self) -> tuple[HostView, ...]:
        """All hosts."""
        return (self.client, self.server, *self.others)

    @property
    def ends(self) -> tuple[HostView, HostView]:
        """Both ends."""
        return self.client, self.server

    @property
    def sender(self) -> HostView:
        """The end that sent the data."""
        return self.client if self.upload else self.server

    @property
    def receiver(self) -> HostView:
        """The end that received the data."""
        return self.server if self.upload else self.client

    def own(self, host: HostView) -> list[SocketLike]:
        """Return the sockets of the traffic at a host: those of its ports."""
        return [
            one for one in host.sockets if not one.listening and self.ports & {one.source_port, one.destination_port}
        ]

    def data(self, host: HostView) -> list[SocketLike]:
        """Return those of them that are established and have moved data."""
        found = [one for one in self.own(host) if one.state == "ESTAB"]
        most = max((one.bytes_sent + one.bytes_received for one in found), default=0)
        return [one for one in found if one.bytes_sent + one.bytes_received > most * IDLE_SHARE / 10]

    @property
    def busy(self) -> float:
        """How long (seconds) the sender's sockets had something to send, the busiest of them."""
        return max((one.busy for one in self.data(self.sender)), default=0.0)

    @property
    def slow(self) -> bool:
        """Whether a rate was too little."""
        return self.missed == "too little" and self.unit == "bit/s"

    def ways(self) -> Iterator[tuple[PathView, WayView]]:
        """Yield both ways of every path."""
        return ((path, way) for path in self.paths for way in path.ways)

    def host(self, name: str) -> HostView:
        """Return a host by its name. Raises KeyError."""
        for one in self.hosts:
            if one.name == name:
                return one
        raise KeyError(name)

    @property
    def one_subflow_a_path(self) -> bool:
        """Whether each of the client's addresses is to join the one that was asked for, and no mesh is meant.

        Its endpoints are not ``fullmesh`` then, and the server announces nothing, nor would an announcement bring anything.
        """
        starting = [one for one in self.client.state.endpoints.values() if "subflow" in one.flags]
        meshed = any("fullmesh" in one.flags for one in starting)
        announced = any("signal" in one.flags for one in self.server.state.endpoints.values())
        return bool(starting) and not meshed and not announced

    def needs_paths(self) -> bool:
        """Say whether too little of what several paths were to carry was carried."""
        return self.several and self.missed != "too much"
