"""Switches beside a lab's hosts: which of them are asked, and what their readings come to in evidence and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import cast

import pytest

from channover.hosts.host import Host, Nic
from channover.hosts.lab import Cabling, Lab
from channover.hosts.snmp import session
from channover.hosts.snmp.switch import LagMember, SwitchPort, SwitchReading
from channover.model.link import Link
from channover.model.topology import Port, pair
from channover.pytest_plugin.allure import switches
from channover.pytest_plugin.allure.page_facts import lab_facts
from channover.report.drawing.topology import topology_svg
from channover.targets.inventory.schema import LabEntry, loaded
from channover.targets.physical.switch_readers import SwitchReaders

INVENTORY = """
labs:
  bench:
    hosts:
      left: {ssh: {address: 192.0.2.1}, management: eth0, nics: {a: eth1, b: eth2}}
      right: {ssh: {address: 192.0.2.2}, management: eth0, nics: {a: eth1, b: eth2}}
    switches:
      near: {ports: [1, 49], snmp: {address: 127.0.0.1, port: 9, config: CONFIG}}
      far: {ports: [1, 49], snmp: {address: 127.0.0.1, config: none.conf}}
      mute: {ports: [1]}
      other: {ports: [1], snmp: {address: 127.0.0.1, config: none.conf}}
    cables:
      - {ends: [left.a, near.1], rate: 1gbit}
      - {ends: [near.49, far.49], rate: 10gbit}
      - {ends: [right.a, far.1], rate: 1gbit}
      - {ends: [left.b, mute.1], rate: 1gbit}
      - {ends: [right.b, other.1], rate: 1gbit}
"""
STATE = frozenset({"activity", "aggregation", "synchronized", "collecting", "distributing"})
MEMBER = LagMember("Po1", "02:00:00:00:00:01", 7, "02:00:00:00:00:02", 9, STATE, STATE)
PORT = SwitchPort(10, "Eth1/1", True, 1e9, 1000, 2000, MEMBER, "left eth1")
BEFORE = SwitchReading(
    "near", "sw-1", "a switch", "Acme", "Rack 48", "4.2", {"1": PORT, "49": replace(PORT, member=None)}, ["50"]
)
AFTER = replace(BEFORE, ports={"1": replace(PORT, rx=5000, tx=9000), "49": replace(PORT, rx=10, member=None)})


@pytest.fixture
def entry(tmp_path: Path) -> LabEntry:
    (tmp_path / "snmp.conf").write_text("defCommunity s3cret")
    return loaded(INVENTORY.replace("CONFIG", f"{tmp_path}/snmp.conf"), tmp_path / "x.yaml").labs["bench"]


def test_what_cannot_be_read_is_a_line_said_once(entry: LabEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TIMEOUT", 0.1)
    said: list[str] = []
    readers = SwitchReaders(entry, said.append)
    for _ in range(2):
        assert readers.beside([Port("left", "a")]) == (), "near leads on to far; mute and other are not asked"
    near, far = sorted(said, key=lambda line: "far" in line)
    assert near.startswith(
        "switch near is not read, and verdicts rest on the hosts: 127.0.0.1 port 9 does not answer SNMP v2c"
    )
    assert (
        far.startswith("switch far is not read, and verdicts rest on the hosts: ") and "none.conf cannot be read" in far
    )
    assert "s3cret" not in near
    assert readers.beside([Port("left", "b")]) == ()


def test_bytes_are_what_came_between_two_readings() -> None:
    (one,) = switches.carried(BEFORE, AFTER)
    assert (one.host, one.nic, one.tx, one.rx) == ("near", "1", 7000, 4000), "a counter that began anew says nothing"


def test_evidence_and_results() -> None:
    text = switches.told(BEFORE, AFTER)
    assert (
        "sw-1: Acme Rack 48 4.2\na switch\n1 (Eth1/1): up; sent 7,000 bytes, received 4,000; in Po1, key 7, partner"
        in text
    )
    assert "activity aggregation synchronized collecting distributing; neighbour left eth1" in text
    assert text.endswith("50: the switch has no such port")
    seen = switches.Seen({"near": BEFORE}, {"near": AFTER})
    (found,) = switches.facts(seen)
    assert (found.name, found.role, found.kernel, found.machine) == ("near", "switch", "Acme Rack 48 4.2", "")
    assert [(nic.name, nic.device, nic.speed) for nic in found.nics] == [("1", "Eth1/1", 1e9), ("49", "Eth1/1", 1e9)]
    (members,) = switches.members(seen)
    assert members.host == "near, by SNMP" and [(row.label, row.used) for row in members.rows] == [("1", True)]


class Stub:
    """A host of which only its NICs are asked."""

    def nic(self, name: str) -> Nic:
        return Nic(name, f"eth-{name}")


def test_a_lab_is_drawn_with_the_switches_that_it_faces() -> None:
    hosts = cast(Mapping[str, Host], {"left": Stub(), "right": Stub()})
    facing = {
        Port(host, nic): f"near.{number}"
        for number, (host, nic) in enumerate(product(("left", "right"), "ab"), start=1)
    }
    lab = Lab(pair(), hosts, Link(10**9), cast(Cabling, None), facing=facing)
    read = switches.facts(switches.Seen({"near": BEFORE}, {"near": AFTER}))
    for known in (read, []):
        found, cables = lab_facts(lab, read=known)
        assert [(one.name, one.role) for one in found] == [("left", "host"), ("right", "host"), ("near", "switch")]
        assert found[-1].kernel == ("Acme Rack 48 4.2" if known else "")
        assert {(one.a, one.b) for one in cables} == {(str(port), outlet) for port, outlet in facing.items()}
    drawing = topology_svg(*lab_facts(lab, read=read))
    assert drawing.count("near") and "switch" in drawing
