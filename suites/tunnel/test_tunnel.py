"""A tunnel over MPTCP gives any IP the sum of the links (article, stage 3)."""

from __future__ import annotations

from channover.model.topology import gateway
from channover.testing import Multipath, TrafficGenerator, Tunnels, at_least, at_most, behaviour, between, near, on

DATAGRAM = 1390
"""Payload bytes of a datagram that fits the tunnel's MTU with room for its own framing."""
AGAIN = 15.0
"""Seconds that a tunnel may take to connect again: OpenVPN pauses for one, and the carrier's paths join within five."""
LEAST_SHARE = 1.3 / 1.5
"""Of 1.5 links' rate offered, what passes one link for certain."""


@behaviour("TUN-1")
def test_ssh_over_mptcp_carries_any_ip_and_compression_costs(
    multipath: Multipath, tunnels: Tunnels, tcp: TrafficGenerator, udp: TrafficGenerator
) -> None:
    link = multipath.link
    with tunnels.ssh() as tunnel:
        assert tunnels.answered(tunnel) == 3
        datagrams = udp(tunnel.client, tunnel.server, offered=0.2 * link.rate, payload=DATAGRAM)
        assert datagrams.goodput == near(0.2 * link.rate, 0.05, "as offered")
    with multipath.off(multipath.nics[1:]), tunnels.ssh() as tunnel:
        alone = tcp(tunnel.client, tunnel.server, incompressible=True)
        assert alone.goodput == between(
            0.5 * link.rate, link.mptcp_goodput, "the carrier has one path", theory=link.mptcp_goodput
        )
        assert alone.nics_used == 1
    with tunnels.ssh() as tunnel:
        before = tunnels.processor_time(tunnel)
        plain = tcp(tunnel.client, tunnel.server, incompressible=True)
        assert plain.goodput == at_least(0.5 * link.rate, "the carrier has every path", theory=2 * link.mptcp_goodput)
        assert plain.nics_used == multipath.paths
        cost = tunnels.cost(tunnel, plain, before, "ssh's processor time a Gbit")
    with tunnels.ssh(compression=True) as tunnel:
        before = tunnels.processor_time(tunnel)
        compressed = tcp(tunnel.client, tunnel.server, incompressible=True)
        assert compressed.goodput == at_least(0.01 * link.rate, "a few Mbit/s in the article, often far more")
        costlier = tunnels.cost(tunnel, compressed, before, "ssh's processor time a Gbit, compressing")
    assert costlier == at_least(1.5 * cost.value, "compression costs processor time and gains nothing here")


@behaviour("TUN-2")
def test_openvpn_over_mptcp_carries_any_ip(
    multipath: Multipath, tunnels: Tunnels, tcp: TrafficGenerator, udp: TrafficGenerator
) -> None:
    link = multipath.link
    with tunnels.openvpn() as tunnel:
        flow = tcp(tunnel.client, tunnel.server)
        assert flow.goodput == at_least(
            1.4 * link.rate, "the carrier has two paths", theory=link.tunnelled_tcp_goodput(multipath.paths)
        )
        assert flow.nics_used == multipath.paths
        for end in tunnel.ends:
            assert tunnels.carrier_subflows(tunnel, end) == at_least(multipath.paths, "the carrier is multipath")
        assert tunnels.signs(tunnel).all == 0
        assert tunnels.answered(tunnel) == 3
        offered = 0.2 * link.rate
        datagrams = udp(tunnel.client, tunnel.server, offered=offered, payload=DATAGRAM)
        assert datagrams.goodput == near(offered, 0.05, "as offered")


@behaviour("TUN-5")
def test_udp_through_the_tunnel_passes_one_link(multipath: Multipath, tunnels: Tunnels, udp: TrafficGenerator) -> None:
    offered = 1.5 * multipath.link.rate
    with tunnels.openvpn() as tunnel:
        flow = udp(tunnel.client, tunnel.server, offered=offered, payload=DATAGRAM)
        assert flow.goodput == at_least(LEAST_SHARE * offered, "the carrier has two paths", theory=offered)
        assert flow.lost == at_most(1 - LEAST_SHARE, "less is offered than both links carry")
        assert flow.nics_used == multipath.paths


@behaviour("TUN-6")
@on(gateway())
def test_udp_to_a_host_beyond_the_far_end_passes_one_link(
    multipath: Multipath, tunnels: Tunnels, udp: TrafficGenerator
) -> None:
    offered = 1.5 * multipath.link.rate
    with tunnels.openvpn() as tunnel, tunnels.to_beyond(tunnel) as beyond:
        flow = udp(tunnel.client, beyond, offered=offered, payload=DATAGRAM, watched=[multipath.right.host])
        assert flow.goodput == at_least(LEAST_SHARE * offered, "the carrier has two paths", theory=offered)
        assert flow.lost == at_most(1 - LEAST_SHARE, "less is offered than both links carry")
        for host in (multipath.left.host, multipath.right.host):
            assert flow.nics.trunk_count(host, multipath.nics) == 2


@behaviour("TUN-2")
def test_a_tunnel_that_connects_again_has_every_path_again(
    multipath: Multipath, tunnels: Tunnels, udp: TrafficGenerator
) -> None:
    offered = 1.5 * multipath.link.rate
    with tunnels.openvpn() as tunnel:
        assert tunnels.connected_again(tunnel) == at_most(AGAIN, "both ends wait a second before they try")
        for end in tunnel.ends:
            assert tunnels.carrier_subflows(tunnel, end) == at_least(multipath.paths, "the carrier is multipath again")
        assert tunnels.signs(tunnel).all == 0
        flow = udp(tunnel.client, tunnel.server, offered=offered, payload=DATAGRAM)
        assert flow.goodput == at_least(LEAST_SHARE * offered, "the carrier has two paths", theory=offered)
        assert flow.nics_used == multipath.paths


@behaviour("TUN-6")
@on(gateway())
def test_a_default_route_through_the_tunnel_leads_beyond_it(
    multipath: Multipath, tunnels: Tunnels, udp: TrafficGenerator
) -> None:
    offered = 0.2 * multipath.link.rate
    with tunnels.openvpn() as tunnel, tunnels.by_default(tunnel) as beyond:
        assert tunnels.answered(tunnel, beyond) == 3
        flow = udp(tunnel.client, beyond, offered=offered, payload=DATAGRAM)
        assert flow.goodput == near(offered, 0.05, "as offered")
        assert tunnels.signs(tunnel).all == 0
