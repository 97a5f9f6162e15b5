"""What one flow, many flows and UDP get of two links, and what a lost link costs: LACP, MPTCP, a tunnel, ECMP with BFD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from channover.network.programs.bird import multipath_routes
from channover.testing import (
    HashPolicy,
    HostEnd,
    Lab,
    Lag,
    Multipath,
    NumberedTraffic,
    Phased,
    TrafficGenerator,
    Tunnels,
    at_least,
    hash_policy,
)

SHOWN = at_least(0.0, "measured and not judged")
MANY = 16
"""Flows of which all go by one of two links once in 32768 times."""
LOST = 3.0
"""Seconds for which a link is lost: more than LACP with fast timers takes to notice that it is silent."""
STORAGE = {
    "iSCSI with multipath": ("target_core_mod", "iscsi_target_mod", "iscsi_tcp", "dm_multipath"),
    "NFS with nconnect and session trunking": ("nfsd", "nfsv4"),
}
"""Rivals that are storage, and the modules of the kernel that they take."""
ways = pytest.mark.parametrize("silently", [False, True], ids=["carrier", "silent"])


@pytest.fixture
def routed(lab: Lab) -> Iterator[tuple[HostEnd, HostEnd]]:
    """Give two hosts that ECMP routes with BFD join over every cable."""
    if lab.probe is None:
        pytest.skip("ECMP is measured in namespaces: nothing guards a real host's hash of routes")
    if lab.link.ipv6:
        pytest.skip("ECMP is measured over IPv4: its routes lead to addresses of IPv4")
    if lab.left.run("sh", "-c", "command -v bird", check=False, quiet=True).returncode:
        pytest.skip(f"{lab.left.name} has no bird: install bird2")
    with multipath_routes(lab) as (near, far):
        yield HostEnd(lab.left, near), HostEnd(lab.right, far)


def lacking(lab: Lab, modules: Sequence[str]) -> str:
    """Say which of these modules a host's kernel has neither loaded nor at hand, or that it has them all."""
    loop = 'for m in "$@"; do [ -e "/sys/module/$m" ] || modprobe -n -q "$m" || echo "$m"; done'
    missing = lab.left.run("sh", "-c", loop, "sh", *modules, check=False, quiet=True).stdout.split()
    if missing:
        return f"{lab.left.name}'s kernel has no {', '.join(missing)}"
    return f"{lab.left.name}'s kernel has {', '.join(modules)}, and nothing here sets it up yet"


def costs(moving: Phased, lab: Lab, silently: bool) -> None:
    """Lose the first link under traffic, and give it back."""
    moving.phase("before", 1.5)
    with lab.lost(lab.topology.cables[0], silently=silently):
        moving.phase("fault: link lost", LOST)
    moving.phase("recovery", LOST)


@hash_policy(HashPolicy.LAYER34)
def test_lacp_gives(lag: Lag, tcp: TrafficGenerator, udp: TrafficGenerator) -> None:
    assert tcp(lag.left, lag.right).goodput == SHOWN
    assert tcp(lag.left, lag.right, streams=MANY).goodput == SHOWN
    assert udp(lag.left, lag.right, offered=2 * lag.link.rate).goodput == SHOWN


@ways
@hash_policy(HashPolicy.LAYER34)
def test_lacp_loses_a_link(lab: Lab, lag: Lag, numbered: NumberedTraffic, silently: bool) -> None:
    with numbered.datagrams(lag.left, lag.right, flows=MANY) as moving:
        costs(moving, lab, silently)
    assert moving.outage(moving.flows, "any flow") == SHOWN


def test_multipath_tcp_gives(multipath: Multipath, mptcp: TrafficGenerator, udp: TrafficGenerator) -> None:
    with multipath.one_subflow_a_path():
        assert mptcp(multipath.left, multipath.right).goodput == SHOWN
        assert mptcp(multipath.left, multipath.right, streams=MANY).goodput == SHOWN
        assert udp(multipath.left, multipath.right, offered=2 * multipath.link.rate).goodput == SHOWN


@ways
def test_multipath_tcp_loses_a_link(multipath: Multipath, numbered: NumberedTraffic, silently: bool) -> None:
    with (
        multipath.one_subflow_a_path(),
        numbered.stream(multipath.left, multipath.right, mptcp=True) as moving,
    ):
        costs(moving, multipath.lab, silently)
    assert moving.longest_gap("fault: link lost") == SHOWN


def test_a_full_mesh_gives(multipath: Multipath, mptcp: TrafficGenerator, udp: TrafficGenerator) -> None:
    assert mptcp(multipath.left, multipath.right).goodput == SHOWN
    assert mptcp(multipath.left, multipath.right, streams=MANY).goodput == SHOWN
    assert udp(multipath.left, multipath.right, offered=2 * multipath.link.rate).goodput == SHOWN


@ways
def test_a_full_mesh_loses_a_link(multipath: Multipath, numbered: NumberedTraffic, silently: bool) -> None:
    with numbered.stream(multipath.left, multipath.right, mptcp=True) as moving:
        costs(moving, multipath.lab, silently)
    assert moving.longest_gap("fault: link lost") == SHOWN


def test_a_tunnel_gives(multipath: Multipath, tunnels: Tunnels, tcp: TrafficGenerator, udp: TrafficGenerator) -> None:
    with tunnels.openvpn() as tunnel:
        assert tcp(tunnel.client, tunnel.server).goodput == SHOWN
        assert tcp(tunnel.client, tunnel.server, streams=MANY).goodput == SHOWN
        assert udp(tunnel.client, tunnel.server, offered=1.5 * multipath.link.rate, payload=1390).goodput == SHOWN


@ways
def test_a_tunnel_loses_a_link(
    multipath: Multipath, tunnels: Tunnels, numbered: NumberedTraffic, silently: bool
) -> None:
    with tunnels.openvpn() as tunnel, numbered.datagrams(tunnel.client, tunnel.server, flows=MANY) as moving:
        costs(moving, multipath.lab, silently)
    assert moving.outage(moving.flows, "any flow") == SHOWN


def test_ecmp_gives(lab: Lab, routed: tuple[HostEnd, HostEnd], tcp: TrafficGenerator, udp: TrafficGenerator) -> None:
    near, far = routed
    assert tcp(near, far).goodput == SHOWN
    assert tcp(near, far, streams=MANY).goodput == SHOWN
    assert udp(near, far, offered=2 * lab.link.rate).goodput == SHOWN


@ways
def test_ecmp_loses_a_link(
    lab: Lab, routed: tuple[HostEnd, HostEnd], numbered: NumberedTraffic, silently: bool
) -> None:
    with numbered.datagrams(*routed, flows=MANY) as moving:
        costs(moving, lab, silently)
    assert moving.outage(moving.flows, "any flow") == SHOWN


@pytest.mark.parametrize("rival", STORAGE)
def test_storage_gives(lab: Lab, rival: str) -> None:
    pytest.skip(f"{rival} is not measured: {lacking(lab, STORAGE[rival])}")
