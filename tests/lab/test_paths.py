"""What a test does to the paths of Multipath TCP for the length of a block: the other family, unlike rates, a middlebox."""

from __future__ import annotations

import pytest

from channover.errors import NotAllowed
from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.topology import unequal
from channover.network.programs import numbered
from channover.observe.counters import counters
from channover.scenarios.labs import configure
from channover.scenarios.middlebox import TABLE, Takes
from channover.targets.netns import NetnsTarget
from channover.targets.physical.target import HostCabling
from channover.verdict.causes.options import options_lost

pytestmark = pytest.mark.lab


def test_paths_go_by_ipv6_each_by_its_own_nic_and_hosts_are_as_they_were_afterwards(two_hosts: Lab) -> None:
    multipath = configure(two_hosts)
    left, right = multipath.left.host, multipath.right.host
    before = [(host.state(), host.run("ip", "-6", "rule", "show").stdout) for host in (left, right)]
    with multipath.ipv6() as six:
        assert (str(six.left.address), str(six.right.address)) == ("fd00:93::1/64", "fd00:93::2/64")
        assert {one.address for one in left.state().endpoints.values()} == {"fd00:93::1", "fd00:93:1::1"}
        for source, device in (("fd00:93::1", "eth1"), ("fd00:93:1::1", "eth2")):
            for target in ("fd00:93::2", "fd00:93:1::2"):
                found = left.run("ip", "route", "get", target, "from", source).stdout
                assert f"dev {device}" in found
                left.run("ping", "-n", "-c", "1", "-W", "2", "-I", source, target)
    after = [(host.state(), host.run("ip", "-6", "rule", "show").stdout) for host in (left, right)]
    assert after == before
    assert not two_hosts.over_ipv6


def test_one_path_of_two_goes_by_ipv6_and_no_pair_is_of_two_families(two_hosts: Lab) -> None:
    multipath = configure(two_hosts)
    with multipath.ipv6("b") as mixed:
        assert str(mixed.left.address.ip) == "10.93.93.1"
        assert mixed.mesh(mixed.left.host) == {("10.93.93.1", "10.93.93.2"), ("fd00:93:1::1", "fd00:93:1::2")}
        four, six = (mixed.added(nic) / mixed.link.rate for nic in mixed.nics)
        assert (four, six) == (1424 / 1538, 1404 / 1538)


def test_paths_of_unlike_rates_are_told_the_fastest_first(netns: NetnsTarget, two_hosts: Lab) -> None:
    with netns.lab(unequal(), Link(), Journal()) as lab:
        multipath = configure(lab)
        assert multipath.by_rate == ["a", "b"]
        assert multipath.goodput == pytest.approx(1.1 * multipath.link.mptcp_goodput)
    with pytest.raises(NotAllowed, match=r"^the cables of this lab are all of one rate: name cables of unlike rates"):
        _ = configure(two_hosts).by_rate


@pytest.mark.parametrize("takes", list(Takes), ids=[one.name for one in Takes])
def test_a_middlebox_stands_for_a_block_and_has_met_nothing_while_nothing_is_sent(two_hosts: Lab, takes: Takes) -> None:
    multipath = configure(two_hosts)
    with multipath.middlebox("b", takes) as box:
        assert box.met == 0
        tables = [TABLE in host.run("nft", "list", "tables").stdout for host in two_hosts.hosts.values()]
        assert tables == [0 in takes.ends, 1 in takes.ends]
    assert not any(TABLE in host.run("nft", "list", "tables").stdout for host in two_hosts.hosts.values())


LOST = {
    ("a", Takes.SYN): "MP_CAPABLE of SYNs",
    ("a", Takes.SYN_ACK): "MP_CAPABLE of SYN-ACKs",
    ("a", Takes.DATA): "MP_CAPABLE or DSS behind SYNs",
    ("b", Takes.SYN): "MP_JOIN of SYNs",
    ("b", Takes.SYN_ACK): "MP_JOIN of SYN-ACKs",
    ("b", Takes.DATA): "MP_JOIN or DSS behind SYNs",
    ("b", Takes.CHECKSUM): "checksums of data",
}


@pytest.mark.parametrize(("nic", "takes"), LOST, ids=lambda value: getattr(value, "name", value))
def test_what_a_middlebox_takes_is_told_by_what_both_ends_counted_and_no_byte_is_lost(
    two_hosts: Lab, nic: str, takes: Takes
) -> None:
    multipath = configure(two_hosts)
    left, right = multipath.left.host, multipath.right.host
    before = [counters(host) for host in (left, right)]
    with (
        multipath.one_subflow_a_path(),
        multipath.checksums(),
        multipath.middlebox(nic, takes) as box,
        numbered.stream(left, right, "10.93.93.2", 5901, mptcp=True, size=2_000_000) as moving,
    ):
        assert moving.wait(20)
        assert moving.end().intact
        after = [counters(host) for host in (left, right)]
        assert box.met
    ends = [{name: later[name] - earlier[name] for name in later} for earlier, later in zip(before, after, strict=True)]
    assert options_lost(*ends) == (LOST[nic, takes],)


def test_real_cables_cannot_be_delayed_and_that_is_said(two_hosts: Lab) -> None:
    cabling = HostCabling(two_hosts.hosts, True)
    with pytest.raises(NotAllowed, match=r"cannot be made to take 25 ms: .* --target=netns and --target=vm can do it"):
        cabling.delay(two_hosts.topology.cables[0], 0.025, [])
