"""A tunnel as the diagnosis sees it: both ends' devices and programs, its guards, and signs of a loop."""

from __future__ import annotations

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.measure.running.alive import program
from channover.network.loop_guard import Guard, hits
from channover.network.tunnel import Tunnel
from channover.observe.sockets import subflows
from channover.scenarios.loop.guards import Guarded
from channover.verdict.causes.case import GuardView, ProgramView, TunnelView
from channover.verdict.loop.signs import loops


def view(tunnel: Tunnel, guarded: Guarded | None) -> TunnelView:
    """Return what a tunnel shows of itself. Raises TestbedError."""
    mtus: dict[str, int] = {}
    signs: list[str] = []
    for end in tunnel.ends:
        state = end.host.state()
        link = state.links.get(end.device)
        if link is not None:
            mtus[end.host.name] = link.mtu
        found = loops(subflows(end.host), state.endpoints.values(), [tunnel.inner(end.host)])
        signs += [f"{end.host.name}: {one}" for one in found]
    return TunnelView(
        tunnel.kind,
        tunnel.port,
        str(tunnel.network),
        {end.host.name: end.device for end in tunnel.ends},
        mtus,
        signs,
        [] if guarded is None else [_guard(host, guard) for host, guard in guarded.guards],
    )


def _guard(host: Host, guard: Guard) -> GuardView:
    try:
        return GuardView(host.name, guard.name, dict(hits(host, guard).packets))
    except TestbedError:
        return GuardView(host.name, guard.name, None)


def programs(tunnel: Tunnel) -> list[ProgramView]:
    """Return the programs that hold a tunnel."""
    return [program(end.host, f"{tunnel.kind}, the tunnel's program", end.process) for end in tunnel.ends]
