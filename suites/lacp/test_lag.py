"""LACP between two hosts: it spreads flows, and never makes one flow faster (article, stage 1)."""

from __future__ import annotations

from channover.testing import (
    Counted,
    Flow,
    Lag,
    Listening,
    Listing,
    LongRuns,
    TrafficGenerator,
    at_least,
    at_most,
    behaviour,
    between,
    near,
)


def require_every_link(lag: Lag, counted: Counted) -> None:
    """Compare, as a flow ends, how many links are at work at each end, and how many were lost, and be it for a moment."""
    for end in lag.ends:
        assert counted(f"links at work at {end.host.name}", len(end.status().working)) == lag.links
        assert counted(f"links lost at {end.host.name}", len(end.lost())) == 0


def require_lacp_alone(lag: Lag, flow: Flow, listening: Listening, counted: Counted, listed: Listing) -> None:
    """Compare what the NICs without the flow's data have carried: both ends' LACP frames, as many as are due, and nothing else.

    Each end chooses the link for what it sends, so the flow's own direction is looked at, not its acknowledgements'.
    """
    due = listening.seconds / lag.interval
    for host, way in ((lag.left.host, "tx"), (lag.right.host, "rx")):
        idle = flow.nics.idle(host, way)
        assert counted(f"idle NICs at {host.name}", len(idle)) == lag.links - 1
        for nic in (one.nic for one in idle):
            heard = listening.heard[host.name, nic]
            assert counted(f"ends whose LACP frames passed idle {host.name}.{nic}", len(heard.lacp)) == 2
            assert counted(f"LACP frames of idle {host.name}.{nic}, an end", min(heard.lacp.values())) >= int(0.9 * due)
            assert listed(f"data of idle {host.name}.{nic}", heard.data) == ()


@behaviour("LAG-1")
def test_one_tcp_flow_rides_one_link(lag: Lag, tcp: TrafficGenerator, counted: Counted) -> None:
    flow = tcp(lag.left, lag.right)
    assert flow.goodput == near(lag.link.tcp_goodput)
    require_every_link(lag, counted)
    assert flow.nics_used == 1


@behaviour("LAG-2")
def test_one_udp_flow_rides_one_link_however_much_is_offered(lag: Lag, udp: TrafficGenerator, counted: Counted) -> None:
    flow = udp(lag.left, lag.right, offered=10 * lag.link.rate)
    assert flow.goodput == near(lag.link.udp_goodput())
    require_every_link(lag, counted)
    assert flow.nics_used == 1
    assert flow.offered == at_least(lag.links * lag.link.rate, "as much as all links carry")


@behaviour("LAG-3")
def test_one_nic_carries_the_flow_and_the_other_only_lacp(
    lag: Lag, tcp: TrafficGenerator, counted: Counted, listed: Listing
) -> None:
    with Listening((lag.left.host, lag.right.host), but_from=lag.right.address) as listening:
        flow = tcp(lag.left, lag.right)
        assert flow.goodput == near(lag.link.tcp_goodput)
    require_lacp_alone(lag, flow, listening, counted, listed)


@behaviour("LAG-4")
def test_lacp_has_converged(forming_lag: Lag, counted: Counted, listed: Listing) -> None:
    pending = forming_lag.unconverged()
    assert pending is None, pending
    for end, status in forming_lag.watched():
        name = end.host.name
        assert counted(f"aggregators at {name}", len(status.aggregators)) == 1
        assert counted(f"ports in it at {name}", status.ports) == forming_lag.links
        assert listed(f"LAG IDs at {name}", status.lag_ids) == {forming_lag.id(end)}
        assert listed(f"states of ports at {name}", status.states) == forming_lag.states(end)


@behaviour("LAG-5")
def test_a_flow_keeps_its_rate_over_a_long_run(lag: Lag, long_run: LongRuns, counted: Counted, listed: Listing) -> None:
    one_link = lag.link.tcp_goodput
    with Listening((lag.left.host, lag.right.host), lag.right.address, enough=long_run.frames) as listening:
        run = long_run(lag.left, lag.right)
    assert run.goodput == near(one_link)
    assert run.drift == between(-1.0, 1.0, "per cent of it, from begin to end", theory=0.0)
    assert run.worst_second == at_least(0.9 * one_link, "no second without", theory=one_link)
    assert run.longest_dip == at_most(0.5, "below nine tenths of a link")
    require_every_link(lag, counted)
    assert run.flow.nics_used == 1
    require_lacp_alone(lag, run.flow, listening, counted, listed)
