"""What stands beside a rate, from what real iperf3 and ss printed: round trips, what was sent again, shares of datagrams."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from channover.hosts.host import Nic
from channover.measure.running.metrics import carrying, of_datagrams, of_tcp, paths, told_by_iperf
from channover.network.programs.iperf import Load, Transfer, Transport
from channover.observe.sockets import parse_tcp
from channover.pytest_plugin.allure.metrics import lines, summary
from channover.report.facts import PathMetrics, TrafficMetrics
from channover.report.results import Results, TestResult
from tests.support.iperf_output import Ended, told
from tests.unit.test_report import RUN


class Left:
    """The host that sent."""

    name = "left"
    nics = MappingProxyType({"a": Nic("a", "eth1"), "b": Nic("b", "eth2")})


def test_iperf_s_round_trips_are_those_whose_mean_it_gives() -> None:
    ended = Ended(told("client-tcp-3.json"))
    host: Any = Left()
    transfer = Transfer(Load(Transport.TCP, "10.93.93.2"), host, host, ended, ended)
    transfer._report = json.loads(ended.stdout)
    found = told_by_iperf(transfer)
    ends = {one["sender"]["socket"]: one["sender"]["mean_rtt"] for one in transfer.report["end"]["streams"]}
    for one in transfer.report["start"]["connected"]:
        trips = [rtt for _, rtt in found[one["local_port"]]]
        assert sum(trips) / len(trips) == pytest.approx(ends[one["socket"]] / 1e6, rel=0.01)
    assert not told_by_iperf(Transfer(Load(Transport.UDP, "10.93.93.2"), host, host, ended, ended))


def test_subflows_are_named_by_their_nics_and_those_without_data_have_no_load() -> None:
    text = (Path(__file__).parents[1] / "data/observe/ss-6.15-left-tcp.txt").read_text()
    own = carrying(parse_tcp(text), lambda one: 5201 in (one.source_port, one.destination_port))
    host: Any = Left()
    addresses = "2: eth1@if101: <UP>\n    inet 10.93.93.1/30 scope global eth1\n"
    found = [one.metrics for one in paths(host, own, {"addresses": addresses}, {})]
    assert found and all(one.name.startswith(("left.a 10.93.93.1:", "left.b 10.94.94.1:")) for one in found)
    assert all(one.rtt_idle and one.rtt_idle > 0 for one in found)
    assert {one.rtt_loaded is None for one in found if one.sent == 0} <= {True}
    assert sum(one.sent for one in found) == sum(one.bytes_sent for one in own) > 0


def test_several_paths_are_weighted_by_what_each_sent() -> None:
    found = of_tcp(
        "mptcp left→right",
        Transport.MPTCP,
        "left",
        "right",
        [
            PathMetrics("left.a", 0.01, 0.02, 0.03, 3000, 30),
            PathMetrics("left.b", 0.03, 0.06, 0.09, 1000, 10),
            PathMetrics("left.c", 0.5, None, None, 0, 0),
        ],
        1.25,
    )
    assert found.rtt_idle == pytest.approx(0.015) and found.rtt_loaded == pytest.approx(0.03)
    assert found.buffer_delay == pytest.approx(1.0) and found.efficiency == pytest.approx(0.99)
    assert summary(found) == "RTT idle 15 ms, loaded 30 ms; 99.00% efficient; transfer time ratio 1.25"
    told = list(lines(found))
    assert told[1] == "buffer delay 100% of the idle round trip (RFC 6349, 4.3)"
    assert told[-1] == "left.c: RTT idle 500 ms, loaded –, at most –; 0 bytes sent, 0 of them again"
    assert Results.from_json(Results(RUN, (TestResult("t", "MP-1", "passed", metrics=(found,)),)).to_json()).tests[
        0
    ].metrics == (found,)


def test_what_nobody_told_is_not_known() -> None:
    assert of_tcp("tcp", Transport.TCP, "left", "right", []) == TrafficMetrics("tcp", "tcp", "left", "right")
    assert next(lines(of_tcp("tcp", Transport.TCP, "left", "right", []))).startswith("nothing was told")
    none = of_datagrams("udp", "left", "right", 0, 0, 0, None)
    assert none.lost is none.reordered is none.jitter is None
    some = of_datagrams("udp", "left", "right", 5, 100, 1, 0.001)
    assert summary(some) == "5.00% lost; jitter 1 ms; 1.00% reordered"
