"""Tunnels over the paths of a test, the loop in them, and the guards against it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from statistics import fmean

import allure

from channover.errors import RigError
from channover.flow import Flow
from channover.hosts.base import Host, until
from channover.measuring import EXTENSION, End, Measuring, Waiting
from channover.network.guard import Guard, Hits, both_guard, hits, matches_mptcp, source_guard
from channover.network.openvpn import join_listener, openvpn_tunnel
from channover.network.ssh import ssh_login, ssh_server, ssh_tunnel
from channover.network.tunnel import Tunnel, TunnelEnd, through, way_back
from channover.observe.counters import Processors, processors
from channover.observe.nics import NicSeries, Sampler
from channover.observe.sockets import subflows
from channover.paths import HostEnd, Multipath
from channover.plan import EndpointAdd, EndpointChange, Operation, Plan, RouteAdd, SysctlSet
from channover.record import Record
from channover.slot import measuring_slot
from channover.topology import Port
from channover.verdict.expect import Measured, count
from channover.verdict.loop import Form, LoopFinding, loops
from channover.wire import Link

LOOP_ENDPOINT = 40
"""The id of the endpoint that a tool adds for the tunnel's address: above those of the lab's NICs."""
INNER_WAIT = 8.0
"""Seconds that the subflow within the tunnel may take: its SYN is sent again after 1, 3 and 7 s (RFC 6298, 2.1 and 5.5)."""
INNER_TRIES = 4
COLLAPSE = 12.0
"""Seconds that the rate of a tunnel that feeds on itself may take to collapse, and to stay so for five of them."""
COLLAPSES = 3
RECOVERY = 20.0
"""Seconds that a tunnel may take to come back behind its guard, where the loop was shorter."""
LOAD_PORT = 5399
"""TCP and UDP port of a background load."""


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
class Tunnels:
    """Tunnels from ``left`` to ``right`` that MPTCP carries, each for the length of a block."""

    multipath: Multipath
    record: Record
    measuring: Measuring
    loaded: Callable[[Loaded], None] = field(default=lambda _: None, repr=False)

    @contextmanager
    def ssh(self, *, compression: bool = False, mptcp: bool = True) -> Iterator[Tunnel]:
        """Bring up ``ssh -w`` (article, stage 3, round 1)."""
        left, right = self.multipath.left, self.multipath.right
        with ssh_server(right.host, mptcp=mptcp) as server:
            login = ssh_login(left.host, server, str(right.address.ip))
            making = ssh_tunnel(login, compression=compression, mptcp=mptcp)
            with self.record.converges():
                made = making.__enter__()
            try:
                yield made
            finally:
                making.__exit__(None, None, None)

    @contextmanager
    def openvpn(self, *, mptcp: bool = True) -> Iterator[Tunnel]:
        """Bring up OpenVPN over TCP without cipher (article, stage 3, round 2)."""
        left, right = self.multipath.left, self.multipath.right
        making = openvpn_tunnel(left.host, right.host, str(right.address.ip), mptcp=mptcp)
        with self.record.converges():
            made = making.__enter__()
        try:
            yield made
        finally:
            making.__exit__(None, None, None)

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
        return count(name, (self.processor_time(tunnel) - since) / gigabits, self.record.readings.append, "s")

    def ping(self, tunnel: Tunnel) -> int:
        """Send three ICMP echo requests through a tunnel; return how many were answered."""
        far = str(tunnel.server.address.ip)
        done = tunnel.client.host.run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", far, check=False)
        match = re.search(r"(\d+) received", done.stdout)
        return int(match[1]) if match else 0

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
            words += ["-u", "-l", "1390", "-b", f"{1.5 * self.multipath.link.rate:.0f}"]
        with ExitStack() as stack:
            stack.callback(server.stop, 1.0)
            server.wait_for("Server listening", 5.0)
            self.record.waiting += stack.enter_context(measuring_slot(self.measuring))
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
        samplers = [Sampler(host) for host in hosts]
        try:
            yield
        finally:
            with suppress(RigError):  # a host that is gone is what the test has failed of
                series = {one.host.name: one.stop() for one in samplers}
                title = f"load through {tunnel.kind}, {hosts[0].name}→{hosts[1].name}"
                link = self.multipath.link
                self.loaded(Loaded(title, hosts, series, link, began, time.time() - began))

    def rate(self, tunnel: Tunnel, name: str) -> Measured:
        """Measure what comes out of the tunnel's device at the server, in bit/s of IP packets, while a load runs."""
        device = tunnel.server.device
        return Measured(
            name,
            source=_DeviceRate(name, Sampler(tunnel.server.host, [device]), device, self.measuring, self.record),
            record=self.record.readings.append,
            explain=lambda: "\n".join(map(str, self.loops(tunnel))) or "no sign of a loop",
        )

    @contextmanager
    def collapsed(self, tunnel: Tunnel, ceiling: float) -> Iterator[float]:
        """Have a tunnel feed on itself under a load, until less than ``ceiling`` bit/s leaves it for five seconds.

        Gives the moment (``time.monotonic()``) at which that load began.

        What was sent before the loop closed comes out first. A kernel may leave the looped subflows idle, for good or by
        turns: the tunnel's own address is preferred, and the loop is closed ``COLLAPSES`` times at most. The last one
        counts, whatever becomes of it.
        """
        for number in range(1, COLLAPSES + 1):
            with self.no_way_round(tunnel), self.fed_on_itself(tunnel), self.load(tunnel), self.preferred(tunnel):
                began = time.monotonic()
                waited = self._until(tunnel, "collapse", COLLAPSE, 5, lambda rate: rate < ceiling)
                if waited < COLLAPSE or number == COLLAPSES:
                    yield began
                    return
            with allure.step(f"the loop did no lasting harm in {COLLAPSE:g} s: it is closed anew"):
                pass

    def longest_timer(self, began: float) -> float:
        """Return how long (seconds) a retransmission timer may still run that a loop has wound up since ``began``.

        It doubles each time (RFC 6298, 5.5), so it runs for as long again as the loop has lasted. ``RECOVERY`` at least.
        """
        return max(RECOVERY, time.monotonic() - began)

    def recovery(self, tunnel: Tunnel, floor: float, limit: float) -> Measured:
        """Return how long (seconds) until traffic leaves the tunnel above ``floor``, for two seconds.

        What was queued in the loop comes out in a burst, and the carrier may stall once more behind it. Past ``limit``
        it waits for one second more.
        """
        waited = self._until(tunnel, "recovery", limit + 1, 2, lambda rate: rate > floor)
        return count("time to recover", waited, self.record.readings.append, "s")

    def _until(self, tunnel: Tunnel, title: str, limit: float, seconds: int, holds: Callable[[float], bool]) -> float:
        """Wait until the rate (bit/s) of each of the last ``seconds`` is as wanted; return the time, ``limit`` at most."""
        waiting = Waiting(title, limit)
        with self.record.converges(), Sampler(tunnel.server.host, [tunnel.server.device]) as sampler:
            while (waited := waiting.elapsed) < limit:
                self.measuring.progress(waiting)
                recent = sampler.so_far().rate(tunnel.server.device, "rx")[-10 * seconds :]
                if len(recent) == 10 * seconds and all(
                    holds(fmean(recent[start : start + 10])) for start in range(0, len(recent), 10)
                ):
                    break
                time.sleep(0.1)
        waiting.seconds = waited
        self.measuring.progress(waiting)
        return min(waited, limit)

    @contextmanager
    def joinable(self, tunnel: Tunnel) -> Iterator[None]:
        """Keep the server taking subflows, as the article's kernel did: OpenVPN stops listening after its accept."""
        with join_listener(tunnel):
            yield

    @contextmanager
    def fed_on_itself(self, tunnel: Tunnel) -> Iterator[None]:
        """Have MPTCP carry the tunnel within itself: with a subflow from its own address to its far one.

        Both are offered as paths, as tools do that add every address they see. Which subflows a kernel opens then hangs
        on which address it hears of first, and none opens that one always: both orders are tried in turn. A load comes
        after it: closed behind a full queue, the loop may stay harmless. Raises RigError where the lab could not be made
        to loop.
        """
        offers = [self.announced, self.offered]
        waiting = Waiting("loop", INNER_TRIES * INNER_WAIT)
        seen: list[str] = []
        for attempt in range(INNER_TRIES):
            with ExitStack() as stack:
                for offer in offers[:: (-1) ** attempt]:
                    stack.enter_context(offer(tunnel))
                if self._inner(tunnel, waiting, (attempt + 1) * INNER_WAIT):
                    self._show(tunnel)
                    yield
                    return
                seen += [f"try {attempt + 1}: {one}" for one in self.loops(tunnel, tunnel.client)]
        near, far = (end.address.ip for end in tunnel.ends)
        raise RigError(
            f"the lab could not be made to loop: no subflow from {near} to {far} was established in {INNER_TRIES} tries of "
            f"{INNER_WAIT:g} s:\n" + ("\n".join(seen) or "no sign of one")
        )

    def _inner(self, tunnel: Tunnel, waiting: Waiting, limit: float) -> bool:
        """Wait for the subflow between the tunnel's own addresses, until ``limit`` seconds of the waiting are over.

        Both ends must have it: one that the server refuses is established at the client for a moment.
        """
        near, far = (str(end.address.ip) for end in tunnel.ends)
        ways = (tunnel.client.host, near, far), (tunnel.server.host, far, near)
        with self.record.converges():
            while True:
                self.measuring.progress(waiting)
                if all(
                    any(
                        (one.source, one.destination, one.state) == (source, destination, "ESTAB")
                        for one in subflows(host)
                    )
                    for host, source, destination in ways
                ):
                    waiting.seconds = waiting.elapsed
                    self.measuring.progress(waiting)
                    return True
                if waiting.elapsed > limit:
                    return False
                time.sleep(0.05)

    @contextmanager
    def offered(self, tunnel: Tunnel, *, bound: bool = False) -> Iterator[None]:
        """Offer the client's tunnel address as a path, as tools that add every address they see do.

        ``bound`` ties it to the tunnel's device as well.
        """
        end = tunnel.client
        device = end.device if bound else None
        endpoint = EndpointAdd(LOOP_ENDPOINT, str(end.address.ip), ("subflow", "fullmesh"), device)
        with end.host.applied(Plan("the tunnel's own address as a path", (endpoint,))):
            yield

    @contextmanager
    def no_way_round(self, tunnel: Tunnel) -> Iterator[None]:
        """Have the routes of the client's NICs lead into the tunnel where its far address is meant.

        A mesh has paths from each NIC to that address; by a NIC's own table they go round the tunnel, unharmed.
        """
        end = tunnel.client
        tables = sorted({rule.table for rule in end.host.state().rules if rule.source != "all"}, key=str)
        routes = [RouteAdd(str(end.address.network), end.device, table=table) for table in tables]
        with end.host.applied(Plan.of("the tunnel's network by the tunnel, from each NIC", routes)):
            yield

    @contextmanager
    def preferred(self, tunnel: Tunnel) -> Iterator[None]:
        """Have the client prefer its tunnel address, come what may.

        Its NICs' paths become backups (RFC 8684, 3.3.8), and the kernel takes none for stale: it would soon send nothing
        by a subflow that waits for what it carries (``Documentation/networking/mptcp-sysctl.rst``, ``stale_loss_cnt``).
        """
        host = tunnel.client.host
        known = [one for one in host.state().endpoints.values() if one.id != LOOP_ENDPOINT]
        changes: list[Operation] = [SysctlSet("net/mptcp/stale_loss_cnt", "0")]
        changes += [EndpointChange(one.id, ("backup", *{"fullmesh"}.intersection(one.flags))) for one in known]
        with host.applied(Plan.of("the tunnel's own address preferred", changes)):
            yield

    @contextmanager
    def announced(self, tunnel: Tunnel) -> Iterator[None]:
        """Have the server announce its tunnel address, so that the client opens subflows towards it."""
        end = tunnel.server
        endpoint = EndpointAdd(LOOP_ENDPOINT, str(end.address.ip), ("signal",))
        with end.host.applied(Plan("announce the tunnel's own address", (endpoint,))):
            yield

    def loops(self, tunnel: Tunnel, *ends: TunnelEnd) -> tuple[LoopFinding, ...]:
        """Return every sign that the carrier rides within the tunnel, at these ends of it (none named: at both)."""
        found: list[LoopFinding] = []
        for end in ends or tunnel.ends:
            found += loops(subflows(end.host), end.host.state().endpoints.values(), [tunnel.inner(end.host)])
        return tuple(found)

    def forms(self, tunnel: Tunnel, *ends: TunnelEnd) -> set[Form]:
        """Return the forms in which the loop shows, at these ends (none named: at both)."""
        return {finding.form for finding in self.loops(tunnel, *ends)}

    def wait_forms(self, tunnel: Tunnel, form: Form, timeout: float = 10.0) -> set[Form]:
        """Wait for at most ``timeout`` seconds until the loop shows in a form; return the forms in which it shows then."""
        with self.record.converges(), suppress(RigError):
            until(lambda: form in self.forms(tunnel), f"the tunnel to feed on itself ({form.value})", timeout, 0.05)
        self._show(tunnel)
        return self.forms(tunnel)

    def _show(self, tunnel: Tunnel) -> None:
        """Attach every sign of the loop to the test's report."""
        found = "\n".join(map(str, self.loops(tunnel)))
        allure.attach(found, "the loop, as it was detected", allure.attachment_type.TEXT)

    def wait_clear(self, tunnel: Tunnel, timeout: float = 10.0) -> set[Form]:
        """Give the client's looped subflows time (seconds) to end; return the forms that are left there.

        The server's may stay for longer: one on which nothing is sent meets no guard, and carries nothing.
        """
        harmless = {Form.PENDING, Form.ENDPOINT}
        with self.record.converges(), suppress(RigError):
            until(lambda: self.forms(tunnel, tunnel.client) <= harmless, "the looped subflows to end", timeout, 0.1)
        return self.forms(tunnel, tunnel.client)

    def source_guards(self, tunnel: Tunnel) -> list[tuple[Host, Guard]]:
        """Return the article's guard, for the client: it rejects the carrier from the tunnel's own address."""
        return [(tunnel.client.host, source_guard(tunnel, tunnel.client.host))]

    def both_guards(self, tunnel: Tunnel) -> list[tuple[Host, Guard]]:
        """Return the guard that covers both directions, for both ends."""
        return [(end.host, both_guard(tunnel, end.host, option=matches_mptcp(end.host))) for end in tunnel.ends]

    @contextmanager
    def guarded(self, guards: Sequence[tuple[Host, Guard]]) -> Iterator[None]:
        """Load guards for the length of a block."""
        with _all_applied([(host, guard.plan) for host, guard in guards]):
            yield

    def hits(self, guards: Sequence[tuple[Host, Guard]]) -> int:
        """Return how many packets guards have rejected so far. Raises RigError where one is not loaded."""
        found: list[Hits] = [hits(host, guard) for host, guard in guards]
        return sum(one.total for one in found)

    @contextmanager
    def to_beyond(self, tunnel: Tunnel) -> Iterator[End]:
        """Route from ``left`` through the tunnel to ``beyond``, behind ``right``; gives the far end."""
        lab = self.multipath.lab
        (cable,) = lab.topology.between("right", "beyond")
        near, far = cable.ports
        address = lab.address(far)
        beyond = lab.hosts["beyond"]
        gateway: TunnelEnd = tunnel.server
        plans = [(lab.hosts[name], plan) for name, plan in through(tunnel, gateway, f"{address.ip}/32").items()]
        device = beyond.nic(far.nic).device
        plans.append((beyond, way_back(tunnel, device, str(lab.address(Port(near.node, near.nic)).ip))))
        with _all_applied(plans):
            yield HostEnd(beyond, address)


@dataclass
class _DeviceRate:
    """The rate of a device, sampled (:class:`channover.verdict.expect.Source`)."""

    name: str
    sampler: Sampler
    device: str
    measuring: Measuring
    record: Record
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _processors: Processors = field(init=False)
    _seen: int = 0
    _open: bool = True
    limit: float = 0.0

    def __post_init__(self) -> None:
        self._processors = processors(self.sampler.host)
        self.limit = self.measuring.duration or self.measuring.limit

    @property
    def elapsed(self) -> float:
        return self.seconds or time.monotonic() - self.started

    @property
    def fixed(self) -> bool:
        return self.measuring.duration is not None

    def disturbed(self, settled: bool) -> str:
        starved = processors(self.sampler.host).starved_since(self._processors)
        return "" if settled else starved

    def calm(self) -> list[float]:
        return self.samples()

    def samples(self) -> list[float]:
        return list(self.sampler.so_far().rate(self.device, "rx"))

    def more(self) -> bool:
        while self._open and self.elapsed <= self.limit:
            self.measuring.progress(self)
            if self.sampler.taken > self._seen:
                self._seen = self.sampler.taken
                return True
            time.sleep(0.03)
        return False

    def extend(self) -> bool:
        longest = EXTENSION * self.measuring.limit
        if not self._open or self.limit == longest:
            return False
        self.limit = longest
        return True

    def finish(self) -> None:
        if self._open:
            self._open = False
            self.sampler.stop()
            self.seconds = self.elapsed
            self.record.traffic += self.seconds
            self.measuring.progress(self)


@contextmanager
def _all_applied(plans: Sequence[tuple[Host, Plan]]) -> Iterator[None]:
    if not plans:
        yield
        return
    host, plan = plans[0]
    with host.applied(plan), _all_applied(plans[1:]):
        yield
