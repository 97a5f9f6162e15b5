"""Flows over a LAG, each looked for on the link on which the hash of its sender puts it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from channover.hosts.host import Host
from channover.hosts.lab import Interface, Lab
from channover.measure.own_values import Counted, Listing
from channover.measure.record import Record
from channover.measure.running.numbered_traffic import DATAGRAM_PORT, NumberedTraffic
from channover.model.operations.devices import AddressAdd
from channover.model.plan import Plan
from channover.network.addressing import wait_usable
from channover.network.flow_hash import UDP, Conversation
from channover.network.lag import Lag, LagEnd, addresses
from channover.network.programs.numbered import FIRST_PORT
from channover.observe.captures import Passing, datagrams_from
from channover.verdict.notes import Note

FLOWS = 64
"""So many that the hash of ports has some on each link: all on one of two once in 2 to the 63rd."""
RATE, PAYLOAD = 10.0, 200
"""Datagrams a second of each flow, and bytes of a datagram: a megabit a second in all, so that no link is full."""
SECONDS = 0.6


@dataclass(frozen=True)
class _End:
    """One end of the flows, with its address of the family (:class:`channover.measure.activity.End`)."""

    host: Host
    address: Interface


@dataclass(frozen=True)
class Placed:
    """Flows from one end of a LAG to the other: by source port the links by which each was sent, and by which it arrived.

    ``host`` is the sender. ``said`` is by which one each leaves by its hash, or why nobody can tell. Links are named by the
    sender's NICs; behind a switch those by which flows arrive are the receiver's own.
    """

    name: str
    host: str
    sent: Mapping[int, frozenset[str]]
    arrived: Mapping[int, frozenset[str]]
    said: Mapping[int, str] | str
    through_switch: bool = False
    """Whether a switch that is not the lab's chooses the link by which each arrives."""

    @property
    def links(self) -> frozenset[str]:
        """The links that any of them took."""
        return frozenset(nic for nics in self.sent.values() for nic in nics)


@dataclass(frozen=True)
class _Sent:
    """Flows that were sent, before it was looked at by which links: both ends, and the member that each is said to take."""

    ends: tuple[LagEnd, LagEnd]
    flows: Sequence[Conversation]
    chosen: Sequence[str] | str


@dataclass
class HashedFlows:
    """Sends flows over a LAG and looks by which link each goes: ``hashed(lag)``. Made by the fixture ``hashed``."""

    lab: Lab
    record: Record = field(repr=False)
    numbered: NumberedTraffic = field(repr=False)
    counted: Counted = field(repr=False)
    listed: Listing = field(repr=False)

    def __call__(self, lag: Lag) -> list[Placed]:
        """Send flows of IPv4 and IPv6 each way; compare by which link each went with what its sender's hash says.

        Where nobody can tell that, each flow is only to keep to one link, and a note says why. Raises TestbedError.
        """
        wanted = f"udp and dst port {DATAGRAM_PORT}"
        with ExitStack() as stack:
            inside = stack.enter_context(_addressed(lag))
            passing = {end.host.name: stack.enter_context(Passing(end.host, wanted)) for end in lag.ends}
            sent = [self._send(*ends, {}) for ends in (lag.ends, lag.ends[::-1])]
            sent += [self._send(*ends, inside) for ends in (lag.ends, lag.ends[::-1])]
        placed = [self._placed(one, passing, lag.faces_switch) for one in sent]
        self.record.standing += placed
        for one in placed:
            self._compare(one)
        return placed

    def links(self, sender: LagEnd, flows: Sequence[Conversation]) -> int:
        """Return how many links the hash of a LAG's end has some of these flows on: all, and a note, where nobody can tell."""
        chosen = sender.choices(flows)
        if isinstance(chosen, str):
            self._observed(chosen)
            return len(sender.members)
        return len(set(chosen))

    def _observed(self, why: str) -> None:
        self.record.notes.append(Note("hash", f"observed, and not computed: {why}"))

    def _send(self, sender: LagEnd, receiver: LagEnd, inside: Mapping[str, Interface]) -> _Sent:
        """Send flows between these addresses, or the LAG's own without any; ask by which member each is to leave."""
        ends = sender, receiver
        source, target = (_End(end.host, inside[end.host.name] if inside else end.address) for end in ends)
        for end, one in zip(ends, (source, target), strict=True):
            wait_usable(end.host, one.address, end.device)
        macs = [links[end.device].mac if (links := end.host.state().links).get(end.device) else "" for end in ends]
        addresses = str(source.address.ip), str(target.address.ip)
        flows = [Conversation(*addresses, FIRST_PORT + n, DATAGRAM_PORT, UDP, *macs) for n in range(FLOWS)]
        with self.numbered.datagrams(source, target, flows=FLOWS, rate=RATE, payload=PAYLOAD) as moving:
            moving.phase("flows", SECONDS)
            return _Sent(ends, flows, sender.choices(flows))

    def _placed(self, sent: _Sent, passing: Mapping[str, Passing], through_switch: bool) -> Placed:
        sender, receiver = (end.host for end in sent.ends)
        first = sent.flows[0]
        labels = {nic.device: nic.name for nic in sender.nics.values()}
        across = self._across(receiver, sender)
        arrived = datagrams_from(passing[receiver.name], first.source)
        said: Mapping[int, str] | str = ""
        if isinstance(sent.chosen, str):
            said = sent.chosen
        else:
            said = {flow.source_port: labels[one] for flow, one in zip(sent.flows, sent.chosen, strict=True)}
        return Placed(
            f"IPv{first.version} {sender.name}→{receiver.name}",
            sender.name,
            datagrams_from(passing[sender.name], first.source),
            arrived
            if through_switch
            else {port: frozenset(across[nic] for nic in nics) for port, nics in arrived.items()},
            said,
            through_switch,
        )

    def _compare(self, placed: Placed) -> None:
        if isinstance(placed.said, str):
            self._observed(placed.said)
            faithful = sum(len(nics) == 1 for nics in placed.sent.values())
            assert self.counted(f"flows that kept to one link, {placed.name}", faithful) == FLOWS
        else:
            said = {f"port {port} by {nic}" for port, nic in placed.said.items()}
            assert self.listed(f"flows sent by the link of their hash, {placed.name}", _told(placed.sent)) == said
        if placed.through_switch:
            faithful = sum(len(nics) == 1 for nics in placed.arrived.values())
            assert self.counted(f"flows that arrived by one link, {placed.name}", faithful) == FLOWS
        else:
            assert self.listed(f"flows that arrived by it, {placed.name}", _told(placed.arrived)) == _told(placed.sent)

    def _across(self, host: Host, far: Host) -> Mapping[str, str]:
        """Return, by each NIC of a host, the far host's NIC at the other end of its cable."""
        ends = [cable.ports for cable in self.lab.topology.between(host.name, far.name)]
        return {one.nic: other.nic for pair in ends for one, other in (pair, pair[::-1]) if one.node == host.name}


@contextmanager
def _addressed(lag: Lag) -> Iterator[Mapping[str, Interface]]:
    """Give both ends of a LAG an address of the other family for the length of a block; return it by host.

    Raises TestbedError.
    """
    others = addresses(0, not lag.link.ipv6)
    inside = {end.host.name: address for end, address in zip(lag.ends, others, strict=True)}
    with ExitStack() as stack:
        for end in lag.ends:
            plan = Plan.of("the other family over the LAG", [AddressAdd(end.device, str(inside[end.host.name]))])
            stack.enter_context(end.host.applied(plan))
        yield inside


def _told(found: Mapping[int, frozenset[str]]) -> set[str]:
    return {f"port {port} by {nic}" for port, nics in found.items() for nic in nics}
