"""Routed paths between two hosts, through routers of others: what is not as the inventory says is named before any traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import Journal
from channover.model.link import Link
from channover.model.topology import Links, pair
from channover.network import addressing
from channover.targets.netns import NetnsTarget
from tests.support.rack import Rack, Space, inventory_of_routed, rack, target_of, two_routers

pytestmark = pytest.mark.lab
PATHS = replace(pair(), links=Links.PATHS)


@pytest.fixture
def made(netns: NetnsTarget, tmp_path: Path) -> Iterator[Rack]:
    with rack(netns, tmp_path) as empty:
        yield empty


Breaking = Callable[[Mapping[str, Space]], None]


def test_each_address_leaves_by_its_own_gateway(made: Rack, tmp_path: Path) -> None:
    two_routers(made)
    said: list[str] = []
    made_target = target_of(made, inventory_of_routed((22, 22)), tmp_path, said.append)
    try:
        with made_target.lab(PATHS, Link(), Journal()) as lab:
            for host in lab.hosts.values():
                host.apply(addressing.addresses(lab, host) + addressing.source_rules(lab, host))
            routes = lab.left.run("ip", "route", "get", "203.0.113.10", "from", "198.18.1.10").stdout
            assert "via 198.18.1.1 dev eth2" in routes
            assert "via 198.51.100.1 dev eth1" in lab.left.run("ip", "route", "get", "203.0.113.10").stdout
            table = lab.right.run("nft", "list", "ruleset").stdout
            assert 'iifname "eth1" ip saddr { 198.18.1.10, 198.51.100.10 } accept' in table
            lab.left.run("ping", "-c", "1", "-W", "2", "-I", "198.18.1.10", "198.18.2.10")
        assert "the path left.a–right.a is routed: that it carries 25 Mbit/s is not proved" in said
    finally:
        made_target.close()


def stopped(routers: Mapping[str, Space]) -> None:
    routers["b"].run("sysctl", "-qw", "net.ipv4.ip_forward=0")


def narrow(routers: Mapping[str, Space]) -> None:
    routers["b"].run("ip", "link", "set", "to_right", "mtu", "1400")


def silent(routers: Mapping[str, Space]) -> None:
    routers["b"].run("ip", "link", "set", "to_left", "down")
    routers["b"].run("ip", "link", "set", "to_left", "up", "arp", "off")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            stopped,
            r"left's NIC b \(eth2, 198.18.1.10/24\) gets no answer from 198.18.2.10, right's NIC b, and its gateway",
        ),
        (narrow, r"packets of 1500 bytes that must not be fragmented do not cross from left's NIC b"),
        (
            silent,
            r"left's NIC b \(eth2, 198.18.1.10/24\) gets no answer from its gateway 198.18.1.1: see where its cable",
        ),
    ],
    ids=["not-forwarded", "small-packets", "no-gateway"],
)
def test_what_a_path_does_not_do_is_named(made: Rack, tmp_path: Path, broken: Breaking, words: str) -> None:
    broken(two_routers(made))
    made_target = target_of(made, inventory_of_routed((22, 22)), tmp_path)
    try:
        with pytest.raises(TestbedError, match=words), made_target.lab(PATHS, Link(), Journal()):
            pass
    finally:
        made_target.close()
