"""What stands beside a rate, on wires whose queues are known: round trips, what was sent again, jitter (RFC 6349, 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface

import pytest

from channover.errors import TestbedError
from channover.hosts.host import Journal
from channover.measure.flow import Flow
from channover.measure.measurement import Measuring
from channover.measure.traffic import TrafficGenerator
from channover.model.link import Link
from channover.model.topology import gateway, pair
from channover.network.programs.iperf import Transport
from channover.scenarios import labs
from channover.scenarios.labs import HostEnd, Multipath
from channover.targets.netns import NetnsTarget
from channover.verdict.expectation import at_most, between

pytestmark = pytest.mark.lab
NARROW = 40e6
"""Of a gateway's way out, bit/s: its queue is no sender's own, whose kernel would keep it short (TCP small queues)."""
BURST = 16_384
LINK = Link(int(NARROW))


@pytest.fixture(scope="module")
def target() -> Iterator[NetnsTarget]:
    made = NetnsTarget()
    yield made
    made.close()


@contextmanager
def narrowed(target: NetnsTarget, seconds: float) -> Iterator[tuple[HostEnd, HostEnd]]:
    """Two ends with a gateway between them whose way out has a queue of so many seconds.

    Who sends keeps to Reno, which fills whatever queue there is (RFC 5681, 3.1), and every namespace has.
    """
    with target.lab(gateway(), Link(), Journal()) as lab:
        made = labs.configure(lab)
        right, beyond = lab["right"], lab["beyond"]
        lab.left.run("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        right.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        out = right.nic("out").device
        words = f"rate {NARROW:.0f}bit burst {BURST} latency {seconds * 1e3:.0f}ms overhead 24 linklayer ethernet"
        right.run("tc", "qdisc", "replace", "dev", out, "root", "tbf", *words.split())
        for host, device, address in (
            (right, out, "10.9.9.1/30"),
            (beyond, beyond.nic("a").device, "10.9.9.2/30"),
        ):
            host.run("ip", "address", "add", address, "dev", device)
        near = made.left.address
        lab.left.run("ip", "route", "add", "10.9.9.0/30", "via", str(made.right.address.ip), "src", str(near.ip))
        lab.left.run("ip", "rule", "add", "to", "10.9.9.0/30", "table", "main", "priority", "10")
        beyond.run("ip", "route", "add", str(near.network), "via", "10.9.9.1")
        yield made.left, HostEnd(beyond, IPv4Interface("10.9.9.2/30"))


@contextmanager
def flowing(protocol: Transport, source: HostEnd, target: HostEnd, **options: float) -> Iterator[Flow]:
    flow = TrafficGenerator(protocol, Measuring(Link(), duration=1.0, limit=1.0))(source, target, **options)  # type: ignore[arg-type]
    try:
        yield flow
    finally:
        flow.run.abandon()


@pytest.mark.parametrize("seconds", [0.05, 0.01])
def test_the_loaded_round_trip_is_as_long_as_the_queue(target: NetnsTarget, seconds: float) -> None:
    with narrowed(target, seconds) as ends, flowing(Transport.TCP, *ends) as flow:
        (path,) = flow.metrics.whole.paths
        assert path.rtt_most is not None and path.rtt_idle is not None
        full = seconds + BURST * 8 / NARROW
        assert 0.8 * seconds < path.rtt_most < 1.15 * full, path
        assert flow.rtt_loaded == between(0.3 * seconds, path.rtt_most)
        assert flow.rtt_idle == at_most(0.003)
        assert flow.buffer_delay.value == pytest.approx(flow.rtt_loaded.value / path.rtt_idle - 1)
        again = flow.counted(ends[0].host)["TcpRetransSegs"]
        assert again and path.again == pytest.approx(again * 1448, rel=0.1), "as the kernel counts segments"
        assert flow.efficiency.value == pytest.approx(1 - path.again / path.sent)
        expected = Link().tcp_goodput / (LINK.tcp_goodput)
        assert flow.transfer_time_ratio.value == pytest.approx(expected, rel=0.15), "the NICs would carry more"
        with pytest.raises(TestbedError, match=r"^tcp left→beyond: its jitter is not known"):
            assert flow.jitter == at_most(1.0)


def test_of_datagrams_it_is_loss_jitter_and_order(target: NetnsTarget) -> None:
    with narrowed(target, 0.05) as ends, flowing(Transport.UDP, *ends, offered=2 * NARROW) as flow:
        found = flow.metrics.whole
        assert found.lost == pytest.approx(1 - LINK.udp_goodput(1470) / (2 * NARROW), abs=0.05)
        assert 0 < flow.jitter.value < 0.01 and flow.reordered == 0
        assert found.rtt_loaded is None and found.efficiency is None


def test_each_subflow_has_a_round_trip_of_its_own(target: NetnsTarget) -> None:
    with target.lab(pair(), Link(), Journal()) as lab:
        made: Multipath = labs.configure(lab)
        with (
            made.one_subflow_a_path(),
            lab.delayed(lab.topology.cables[1], 0.01),
            flowing(Transport.MPTCP, made.left, made.right) as flow,
        ):
            short, long = sorted(flow.metrics.whole.paths, key=lambda one: one.rtt_idle or 0.0)
            assert short.name.startswith("left.a 10.93.93.1:") and long.name.startswith("left.b 10.94.94.1:")
            assert short.rtt_idle is not None and long.rtt_idle is not None and long.rtt_loaded is not None
            assert short.rtt_idle < 0.005 < 0.02 <= long.rtt_idle < 0.03 and long.rtt_loaded >= long.rtt_idle
            assert flow.rtt_idle.value == pytest.approx(
                (short.rtt_idle * short.sent + long.rtt_idle * long.sent) / (short.sent + long.sent)
            )
            assert all(len(path.trips) >= 2 for _, paths in flow.metrics.paths for path in paths), "looked at meanwhile"
