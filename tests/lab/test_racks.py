"""Hosts that face switches of others: what of the rack is not as the inventory says is told before any traffic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import Journal
from channover.model.link import Link
from channover.model.topology import Links, Topology, pair
from channover.model.topology import two_switches as joined
from channover.targets.netns import NetnsTarget
from channover.targets.physical.target import PhysicalTarget
from tests.support.rack import (
    Rack,
    Switch,
    a_stack,
    inventory,
    inventory_of_a_stack,
    inventory_of_two,
    lags,
    one_domain,
    rack,
    target_of,
    two_hosts_and_a_switch,
    two_switches,
    vlans,
)

pytestmark = pytest.mark.lab
slow = pytest.mark.slow

LAGS = "lags: {left: [p1, p2], right: [p3, p4]}"
VLANS = "vlans: {10: [p1, p3], 20: [p2, p4]}"
BUNDLED, PATHS = replace(pair(), links=Links.LAG), replace(pair(), links=Links.PATHS)


@pytest.fixture
def made(netns: NetnsTarget, tmp_path: Path) -> Iterator[Rack]:
    with rack(netns, tmp_path) as empty:
        yield empty


def said(target: PhysicalTarget, topology: Topology) -> str:
    """Return what keeps a lab from being had, or nothing."""
    with closing(target):
        try:
            with target.lab(topology, Link(), Journal()):
                return ""
        except TestbedError as error:
            return str(error)


def swapped_lags(tor: Switch) -> None:
    tor.lag("left", ["p1", "p4"])
    tor.lag("right", ["p2", "p3"])


def without_one(tor: Switch) -> None:
    tor.run("ip", "link", "add", "p9", "type", "veth", "peer", "name", "far9")
    tor.lag("left", ["p1", "p9"])
    tor.port("p2")
    tor.lag("right", ["p3", "p4"])


def static(tor: Switch) -> None:
    tor.lag("left", ["p1", "p2"], "lacp=off", "bond_mode=balance-slb")
    tor.lag("right", ["p3", "p4"])


def apart(tor: Switch) -> None:
    tor.lag("left", ["p1", "p2"], "tag=10")
    tor.lag("right", ["p3", "p4"], "tag=20")


def wrong_vlan(tor: Switch) -> None:
    for port, vlan in (("p1", 10), ("p2", 10), ("p3", 10), ("p4", 20)):
        tor.port(port, f"tag={vlan}")


def swapped_vlans(tor: Switch) -> None:
    vlans(tor, (20, 10, 10, 20))


def unbundled(tor: Switch) -> None:
    for port, vlan in (("p1", 10), ("p3", 10), ("p4", 20)):
        tor.port(port, f"tag={vlan}")
    tor.run("ip", "link", "add", "p9", "type", "veth", "peer", "name", "far9")
    tor.run("ip", "link", "set", "p9", "up")
    tor.lag("lonely", ["p2", "p9"], "tag=20")


def dead(tor: Switch) -> None:
    for port, vlan in (("p1", 10), ("p3", 10), ("p4", 20)):
        tor.port(port, f"tag={vlan}")


def small(tor: Switch) -> None:
    vlans(tor)
    tor.run("ip", "link", "set", "p2", "mtu", "1400")


def delayed(tor: Switch) -> None:
    vlans(tor)
    for port, edge in (("p1", "true"), ("p2", "false"), ("p3", "true"), ("p4", "true")):
        words = (f"other_config:rstp-port-admin-edge={edge}", "other_config:rstp-port-auto-edge=false")
        tor.configure("set", "Port", port, *words)
    tor.configure("set", "Bridge", "br", "rstp_enable=true")


@pytest.mark.parametrize(
    ("switch", "owner", "topology", "words"),
    [
        pytest.param(LAGS, lags, BUNDLED, "", id="lags"),
        pytest.param(VLANS, vlans, PATHS, "", id="vlans", marks=slow),
        pytest.param("", one_domain, PATHS, "", id="one-domain", marks=slow),
        pytest.param(
            LAGS, swapped_lags, BUNDLED, "left.b (tor.p2) and right.b (tor.p4) are swapped", id="swapped", marks=slow
        ),
        pytest.param(LAGS, without_one, BUNDLED, "left.b (tor.p2) answers no LACP", id="not-in-the-lag", marks=slow),
        pytest.param(
            LAGS, static, BUNDLED, "the LAG 'left' of tor is static, and hosts speak LACP", id="static", marks=slow
        ),
        pytest.param(
            LAGS, apart, BUNDLED, "do not reach each other: they are in different VLANs", id="lags-apart", marks=slow
        ),
        pytest.param(
            VLANS,
            wrong_vlan,
            PATHS,
            "left.b (tor.p2) is in the wrong VLAN: that of left.a",
            id="wrong-vlan",
            marks=slow,
        ),
        pytest.param(
            VLANS,
            swapped_vlans,
            PATHS,
            "the cables of left.a (tor.p1) and left.b (tor.p2), or of right.a",
            id="swapped-vlans",
            marks=slow,
        ),
        pytest.param(
            VLANS, one_domain, PATHS, "are in one VLAN, and by the inventory in two", id="one-vlan-not-two", marks=slow
        ),
        pytest.param(VLANS, unbundled, PATHS, "left.b (tor.p2) is unbundled by the switch", id="unbundled"),
        pytest.param(
            VLANS,
            dead,
            PATHS,
            "left.b (tor.p2) has a carrier and nothing passes: a dead port",
            id="dead-port",
            marks=slow,
        ),
        pytest.param(
            VLANS, delayed, PATHS, "left.b (tor.p2) is held back by the switch's spanning tree", id="tree", marks=slow
        ),
        pytest.param(VLANS, small, PATHS, "no frame of 1514 bytes passes from", id="mtu", marks=slow),
    ],
)
def test_a_rack_is_told_before_any_traffic(
    made: Rack, tmp_path: Path, switch: str, owner: Callable[[Switch], None], topology: Topology, words: str
) -> None:
    owner(two_hosts_and_a_switch(made))
    told = said(target_of(made, inventory(switch=switch), tmp_path), topology)
    assert words in told
    assert bool(words) == bool(told), told


@slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param((), "", id="active"),
        pytest.param(("lacp=passive",), "nothing passes between west and east", id="both-passive"),
    ],
)
def test_two_switches_of_others_with_a_lag_between(
    made: Rack, tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    two_switches(made, *settings)
    target = target_of(made, inventory_of_two({"left1": 22, "right1": 22}), tmp_path)
    told = said(target, replace(joined(1), links=Links.LAG))
    assert words in told
    assert bool(words) == bool(told), told


@slow
@pytest.mark.parametrize(("stacked", "words"), [(True, ""), (False, "lead to 2 LACP systems, which are no stack")])
def test_members_on_two_switches_that_are_one_system_or_are_none(
    made: Rack, tmp_path: Path, stacked: bool, words: str
) -> None:
    a_stack(made, stacked=stacked)
    told = said(target_of(made, inventory_of_a_stack(), tmp_path), BUNDLED)
    assert words in told
    assert bool(words) == bool(told), told


@slow
def test_a_path_that_is_slower_than_stated_is_told_with_its_figure(made: Rack, tmp_path: Path) -> None:
    vlans(two_hosts_and_a_switch(made))
    made.slow("right.eth2", "20mbit")
    told = said(target_of(made, inventory(switch=VLANS), tmp_path), PATHS)
    assert re.search(r"cable b carries (19|20)\.\d+ of 25 Mbit/s, left to right", told), told
