"""A laboratory for the tunnel loop: a tunnel over MPTCP is made to feed on itself, and watched.

The loop is the subflow of the tunnel's carrier that goes through the tunnel. Data on it waits for later data of the very
connection that is to carry it. Not every kernel opens that subflow by itself, or keeps using it: :class:`LoopLab` says
what it does about that, step by step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from channover.errors import TestbedError
from channover.hosts.host import Host, until
from channover.measure.activity import Waiting
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, LimitsSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import RouteAdd
from channover.model.plan import Plan
from channover.network.loop_guard import Guard, both_guard, device_guard, mark_guard, matches_mptcp, source_guard
from channover.network.tunnel import Tunnel, TunnelEnd
from channover.observe.sockets import subflows
from channover.scenarios.loop.apart import Apart, separated
from channover.scenarios.loop.guards import Guarded, guarded
from channover.scenarios.loop.ways import LOOP_ENDPOINT, Vector, into, plans
from channover.scenarios.tunnels import LoopSigns, Tunnels, all_applied
from channover.verdict.loop.signs import SENDING, Form
from channover.verdict.measured import Measured

INNER_WAIT = 8.0
"""Seconds that the subflow within the tunnel may take: its SYN is sent again after 1, 3 and 7 s (RFC 6298, 2.1 and 5.5)."""
INNER_TRIES = 4
COLLAPSE = 12.0
"""Seconds that the rate of a tunnel that feeds on itself may take to collapse, and to stay so for five of them."""
COLLAPSES = 3
BURST = 300
"""Echo requests of 1400 bytes: more than a subflow's first windows hold, less than the sockets' buffers."""


@dataclass
class LoopLab:
    """A tunnel that can be made to feed on itself."""

    tunnels: Tunnels = field(repr=False)
    tunnel: Tunnel = field(repr=False)
    began: float = 0.0
    """When the load in the loop began (``time.monotonic()``)."""
    guard: Guarded | None = field(default=None, repr=False)
    """The guard behind which it was brought up, if it was."""
    _tries: int = 0

    @contextmanager
    def load(self) -> Iterator[None]:
        """Send datagrams through the tunnel for the length of a block, more than one link carries."""
        with self.tunnels.load(self.tunnel):
            yield

    def rate(self, name: str) -> Measured:
        """Measure what comes out of the tunnel at the server, in bit/s of IP packets, while a load runs."""
        return self.tunnels.rate(self.tunnel, name)

    def signs(self, *ends: TunnelEnd) -> LoopSigns:
        """Return every sign of the loop at these ends (none named: at both)."""
        return self.tunnels.signs(self.tunnel, *ends)

    def within(self) -> Measured:
        """Return how many subflows send into the tunnel at either end: those bound to its device, or routed there.

        One with a tunnel's address may go round it by a NIC, unharmed; its signs are there all the same.
        """
        found = [
            one
            for end in self.tunnel.ends
            for one in self.tunnels.departing(self.tunnel, end).get(end.device, ())
            if one.state in SENDING
        ]
        return self.tunnels.counted("subflows that send into the tunnel", len(found))

    def subflows_from(self, nic: str) -> Measured:
        """Return how many established subflows the carrier has from a NIC of the client, by its label."""
        client = self.tunnel.client
        own = self.tunnels.multipath.address(client.host.name, nic)
        sending = (one for group in self.tunnels.departing(self.tunnel, client).values() for one in group)
        found = sum(one.source == own and one.state in SENDING for one in sending)
        return self.tunnels.counted(f"subflows of the carrier from NIC {nic}", found)

    @contextmanager
    def closed_by(self, vector: Vector) -> Iterator[None]:
        """Invite the loop by one vector for the length of a block."""
        asked = str(self.tunnels.multipath.right.address.ip)
        with all_applied(plans(vector, self.tunnel, asked)):
            yield

    @contextmanager
    def before(self, nic: str) -> Iterator[None]:
        """Offer the client's own tunnel address before that of a NIC, by its label, for the length of a block."""
        with ExitStack() as offered:
            with self.tunnels.multipath.off([nic]):
                offered.enter_context(self.closed_by(Vector.OWN_ADDRESS))
                self.wait_for(Form.SOURCE)
            yield

    @contextmanager
    def offered(self) -> Iterator[None]:
        """Offer both of the tunnel's own addresses, routed into it, for the length of a block."""
        with self.route_into_tunnel(), self.add_signal_endpoint(), self.add_subflow_endpoint():
            yield

    @contextmanager
    def routed_into_tunnel(self) -> Iterator[None]:
        """Close the loop for the length of a block, and have its subflows sent into the tunnel. Raises TestbedError."""
        with self.route_into_tunnel(), self.close_loop():
            yield

    @contextmanager
    def no_more_subflows_than_paths(self) -> Iterator[None]:
        """Let the client have one subflow a path for the length of a block (``ip mptcp limits``)."""
        host, paths = self.tunnel.client.host, self.tunnels.multipath.paths
        limits = host.state().limits
        accepted = limits.add_addr_accepted if limits else 0
        with host.applied(Plan("one subflow a path", (LimitsSet(paths - 1, accepted),))):
            yield

    @contextmanager
    def apart(self) -> Iterator[Apart]:
        """Move the tunnel's device at the client into a network namespace of its own, for the length of a block.

        It is gone with the block, and so is the tunnel: a device of a program ends with its namespace.
        """
        end = self.tunnel.client
        with separated(end, self.tunnel.peer(end)) as made:
            yield made

    @property
    def programs(self) -> Measured:
        """How many of the tunnel's two programs run."""
        return self.tunnels.running(self.tunnel)

    @property
    def tries(self) -> Measured:
        """How often the loop was closed until the rate collapsed; one more than was tried where it never did."""
        return self.tunnels.counted("tries until the rate collapsed", self._tries)

    @contextmanager
    def collapse(self, ceiling: float) -> Iterator[None]:
        """Have the tunnel feed on itself under a load, until less than ``ceiling`` bit/s leaves it for five seconds.

        What was sent before the loop closed comes out first. A kernel may leave the looped subflows idle, for good or by
        turns: the tunnel's own address is preferred, and the loop is closed ``COLLAPSES`` times at most. The last one
        counts, whatever becomes of it.
        """
        for number in range(1, COLLAPSES + 1):
            with ExitStack() as loop:
                with self.tunnels.measuring.step("close the loop"):
                    for part in (self.route_into_tunnel, self.close_loop, self.load, self.prefer_tunnel):
                        loop.enter_context(part())
                    self.began = time.monotonic()
                    fell = self._collapses(ceiling)
                self._tries = number if fell else number + 1
                if fell or number == COLLAPSES:
                    yield
                    return
            with self.tunnels.measuring.step(f"the loop did no lasting harm in {COLLAPSE:g} s: it is closed anew"):
                pass

    def _collapses(self, ceiling: float) -> bool:
        with self.tunnels.output(self.tunnel) as output:
            found = output.lasts("collapse", COLLAPSE, 5, lambda rate: rate < ceiling)
        return found is not None

    @contextmanager
    def close_loop(self) -> Iterator[None]:
        """Have MPTCP carry the tunnel within itself: with a subflow from its own address to its far one.

        Both are offered as paths, as tools do that add every address they see. Which subflows a kernel opens then hangs
        on which address it hears of first, and none opens that one always: both orders are tried in turn. A load comes
        after it: closed behind a full queue, the loop may stay harmless. Raises TestbedError where the lab could not be made
        to loop.
        """
        offers = [self.add_signal_endpoint, self.add_subflow_endpoint]
        waiting = Waiting("loop", INNER_TRIES * INNER_WAIT)
        seen: list[str] = []
        for attempt in range(INNER_TRIES):
            with ExitStack() as stack:
                for offer in offers[:: (-1) ** attempt]:
                    stack.enter_context(offer())
                if self._inner(waiting, (attempt + 1) * INNER_WAIT):
                    self.tunnels.show(self.signs())
                    yield
                    return
                seen += [f"try {attempt + 1}: {one}" for one in self.signs(self.tunnel.client).findings]
        near, far = (end.address.ip for end in self.tunnel.ends)
        raise TestbedError(
            f"the lab could not be made to loop: no subflow from {near} to {far} was established in {INNER_TRIES} tries of "
            f"{INNER_WAIT:g} s:\n" + ("\n".join(seen) or "no sign of one")
        )

    def _inner(self, waiting: Waiting, limit: float) -> bool:
        """Wait for the subflow between the tunnel's own addresses, until ``limit`` seconds of the waiting are over.

        Both ends must have it: one that the server refuses is established at the client for a moment.
        """
        near, far = (str(end.address.ip) for end in self.tunnel.ends)
        ways = (self.tunnel.client.host, near, far), (self.tunnel.server.host, far, near)
        with self.tunnels.record.converges():
            while True:
                self.tunnels.measuring.progress(waiting)
                if all(
                    any(
                        (one.source, one.destination, one.state) == (source, destination, "ESTAB")
                        for one in subflows(host)
                    )
                    for host, source, destination in ways
                ):
                    waiting.seconds = waiting.elapsed
                    self.tunnels.measuring.progress(waiting)
                    return True
                if waiting.elapsed > limit:
                    return False
                time.sleep(0.05)

    @contextmanager
    def add_subflow_endpoint(self, *, bound: bool = False) -> Iterator[None]:
        """Offer the client's tunnel address as a path, as tools that add every address they see do.

        ``bound`` ties it to the tunnel's device as well.
        """
        end = self.tunnel.client
        device = end.device if bound else None
        endpoint = EndpointAdd(LOOP_ENDPOINT, str(end.address.ip), ("subflow", "fullmesh"), device)
        way = into(end, bound=True) if bound else ()
        with end.host.applied(Plan("the tunnel's own address as a path", (*way, endpoint))):
            yield

    @contextmanager
    def add_signal_endpoint(self) -> Iterator[None]:
        """Have the server announce its tunnel address, so that the client opens subflows towards it."""
        end = self.tunnel.server
        endpoint = EndpointAdd(LOOP_ENDPOINT, str(end.address.ip), ("signal",))
        with end.host.applied(Plan("announce the tunnel's own address", (endpoint,))):
            yield

    @contextmanager
    def invite_loop(self) -> Iterator[None]:
        """Offer both of the tunnel's own addresses as paths, and send a load: a loop closes where no guard keeps it out."""
        with self.add_signal_endpoint(), self.add_subflow_endpoint(), self.load():
            yield

    @contextmanager
    def route_into_tunnel(self) -> Iterator[None]:
        """Have the routes of the client's NICs lead into the tunnel where its far address is meant.

        A mesh has paths from each NIC to that address; by a NIC's own table they go round the tunnel, unharmed.
        """
        end = self.tunnel.client
        tables = sorted({rule.table for rule in end.host.state().rules if not rule.of_any}, key=str)
        routes = [RouteAdd(str(end.address.network), end.device, table=table) for table in tables]
        with end.host.applied(Plan.of("the tunnel's network by the tunnel, from each NIC", routes)):
            yield

    @contextmanager
    def prefer_tunnel(self) -> Iterator[None]:
        """Have the client prefer its tunnel address, come what may.

        Its NICs' paths become backups (RFC 8684, 3.3.8), and the kernel takes none for stale: it would soon send nothing
        by a subflow that waits for what it carries (``Documentation/networking/mptcp-sysctl.rst``, ``stale_loss_cnt``).
        """
        host = self.tunnel.client.host
        known = [one for one in host.state().endpoints.values() if one.id != LOOP_ENDPOINT]
        changes: list[Operation] = [SysctlSet("net/mptcp/stale_loss_cnt", "0")]
        changes += [EndpointChange(one.id, ("backup", *{"fullmesh"}.intersection(one.flags))) for one in known]
        with host.applied(Plan.of("the tunnel's own address preferred", changes)):
            yield

    def wait_for(self, form: Form, timeout: float = 10.0) -> LoopSigns:
        """Wait for at most ``timeout`` seconds until the loop shows in a form; return every sign that there is then."""
        self._wait(lambda: any(one.form is form for one in self.signs().findings), form.value, timeout)
        found = self.signs()
        self.tunnels.show(found)
        return found

    def use_every_path(self) -> None:
        """Send a burst of echo requests through the tunnel, more than one path's window takes, answered or not."""
        near, far = (str(end.address.ip) for end in self.tunnel.ends)
        burst = str(BURST)
        words = ("-n", "-q", "-c", burst, "-l", burst, "-s", "1400", "-W", "1", "-I", near, far)
        self.tunnel.client.host.run("ping", *words, check=False)

    def wait_clear(self, timeout: float = 10.0, *, tried: bool = False) -> LoopSigns:
        """Give the client's looped subflows time (seconds) to end; return the signs that are left there.

        The server's may stay for longer: one on which nothing is sent meets no guard, and carries nothing. With ``tried``
        those have time as well that are tried for and not there.
        """
        harmless = {Form.ENDPOINT, *(() if tried else (Form.PENDING,))}
        client = self.tunnel.client
        self._wait(lambda: {one.form for one in self.signs(client).findings} <= harmless, "none", timeout)
        return self.signs(client)

    def _wait(self, condition: Callable[[], bool], form: str, timeout: float) -> None:
        with self.tunnels.record.converges(), suppress(TestbedError):  # what is there then is for the test to judge
            until(condition, f"signs of a loop: {form}", timeout, 0.05)

    @contextmanager
    def guarded_at_both_ends(self) -> Iterator[Guarded]:
        """Load, at both ends, the guard that covers both directions, for the length of a block."""
        ends = self.tunnel.ends
        guards = [(end.host, both_guard(self.tunnel, end.host, option=matches_mptcp(end.host))) for end in ends]
        with self._guarded(guards) as guarded:
            yield guarded

    @contextmanager
    def guarded_at_the_source(self) -> Iterator[Guarded]:
        """Load the article's guard for the length of a block: the client rejects the carrier from the tunnel's own address."""
        client = self.tunnel.client.host
        with self._guarded([(client, source_guard(self.tunnel, client))]) as guarded:
            yield guarded

    @contextmanager
    def guarded_by_a_mark(self) -> Iterator[Guarded]:
        """Mark the carrier at the client for the length of a block, and prohibit the mark by the device: it does not help."""
        client = self.tunnel.client.host
        with self._guarded([(client, mark_guard(self.tunnel, client))]) as guarded:
            yield guarded

    @contextmanager
    def guarded_by_the_device(self) -> Iterator[Guarded]:
        """Load, at the client, the guard that knows the tunnel's device alone, for the length of a block."""
        client = self.tunnel.client.host
        with self._guarded([(client, device_guard(self.tunnel, client, option=matches_mptcp(client)))]) as guarded:
            yield guarded

    @contextmanager
    def _guarded(self, guards: Sequence[tuple[Host, Guard]]) -> Iterator[Guarded]:
        lasted = time.monotonic() - self.began if self.began else 0.0
        with guarded(self.tunnels, self.tunnel, guards, lasted) as loaded:
            yield loaded
