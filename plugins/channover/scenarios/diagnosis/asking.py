"""Asks a lab, while it is alive, about a comparison that did not hold, and tells the causes.

It is asked about a flow, a copy, traffic in phases, a tunnel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

from channover.errors import TestbedError
from channover.hosts.host import Host, each
from channover.hosts.lab import Lab
from channover.measure.file_transfer import Copied
from channover.measure.flow import Flow
from channover.measure.record import Record
from channover.measure.running.phased import Phased
from channover.model.link import Link
from channover.model.state import State
from channover.model.topology import Port
from channover.network.lag import Lag
from channover.network.programs.iperf import Transport
from channover.network.tunnel import Tunnel
from channover.observe import evidence
from channover.observe.counters import Counters, parse_nstat
from channover.observe.inquiry import Asked, Inquiry, Told, inquire
from channover.observe.nics import NicSeries
from channover.scenarios.diagnosis import hosts, lags, tunnels
from channover.scenarios.lags.hashed import Placed
from channover.scenarios.loop.guards import Guarded
from channover.verdict.causes.case import Case, HostView, PathView, ProgramView, WayView
from channover.verdict.causes.catalogue import explain
from channover.verdict.causes.cause import Explanation, Missed
from channover.verdict.measured import Reading

MORE = 1.03
"""How much more than one path gives a connection, at the least, takes another one."""
_Standing = TypeVar("_Standing")
_TURNED: Mapping[Missed, Missed] = {"too much": "too little", "too little": "too much", "otherwise": "otherwise"}
"""How what was carried lay to what was expected, by how a value lay of which more is worse."""


@dataclass(frozen=True)
class Traffic:
    """What was measured, as the diagnosis needs it: who opened it, to whom, by which addresses and ports, and what was seen."""

    client: Host
    server: Host
    near: str | None
    far: str
    ports: frozenset[int]
    transport: str
    upload: bool = True
    watched: Sequence[Host] = ()
    series: Mapping[str, NicSeries] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    before: Mapping[str, Counters] = field(default_factory=dict)
    fallbacks: Sequence[str] = ()
    notes: Sequence[str] = ()
    programs: Sequence[ProgramView] = ()
    seconds: float = 0.0
    spoilt: str = ""

    @property
    def mptcp(self) -> bool:
        """Whether it was to be Multipath TCP."""
        return self.transport == Transport.MPTCP.value


@dataclass
class Diagnosis:
    """Finds the causes of what a test's comparisons missed. The lab is asked once for each thing that was measured."""

    lab: Lab
    record: Record
    _asked: dict[int, tuple[object, Case, tuple[str, ...]]] = field(default_factory=dict)

    def explain(self, subject: object, missed: Reading) -> Explanation:
        """Explain a value of a flow, a copy or a tunnel that is not as expected. Raises TestbedError."""
        known = self._asked.get(id(subject))
        if known is None:
            known = self._asked[id(subject)] = (subject, *self._ask(subject))
        _, case, notes = known
        harmful = isinstance(subject, Phased) and missed.name in subject.harms
        several = case.mptcp if harmful else _several(missed, self.lab.link, case.mptcp)
        here = replace(
            case,
            missed=_TURNED[missed.way] if harmful else missed.way,
            several=several,
            measured=missed.estimate.mean,
            unit=missed.unit,
            about=missed.name,
        )
        return Explanation(explain(here), (*notes, *map(str, here.hosts)))

    def of_failure(self, words: str, *, verdict: bool) -> Explanation:
        """Explain a failure that no comparison has explained, by what the lab shows: causes that are likely, or none.

        It is that of the last flow, where there was one, and a ``verdict``, or of what the testbed could not do. Raises
        TestbedError.
        """
        flow = next((one for one in reversed(self.record.flows) if one.evidence), None)
        case, _ = self._ask(flow)
        missed = next((one for one in reversed(self.record.readings) if one.missed), None)
        if missed is not None and verdict:
            about, several = missed.name, _several(missed, self.lab.link, case.mptcp)
            case = replace(case, missed=missed.way, several=several, about=about)
        else:
            case = replace(case, missed="otherwise", several=False)
        found = explain(replace(case, said=[*case.said, words]))
        return Explanation(tuple(cause for cause in found if cause.certainty != "possible"))

    def _ask(self, subject: object) -> tuple[Case, tuple[str, ...]]:
        traffic = self._traffic(subject)
        if traffic is None:
            return self._case_of_lab(), ()
        return self._case(traffic), tuple(traffic.notes)

    def _traffic(self, subject: object) -> Traffic | None:
        if isinstance(subject, Flow):
            return _of_flow(subject)
        if isinstance(subject, Copied):
            return _of_copy(subject)
        if isinstance(subject, Phased):
            return _of_phased(subject)
        if isinstance(subject, Tunnel):
            return self._carrier(subject)
        return None

    def _carrier(self, tunnel: Tunnel) -> Traffic:
        client, server = tunnel.client.host, tunnel.server.host
        far = str(self.lab.address(self._ports(client, server)[0][1]).ip)
        return Traffic(
            client,
            server,
            None,
            far,
            frozenset({tunnel.port}),
            Transport.MPTCP.value,
            programs=tunnels.programs(tunnel),
        )

    def _ports(self, client: Host, server: Host) -> list[tuple[Port, Port]]:
        """Return both ends of each cable between two hosts."""
        topology = self.lab.topology
        ports = [cable.ports for cable in topology.between(client.name, server.name)]
        return [(one, other) if one.node == client.name else (other, one) for one, other in ports]

    def _case(self, traffic: Traffic) -> Case:
        tunnel = self._tunnel(traffic)
        if tunnel is not None:  # what the traffic rests on is the tunnel's carrier
            carrier = self._carrier(tunnel)
            traffic = replace(
                traffic,
                client=carrier.client,
                server=carrier.server,
                near=None,
                far=carrier.far,
                ports=carrier.ports,
                transport=carrier.transport,
                programs=[*traffic.programs, *carrier.programs],
            )
        paths = self._paths(traffic)
        asked = {traffic.client.name: traffic.client, traffic.server.name: traffic.server}
        asked |= {host.name: host for host in traffic.watched}
        forth = [(one.near, one.far) for one in paths]
        across = [(one.near, other.far) for one in paths for other in paths if one is not other and _alike(one, other)]
        ways: dict[str, list[Asked]] = {name: [] for name in asked}
        for name, turned in ((traffic.client.name, False), (traffic.server.name, True)):
            pairs = [(far, near) if turned else (near, far) for near, far in (*forth, *across)]
            ways[name] = [Asked(*pair, self.lab.link.mtu, pair[::-1] in forth or pair in forth) for pair in pairs]
        planned = self._planned(paths)
        seen = each(partial(self._seen, traffic, ways, planned), list(asked.values()))
        told = {one.host.name: one.inquiry for one in seen}
        views = dict(zip(asked, each(hosts.view, seen), strict=True))
        client, server = views.pop(traffic.client.name), views.pop(traffic.server.name)
        return Case(
            client,
            server,
            traffic.mptcp,
            fallbacks=traffic.fallbacks,
            others=list(views.values()),
            upload=traffic.upload,
            ports=traffic.ports,
            paths=[_with_ways(path, told, client, server) for path in paths],
            crossing=[way for one in (client, server) for way in _across(one, told[one.name])],
            lags=[view for lag in self._standing(Lag) for view in lags.views(lag, traffic.series)],
            hashed=list(map(lags.hashed, self._standing(Placed))),
            programs=traffic.programs,
            tunnel=tunnels.view(tunnel, next(iter(self._standing(Guarded)), None)) if tunnel else None,
            link=self.lab.link.rate,
            transport=traffic.transport,
            seconds=traffic.seconds,
            said=list(traffic.notes),
            spoilt=traffic.spoilt,
        )

    def _seen(
        self,
        traffic: Traffic,
        ways: Mapping[str, Sequence[Asked]],
        planned: Mapping[str, Mapping[str, str]],
        host: Host,
    ) -> hosts.Seen:
        sections = traffic.sections.get(host.name, {})
        if "addresses" not in sections:  # only its sockets were looked at
            sections = {**evidence.collect(host), **sections}
        devices = [nic.device for nic in host.nics.values()]
        inquiry = inquire(host, ways[host.name], devices)
        series = traffic.series.get(host.name)
        counted = _counted(traffic.before.get(host.name), sections)
        flaps = partial(self._flaps, host)
        return hosts.Seen(host, sections, inquiry, series, counted, planned.get(host.name, {}), flaps)

    def _flaps(self, host: Host, now: State) -> dict[str, int]:
        changes = self.record.carriers.changes(self.lab, {host.name: now})
        return {port.nic: number for port, number in changes if port.node == host.name}

    def _case_of_lab(self) -> Case:
        """Return what a lab shows where nothing was measured in it: its ends' NICs, and its LAGs."""
        names = [self.lab.topology.client, self.lab.topology.server]
        names += [name for name in self.lab.hosts if name not in names]
        asked = [self.lab.hosts[name] for name in names]

        def seen(host: Host) -> HostView:
            return hosts.view(hosts.Seen(host, evidence.collect(host), inquire(host)))

        client, server, *others = each(seen, asked)
        found = [view for lag in self._standing(Lag) for view in lags.views(lag, {})]
        flows = list(map(lags.hashed, self._standing(Placed)))
        rate = self.lab.link.rate
        return Case(client, server, others=others, several=False, lags=found, hashed=flows, link=rate)

    def _standing(self, kind: type[_Standing]) -> Iterator[_Standing]:
        return (one for one in self.record.standing if isinstance(one, kind))

    def _tunnel(self, traffic: Traffic) -> Tunnel | None:
        """Return the tunnel that traffic goes through: to its other end, to a host beyond it, or its own."""
        for tunnel in self._standing(Tunnel):
            names = {end.host.name for end in tunnel.ends}
            inside = _within(traffic.far, tunnel) or traffic.ports == {tunnel.port}
            if inside or (traffic.client.name in names and traffic.server.name not in names):
                return tunnel
        return None

    def _planned(self, paths: Collection[PathView]) -> dict[str, dict[str, str]]:
        """Return the addresses that the lab plans for the NICs of its paths, by host; none where it has no paths of its own."""
        found: dict[str, dict[str, str]] = {}
        if any(path.client_nic for path in paths):
            for cable in self.lab.topology.cables:
                for port in cable.ports:
                    found.setdefault(port.node, {})[port.nic] = str(self.lab.address(port).ip)
        return found

    def _paths(self, traffic: Traffic) -> list[PathView]:
        """Return the paths that traffic has: the cables between its ends, where it goes by their addresses, or else one."""
        ports = self._ports(traffic.client, traffic.server)
        own = [
            PathView(near.nic, far.nic, str(self.lab.address(near).ip), str(self.lab.address(far).ip))
            for near, far in ports
        ]
        if traffic.far in [path.far for path in own]:
            return own if traffic.mptcp else [path for path in own if path.far == traffic.far]
        return [PathView("", "", traffic.near, traffic.far)] if traffic.near else []


def _alike(one: PathView, other: PathView) -> bool:
    """Whether two paths are of one family: no packet goes from an address of one to one of the other."""
    return ip_address(one.near).version == ip_address(other.far).version


def _within(address: str, tunnel: Tunnel) -> bool:
    return ip_address(address) in tunnel.network


def _of_flow(flow: Flow) -> Traffic:
    first = flow.programs.transfers[0]
    mptcp = flow.programs.protocol is Transport.MPTCP
    return Traffic(
        first.source,
        first.target,
        first.load.source,
        first.load.target,
        frozenset(flow.programs.ports),
        flow.programs.protocol.value,
        True,
        flow.programs.hosts,
        flow.programs.series,
        flow.evidence,
        flow.programs.trace.before,
        _fallbacks(flow) if mptcp else (),
        flow.programs.notes,
        seconds=flow.seconds,
    )


def _fallbacks(measured: Flow | Copied) -> tuple[str, ...]:
    try:
        return measured.fallbacks()
    except TestbedError:  # none of its connections was left to be looked at
        return ()


def _of_copy(copied: Copied) -> Traffic:
    client, server = copied.nics.ends
    return Traffic(
        client,
        server,
        *copied.addresses,
        frozenset({copied.port}),
        (Transport.MPTCP if copied.mptcp else Transport.TCP).value,
        False,
        copied.hosts,
        copied.nics.series,
        copied.trace.evidence,
        copied.trace.before,
        _fallbacks(copied) if copied.mptcp else (),
        [f"{copied.copy.size:,} bytes in {copied.copy.seconds:.2f} s, after {copied.copy.setup:.2f} s of set-up"],
    )


def _of_phased(moving: Phased) -> Traffic:
    moving.end()
    ends = moving.ends
    return Traffic(
        ends.client.host,
        ends.server.host,
        str(ends.client.address.ip),
        str(ends.server.address.ip),
        ends.ports,
        ends.transport.value,
        ends.upload,
        moving.hosts,
        moving.series,
        moving.trace.evidence,
        moving.trace.before,
        moving.fallbacks,
        programs=moving.programs,
        seconds=moving.series[ends.client.host.name].duration,
        spoilt=moving.spoilt,
    )


def _counted(before: Counters | None, sections: Mapping[str, str]) -> Mapping[str, int]:
    """Return what was counted since before the traffic, of every counter that the kernel has."""
    if before is None:
        return {}
    try:
        after = parse_nstat(sections.get("counters", ""))
    except (ValueError, IndexError):
        return {}
    return {name: after[name] - before[name] for name in {*before, *after}}


def _with_ways(path: PathView, told: Mapping[str, Inquiry], client: HostView, server: HostView) -> PathView:
    ways = []
    for host, pair, label in (
        (client, (path.near, path.far), path.client_nic),
        (server, (path.far, path.near), path.server_nic),
    ):
        for one in told[host.name].ways:
            if (one.asked.source, one.asked.destination) == pair:
                expected = next((nic.device for nic in host.nics if nic.name == label), "")
                ways.append(_way(host.name, one, expected))
    return replace(path, ways=ways)


def _across(host: HostView, inquiry: Inquiry) -> Iterator[WayView]:
    return (_way(host.name, way, _owner(host, way)) for way in inquiry.ways if not way.asked.probed)


def _owner(host: HostView, way: Told) -> str:
    """Return the device of the NIC that has a way's address."""
    return next((nic.device for nic in host.nics if nic.address == way.asked.source), "")


def _way(host: str, one: Told, expected: str) -> WayView:
    return WayView(
        host,
        one.asked.source,
        one.asked.destination,
        expected,
        one.device,
        one.refused,
        3,
        one.small,
        one.full,
        one.round_trip,
    )


def _several(missed: Reading, link: Link, mptcp: bool) -> bool:
    """Say whether a value was expected to need more than one path."""
    low = missed.expectation.low
    if missed.unit == "bit/s":
        one = MORE * link.mptcp_goodput if mptcp else 1.1 * link.rate
        return low > one or missed.name.startswith("lesser")
    return low >= 2 or missed.name.startswith("share of")
