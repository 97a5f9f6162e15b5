"""Means against a tunnel's loop, those that do not help among them: how each is taken, and which ways into it each closes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum

from channover.model.operations.kernel import SysctlSet
from channover.model.plan import Plan
from channover.network.loop_guard import hits
from channover.network.openvpn import join_listener
from channover.observe.sockets import subflows
from channover.scenarios.loop.guards import Guarded
from channover.scenarios.loop.lab import LoopLab
from channover.scenarios.loop.ways import Vector
from channover.scenarios.tunnels import Tunnels
from channover.verdict.measured import Measured

_OWN = frozenset({Vector.OWN_ADDRESS, Vector.BOUND, Vector.BACKUP, Vector.DEFAULT})
"""The ways that are one more subflow from the client's own address."""


class Means(Enum):
    """One means against the loop."""

    BOTH = "the guard of both directions"
    DEVICE = "the guard of the device"
    SOURCE = "the article's guard"
    LIMIT = "no more subflows than paths"
    NO_JOIN = "no joins to the address that was asked for"
    MARK = "a mark of the carrier, prohibited by the device"
    BOUND = "the carrier's socket bound to a NIC"

    @property
    def closes(self) -> frozenset[Vector]:
        """Which ways it closes: no subflow is there then, or is tried for, that has to do with the tunnel.

        What does not leave by the device the guard of it does not see. A mark closes none: a rule's device is the one that a
        socket is bound to, and a packet has its mark only once it has been routed. Nor does a socket that is bound: the
        subflows that the kernel adds are not. Where nothing joins the first address, no NIC's path does either.
        """
        return {
            Means.BOTH: frozenset(Vector),
            Means.DEVICE: frozenset({Vector.BOUND, Vector.ROUTED, Vector.DEFAULT}),
            Means.SOURCE: _OWN,
            Means.LIMIT: _OWN,
            Means.NO_JOIN: _OWN | {Vector.ROUTED},
            Means.MARK: frozenset(),
            Means.BOUND: frozenset(),
        }[self]


@contextmanager
def loop_lab(tunnels: Tunnels, *, joins: bool = True, means: Means | None = None) -> Iterator[LoopLab]:
    """Bring up an OpenVPN tunnel that can be made to feed on itself, for the length of a block, behind a means against it.

    Eight subflows can be added, and Linux 6.1 opens some of a mesh twice: with one server address, few of them leave room
    for the loop's. With ``joins`` the server goes on taking subflows, as the article's kernel did: OpenVPN stops listening
    once its client is there.
    """
    multipath = tunnels.multipath
    first = multipath.left.host.nic(multipath.nics[0]).device
    with ExitStack() as stack:
        stack.enter_context(multipath.one_server_address())
        if means is Means.NO_JOIN:
            refusing = Plan(means.value, (SysctlSet("net/mptcp/allow_join_initial_addr_port", "0"),))
            stack.enter_context(multipath.right.host.applied(refusing))
        tunnel = stack.enter_context(tunnels.openvpn(bound_to=first if means is Means.BOUND else None))
        if joins:
            stack.enter_context(join_listener(tunnel))
        loop = LoopLab(tunnels, tunnel)
        if means is Means.LIMIT:
            stack.enter_context(loop.no_more_subflows_than_paths())
        elif guard := _GUARDS.get(means):
            loop.guard = stack.enter_context(guard(loop))
        yield loop


_GUARDS: dict[Means | None, Callable[[LoopLab], AbstractContextManager[Guarded]]] = {
    Means.BOTH: LoopLab.guarded_at_both_ends,
    Means.DEVICE: LoopLab.guarded_by_the_device,
    Means.SOURCE: LoopLab.guarded_at_the_source,
    Means.MARK: LoopLab.guarded_by_a_mark,
}


def in_force(loop: LoopLab, means: Means) -> Measured:
    """Count what shows that a means is in force: packets that it met, or the limit, the missing path or the socket."""
    client = loop.tunnel.client.host
    if loop.guard is not None:
        shown = sum(hits(host, guard).total for host, guard in loop.guard.guards)
    elif means is Means.LIMIT:
        limits = client.state().limits
        shown = limits is not None and limits.subflows == loop.tunnels.multipath.paths - 1
    elif means is Means.NO_JOIN:
        shown = loop.subflows_from(loop.tunnels.multipath.nics[-1]).value == 0
    else:
        device = client.nic(loop.tunnels.multipath.nics[0]).device
        shown = sum(one.device == device and one.destination_port == loop.tunnel.port for one in subflows(client))
    return loop.tunnels.counted(f"signs that it is in force: {means.value}", int(shown))


LoopLabs = Callable[..., AbstractContextManager[LoopLab]]
"""Makes a tunnel that can be made to feed on itself, for the length of a block: :func:`loop_lab` of a test's tunnels."""
