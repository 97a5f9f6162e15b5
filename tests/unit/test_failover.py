"""What is made of a lost link's flows: which they were, how long they were out, and what timers allow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from channover.measure.measurement import Measuring
from channover.measure.running.numbered_traffic import DATAGRAM_PORT
from channover.measure.running.phased import Moment, Phased, Span
from channover.model.link import Link
from channover.network.bonding import Bond
from channover.network.lag import LacpRate
from channover.network.programs.numbered import FlowSeen, LossPeriod
from channover.observe.captures import Frames
from channover.scenarios.lags.failover import FlowsOfLinks

HEARD = """\
02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4, length 242: 10.92.92.1.6003 > 10.92.92.2.5900: UDP, length 200
02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4, length 242: 10.92.92.1.6001 > 10.92.92.2.5900: UDP, length 200
02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4, length 242: 10.92.92.1.6003 > 10.92.92.2.5900: UDP, length 200
02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4, length 242: 10.92.92.1.6009 > 10.92.92.2.53: UDP, length 200
02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4, length 74: 10.92.92.1.6005 > 10.92.92.2.5900: tcp 0
"""


def of(rate: LacpRate, handle: object, patience: float = 1.0) -> FlowsOfLinks:
    end = SimpleNamespace(handle=handle)
    lag = cast(Any, SimpleNamespace(left=end, right=end, ends=(end, end), rate=rate))
    return FlowsOfLinks(cast(Any, SimpleNamespace(patience=patience)), lag, cast(Any, None), "a", frozenset())


def test_the_flows_of_a_nic_are_the_ports_that_its_datagrams_come_from() -> None:
    assert Frames({}, tuple(HEARD.splitlines())).source_ports(DATAGRAM_PORT) == {6001, 6003}


def test_what_is_lost_on_return_is_not_what_was_lost_before() -> None:
    periods = [LossPeriod(100, 300, 1.0, 3.0), LossPeriod(900, 2, 9.0, 0.02)]
    flow = FlowSeen(6000, 1000, 698, 0, 0, periods, 100.0)
    assert (flow.outage, flow.lost_since(3.0), flow.lost_since(0.0)) == (3.0, 2, 302)
    assert [flow.lost_between(0.5, 1.0), flow.lost_between(1.0, 9.0), flow.lost_between(9.0, 20.0)] == [300, 2, 0]
    for_ever = FlowSeen(6000, 1000, 690, 0, 0, periods, 100.0)  # eight at the end, of which no period tells
    assert (for_ever.lost_since(5.0), for_ever.lost_since(20.0)) == (10, 8)


def test_what_is_lost_as_flows_are_dealt_out_anew_is_not_lost_on_return() -> None:
    moving = Phased("datagrams", *cast(Any, (None, [], None, Measuring(Link(), None, 5.0), None)))
    moving.spans = [Span("recovery", Moment(4.0, {}), Moment(5.0, {}))]
    dealing = [Span("dealt out anew", Moment(6.0, {}), Moment(6.1, {}))]
    periods = [LossPeriod(200, 3, 2.0, 0.03), LossPeriod(500, 1, 5.0, 0.01), LossPeriod(625, 2, 6.25, 0.02)]
    flows = [FlowSeen(6000, 1000, 994, 0, 0, periods, 100.0), FlowSeen(6001, 1000, 1000, 0, 0, [], 100.0)]
    assert moving.lost_since("recovery", flows, "on return") == 3
    assert moving.lost_since("recovery", flows, "on return", dealing) == 1
    assert moving.lost_in(dealing, flows, "a flow") == 2


@pytest.mark.parametrize(("rate", "least", "most"), [(LacpRate.FAST, 2.0, 3.0), (LacpRate.SLOW, 60.0, 90.0)])
def test_a_silent_loss_is_noticed_by_lacps_own_timer(rate: LacpRate, least: float, most: float) -> None:
    expected = of(rate, object()).noticed(silently=True)
    assert [expected.low, expected.high] == pytest.approx([least - 0.2, most + 0.2])
    assert f"LACP's timer: {least:g} to {most:g} s" in expected.why


def test_a_lost_carrier_is_noticed_within_the_drivers_own_time() -> None:
    bond = Bond(cast(Any, None), "bond0", ("eth1", "eth2"), cast(Any, None))
    assert of(LacpRate.FAST, bond).noticed(silently=False).high == pytest.approx(0.5)
    assert of(LacpRate.FAST, object()).noticed(silently=False).high == pytest.approx(1.2)
    assert of(LacpRate.FAST, bond, patience=6.0).noticed(silently=False).high == pytest.approx(1.3)
