"""Multipath TCP over IPv6, and over both families at once (RFC 8684, 3.2 and 3.4.1: addresses of either)."""

from __future__ import annotations

import pytest

from channover.testing import Multipath, TrafficGenerator, at_least, at_most, behaviour, near, require_multipath

pytestmark = pytest.mark.families
BOTH = 1.75
"""Of one cable's rate: what two paths carry of one connection at least."""
CHATTER = 0.001
"""What share of a flow's bytes an idle NIC may send: neighbour discovery, reports of listeners, ARP."""


@behaviour("MP-11")
def test_one_ipv6_connection_is_spread_over_both_paths(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    with multipath.ipv6() as six:
        flow = mptcp(six.left, six.right)
        assert flow.goodput == at_least(BOTH * six.link.rate, "two paths carry one connection", theory=six.goodput)
        for end in (six.left, six.right):
            mesh = six.mesh(end.host)
            assert flow.meshed(end.host, mesh) == len(mesh)
        assert flow.nics_used == 2
        require_multipath(flow)


@behaviour("MP-11")
def test_an_ipv6_connection_is_joined_by_an_ipv4_path(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    first, _ = multipath.nics
    with multipath.ipv6(first) as mixed:
        flow = mptcp(mixed.left, mixed.right)
        assert flow.goodput == at_least(BOTH * mixed.link.rate, "two paths carry one connection", theory=mixed.goodput)
        for end in (mixed.left, mixed.right):
            mesh = mixed.mesh(end.host)
            assert flow.meshed(end.host, mesh) == len(mesh)
        assert flow.nics_used == 2
        require_multipath(flow)


@behaviour("MP-11")
def test_an_ipv4_connection_is_joined_by_no_ipv6_path(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    _, second = multipath.nics
    with multipath.ipv6(second) as mixed:
        flow = mptcp(mixed.left, mixed.right)
        assert flow.goodput == near(mixed.added(mixed.nics[0]))
        assert flow.announced(mixed.left.host) == at_least(1, "the client was told of the server's IPv6 address")
        for end in (mixed.left, mixed.right):
            assert flow.established(end.host) == 1
        assert flow.nics_used == 1
        (idle,) = flow.nics.idle(mixed.left.host, "tx")
        whole = sum(flow.nics.carried(mixed.left.host).values())
        assert idle.bytes == at_most(CHATTER * whole, "what hosts say of themselves, and no data")
        require_multipath(flow)
