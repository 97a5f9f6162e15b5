"""A switch of others that is read: net-snmp's agent runs on it, it says LLDP on its ports, and nobody can log in there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from channover.hosts.host import Journal, until
from channover.model.link import Link
from channover.model.topology import Links, pair
from channover.pytest_plugin.allure import switches
from channover.targets.netns import NetnsTarget
from tests.support.rack import Rack, inventory, rack, target_of, two_hosts_and_a_switch, vlans
from tests.support.rack_agent import COMMUNITY, managed, require
from tests.support.rack_lldp import speaking

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ADDRESS = "192.0.2.254"


@pytest.fixture
def made(netns: NetnsTarget, tmp_path: Path) -> Iterator[Rack]:
    require()
    with rack(netns, tmp_path) as empty:
        yield empty


@pytest.mark.parametrize("community", [COMMUNITY, "wr0ng"])
def test_a_switch_is_read_beside_its_hosts(made: Rack, tmp_path: Path, community: str) -> None:
    tor = two_hosts_and_a_switch(made)
    vlans(tor)
    (tmp_path / "community").write_text(f"defCommunity {community}\n")
    fields = f"vlans: {{10: [p1, p3], 20: [p2, p4]}}, snmp: {{address: {ADDRESS}, config: {tmp_path}/community}}"
    said: list[str] = []
    target = target_of(made, inventory(switch=fields), tmp_path, said.append)
    try:
        with (
            managed(tor, tmp_path, ADDRESS, "tor-1"),
            speaking(tor, "tor-1", ["p1", "p2", "p3", "p4"]),
            target.lab(replace(pair(), links=Links.PATHS), Link(), Journal()) as lab,
        ):
            assert {line for line in said if "LLDP" in line} == {
                f"{nic} is on port p{number} of tor-1, as LLDP tells"
                for number, nic in enumerate(("left.a", "left.b", "right.a", "right.b"), start=1)
            }, said
            if community == "wr0ng":
                assert lab.switches == ()
                (line,) = [line for line in said if "tor is not read" in line]
                assert (
                    "verdicts rest on the hosts: 192.0.2.254 port 161 does not answer" in line and "wr0ng" not in line
                )
                return
            (switch,) = lab.switches
            before = switch.read()
            assert (before.system, before.description, set(before.ports)) == (
                "tor-1", "A switch of the tests", {"p1", "p2", "p3", "p4"},
            )  # fmt: skip
            assert all(port.up for port in before.ports.values())
            lab.left.run("sh", "-c", "ip address add 10.93.93.1/30 dev eth1")
            lab.right.run("sh", "-c", "ip address add 10.93.93.2/30 dev eth1")
            lab.left.run("ping", "-c", "20", "-i", "0.01", "-s", "1000", "10.93.93.2")

            def counted() -> bool:
                moved = {one.nic: one for one in switches.carried(before, switch.read())}
                return all(moved[port].rx > 20_000 and moved[port].tx > 20_000 for port in ("p1", "p3"))

            until(counted, "the switch to have counted the frames", 30)
            for host in (lab.left, lab.right):
                host.run("ip", "address", "flush", "dev", "eth1")
    finally:
        target.close()
