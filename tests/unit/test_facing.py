"""What hosts that face switches are told of the ports: the ways there are by an inventory, and what frames tell of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channover.model.topology import Links, Port, Topology, gateway, pair, trio, two_switches
from channover.targets.inventory.schema import LabEntry, load
from channover.targets.inventory.wiring import Wiring
from channover.targets.physical.facing.judgement import Sights, judge
from channover.targets.physical.placement import Fit, fit

FULL = 1514


def lab(*cables: str, switches: Mapping[str, Any], rate: str = "100mbit") -> LabEntry:
    """Return a lab of these cables, ``left.a-tor.1``."""
    ends = [cable.split("-", 1) for cable in cables]
    nics: dict[str, dict[str, str]] = {}
    for end in (end for both in ends for end in both if end.split(".")[0] not in switches):
        name, nic = end.split(".")
        nics.setdefault(name, {})[nic] = f"eth{len(nics.get(name, ())) + 1}"
    hosts = {
        name: {"ssh": {"address": f"192.0.2.{number}"}, "management": "lo", "nics": some}
        for number, (name, some) in enumerate(nics.items(), start=1)
    }
    wires = [{"ends": both, "rate": rate} for both in ends]
    return LabEntry.model_validate({"hosts": hosts, "cables": wires, "switches": switches})


def tor(**fields: Any) -> dict[str, Any]:
    return {"tor": {"ports": ["1", "2", "3", "4"], **fields}}


FOUR = ("left.a-tor.1", "left.b-tor.2", "right.a-tor.3", "right.b-tor.4")
LAGS = {"left": ["1", "2"], "right": ["3", "4"]}
VLANS = {"10": ["1", "3"], "20": ["2", "4"]}
TWO = (("left.a", "right.a"), ("left.b", "right.b"))


def laid(topology: Topology, links: Links, entry: LabEntry) -> Fit | str:
    return fit(replace(topology, links=links), entry)


@pytest.mark.parametrize(
    ("fields", "links", "fits"),
    [
        ({"lags": LAGS}, Links.LAG, True),
        ({"lags": LAGS}, Links.PATHS, False),
        ({"vlans": VLANS}, Links.PATHS, True),
        ({"vlans": VLANS}, Links.LAG, False),
        ({}, Links.PATHS, True),
        ({}, Links.EITHER, False),
        ({"vlans": {"10": ["1", "2"], "20": ["3", "4"]}}, Links.PATHS, False),
        ({"lags": LAGS, "vlans": {"10": ["1", "2"], "20": ["3", "4"]}}, Links.LAG, False),
    ],
)
def test_what_fits_is_decided_by_how_the_switch_is_set_up(fields: dict[str, Any], links: Links, fits: bool) -> None:
    found = laid(pair(), links, lab(*FOUR, switches=tor(**fields)))
    assert isinstance(found, Fit) == fits, found
    if isinstance(found, Fit):
        assert {str(port) for port in found.facing.values()} == {"tor.1", "tor.2", "tor.3", "tor.4"}
        assert bool(found.crowded) == (not fields)  # both of a host's NICs in one domain


def test_what_a_switch_lacks_is_said() -> None:
    reason = laid(pair(), Links.LAG, lab(*FOUR, switches=tor()))
    assert "name them in the switch's 'lags'" in str(reason)


def test_a_nic_is_of_one_path_however_many_it_reaches() -> None:
    cables = (*FOUR, "right.out-tor.5", "beyond.a-tor.6")
    switches = {"tor": {"ports": ["1", "2", "3", "4", "5", "6"]}}
    found = laid(gateway(), Links.PATHS, lab(*cables, switches=switches))
    assert isinstance(found, Fit)
    assert len(set(found.nics.values())) == 6
    assert isinstance(laid(trio(), Links.PATHS, lab(*cables, switches=switches)), str)


def test_switches_of_one_mlag_are_one_partner() -> None:
    switches = {
        name: {"ports": ["1", "2"], "mlag": "rack", "lags": {"left": ["1"], "right": ["2"]}} for name in ("one", "two")
    }
    cables = ("left.a-one.1", "left.b-two.1", "right.a-one.2", "right.b-two.2")
    assert isinstance(laid(pair(), Links.LAG, lab(*cables, switches=switches)), Fit)
    for fields in switches.values():
        del fields["mlag"]
    assert isinstance(laid(pair(), Links.LAG, lab(*cables, switches=switches)), str)


def test_vlans_go_on_over_cables_between_switches() -> None:
    switches = {name: {"ports": ["1", "2", "9"], "vlans": {"10": ["1"], "20": ["2"]}} for name in ("west", "east")}
    cables = ("left.a-west.1", "left.b-west.2", "right.a-east.1", "right.b-east.2")
    assert isinstance(laid(pair(), Links.PATHS, lab(*cables, switches=switches)), str)
    wiring = Wiring(joined := lab(*cables, "west.9-east.9", switches=switches))
    assert isinstance(laid(pair(), Links.PATHS, joined), Fit)
    assert not wiring.crowded(Port("left", "a"))


DOCUMENTED = re.findall(
    r"```yaml\n(labs:\n.*?)```", (Path(__file__).parents[2] / "docs/preparing-a-lab.md").read_text(), re.S
)


@pytest.mark.parametrize(
    ("name", "topologies"),
    [
        ("bench", [(pair(), Links.LAG), (pair(), Links.PATHS), (pair(), Links.EITHER)]),
        ("rack", [(pair(), Links.LAG), (pair(), Links.PATHS)]),
        ("floor", [(two_switches(1), Links.LAG), (two_switches(2), Links.LAG)]),
    ],
)
def test_the_documented_labs_fit_what_they_are_said_to(
    tmp_path: Path, name: str, topologies: list[tuple[Topology, Links]]
) -> None:
    (text,) = (one for one in DOCUMENTED if f"  {name}:\n" in one)
    (tmp_path / "lab.yaml").write_text(text)
    entry = load(tmp_path / "lab.yaml").labs[name]
    for topology, links in topologies:
        found = laid(topology, links, entry)
        assert isinstance(found, Fit), found
        assert {port.nic for port in found.nics.values()} == (
            {"c", "d"}
            if (name, links) == ("rack", Links.PATHS)
            else {nic for node in topology.hosts for nic in node.nics}
        )


LEFT, RIGHT = ("left.a", "left.b"), ("right.a", "right.b")


def seen(*domains: tuple[str, ...], size: int = FULL, **more: Mapping[str, Any]) -> dict[Port, dict[str, Any]]:
    """Return what four NICs hear: those of a domain hear each other; ``more`` by NIC, as ``left_b``."""
    found: dict[Port, dict[str, Any]] = {}
    for nic in (*LEFT, *RIGHT):
        mates = {other for domain in domains if nic in domain for other in domain if other != nic}
        heard = {other.replace(".", " "): {"largest": size} for other in mates}
        own: dict[str, Any] = {
            "carrier": True,
            "heard": heard,
            "lacp": None,
            "formed": False,
            "bpdus": {},
            "foreign": {},
        }
        found[Port(*nic.split("."))] = own | dict(more.get(nic.replace(".", "_"), {}))
    return found


def lacp(key: int, system: str = "02:00:00:00:00:01", state: int = 63, *, formed: bool = True) -> dict[str, Any]:
    return {"lacp": {"system": system, "key": key, "state": state}, "formed": formed}


ACROSS = (("left.a", "right.a"),)
ALONE = {"formed": False}
OTHER = "02:00:00:00:00:02"


@pytest.mark.parametrize(
    ("domains", "more", "words"),
    [
        (ACROSS, {"left_a": lacp(1), "left_b": lacp(1), "right_a": lacp(3), "right_b": lacp(3)}, None),
        (
            ACROSS,
            {"left_a": lacp(1), "left_b": lacp(3), "right_a": lacp(3), "right_b": lacp(1)},
            r"left.a .* and right.a .*, or of left.b \(tor.2\) and right.b \(tor.4\) are swapped between the LAGs",
        ),
        (
            (("left.a", "left.b", "right.a"),),
            {"left_a": lacp(1), "right_a": lacp(3), "right_b": lacp(3)},
            r"left.b \(tor.2\) answers no LACP, and hands on by itself .* no member of the LAG 'left' of tor",
        ),
        (
            (("left.a", "right.a"), ("left.b", "right.b")),
            {"right_a": lacp(3), "right_b": lacp(3)},
            "are a LAG without LACP: the LAG 'left' of tor is static, and hosts speak LACP",
        ),
        (
            ACROSS,
            {"left_a": lacp(1), "left_b": lacp(1, OTHER), "right_a": lacp(3), "right_b": lacp(3)},
            "the members of the LAG 'left' of tor lead to 2 LACP systems, which are no stack",
        ),
        (
            ACROSS,
            {"left_a": lacp(1), "left_b": lacp(9), "right_a": lacp(3), "right_b": lacp(3)},
            "the members of the LAG 'left' of tor are in 2 LAGs of the switch",
        ),
        (
            ACROSS,
            {"left_a": lacp(1), "left_b": lacp(1, state=7, formed=False), "right_a": lacp(3), "right_b": lacp(3)},
            r"left.b \(tor.2\) is held back by the switch: .* is not synchronized or collecting or distributing",
        ),
        (
            ACROSS,
            {"left_a": lacp(1), "left_b": lacp(1, state=59), "right_a": lacp(3), "right_b": lacp(3)},
            r"left.b \(tor.2\) is individual: its port speaks LACP, and is no member of the LAG 'left' of tor",
        ),
        (
            ACROSS,
            {"left_a": lacp(1), "right_a": lacp(3), "right_b": lacp(3)},
            r"left.b \(tor.2\) answers no LACP and hands nothing on, and nothing arrives: the port is dead",
        ),
        (
            (),
            {"left_a": lacp(1), "left_b": lacp(1), "right_a": lacp(3), "right_b": lacp(3)},
            "do not reach each other: they are in different VLANs",
        ),
        (ACROSS, {"left_b": {"carrier": False}}, r"left.b \(tor.2\) has no carrier: plug in its cable"),
    ],
)
def test_what_is_wrong_with_a_lag_of_the_switch_is_named(
    domains: tuple[tuple[str, ...], ...], more: dict[str, Any], words: str | None
) -> None:
    require(Wiring(lab(*FOUR, switches=tor(lags=LAGS))), seen(*domains, **more), words)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"left_a": ["tor-1", "ge-0/0/1"], "left_b": ["tor-1", "2"], "right_a": ["tor-1", "Ethernet3"]}, None),
        (
            {"left_a": ["tor-1", "ge-0/0/11"], "left_b": ["tor-1", "ge-0/0/2"]},
            "^left.a is on port ge-0/0/11 of tor-1, as LLDP tells: the inventory says tor.1; correct it, or move the cable",
        ),
        (
            {"left_a": ["tor-1", "1"], "left_b": ["tor-2", "2"]},
            "^left.b is on tor-2, and left.a on tor-1, as LLDP tells: the inventory has both on tor; correct one",
        ),
    ],
)
def test_an_inventory_that_says_otherwise_than_lldp_is_a_finding(told: dict[str, list[str]], words: str | None) -> None:
    more: dict[str, Any] = {nic: {"lldp": [said]} for nic, said in told.items()}
    require(Wiring(lab(*FOUR, switches=tor(vlans=VLANS))), seen(*TWO, **more), words)


def test_two_switches_that_call_themselves_one_are_a_finding_unless_they_are_a_stack() -> None:
    cables = ("left.a-one.1", "left.b-two.1", "right.a-one.2", "right.b-two.2")
    for mlag, words in (
        ({}, "left.b and left.a are both on core, as LLDP tells: .* on two and one"),
        ({"mlag": "m"}, None),
    ):
        switches = {
            name: {"ports": ["1", "2"], "vlans": {vlan: ["1", "2"]}, **mlag}
            for name, vlan in (("one", "10"), ("two", "20"))
        }
        more: dict[str, Any] = {"left_a": {"lldp": [["core", "1"]]}, "left_b": {"lldp": [["core", "1"]]}}
        require(Wiring(lab(*cables, switches=switches)), seen(*TWO, **more), words)


def require(wiring: Wiring, reports: dict[Port, dict[str, Any]], words: str | None) -> None:
    found = judge(Sights(wiring, reports, FULL))
    assert len(found) == (words is not None), found
    assert all(re.search(words or "", one) for one in found), found


@pytest.mark.parametrize(
    ("domains", "more", "words"),
    [
        (TWO, {}, None),
        (
            (("left.a", "left.b", "right.a"),),
            {},
            r"left.b \(tor.2\) is in the wrong VLAN: that of left.a \(tor.1\) and right.a \(tor.3\), and not VLAN 20",
        ),
        (
            (("left.b", "right.a"), ("left.a", "right.b")),
            {},
            r"the cables of left.a \(tor.1\) and left.b \(tor.2\), or of right.a .* are swapped: each is in the VLAN of",
        ),
        (
            (("left.a", "left.b", "right.a", "right.b"),),
            {},
            "are in one VLAN, and by the inventory in two",
        ),
        (ACROSS, {"left_b": lacp(9), "right_b": {"foreign": {"x": 1}}}, r"left.b \(tor.2\) is unbundled by the switch"),
        (
            ACROSS,
            {"left_b": {"bpdus": {"count": 2, "forwarding": False}}, "right_b": {"foreign": {"x": 1}}},
            r"left.b \(tor.2\) is held back by the switch's spanning tree",
        ),
        (ACROSS, {"right_b": {"foreign": {"x": 1}}}, r"left.b \(tor.2\) has a carrier and nothing passes: a dead port"),
    ],
)
def test_what_is_wrong_with_a_path_is_named(
    domains: tuple[tuple[str, ...], ...], more: dict[str, Any], words: str | None
) -> None:
    require(Wiring(lab(*FOUR, switches=tor(vlans=VLANS))), seen(*domains, **more), words)


def test_a_switch_that_carries_no_full_frame_is_named() -> None:
    small = seen(*TWO, size=1414)
    words = (
        r"no frame of 1514 bytes passes from right.a \(tor.3\) to left.a \(tor.1\): the largest that arrived had 1414"
    )
    require(Wiring(lab(*FOUR, switches=tor(vlans=VLANS))), small, words)
