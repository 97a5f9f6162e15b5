"""Causes in tunnels: a carrier that rides within the tunnel, guards that do not guard, MTUs, routes."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from channover.verdict.causes.case import SENDING, Case
from channover.verdict.causes.kind import Found, cause

_STANDING = 0.5
"""Seconds from which a round trip through a tunnel is no longer what its carrier, or a queue of a link, makes it."""
_LONGER = 10
"""How many times as long as the carrier's such a round trip is."""


def _tunnelled(case: Case) -> bool:
    return case.tunnel is not None


@cause(
    "tunnel-down",
    "A tunnel's device is gone or down at one end.",
    shows="`ip link show` at both ends",
    remedy="look at the program that holds it, and its last words",
    applies=_tunnelled,
)
def _down(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    for name, device in case.tunnel.devices.items():
        link = case.host(name).state.links.get(device)
        if link is None or not link.up:
            yield Found(f"{name} has {'no device' if link is None else 'down'} {device}", (), "shown")


@cause(
    "guard-not-loaded",
    "A guard against a tunnel's loop is not loaded at an end, or has no rules.",
    shows="`nft list ruleset`",
    remedy="load the guard at both ends before the tunnel carries anything",
    applies=_tunnelled,
)
def _not_loaded(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    for guard in case.tunnel.guards:
        if guard.met is None:
            yield Found(f"{guard.host}: the guard {guard.name} is not loaded", (), "shown")


@cause(
    "guard-never-met",
    "A guard against a tunnel's loop is loaded, and has met no packet of the carrier.",
    shows="the guard's counters (`nft list table`)",
    remedy="check that its rules name the tunnel's device, network and port, and that they are there at all",
    applies=_tunnelled,
)
def _never_met(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    for guard in case.tunnel.guards:
        if guard.met is not None and not sum(guard.met.values()):
            told = ", ".join(f"{name} {count}" for name, count in guard.met.items())
            yield Found(f"{guard.host}: the guard {guard.name} has met nothing", (told, *case.tunnel.loops), "shown")


def _riding(case: Case) -> list[str]:
    """Return the signs of subflows that are established within the tunnel: an attempt, or an endpoint, is none."""
    assert case.tunnel is not None
    return [line for line in case.tunnel.loops if not line.partition(": ")[2].startswith(("pending", "endpoint"))]


@cause(
    "loop-latent",
    "The loop was closed, and its subflows carry nothing: they are backups, or the kernel leaves them aside.",
    shows="the rate that leaves the tunnel, beside the subflows that ride within it (`ss -ti`: flags b, B)",
    remedy="take the flag backup from the tunnel's own endpoint, where the loop is meant",
    applies=lambda case: case.tunnel is not None and case.missed == "too much" and case.unit == "bit/s",
)
def _latent(case: Case) -> Iterator[Found]:
    if riding := _riding(case):
        endpoints = [
            f"{host.name}: endpoint {one.address} is a backup"
            for host in case.ends
            for one in host.state.endpoints.values()
            if "backup" in one.flags
        ]
        yield Found("the loop is closed, and carries nothing", (*endpoints, *riding), "shown")


@cause(
    "loop-joined",
    "The loop's subflow was to stay pending, and the server took it: it is established.",
    shows="the subflows within the tunnel at both ends (`ss -ti`)",
    remedy="look for what listens on the carrier's port at the server",
    applies=lambda case: case.tunnel is not None and case.about.startswith("signs of a loop by pending"),
)
def _joined(case: Case) -> Iterator[Found]:
    if riding := _riding(case):
        yield Found("the loop's subflow is established, and not pending", tuple(riding), "shown")


@cause(
    "loop-not-offered",
    "A loop was to be there, and nothing offers the tunnel as a path: no endpoint has an address of it, or its device.",
    shows="the MPTCP endpoints at both ends (`ip mptcp endpoint`), beside the tunnel's network and device",
    remedy="add the tunnel's own address as an endpoint, where the loop is meant",
    applies=lambda case: (
        case.tunnel is not None and case.about.startswith("signs of a loop") and case.missed == "too little"
    ),
)
def _not_offered(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    if not case.tunnel.loops and " by device " not in case.about:  # what a route leads inside needs no endpoint
        told = [
            f"{host.name}: endpoint {one.address or one.id}"
            for host in case.ends
            for one in host.state.endpoints.values()
        ]
        yield Found(f"no endpoint lies in the tunnel's network {case.tunnel.network}", tuple(told), "shown")


@cause(
    "tunnel-loop",
    "The tunnel's carrier rides within the tunnel.",
    shows="the carrier's subflows and the MPTCP endpoints, beside the tunnel's network and device",
    remedy="load a guard at both ends, or take the tunnel's own address out of the endpoints",
    applies=_tunnelled,
)
def _loop(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    if riding := _riding(case):
        yield Found("the tunnel's carrier rides within the tunnel", tuple(riding), "shown")
    elif case.tunnel.loops:
        yield Found("the tunnel's own addresses are offered as paths", tuple(case.tunnel.loops), "possible")


@cause(
    "tunnel-mtu",
    "The two ends of a tunnel have different MTUs, or one too large for what it carries.",
    shows="`ip link show` at both ends",
    remedy="`ip link set DEVICE mtu BYTES`, the same at both ends",
    applies=_tunnelled,
)
def _mtu(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    if len(set(case.tunnel.mtus.values())) > 1:
        told = ", ".join(f"{case.tunnel.devices[name]} of {name} {mtu} bytes" for name, mtu in case.tunnel.mtus.items())
        yield Found(f"the tunnel's ends have different MTUs: {told}", (), "shown")


@cause(
    "tunnel-route-missing",
    "No route leads into the tunnel where its far end, or what is beyond, is meant.",
    shows="`ip route show` at both ends, `net.ipv4.ip_forward` or `net.ipv6.conf.all.forwarding` at the gateway",
    remedy="`ip route add NETWORK dev DEVICE`; at the gateway `sysctl net.ipv4.ip_forward=1`, or of IPv6 "
    "`net.ipv6.conf.all.forwarding=1`",
    applies=_tunnelled,
)
def _route(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    for name, device in case.tunnel.devices.items():
        host = case.host(name)
        link = host.state.links.get(device)
        if link is not None and not link.addresses:
            yield Found(f"{name}'s {device} has no address", (), "shown")
    key = "net/ipv6/conf/all/forwarding" if ":" in case.tunnel.network else "net/ipv4/ip_forward"
    if case.others and case.server.sysctls.get(key) == "0":
        yield Found(f"{case.server.name} does not forward: {key.replace('/', '.')} is 0", (), "likely")


@cause(
    "tunnel-standing-queue",
    "The tunnel's program holds what it is given: packets wait in it, while its carrier has nothing to send.",
    shows="round trips inside the tunnel beside the carrier's, and how long the carrier had something to send (`ss -ti`)",
    remedy="a smaller window for TCP inside, at both ends: `ip route change NETWORK dev DEVICE proto kernel scope link src "
    "ADDRESS window 131072`; `ssh -w` sends one packet whenever it wakes up (OpenSSH, channels.c), so that what has gathered "
    "in it while its socket was full does not drain",
    applies=lambda case: case.tunnel is not None and case.slow,
)
def _standing(case: Case) -> Iterator[Found]:
    assert case.tunnel is not None
    network = ip_network(case.tunnel.network)
    inside = [one for one in case.sender.sockets if one.state == "ESTAB" and ip_address(one.source) in network]
    carrier = case.data(case.sender)
    through, below = (max((one.rtt for one in some), default=0.0) for some in (inside, carrier))
    if through >= max(_STANDING, _LONGER * below) and carrier and case.busy < SENDING * case.seconds:
        yield Found(
            f"{case.sender.name}'s end of the tunnel holds packets for {through:.1f} s, while its carrier has nothing to send",
            (
                f"a round trip takes {through:.1f} s inside the tunnel, and {below * 1e3:.0f} ms at most on its carrier",
                f"the carrier had something to send for {case.busy:.1f} of {case.seconds:.1f} s",
            ),
            "shown",
        )
