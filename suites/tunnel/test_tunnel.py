"""A tunnel over MPTCP gives any IP the sum of the links, unless it feeds on itself (article, stage 3)."""

from __future__ import annotations

from channover.testing import (
    Form,
    Multipath,
    Traffic,
    Tunnels,
    at_least,
    at_most,
    behaviour,
    near,
    on,
)
from channover.topology import gateway

DATAGRAM = 1390
"""Payload bytes of a datagram that fits the tunnel's MTU with room for its own framing."""
PAST_ONE_LINK = 1.1
"""Links' worth of TCP through a tunnel that no single link can give: its own framing leaves one about 0.9."""


@behaviour("TUN-1")
def test_ssh_over_mptcp_carries_any_ip_and_compression_costs(
    multipath: Multipath, tunnels: Tunnels, tcp: Traffic, udp: Traffic
) -> None:
    with tunnels.ssh() as tunnel:
        assert tunnels.ping(tunnel) == 3
        datagrams = udp(tunnel.client, tunnel.server, offered=0.2 * multipath.link.rate, payload=DATAGRAM)
        assert datagrams.goodput == near(0.2 * multipath.link.rate, 0.05, "as offered")
    with tunnels.ssh() as tunnel:
        before = tunnels.processor_time(tunnel)
        plain = tcp(tunnel.client, tunnel.server, incompressible=True)
        assert plain.goodput == at_least(0.01 * multipath.link.rate, "a few Mbit/s in the article, often far more")
        assert plain.nics_used == 2
        cost = tunnels.cost(tunnel, plain, before, "ssh's processor time a Gbit")
    with tunnels.ssh(compression=True) as tunnel:
        before = tunnels.processor_time(tunnel)
        compressed = tcp(tunnel.client, tunnel.server, incompressible=True)
        assert compressed.goodput == at_least(0.01 * multipath.link.rate, "it still carries")
        costlier = tunnels.cost(tunnel, compressed, before, "ssh's processor time a Gbit, compressing")
    assert costlier == at_least(1.5 * cost.value, "compression costs processor time and gains nothing here")


@behaviour("TUN-2")
def test_openvpn_over_mptcp_carries_any_ip(multipath: Multipath, tunnels: Tunnels, tcp: Traffic, udp: Traffic) -> None:
    with tunnels.openvpn() as tunnel:
        flow = tcp(tunnel.client, tunnel.server)
        assert flow.goodput == at_least(PAST_ONE_LINK * multipath.link.rate, "the carrier has two paths")
        assert flow.nics_used == 2
        assert tunnels.loops(tunnel) == ()
        assert tunnels.ping(tunnel) == 3
        offered = 0.2 * multipath.link.rate
        assert udp(tunnel.client, tunnel.server, offered=offered, payload=DATAGRAM).goodput == near(
            offered, 0.05, "as offered"
        )


@behaviour("TUN-3")
def test_a_tunnel_that_feeds_on_itself_is_detected_and_named(multipath: Multipath, tunnels: Tunnels) -> None:
    # Eight subflows can be added, and Linux 6.1 opens some of a mesh twice: few of them leave room for the loop's.
    with (
        multipath.one_server_address(),
        tunnels.openvpn() as tunnel,
        tunnels.joinable(tunnel),
    ):
        assert tunnels.loops(tunnel) == ()
        with tunnels.collapsed(tunnel, 0.5 * multipath.link.rate):
            looped = tunnels.rate(tunnel, "rate inside the loop")
            assert looped == at_most(0.5 * multipath.link.rate, "the carrier waits for what it carries")
            assert tunnels.forms(tunnel) >= {Form.SOURCE, Form.DESTINATION, Form.ENDPOINT}


@behaviour("TUN-3")
def test_a_loop_that_is_still_pending_is_named_too(tunnels: Tunnels) -> None:
    with tunnels.openvpn() as tunnel, tunnels.load(tunnel):
        assert tunnels.loops(tunnel) == ()
        with tunnels.offered(tunnel, bound=True):
            assert tunnels.wait_forms(tunnel, Form.PENDING) == {Form.PENDING, Form.ENDPOINT}


@behaviour("TUN-4")
def test_the_guard_for_both_directions_ends_a_loop(multipath: Multipath, tunnels: Tunnels) -> None:
    with (
        multipath.one_server_address(),
        tunnels.openvpn() as tunnel,
        tunnels.joinable(tunnel),
        tunnels.collapsed(tunnel, 0.5 * multipath.link.rate) as began,
    ):
        looped = tunnels.rate(tunnel, "rate inside the loop")
        assert looped == at_most(0.5 * multipath.link.rate, "the carrier waits for what it carries")
        guards = tunnels.both_guards(tunnel)
        with tunnels.guarded(guards):
            timer = tunnels.longest_timer(began)
            waited = tunnels.recovery(tunnel, PAST_ONE_LINK * multipath.link.rate, timer)
            assert waited == at_most(timer, "retransmission timers that the loop wound up have to run out")
            recovered = tunnels.rate(tunnel, "rate behind the guard")
            assert recovered == at_least(PAST_ONE_LINK * multipath.link.rate, "the rate comes back")
            assert tunnels.hits(guards) >= 1, "no packet has met the guard"
            assert tunnels.wait_clear(tunnel) <= {Form.PENDING, Form.ENDPOINT}


@behaviour("TUN-4")
def test_the_articles_guard_keeps_the_source_side_out(multipath: Multipath, tunnels: Tunnels) -> None:
    with (
        multipath.one_server_address(),
        tunnels.openvpn() as tunnel,
        tunnels.joinable(tunnel),
        tunnels.collapsed(tunnel, 0.5 * multipath.link.rate),
    ):
        looped = tunnels.rate(tunnel, "rate inside the loop")
        assert looped == at_most(0.5 * multipath.link.rate, "the carrier waits for what it carries")
        guards = tunnels.source_guards(tunnel)
    # It does not end a subflow that is there (the article loads it first), so the tunnel is brought up anew.
    with (
        multipath.one_server_address(),
        tunnels.guarded(guards),
        tunnels.openvpn() as tunnel,
        tunnels.joinable(tunnel),
        tunnels.announced(tunnel),
        tunnels.offered(tunnel),
        tunnels.load(tunnel),
    ):
        tunnels.wait_forms(tunnel, Form.DESTINATION)
        guarded = tunnels.rate(tunnel, "rate behind the guard")
        assert guarded == at_least(PAST_ONE_LINK * multipath.link.rate, "the rate comes back")
        assert tunnels.hits(guards) >= 1, "no packet has met the guard"
        # As in the article, what is left are the subflows *towards* the far end's tunnel address.
        left = tunnels.forms(tunnel, tunnel.client)
        assert Form.SOURCE not in left
        assert Form.DESTINATION in left


@behaviour("TUN-5")
def test_udp_through_the_tunnel_passes_one_link(multipath: Multipath, tunnels: Tunnels, udp: Traffic) -> None:
    with tunnels.openvpn() as tunnel:
        flow = udp(tunnel.client, tunnel.server, offered=1.5 * multipath.link.rate, payload=DATAGRAM)
        assert flow.goodput == at_least(
            1.3 * multipath.link.rate, "the carrier has two paths", theory=1.5 * multipath.link.rate
        )
        assert flow.nics_used == 2


@behaviour("TUN-6")
@on(gateway())
def test_udp_to_a_host_beyond_the_far_end_passes_one_link(multipath: Multipath, tunnels: Tunnels, udp: Traffic) -> None:
    with tunnels.openvpn() as tunnel, tunnels.to_beyond(tunnel) as beyond:
        flow = udp(
            tunnel.client,
            beyond,
            offered=1.5 * multipath.link.rate,
            payload=DATAGRAM,
            watched=[multipath.right.host],
        )
        assert flow.goodput == at_least(
            1.3 * multipath.link.rate, "the carrier has two paths", theory=1.5 * multipath.link.rate
        )
        for host in (multipath.left.host, multipath.right.host):
            assert flow.nics.trunk_count(host, multipath.nics) == 2
