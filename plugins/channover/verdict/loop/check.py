"""Could a tunnel on a host, any host, feed on itself? A pure judgement of what the host shows (``channover loopcheck``).

It rests on :mod:`channover.verdict.loop.signs` for what is there, and on routes and packet filters for what could come. One
end sees its own part alone: what the far end sends by the tunnel is the far end's to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address

from channover.model.inner_network import Inner
from channover.model.state import Endpoint
from channover.verdict.loop.rules import Address, Filters, Kind, Packet, Stop
from channover.verdict.loop.signs import PENDING, Form, LoopFinding, SubflowLike, loops, plain, within

Pair = tuple[str, str]
"""A source address and a destination."""


class Verdict(Enum):
    """What there is to say of one tunnel, the worst first."""

    FEEDS = "feeds on itself"
    TRIES = "is trying to feed on itself"
    COULD = "could feed on itself"
    UNKNOWN = "cannot be judged"
    CANNOT = "cannot feed on itself"


@dataclass(frozen=True)
class Carrier:
    """One connection that carries a tunnel, or a socket that waits for such; ``port`` is the TCP port of its server.

    ``mptcp``: whether it is one of Multipath TCP, and has not fallen back to TCP (RFC 8684, 3.7).
    """

    subflows: tuple[SubflowLike, ...]
    mptcp: bool
    port: int
    serving: bool


@dataclass(frozen=True)
class Seen:
    """One tunnel as a host shows it: a device of kind tun or tap, and the program that holds it, if any.

    ``addresses`` are the host's own inside, ``far`` the other ends' as far as they are known. ``apart``: the device is in
    another network namespace than the carrier.
    """

    device: str
    addresses: tuple[Address, ...]
    far: tuple[Address, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    program: str = ""
    pid: int = 0
    carriers: tuple[Carrier, ...] = ()
    apart: bool = False


@dataclass(frozen=True)
class Sight:
    """What a host shows of its tunnels, and of what decides whether one could feed on itself.

    ``privileged``: whether all processes could be looked into. ``filters`` is None where they could not be read.
    """

    tunnels: tuple[Seen, ...]
    endpoints: tuple[Endpoint, ...] = ()
    subflow_limit: int = 0
    """Subflows that the kernel's path manager lets a connection have besides the first (``ip mptcp limits``)."""
    accepted: int = 0
    """Announced addresses that it takes up (ADD_ADDR, RFC 8684, 3.4.1)."""
    in_kernel: bool = True
    """Whether the kernel's path manager decides, and no program (``net.mptcp.pm_type``, ``path_manager``)."""
    adders: tuple[str, ...] = ()
    """Programs that run here and may offer addresses that they see as paths."""
    filters: Filters | None = None
    privileged: bool = True
    routed: Mapping[Pair, str] = field(default_factory=dict)
    """The device by which a packet from a source to a destination leaves (``ip route get``)."""


@dataclass(frozen=True)
class Judgement:
    """What there is to say of one tunnel: the verdict, the signs it rests on, and the reasons in sentences."""

    tunnel: Seen
    verdict: Verdict
    signs: tuple[LoopFinding, ...] = ()
    reasons: tuple[str, ...] = ()


ADDERS = ("mptcpd", "NetworkManager")
"""Programs that add the addresses they see as endpoints (mptcpd's addr_adv plugin; NetworkManager's connection.mptcp-flags)."""


def questions(sight: Sight) -> set[Pair]:
    """Return which routes have to be asked for before judging: whose packets go from where to where."""
    return {pair for seen in sight.tunnels for carrier in seen.carriers for pair in _pairs(sight, seen, carrier)}


def _pairs(sight: Sight, seen: Seen, carrier: Carrier) -> Iterator[Pair]:
    yield from ((flow.source, flow.destination) for flow in carrier.subflows)
    here, there = _outside(sight, seen, carrier)
    for sources, targets in ((_texts(seen.addresses), there), (here, there), (here, _texts(seen.far))):
        for source in sources:
            yield from ((source, to) for to in targets if ip_address(source).version == ip_address(to).version)


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [str(address) for address in addresses]


def _outside(sight: Sight, seen: Seen, carrier: Carrier) -> tuple[list[str], list[str]]:
    """Return the addresses outside a tunnel that its carrier has, and could have: the host's, and the far end's."""
    inner = _inner(seen, carrier)
    own = [flow.source for flow in carrier.subflows] + [one.address for one in sight.endpoints]
    far = [flow.destination for flow in carrier.subflows]

    def outer(addresses: Sequence[str]) -> list[str]:
        known = [str(plain(one)) for one in addresses if one not in ("", "*", "0.0.0.0", "::")]
        return list(dict.fromkeys(one for one in known if not within(one, inner)))

    return outer(own), outer(far)


def _inner(seen: Seen, carrier: Carrier) -> Inner:
    return Inner(seen.device, seen.networks, carrier.port)


def judge(sight: Sight) -> tuple[Judgement, ...]:
    """Return what there is to say of each tunnel of a host."""
    return tuple(_judged(sight, seen) for seen in sight.tunnels)


def _judged(sight: Sight, seen: Seen) -> Judgement:
    if not seen.program:
        if not sight.privileged:
            why = "which program holds the device, and its connections, only root may see: run this as root, or with --sudo"
            return Judgement(seen, Verdict.UNKNOWN, (), (why,))
        return Judgement(seen, Verdict.CANNOT, (), ("no program holds the device here: it carries nothing",))
    if not seen.carriers:
        return Judgement(
            seen, Verdict.CANNOT, (), (f"{seen.program} has no TCP connection: what carries it is not TCP",)
        )
    found = [_carried(sight, seen, carrier) for carrier in seen.carriers]
    worst = min(found, key=lambda one: list(Verdict).index(one.verdict))
    signs = tuple(dict.fromkeys(sign for one in found for sign in one.signs))
    reasons = tuple(dict.fromkeys(reason for one in found if one.verdict is worst.verdict for reason in one.reasons))
    return Judgement(seen, worst.verdict, signs, reasons)


def _carried(sight: Sight, seen: Seen, carrier: Carrier) -> Judgement:
    if seen.apart:
        why = f"{seen.device} is in another network namespace than its carrier, for which it is therefore no path"
        return Judgement(seen, Verdict.CANNOT, (), (why,))
    offers = sight.endpoints if carrier.mptcp else ()
    signs = loops(carrier.subflows, offers, [_inner(seen, carrier)], sight.routed)
    forms = {sign.form for sign in signs}
    around = list(_around(sight, seen, carrier))
    inside = len(around) < sum(sign.form not in (Form.PENDING, Form.ENDPOINT) for sign in signs)
    if inside and not (carrier.mptcp and _dying(sight, seen, carrier)):
        return Judgement(seen, Verdict.FEEDS, signs, tuple(_half(sight, seen, carrier)))
    if not carrier.mptcp:
        why = "its carrier is plain TCP, with one path, which leads round the tunnel"
        return Judgement(seen, Verdict.CANNOT, signs, (why,))
    if sight.in_kernel and not sight.subflow_limit and not around:
        why = "the kernel adds no subflow to the first one: the limit is 0 (ip mptcp limits)"
        return Judgement(seen, Verdict.CANNOT, signs, (why,))
    stops, gaps = _guarded(sight, seen, carrier)
    if not gaps:
        guards = dict.fromkeys(f"a packet filter keeps the carrier out: {stop}" for stop in stops)
        rest = ("the subflow that is within the tunnel is refused whatever it is to carry",) if inside else ()
        return Judgement(seen, Verdict.CANNOT, signs, (*guards, *rest))
    if Form.PENDING in forms:
        return Judgement(seen, Verdict.TRIES, signs, (*_unanswered(carrier), *gaps))
    return Judgement(seen, Verdict.COULD, signs, (*around, *_invitations(sight, forms), *gaps))


def _around(sight: Sight, seen: Seen, carrier: Carrier) -> Iterator[str]:
    """Yield the subflows towards the tunnel's network whose packets leave by another device than the tunnel's."""
    inner = _inner(seen, carrier)
    for flow in carrier.subflows:
        device = flow.device or sight.routed.get((flow.source, flow.destination))
        outside = within(flow.source, inner) is None and within(flow.destination, inner) is not None
        if outside and flow.state not in PENDING and device not in (None, seen.device):
            yield (
                f"the subflow from {flow.source} to {flow.destination} leaves by {device} and goes round the tunnel, as long "
                f"as no route leads it into {seen.device}"
            )


def _dying(sight: Sight, seen: Seen, carrier: Carrier) -> bool:
    """Whether all that the subflows within the tunnel send is refused: each ends with its next packet, if not before."""
    inner, filters = _inner(seen, carrier), sight.filters
    if filters is None:
        return False
    for flow in carrier.subflows:
        device = flow.device or sight.routed.get((flow.source, flow.destination), "")
        if within(flow.source, inner) or within(flow.destination, inner) or device == seen.device:
            source, target, ports = (
                plain(flow.source),
                plain(flow.destination),
                (flow.source_port, flow.destination_port),
            )
            if filters.refuses(Packet(source, target, ports, device or seen.device, "data")) is None:
                return False
    return True


def _half(sight: Sight, seen: Seen, carrier: Carrier) -> Iterator[str]:
    """Yield the subflows from the tunnel's own address whose packets leave by another device, and come back by it."""
    for flow in carrier.subflows:
        device = flow.device or sight.routed.get((flow.source, flow.destination))
        if (
            within(flow.source, _inner(seen, carrier))
            and flow.state not in PENDING
            and device not in (None, seen.device)
        ):
            yield (
                f"the subflow from {flow.source} to {flow.destination} leaves by {device}; what the far end sends to "
                f"{flow.source} comes by the tunnel, unless its own rules lead elsewhere: look there as well"
            )


def _unanswered(carrier: Carrier) -> Iterator[str]:
    if carrier.serving:
        yield "its subflows within the tunnel are not established yet"
    else:
        yield "its far end has not answered: it takes no further subflow, a filter keeps them away, or they are on their way"


def _invitations(sight: Sight, forms: set[Form]) -> Iterator[str]:
    """Yield what would offer the tunnel as a path, where no endpoint does so yet."""
    if Form.ENDPOINT in forms:
        yield "the tunnel is offered as a path: the loop is closed as soon as the carrier, begun anew or at work, takes it up"
        return
    running = [name for name in ADDERS if name in sight.adders]
    if not sight.in_kernel:
        yield "a program decides on the paths, and not the kernel (net.mptcp: path manager): what it offers is not seen here"
    elif running:
        yield f"no endpoint offers the tunnel yet; {' and '.join(running)}, which runs here, may add one for any address"
    else:
        yield f"no endpoint offers the tunnel yet; {' or '.join(ADDERS)} would, which add the addresses that they see"
    if sight.accepted:
        yield (
            f"an address that the far end announces is taken up (add_addr_accepted {sight.accepted}), one within the "
            "tunnel as well"
        )


def _guarded(sight: Sight, seen: Seen, carrier: Carrier) -> tuple[list[Stop], list[str]]:
    """Return what keeps a carrier out of the tunnel, and the ways that are open."""
    if sight.filters is None:
        return [], ["whether a guard is loaded, only root may see: run this as root, or with --sudo"]
    stops, gaps = [], []
    for way, packets in _ways(sight, seen, carrier):
        found = [(packet, _stopped(sight.filters, packet, seen.device)) for packet in packets]
        stops += [stop for _, stop in found if stop]
        still = [packet for packet, stop in found if stop is None]
        if still:
            first = still[0]
            by = f", by {first.device}" if first.device != seen.device else ""
            gaps.append(f"nothing keeps the carrier out {way} ({first.source} to {first.destination}{by})")
    return stops, gaps


def _stopped(filters: Filters, packet: Packet, device: str) -> Stop | None:
    """Return what stops a packet, or the one that comes back for it by the tunnel."""
    kind: Kind = "answer" if packet.kind == "join" else "join"
    back = Packet(packet.destination, packet.source, packet.ports[::-1], device, kind, "input")
    return filters.refuses(packet) or (filters.refuses(back) if packet.device == device else None)


def _ways(sight: Sight, seen: Seen, carrier: Carrier) -> Iterator[tuple[str, list[Packet]]]:
    """Yield the ways by which a subflow could get into the tunnel, each with its packets at this end."""
    here, there = (list(map(plain, addresses)) for addresses in _outside(sight, seen, carrier))
    own, far, tun = list(seen.addresses), list(seen.far), seen.device
    bound = any(one.device == tun for one in sight.endpoints)

    def routed(source: Address, target: Address) -> str:
        return sight.routed.get((str(source), str(target)), tun)

    def packets(sources: list[Address], targets: list[Address], devices: list[str] | None = None) -> list[Packet]:
        pairs = [(one, other) for one in sources for other in targets if one.version == other.version]
        ports = (carrier.port, _ANY) if carrier.serving else (_ANY, carrier.port)
        return [
            Packet(one, other, ports, device, "answer" if carrier.serving else "join")
            for one, other in pairs
            for device in dict.fromkeys(devices or [tun, routed(one, other)])
        ]

    inward = [one for one in packets(here, there, None) if bound or routed(one.source, one.destination) == tun]
    for way, some in (
        ("from the tunnel's own address", packets(own, there)),
        ("towards the far end's address within the tunnel", packets(here, far, [tun])),
        ("between the tunnel's own addresses", packets(own, far, [tun])),
        ("by the tunnel's device", [one for one in inward if one.device == tun]),
    ):
        if some:
            yield way, some


_ANY = 50000
"""A client's port: any above those of servers."""
