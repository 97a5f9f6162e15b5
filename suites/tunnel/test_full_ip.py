"""A tunnel carries IP, whatever is in it: "full IP" (article, stage 3)."""

from __future__ import annotations

import pytest

from channover.testing import Counted, FullIP, Multipath, Tunnels, behaviour

ICMP = 28
"""Bytes of an IPv4 header and ICMP's (RFC 791, RFC 792)."""
ICMPV6 = 48


@behaviour("TUN-7")
@pytest.mark.parametrize("kind", ["ssh", "openvpn"])
def test_any_ip_protocol_crosses_the_tunnel_unchanged(
    multipath: Multipath, tunnels: Tunnels, full_ip: FullIP, counted: Counted, kind: str
) -> None:
    mtu = multipath.link.mtu
    with tunnels.ssh() if kind == "ssh" else tunnels.openvpn() as tunnel, full_ip.addressed(tunnel):
        full_ip.require_unchanged(tunnel)
        assert counted("answers, full size, whole", full_ip.answered(tunnel, mtu - ICMP, whole=True)) == 3
        assert counted("answers, a byte above, whole", full_ip.answered(tunnel, mtu - ICMP + 1, whole=True)) == 0
        assert counted("answers, a byte above, in fragments", full_ip.answered(tunnel, mtu - ICMP + 1)) == 3
        assert counted("answers, the largest packet", full_ip.answered(tunnel, 65535 - ICMP)) == 3
        assert counted("answers, IPv6, full size", full_ip.answered(tunnel, mtu - ICMPV6, ipv6=True)) == 3
        assert counted("answers, IPv6, in fragments", full_ip.answered(tunnel, 4000, ipv6=True)) == 3
