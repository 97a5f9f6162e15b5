"""A switch of others that is read: net-snmp's agent runs on it, it says LLDP on its ports, and nobody can log in there."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from channover.hosts.host import Journal, until
from channover.hosts.ssh.connection import SshLink
from channover.model.link import Link
from channover.model.topology import Links, pair
from channover.pytest_plugin.allure import switches
from channover.targets.inventory.schema import HostEntry, load
from channover.targets.netns import NetnsTarget
from channover.targets.physical.lease_pool import LeasePool
from channover.targets.physical.target import PhysicalTarget
from tests.support.rack import Rack, Switch, inventory, rack, two_hosts_and_a_switch

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ADDRESS = "192.0.2.254"
LLDP = r"""
import socket, struct, sys, time
def tlv(kind, value): return struct.pack("!H", kind << 9 | len(value)) + value
while True:
    for name in sys.argv[1:]:
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        out.bind((name, 0))
        own = out.getsockname()[4]
        body = tlv(1, b"\4" + own) + tlv(2, b"\5" + name.encode()) + tlv(3, b"\0\x78") + tlv(5, b"tor-1") + tlv(0, b"")
        out.send(bytes.fromhex("0180c200000e") + own + struct.pack("!H", 0x88CC) + body)
        out.close()
    time.sleep(0.3)
"""


@pytest.fixture
def made(netns: NetnsTarget, tmp_path: Path) -> Iterator[Rack]:
    if os.getuid() != 0:
        pytest.skip("a way to the switch's management port takes root: run the tests as root")
    if shutil.which("snmpd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("there is no snmpd: apt-get install snmpd")
    with rack(netns, tmp_path) as empty:
        yield empty


@contextmanager
def managed(tor: Switch, folder: Path) -> Iterator[None]:
    """Give a switch a management port that this machine reaches, an agent there, and LLDP on its ports."""
    ours = f"chm{secrets.token_hex(3)}"
    run = ("nsenter", f"--net=/proc/{tor.pid}/ns/net")
    with ExitStack() as stack:
        subprocess.run(
            ["ip", "link", "add", ours, "type", "veth", "peer", "name", "mgmt", "netns", str(tor.pid)], check=True
        )
        stack.callback(subprocess.run, ["ip", "link", "delete", ours], check=False)
        subprocess.run(["ip", "address", "add", "192.0.2.253/30", "dev", ours], check=True)
        subprocess.run(["ip", "link", "set", ours, "up"], check=True)
        tor.run("ip", "address", "add", f"{ADDRESS}/30", "dev", "mgmt")
        tor.run("ip", "link", "set", "mgmt", "up")
        (folder / "snmpd.conf").write_text(
            "rocommunity t0p-secret\nsysDescr A switch of the tests\nsysName tor-1\n"
            f"[snmp] persistentDir {folder}/state\n"
        )
        agent = ("/usr/sbin/snmpd", "-f", "-Lo", "-C", "-c", f"{folder}/snmpd.conf", "-p", f"{folder}/pid")
        speaker = (sys.executable, "-S", "-c", LLDP, *(f"p{number}" for number in range(1, 5)))
        for words in ((*agent, f"udp:{ADDRESS}:161"), speaker):
            process = subprocess.Popen([*run, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.mark.parametrize("community", ["t0p-secret", "wr0ng"])
def test_a_switch_is_read_beside_its_hosts(made: Rack, tmp_path: Path, community: str) -> None:
    tor = two_hosts_and_a_switch(made)
    for port, vlan in (("p1", 10), ("p2", 20), ("p3", 10), ("p4", 20)):
        tor.port(port, f"tag={vlan}")
    (tmp_path / "community").write_text(f"defCommunity {community}\n")
    fields = f"vlans: {{10: [p1, p3], 20: [p2, p4]}}, snmp: {{address: {ADDRESS}, config: {tmp_path}/community}}"
    (tmp_path / "bench.yaml").write_text(inventory(switch=fields))
    entry = load(tmp_path / "bench.yaml").labs["bench"]
    said: list[str] = []

    def connect(name: str, host: HostEntry) -> SshLink:
        link = made.servers[name].link(sudo=host.sudo)
        link.host = name
        return link

    target = PhysicalTarget(entry, LeasePool(connect=connect), say=said.append)
    try:
        with managed(tor, tmp_path), target.lab(replace(pair(), links=Links.PATHS), Link(), Journal()) as lab:
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
