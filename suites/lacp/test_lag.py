"""LACP between two hosts: it spreads flows, and never makes one flow faster (article, stage 1)."""

from __future__ import annotations

from channover.testing import Counted, Lag, Traffic, behaviour, exactly, near

LACP_FRAME = 124
"""Bytes of a LACP frame as NIC counters show it: 110 of LACPDU, 14 of Ethernet header (IEEE 802.1AX-2014, 6.4.2.3)."""


@behaviour("LAG-1")
def test_one_tcp_flow_rides_one_link(lag: Lag, tcp: Traffic) -> None:
    flow = tcp(lag.left, lag.right)
    assert flow.goodput == near(lag.link.tcp_goodput)
    assert flow.nics_used == 1


@behaviour("LAG-2")
def test_one_udp_flow_rides_one_link_however_much_is_offered(lag: Lag, udp: Traffic) -> None:
    flow = udp(lag.left, lag.right, offered=10 * lag.link.rate)
    assert flow.goodput == near(lag.link.udp_goodput())
    assert flow.nics_used == 1


@behaviour("LAG-3")
def test_one_nic_carries_the_flow_and_the_other_only_lacp(lag: Lag, tcp: Traffic, counted: Counted) -> None:
    flow = tcp(lag.left, lag.right)
    assert flow.goodput == near(lag.link.tcp_goodput)
    # Each end chooses the link for what it sends, so the flow's own direction is looked at, not its acknowledgements'.
    for end, direction in ((lag.left, "tx"), (lag.right, "rx")):
        idles = flow.nics.idle(end.host, direction)
        assert counted(f"idle NICs at {end.host.name}", len(idles)) == 1
        (idle,) = idles
        assert counted(f"frames of idle NIC at {end.host.name}", idle.packets) >= 1
        assert idle.bytes == exactly(idle.packets * LACP_FRAME, "every frame is a LACP frame")


@behaviour("LAG-4")
def test_lacp_has_converged(forming_lag: Lag, counted: Counted) -> None:
    pending = forming_lag.unconverged()
    assert pending is None, pending
    for end in forming_lag.ends:
        name, status = end.host.name, end.status()
        working = [member for member in status.members if member.collecting and member.distributing]
        assert counted(f"aggregators at {name}", len(status.aggregators)) == 1
        assert counted(f"ports in it at {name}", status.ports) == forming_lag.links
        assert counted(f"partner key less actor key at {name}", status.partner_key - status.actor_key) == 0
        assert counted(f"ports collecting and distributing at {name}", len(working)) == forming_lag.links
