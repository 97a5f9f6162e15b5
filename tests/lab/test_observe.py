"""What hosts of a lab show of themselves while traffic runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from channover.errors import TestbedError
from channover.hosts.host import Journal, until
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.plan import Plan
from channover.model.topology import Port, pair
from channover.observe import evidence, nics
from channover.observe.counters import counters
from channover.observe.nics import Sampler, nic_counters, parse_dev, parse_samples
from channover.observe.sockets import connections, parse_tcp, subflows
from channover.targets.netns import NetnsTarget


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    target = NetnsTarget()
    if reason := target.unmet(pair()):
        target.close()
        pytest.skip(reason)
    try:
        with target.lab(pair(), Link(), Journal()) as found:
            for name in ("left", "right"):
                host = found.hosts[name]
                address = found.address(Port(name, "a"))
                host.apply(Plan("address", (AddressAdd("eth1", str(address)), LinkSet("eth1", up=True))))
            yield found
    finally:
        target.close()


@pytest.mark.lab
def test_a_sampler_counts_what_crosses(lab: Lab) -> None:
    address = str(lab.address(Port("right", "a")).ip)
    with Sampler(lab.left) as sampler:
        lab.left.run("ping", "-q", "-f", "-c", "200", "-s", "1400", address)
    series = sampler.series
    assert series is not None
    assert sampler.stop() is series
    assert series.devices == ("eth1", "eth2")
    moved = series.delta("eth1")
    assert moved.tx_packets >= 200
    assert moved.tx_bytes >= 200 * 1442
    assert series.delta("eth2").tx_bytes < 2000
    assert abs(series.times[-1] - time.time()) < 1


@pytest.mark.lab
def test_a_sampler_samples_ten_times_a_second(lab: Lab) -> None:
    sampler = Sampler(lab.left, ["eth1"])
    until(lambda: sampler.taken >= 6, "six samples", 3.0)
    series = sampler.stop()
    gaps = [after - before for before, after in zip(series.times, series.times[1:], strict=False)][:-1]
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(0.1, abs=0.02)


@pytest.mark.lab
def test_a_sampler_ends_with_its_standard_input(lab: Lab) -> None:
    done = lab.left.run("bash", "-c", nics._SCRIPT, "sampler", "5", "eth1", timeout=2.0)
    assert len(parse_samples("left", ("eth1",), done.stdout).times) == 1


@pytest.mark.lab
def test_a_sampler_of_a_device_that_is_not_there(lab: Lab) -> None:
    sampler = Sampler(lab.left, ["eth7"])
    with pytest.raises(TestbedError, match=r"no sample of eth7"):
        sampler.stop()
    with pytest.raises(TestbedError, match="no name of a device"):
        Sampler(lab.left, ["eth1; reboot"])


@pytest.mark.lab
def test_a_live_host_s_evidence(lab: Lab) -> None:
    listener = lab.left.spawn("iperf3", "-s", "-p", "7777")
    try:
        until(lambda: any(each.source_port == 7777 for each in subflows(lab.left)), "the listener", 3.0)
        found = evidence.collect_all(lab.hosts.values())
    finally:
        listener.stop()
    assert list(found) == ["left", "right"]
    left = found["left"]
    assert set(left) >= set(evidence.SECTIONS) - {"ruleset", "bonds"}
    assert any(each.listening and each.source_port == 7777 for each in parse_tcp(left["sockets"]))
    assert str(lab.address(Port("left", "a"))) in left["addresses"]
    assert "lookup main" in left["rules"]
    assert "dev eth1" in left["routes"]
    assert parse_dev(left["nics"]).keys() == nic_counters(lab.left).keys()
    assert connections(lab.left) == ()
    assert counters(lab.left)["TcpMaxConn"] == -1
