"""LACP between unlike partners, after UNH-IOL's interoperability plan for link aggregation, groups 1 and 2."""

from __future__ import annotations

import pytest

from channover.testing import (
    Apart,
    Bonds,
    Counted,
    Lab,
    LacpFrames,
    LacpRate,
    Lag,
    Listing,
    Manner,
    NumberedTraffic,
    behaviour,
    unstacked,
)

QUIET = 4.0
"""Seconds: three LACP frames of an active end at the fast rate would have come, and the partner been known."""
WATCHED = 5.0
"""Seconds for which LACP frames are counted: five at the fast rate, one in six times at the slow one."""
CHANGES = 2
"""LACP frames that an end may send beside those of its timer, since something has changed (IEEE 802.1AX-2014, 6.4.16)."""


def require_crossing(lag: Lag, traffic: NumberedTraffic, seconds: float = 0.5) -> None:
    """Datagrams cross the LAG, and none is lost."""
    with traffic.datagrams(lag.left, lag.right) as moving:
        moving.phase("flows", seconds)
    assert moving.lost(moving.flows, "all flows") == 0


def require_lag(lag: Lag, counted: Counted, listed: Listing) -> None:
    """LACP converges, all links are at work, and each end shows what was asked of it and no more."""
    pending = lag.unconverged()
    assert pending is None, pending
    for end in lag.ends:
        name, status = end.host.name, end.status()
        assert counted(f"links at work at {name}", len(status.working)) == lag.links
        assert listed(f"states of ports at {name}", status.states) == lag.states(end)


@behaviour("LAG-10")
@pytest.mark.parametrize(
    "manners",
    [
        pytest.param((Manner(), Manner(passive=True)), id="active-passive"),
        pytest.param(
            (Manner(driver="bonding"), Manner(driver="openvswitch")),
            id="bonding-openvswitch",
            marks=pytest.mark.variant,
        ),
    ],
)
def test_unlike_partners_form_a_lag(
    lab: Lab, bond: Bonds, counted: Counted, listed: Listing, numbered: NumberedTraffic, manners: tuple[Manner, Manner]
) -> None:
    lag = bond.between(lab.left, lab.right, manners=manners)
    require_lag(lag, counted, listed)
    require_crossing(lag, numbered)


@behaviour("LAG-10")
def test_two_passive_ends_form_no_lag(lab: Lab, bond: Bonds, counted: Counted) -> None:
    hosts = lab.left, lab.right
    with LacpFrames(hosts) as frames:
        lag = bond.between(lab.left, lab.right, manners=(Manner(passive=True), Manner(passive=True)))
        pending = lag.unconverged(QUIET)
    assert counted("LACP frames sent", sum(frames.sent(host, nic) for host in hosts for nic in host.nics)) == 0
    for end in lag.ends:
        assert counted(f"links at work at {end.host.name}", len(end.status().working)) == 0
    assert counted("reasons that name passive LACP", int("LACP is passive here" in (pending or ""))) == 1


@behaviour("LAG-10")
def test_a_slow_and_a_fast_end_form_a_lag_and_each_is_told_as_often_as_it_asks_for(
    lab: Lab, bond: Bonds, counted: Counted, listed: Listing, numbered: NumberedTraffic
) -> None:
    lag = bond.between(lab.left, lab.right, manners=(Manner(LacpRate.SLOW), Manner(LacpRate.FAST)))
    require_lag(lag, counted, listed)
    with LacpFrames((lab.left, lab.right)) as frames:
        require_crossing(lag, numbered, WATCHED)
    for nic in lab.left.nics:
        slow, fast = frames.sent(lab.right, nic), frames.sent(lab.left, nic)
        assert counted(f"LACP frames to left.{nic}, which asks for them every 30 s", slow) <= CHANGES
        assert counted(f"LACP frames to right.{nic}, which asks for them every second", fast) >= WATCHED - 1


@behaviour("LAG-10")
@pytest.mark.parametrize(
    "apart",
    [
        pytest.param(Apart.SYSTEM, id="system", marks=pytest.mark.topology(unstacked())),
        pytest.param(Apart.RATE, id="rate", marks=pytest.mark.variant),
    ],
)
def test_links_that_do_not_belong_stay_out_and_are_named(bond: Bonds, counted: Counted, apart: Apart) -> None:
    with bond.parted(apart) as (near, *far):
        half = len(near.members) - len(near.members) // 2
        status = near.status()
        assert counted(f"links at work at {near.host.name}", len(status.working)) == half
        assert counted("links at work opposite", sum(len(end.status().working) for end in far)) == half
        left_out = {one for one in near.members if one not in status.working}
        named = [one for one in left_out if one in (status.unconverged() or "")]
        assert counted("links left out that are named", len(named)) >= 1
