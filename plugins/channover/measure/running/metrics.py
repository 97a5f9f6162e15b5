"""What stands beside a measured rate: round trips idle and loaded, what was sent again, loss, jitter, reordering.

All of it is what the traffic's own sockets and programs tell: a prober beside them would be traffic too. Of TCP it is what
RFC 6349, 4 asks for. An MPTCP connection has no round trip of its own: each of its subflows has one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from channover.hosts.host import Host
from channover.measure.measurement import Measuring
from channover.measure.running.programs import Programs
from channover.network.programs.iperf import Transfer, Transport
from channover.observe.evidence import nics_by_address
from channover.observe.nics import NicSeries
from channover.observe.own_connections import own_connections
from channover.observe.sockets import Subflow
from channover.observe.trace import RoundTrips, Trip
from channover.report.facts import PathMetrics, TrafficMetrics

CARRIED = 0.1
"""The share of a host's bytes from which on a NIC counts as one that carried."""
IDLE = 0.01
"""The share of the bytes below which a subflow's round trips are of no load, and a connection carries no data."""


@dataclass(frozen=True)
class Path:
    """A connection or a subflow, and its round trips while data went."""

    metrics: PathMetrics
    trips: Sequence[Trip]


def told_by_iperf(transfer: Transfer) -> dict[int, list[Trip]]:
    """Return the round trips of a TCP transfer's connections by the sender's port, as its report tells; none of others."""
    ports = {one["socket"]: one["local_port"] for one in transfer.report.get("start", {}).get("connected", ())}
    found: dict[int, list[Trip]] = {}
    for interval in transfer.report.get("intervals", ()) if transfer.load.protocol is Transport.TCP else ():
        for one in interval["streams"]:
            if one.get("rtt") and one["socket"] in ports:  # microseconds (iperf3, iperf_api.c)
                found.setdefault(ports[one["socket"]], []).append((one["end"], one["rtt"] / 1e6))
    return found


def paths_of_transfer(transfer: Transfer, sections: Mapping[str, str], trips: RoundTrips) -> list[Path]:
    """Return the connections of a transfer, or the subflows of them, as its source shows them at its end."""
    own = own_connections(sections, transfer.load.port, transfer.load.streams)
    sockets = [one for connection in own for one in connection.subflows]
    told, name = told_by_iperf(transfer), transfer.source.name
    seen = {one.pair: told.get(one.source_port) or trips.of(name, one) for one in sockets}
    return paths(transfer.source, sockets, sections, seen)


def carrying(sockets: Iterable[Subflow], matches: Callable[[Subflow], bool]) -> list[Subflow]:
    """Return, of a host's sockets that match, those of the connections that have sent a part of the data."""
    found: dict[object, list[Subflow]] = {}
    for one in sockets:
        if one.state == "ESTAB" and matches(one):
            found.setdefault(one.token or one.pair, []).append(one)
    sent = {key: sum(one.bytes_sent for one in group) for key, group in found.items()}
    return [one for key, group in found.items() if sent[key] > IDLE * sum(sent.values()) for one in group]


def paths(
    host: Host,
    sockets: Sequence[Subflow],
    sections: Mapping[str, str],
    seen: Mapping[tuple[str, int, str, int], Sequence[Trip]],
) -> list[Path]:
    """Return sockets of a host that sends, with the round trips that were ``seen``: else the smoothed one at the end."""
    nics = nics_by_address(sections, host)
    labels = {nic.device: nic.name for nic in host.nics.values()}
    sent = sum(one.bytes_sent for one in sockets)
    found = []
    for one in sockets:
        trips = list(seen.get(one.pair, ())) or ([(0.0, one.rtt)] if one.rtt else [])
        loaded = [rtt for _, rtt in trips] if one.bytes_sent > IDLE * sent else []
        nic = labels.get(one.device, one.device) if one.device else nics.get(one.source)
        source = f"[{one.source}]" if ":" in one.source else one.source
        name = f"{host.name}{f'.{nic}' if nic else ''} {source}:{one.source_port} → {one.destination}"
        metrics = PathMetrics(
            name,
            one.rtt_min or None,
            fmean(loaded) if loaded else None,
            max(loaded, default=None),
            one.bytes_sent,
            one.bytes_retransmitted,
        )
        found.append(Path(metrics, trips if loaded else []))
    return found


def of_tcp(
    traffic: str,
    protocol: Transport,
    source: str,
    target: str,
    taken: Iterable[PathMetrics],
    ratio: float | None = None,
) -> TrafficMetrics:
    """Return what its paths come to together, and with them how much longer than it had to it took (``ratio``)."""
    known = tuple(taken)
    idle = _weighted([(one.rtt_idle, one.sent) for one in known if one.rtt_loaded is not None])
    loaded = _weighted([(one.rtt_loaded, one.sent) for one in known])
    sent = sum(one.sent for one in known)
    return TrafficMetrics(
        traffic,
        protocol.value,
        source,
        target,
        rtt_idle=idle,
        rtt_loaded=loaded,
        buffer_delay=(loaded - idle) / idle if idle and loaded else None,
        transfer_time_ratio=ratio,
        efficiency=1 - sum(one.again for one in known) / sent if sent else None,
        paths=known,
    )


def _weighted(values: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def of_datagrams(
    traffic: str, source: str, target: str, lost: int, sent: int, reordered: int, jitter: float | None
) -> TrafficMetrics:
    """Return what became of ``sent`` datagrams, and their ``jitter`` (s), None where nobody measured it."""
    share = (lambda number: number / sent) if sent else (lambda _: None)
    return TrafficMetrics(
        traffic,
        Transport.UDP.value,
        source,
        target,
        lost=share(lost),
        reordered=share(reordered),
        jitter=jitter,
    )


def jitter(transfers: Sequence[Transfer]) -> float | None:
    """Return the mean jitter (s) of datagrams, as their receivers told slice by slice (RFC 3550, 6.4.1); None of none."""
    told = [one.jitter for transfer in transfers for one in transfer.slices() if one.total]
    return fmean(told) if told else None


def ideal(
    measuring: Measuring,
    series: Mapping[str, NicSeries],
    hosts: Sequence[Host],
    ends: tuple[Collection[str], Collection[str]],
    *,
    mptcp: bool,
) -> float:
    """Return what framing allows (bit/s) on the NICs that carried traffic, where they are fewest; 0 where none was seen.

    ``ends`` are the names of the hosts that sent and of those that received; all others passed it on.
    """
    senders, receivers = ends

    def together(names: Collection[str], way: str) -> float:
        return sum(
            measuring.cable_rate(host.name, nic)
            for host in hosts
            if host.name in names
            for nic in _carrying(host, series[host.name], way)
        )

    between = [host.name for host in hosts if host.name not in (*senders, *receivers)]
    narrow = [together(senders, "tx"), together(receivers, "rx")]
    narrow += [together([name], way) for name in between for way in ("rx", "tx")]
    link = measuring.link
    share = (link.mptcp_goodput if mptcp else link.tcp_goodput) / link.rate
    return share * min([rate for rate in narrow if rate], default=0.0)


def _carrying(host: Host, seen: NicSeries, way: str) -> list[str]:
    """Return the NICs of a host that carried a path's worth of its bytes in a direction."""
    sizes = {
        nic.name: int(getattr(seen.delta(nic.device), f"{way}_bytes"))
        for nic in host.nics.values()
        if nic.device in seen.devices
    }
    return [name for name, size in sizes.items() if size and size >= CARRIED * sum(sizes.values())]


@dataclass(frozen=True)
class FlowMetrics:
    """What stands beside the ``rate`` (bit/s) of a flow that has ended: of each direction, and of all of it together."""

    traffic: str
    programs: Programs
    rate: float

    @cached_property
    def paths(self) -> list[tuple[Transfer, list[Path]]]:
        """Its transfers, each with its connections or subflows; none where nobody looked before they were gone."""
        shown = self.programs.trace.evidence
        return [
            (one, paths_of_transfer(one, shown[one.source.name], self.programs.trace.trips) if shown else [])
            for one in self.programs.transfers
        ]

    @property
    def directions(self) -> tuple[TrafficMetrics, ...]:
        """What stands beside each direction: that of each host that sends to each that receives."""
        pairs = dict.fromkeys((one.source.name, one.target.name) for one in self.programs.transfers)
        return tuple(self._of(source, target, (source,), (target,)) for source, target in pairs)

    @property
    def whole(self) -> TrafficMetrics:
        """What stands beside all of it together."""
        sources = tuple(dict.fromkeys(one.source.name for one in self.programs.transfers))
        targets = tuple(dict.fromkeys(one.target.name for one in self.programs.transfers))
        return self._of(", ".join(sources), ", ".join(targets), sources, targets)

    def _of(self, source: str, target: str, sources: Collection[str], targets: Collection[str]) -> TrafficMetrics:
        among = [one for one in self.paths if one[0].source.name in sources and one[0].target.name in targets]
        if self.programs.protocol is Transport.UDP:
            transfers = [transfer for transfer, _ in among]
            lost, sent = (sum(one) for one in zip(*(transfer.datagrams for transfer in transfers), strict=True))
            late = sum(transfer.out_of_order[0] for transfer in transfers)
            return of_datagrams(self.traffic, source, target, lost, sent, late, jitter(transfers))
        taken = [path.metrics for _, found in among for path in found]
        return of_tcp(self.traffic, self.programs.protocol, source, target, taken, self.ratio)

    @cached_property
    def ratio(self) -> float | None:
        """How many times as long it took as it had to; None where it went both ways, or nothing is known of it."""
        transfers = self.programs.transfers
        ends = {one.source.name for one in transfers}, {one.target.name for one in transfers}
        if ends[0] & ends[1] or not self.rate or not self.programs.series:
            return None
        mptcp = self.programs.protocol is Transport.MPTCP
        best = ideal(self.programs.measuring, self.programs.series, self.programs.hosts, ends, mptcp=mptcp)
        if all(one.load.offered for one in transfers):
            best = min(best, sum(one.load.offered * one.load.streams for one in transfers))
        return best / self.rate if best else None
