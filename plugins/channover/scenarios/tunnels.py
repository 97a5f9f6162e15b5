"""Tunnels over the paths of a test: ``ssh -w`` and OpenVPN, each for the length of a block, and what they carry."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_network

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host
from channover.measure.activity import End
from channover.measure.device_rate import DeviceRate
from channover.measure.flow import Flow
from channover.measure.measurement import Measuring
from channover.measure.record import Record
from channover.model.link import Link
from channover.model.operations.operation import Operation
from channover.model.operations.routing import EVERYWHERE, RouteAdd, RuleAdd
from channover.model.plan import Plan
from channover.model.topology import Port
from channover.network.openvpn import openvpn_tunnel, restart
from channover.network.programs.iperf import PORTS
from channover.network.ssh_tunnel import ssh_login, ssh_server, ssh_tunnel
from channover.network.tunnel import Devices, Tunnel, TunnelEnd, through, way_back
from channover.observe.nics import NicSeries, Sampler, Samplers
from channover.observe.sockets import Subflow, departures, subflows
from channover.scenarios.labs import HostEnd, Multipath
from channover.scenarios.tunnel_output import TunnelOutput
from channover.verdict.causes.cause import Explanation, said
from channover.verdict.loop.signs import Form, LoopFinding, loops
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.notes import unlike_mtus

OWN_TABLE = 140
"""The routing table of what leaves with the tunnel's own address, and the priority of its rule: above those of the NICs."""
LOAD_PORT = PORTS[-1]
"""TCP and UDP port of a background load."""
LOAD = 1.5
"""Links' worth of datagrams that a background load offers: more than one link carries, less than two."""


@dataclass(frozen=True)
class Loaded:
    """What the NICs of a tunnel's hosts carried under a load that ``began`` at a moment (seconds since the epoch)."""

    title: str
    hosts: Sequence[Host]
    series: Mapping[str, NicSeries]
    link: Link
    began: float
    seconds: float


@dataclass(frozen=True)
class LoopSigns:
    """Every sign, at one moment, that a tunnel's carrier rides within the tunnel."""

    where: str
    findings: tuple[LoopFinding, ...]
    count: Callable[[str, float, str], Measured] = field(repr=False)
    explain: Callable[[Reading], Explanation] = field(default=lambda _: said(), repr=False)

    def of(self, form: Form) -> Measured:
        """Return how many signs there are of a form."""
        found = [one for one in self.findings if one.form is form]
        return self._counted(f"signs of a loop by {form.value} at {self.where}", found)

    @property
    def all(self) -> Measured:
        """How many signs there are, of whatever form."""
        return self._counted(f"signs of a loop at {self.where}", self.findings)

    @property
    def carrying(self) -> Measured:
        """How many subflows there are that carry the tunnel within itself: an endpoint, or an attempt, carries nothing."""
        found = [one for one in self.findings if one.form not in (Form.PENDING, Form.ENDPOINT)]
        return self._counted(f"subflows within the tunnel at {self.where}", found)

    def _counted(self, name: str, found: Sequence[LoopFinding]) -> Measured:
        return replace(self.count(name, len(found), "1"), explain=self._explained)

    def _explained(self, missed: Reading) -> Explanation:
        why = self.explain(missed)
        return replace(why, seen=(*str(self).splitlines(), *why.seen))

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "no sign of a loop"


@dataclass(frozen=True)
class Tunnels:
    """Tunnels from ``left`` to ``right`` that MPTCP carries, each for the length of a block."""

    multipath: Multipath
    record: Record
    measuring: Measuring
    loaded: Callable[[Loaded], None] = field(default=lambda _: None, repr=False)
    attach: Callable[[str, str], None] = field(default=lambda _title, _text: None, repr=False)
    """Attaches a text to the test's report, by its title."""

    @contextmanager
    def ssh(self, *, compression: bool = False, mptcp: bool = True) -> Iterator[Tunnel]:
        """Bring up ``ssh -w`` (article, stage 3, round 1)."""
        left, right = self.multipath.left, self.multipath.right
        with ssh_server(right.host, mptcp=mptcp, version=right.address.version) as server:
            login, mtu = ssh_login(left.host, server, str(right.address.ip)), self.multipath.link.mtu
            with self._up(ssh_tunnel(login, compression=compression, mptcp=mptcp, mtu=mtu)) as tunnel:
                yield tunnel

    @contextmanager
    def openvpn(self, *, mptcp: bool = True, bound_to: str | None = None) -> Iterator[Tunnel]:
        """Bring up OpenVPN over TCP without cipher (article, stage 3, round 2); the client may be ``bound_to`` a device."""
        left, right = self.multipath.left, self.multipath.right
        remote, mtu = str(right.address.ip), self.multipath.link.mtu
        made = openvpn_tunnel(left.host, right.host, remote, mptcp=mptcp, mtu=mtu, bound_to=bound_to)
        with self._up(made) as tunnel:
            yield tunnel

    @contextmanager
    def _up(self, making: AbstractContextManager[Tunnel]) -> Iterator[Tunnel]:
        """Count the time that a tunnel takes to come up as a protocol converging."""
        with self.record.converges():
            made = making.__enter__()
        asked = self.multipath.lab.asked
        self.record.standing.append(made)
        try:
            devices = Devices.of(made)
            asked.append(devices)
            if len(devices.mtus) == 2:
                one, other = devices.mtus.values()
                self.record.notes += unlike_mtus(f"the tunnel by {made.kind}", (one, other))
            try:
                yield made
            finally:
                asked.remove(devices)
        finally:
            self.record.standing.remove(made)
            making.__exit__(None, None, None)

    def counted(self, name: str, number: float, unit: str = "1") -> Measured:
        """Return a value that is known exactly, whose comparisons the report shows."""
        return count(name, number, self.record.readings.append, unit)

    def processor_time(self, tunnel: Tunnel) -> float:
        """Return the processor time (seconds) that the client's end of a tunnel has used so far (``proc(5)``, stat: utime).

        What the kernel does for it is left out: that is the same for whatever it computes.
        """
        fields = tunnel.client.host.read(f"/proc/{tunnel.client.process.pid}/stat").rpartition(") ")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    def cost(self, tunnel: Tunnel, flow: Flow, since: float, name: str) -> Measured:
        """Return the processor time (seconds) that the client's end has used for each Gbit of a flow's goodput.

        ``since`` is what it had used before the flow: the exchange of keys is not the flow's.
        """
        gigabits = flow.goodput.value * flow.seconds / 1e9
        return self.counted(name, (self.processor_time(tunnel) - since) / gigabits, "s")

    def answered(self, tunnel: Tunnel, beyond: End | None = None) -> Measured:
        """Send three ICMP echo requests through a tunnel, to its far end or one beyond; return how many were answered."""
        near, far = str(tunnel.client.address.ip), str((beyond or tunnel.server).address.ip)
        done = tunnel.client.host.run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-I", near, far, check=False)
        match = re.search(r"(\d+) received", done.stdout)
        value = self.counted("echo requests answered, of three", int(match[1]) if match else 0)
        return replace(value, explain=partial(self.measuring.explain, tunnel))

    def carrier_subflows(self, tunnel: Tunnel, end: TunnelEnd) -> Measured:
        """Return how many established subflows a tunnel's carrier has at an end: none where it is no MPTCP connection.

        One that fell back to TCP has a single one.
        """
        found = [
            one
            for one in subflows(end.host)
            if one.mptcp and one.state == "ESTAB" and tunnel.port in (one.source_port, one.destination_port)
        ]
        value = self.counted(f"subflows of the carrier at {end.host.name}", len(found))
        return replace(value, explain=partial(self.measuring.explain, tunnel))

    @contextmanager
    def load(self, tunnel: Tunnel) -> Iterator[None]:
        """Send through the tunnel, in the background, for the length of a block: more than one link's rate.

        TCP goes through ``ssh -w``, UDP through OpenVPN. Less than the links carry together: behind a full queue a loop's own
        packets are lost, and MPTCP sends what they held by the other paths. iperf3's own figures are not asked for: a loop
        stops its control connection too.
        """
        server = tunnel.server.host.spawn("iperf3", "-s", "-p", str(LOAD_PORT), "--forceflush")
        words = ["iperf3", "-c", str(tunnel.server.address.ip), "-p", str(LOAD_PORT), "-t", "300"]
        if tunnel.kind == "openvpn":
            words += ["-u", "-l", "1390", "-b", f"{LOAD * self.multipath.link.rate:.0f}"]
        with ExitStack() as stack:
            stack.callback(server.stop, 1.0)
            server.wait_for("Server listening", 5.0)
            stack.enter_context(self.measuring.turn())
            stack.enter_context(self._watched(tunnel))
            client = tunnel.client.host.spawn(*words)
            stack.callback(client.stop, 1.0)
            server.wait_for("connected to", 10.0)
            yield

    @contextmanager
    def _watched(self, tunnel: Tunnel) -> Iterator[None]:
        """Sample the NICs of both hosts for the length of a block, and tell what they carried, whatever became of it."""
        hosts = [end.host for end in tunnel.ends]
        began = time.time()
        samplers = Samplers(hosts)
        try:
            yield
        finally:
            with suppress(TestbedError):  # a host that is gone is what the test has failed of
                series = samplers.stop()
                title = f"load through {tunnel.kind}, {hosts[0].name}→{hosts[1].name}"
                link = self.multipath.link
                self.loaded(Loaded(title, hosts, series, link, began, time.time() - began))

    @contextmanager
    def output(self, tunnel: Tunnel) -> Iterator[TunnelOutput]:
        """Sample what leaves a tunnel at the server for the length of a block. Raises TestbedError."""
        device = tunnel.server.device
        with Sampler(tunnel.server.host, [device]) as sampler:
            yield TunnelOutput(sampler, device, self.measuring, self.record)

    def rate(self, tunnel: Tunnel, name: str) -> Measured:
        """Measure what comes out of the tunnel's device at the server, in bit/s of IP packets, while a load runs."""
        device = tunnel.server.device
        return Measured(
            name,
            source=DeviceRate(
                name, Sampler(tunnel.server.host, [device]), device, self.measuring, self.record
            ).measurement,
            on_result=self.record.readings.append,
            explain=partial(self.measuring.explain, tunnel),
        )

    def running(self, tunnel: Tunnel) -> Measured:
        """Return how many of the two programs that hold a tunnel still run: without them nothing is a loop's doing."""
        alive = sum(end.process.poll() is None for end in tunnel.ends)
        return replace(
            self.counted("the tunnel's programs that run", alive), explain=partial(self.measuring.explain, tunnel)
        )

    def signs(self, tunnel: Tunnel, *ends: TunnelEnd) -> LoopSigns:
        """Return every sign that the carrier rides within the tunnel, at these ends of it (none named: at both)."""
        looked = ends or tunnel.ends
        found: list[LoopFinding] = []
        for end in looked:
            carrier, endpoints = _carrier(tunnel, end), end.host.state().endpoints.values()
            found += loops(carrier, endpoints, [tunnel.inner(end.host)], departures(end.host, carrier))
        return LoopSigns(
            " and ".join(end.host.name for end in looked),
            tuple(found),
            self.counted,
            partial(self.measuring.explain, tunnel),
        )

    def departing(self, tunnel: Tunnel, end: TunnelEnd) -> dict[str, list[Subflow]]:
        """Return the carrier's sockets at an end by the device by which they send. Raises TestbedError."""
        carrier = _carrier(tunnel, end)
        routed = departures(end.host, carrier)
        found: dict[str, list[Subflow]] = {}
        for one in carrier:
            found.setdefault(one.device or routed.get((one.source, one.destination), ""), []).append(one)
        return found

    def show(self, signs: LoopSigns) -> None:
        """Attach signs of a loop to the test's report."""
        self.attach("the loop, as it was detected", str(signs))

    def connected_again(self, tunnel: Tunnel) -> Measured:
        """Have OpenVPN lose its carrier and connect again; return how long (seconds) that took. Raises TestbedError."""
        began = time.monotonic()
        with self.record.converges(), self.measuring.step("connect again"):
            restart(tunnel, str(self.multipath.right.address.ip))
        return self.counted("time to connect again", time.monotonic() - began, "s")

    @contextmanager
    def by_default(self, tunnel: Tunnel) -> Iterator[End]:
        """As :meth:`to_beyond`, by a default route through the tunnel: all that leaves with its own address goes into it.

        The host's own default route stays: on a real one it leads to whoever controls it.
        """
        end = tunnel.client
        own = str(end.address.ip)
        changes: list[Operation] = [
            RouteAdd(EVERYWHERE[end.address.version], end.device, table=OWN_TABLE),
            RuleAdd(own, OWN_TABLE, OWN_TABLE),
        ]
        with end.host.applied(Plan.of("the default route through the tunnel", changes)), self._beyond(tunnel) as far:
            yield far

    @contextmanager
    def to_beyond(self, tunnel: Tunnel) -> Iterator[End]:
        """Route from the client through the tunnel to the host behind the server; gives the far end. Raises UsageError."""
        with self._beyond(tunnel) as far:
            way = through(tunnel, tunnel.server, str(ip_network(far.address.ip)))[tunnel.client.host.name]
            with tunnel.client.host.applied(way):
                yield far

    @contextmanager
    def _beyond(self, tunnel: Tunnel) -> Iterator[End]:
        """Have the server forward to the host behind it, and that one answer into the tunnel; gives that far end."""
        lab = self.multipath.lab
        client, server = lab.topology.client, lab.topology.server
        ways = [ports for one in lab.topology.cables for ports in (one.ports, one.ports[::-1])]
        found = [(near, far) for near, far in ways if near.node == server and far.node != client]
        if len(found) != 1:
            raise UsageError(f"topology {lab.topology.name}: there must be one cable from {server} to a host behind it")
        ((near, far),) = found
        address = lab.address(far)
        beyond = lab.hosts[far.node]
        gateway = tunnel.server.host
        forwards = through(tunnel, tunnel.server, str(ip_network(address.ip)))[gateway.name]
        back = way_back(tunnel, beyond.nic(far.nic).device, str(lab.address(Port(near.node, near.nic)).ip))
        with all_applied([(gateway, forwards), (beyond, back)]):
            yield HostEnd(beyond, address)


def _carrier(tunnel: Tunnel, end: TunnelEnd) -> list[Subflow]:
    """Return the sockets at an end that have the carrier's port."""
    return [one for one in subflows(end.host) if tunnel.port in (one.source_port, one.destination_port)]


@contextmanager
def all_applied(plans: Sequence[tuple[Host, Plan]]) -> Iterator[None]:
    """Apply plans for the length of a block."""
    with ExitStack() as stack:
        for host, plan in plans:
            stack.enter_context(host.applied(plan))
        yield
