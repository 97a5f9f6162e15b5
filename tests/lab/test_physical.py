"""The physical target against hosts behind real SSH servers: namespaces of this machine, each of a lab of its own.

Hosts of one lab share a folder /run and see each other's processes, as machines never do. So ``left`` and ``right`` are of
two labs here, and nothing crosses between them; the micro-VMs are for that.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from channover.cli import doctor
from channover.cli.doctor_findings import Findings
from channover.cli.doctor_text import render
from channover.errors import NotAllowed, TestbedError, UsageError
from channover.hosts.guardian import lease as leases
from channover.hosts.guardian.differences import SCRIPT, differences
from channover.hosts.guardian.facts import Facts, NicFacts
from channover.hosts.guardian.lease import Taken
from channover.hosts.host import Host, Journal, until
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import SshLink
from channover.hosts.ssh.shell import command_line
from channover.model.catalogue import CATALOGUE
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import RouteAdd, RuleAdd
from channover.model.plan import Plan
from channover.model.topology import Cable, Node, Port, Role, Topology, gateway, pair, trio, two_switches
from channover.pytest_plugin.allure.page_facts import lab_facts, machines
from channover.run.environment import Environment
from channover.run.settings import Settings
from channover.run.target_choice import Place
from channover.scenarios.labs import configure
from channover.targets.capabilities import CAPABILITIES, Capability, lag_driver
from channover.targets.dry_run import DryTarget
from channover.targets.inventory.schema import Allows, HostEntry, load
from channover.targets.netns import NetnsTarget
from channover.targets.physical.lease_pool import LeasePool, login_of
from channover.targets.physical.target import PhysicalTarget
from tests.support.sshd import Server

pytestmark = pytest.mark.lab

INVENTORY = """
labs:
  bench:
    hosts:
      left: {ssh: {address: 192.0.2.1}, management: lo, nics: {a: eth1, b: eth2}}
      right: {ssh: {address: 192.0.2.2}, management: lo, nics: {a: eth1, b: eth2}}
    cables:
      - {ends: [left.a, right.a], rate: 100mbit}
      - {ends: [left.b, right.b], rate: 100mbit}
"""


class Bench:
    """Two namespace hosts behind SSH, and the inventory that describes them."""

    def __init__(self, labs: dict[str, Lab], folder: Path) -> None:
        self.own = labs["left"].left
        self.servers: dict[str, Server] = {}
        for name, lab in labs.items():
            host = lab.left
            assert isinstance(host, NamespaceHost)
            (folder / name).mkdir()
            self.servers[name] = Server(host, folder / name)
        self.folder = folder
        self.lay(INVENTORY)

    def lay(self, inventory: str) -> None:
        (self.folder / "bench.yaml").write_text(inventory)
        self.entry = load(self.folder / "bench.yaml").labs["bench"]

    def connect(self, name: str, host: HostEntry) -> SshLink:
        if name not in self.servers or host.ssh.port not in (None, 22):
            return SshLink(name, login_of(host))
        link = self.servers[name].link(sudo=host.sudo)
        link.host = name
        return link

    def target(self, wait: float = 0.0, *, prove: bool = False) -> PhysicalTarget:
        return PhysicalTarget(self.entry, LeasePool(wait, connect=self.connect), prove=prove)

    def session(self, *topologies: Topology) -> Environment:
        place = Place("physical", self.entry)
        settings = Settings(place, Link(), "auto", None, 10.0, False, self.folder / "reports")
        return Environment(settings, self.target(), topologies)


@pytest.fixture
def bench(netns: NetnsTarget, two_hosts: Lab, tmp_path: Path) -> Iterator[Bench]:
    with netns.lab(pair(), Link(), Journal()) as other:
        yield Bench({"left": two_hosts, "right": other}, tmp_path)


def two_bridges() -> Topology:
    """Two switches and nothing else."""
    nodes = tuple(Node(name, ("a", "b"), Role.SWITCH) for name in ("west", "east"))
    return Topology("two-bridges", nodes, tuple(Cable(Port("west", nic), Port("east", nic)) for nic in "ab"))


BEYOND = """
      beyond: {ssh: {address: 127.0.0.1, port: 1}, management: lo, nics: {a: eth1}}
    cables:
      - {ends: [right.out, beyond.a], rate: 1gbit}
"""


def with_beyond() -> str:
    """A lab for the topology gateway whose third host is down."""
    return INVENTORY.replace("\n    cables:\n", BEYOND).replace(
        "right: {ssh: {address: 192.0.2.2}, management: lo, nics: {",
        "right: {ssh: {address: 192.0.2.2}, management: lo, nics: {out: eth3, ",
    )


@pytest.fixture
def target(bench: Bench) -> Iterator[PhysicalTarget]:
    made = bench.target()
    yield made
    made.close()


def test_a_lab_of_hosts_over_ssh(target: PhysicalTarget) -> None:
    assert target.unmet(pair()) is None
    assert "no pair of hosts" in str(target.unmet(trio()))
    with target.lab(pair(), Link(), Journal()) as lab:
        assert lab.link == Link(100_000_000)
        for number, host in enumerate((lab.left, lab.right), start=1):
            host.apply(Plan("address", (AddressAdd(host.nic("a").device, f"10.93.93.{number}/30"),)))
            assert host.state().links["eth1"].carrier
        hosts, _ = lab_facts(lab, machines(lab))
        assert [(host.name, host.machine, host.kernel) for host in hosts] == [
            (name, os.uname().nodename, os.uname().release) for name in ("left", "right")
        ]
        lab.left.apply(Plan("stands at the end", (RuleAdd("10.93.93.1", 101, 1001),)))


def test_a_lab_of_ipv6_and_jumbo_frames_leaves_hosts_as_they_were(bench: Bench) -> None:
    bench.lay(INVENTORY.replace("rate: 100mbit", "rate: 100mbit, mtu: 4000"))
    target, before = bench.target(), bench.own.state()
    with target.lab(pair(), Link(ipv6=True), Journal()) as lab:
        assert lab.link == Link(100_000_000, 4000, ipv6=True)
        configure(lab)
        now = lab.left.state()
        assert [rule.source for rule in now.rules if not rule.of_any] == ["fd00:93::1", "fd00:93:1::1"]
        assert [now.links[device].mtu for device in ("eth1", "eth2")] == [4000, 4000]
    target.close()
    assert bench.own.state() == before


def test_what_a_test_leaves_behind_is_named_and_put_back(target: PhysicalTarget, bench: Bench) -> None:
    before = bench.own.state()
    words = re.compile(r"changes behind.*left: .*10\.93\.93\.1/30", re.DOTALL)
    with pytest.raises(TestbedError, match=words), target.lab(pair(), Link(), Journal()) as lab:
        lab.left.run(
            "sh", "-c", "ip address add 10.93.93.1/30 dev eth1; ip rule add from 10.93.93.1 table 101 priority 1001"
        )
        lab.left.spawn("sleep", "1000")
    assert bench.own.state() == before
    assert "sleep" not in bench.own.run("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null").stdout
    with target.lab(pair(), Link(), Journal()):
        pass


CONNECTED = """
import socket, sys, time
address = sys.argv[1]
listener = socket.create_server((address, 0))
connected = socket.create_connection(listener.getsockname(), source_address=(address, 0))
accepted, _ = listener.accept()
print("connected", flush=True)
time.sleep(1000)
"""
"""A program with a connection to itself: where its address goes before it ends, the kernel keeps both ends for minutes."""
OWN = "10.10.0.77"
"""An address of the owner's, within one of the lab's networks."""
LEARNED = """
ip link set eth1 up
ip address add 203.0.113.5/24 dev eth1
ip neigh replace 203.0.113.9 lladdr 02:00:00:00:00:09 dev eth1 nud permanent
ip address add 10.10.0.77/32 dev lo
"""


def connected_there(own: Host) -> list[tuple[str, str]]:
    """Return the state and the own address of each connection of a host."""
    lines = own.run("ss", "-Htn", "state", "connected").stdout.splitlines()
    return sorted((line.split()[0], line.split()[3].rpartition(":")[0]) for line in lines)


def leave_sockets(lab: Lab) -> None:
    """Have the kernel learn of the lab's addresses, and keep sockets of a program that ends after its address has gone."""
    lab.left.apply(Plan("address", (AddressAdd("eth1", "10.93.93.1/30"),)))
    lab.left.run("ip", "neigh", "replace", "10.93.93.2", "lladdr", "02:00:00:00:00:02", "dev", "eth1", "nud", "stale")
    lab.left.spawn("python3", "-c", CONNECTED, "10.93.93.1").wait_for("connected", 10)


def test_sockets_of_a_test_end_with_it_and_the_owner_s_stay(target: PhysicalTarget, bench: Bench) -> None:
    own, said = bench.own, list[str]()
    target.say = said.append
    own.run("sh", "-ec", LEARNED)
    for address in (OWN, "127.0.0.1"):
        own.spawn("python3", "-c", CONNECTED, address).wait_for("connected", 10)
    before = connected_there(own)
    assert before == [("ESTAB", address) for address in (OWN, OWN, "127.0.0.1", "127.0.0.1")]
    with target.lab(pair(), Link(), Journal()) as lab:
        leave_sockets(lab)
        assert [address for _, address in connected_there(own)].count("10.93.93.1") == 2
    assert connected_there(own) == before
    assert own.run("ip", "neigh", "show", "dev", "eth1").stdout.split()[:3] == [
        "203.0.113.9",
        "lladdr",
        "02:00:00:00:00:09",
    ]
    assert "10.93.93" not in own.run("ip", "tcp_metrics", "show").stdout
    assert said == []


def test_a_run_ends_what_a_run_that_died_left_in_the_kernel(bench: Bench) -> None:
    own = bench.own
    own.run("sh", "-ec", "ip link set eth1 up; ip address add 10.93.93.1/30 dev eth1")
    process = own.spawn("python3", "-c", CONNECTED, "10.93.93.1")
    process.wait_for("connected", 10)
    own.run("ip", "address", "delete", "10.93.93.1/30", "dev", "eth1")
    process.stop()
    assert {address for _, address in connected_there(own)} == {"10.93.93.1"}
    target = bench.target()
    with target.lab(pair(), Link(), Journal()):
        assert connected_there(own) == []
    target.close()


WITHOUT_DESTROY = """
folder=$1 real=$(command -v ss)
cp "$real" "$folder/real-ss"
printf '#!/bin/sh\ncase $* in *K*) exit 0 ;; esac\nexec %s/real-ss "$@"\n' "$folder" >"$folder/ss"
chmod 755 "$folder/ss"
mount --bind "$folder/ss" "$real"
"""
"""Make ss that of a kernel without CONFIG_INET_DIAG_DESTROY, which passes over what it cannot end."""


def test_a_test_says_at_its_start_which_sockets_of_an_earlier_one_are_beside_it(bench: Bench) -> None:
    bench.own.run("sh", "-ec", WITHOUT_DESTROY, "sh", bench.own.folder)
    target, said = bench.target(), list[str]()
    target.say = said.append
    with target.lab(pair(), Link(), Journal()) as lab:
        leave_sockets(lab)
    assert said == []  # nobody is disturbed yet
    with target.lab(pair(), Link(), Journal()):
        pass
    end = r"\S+ 10\.93\.93\.1:\d+ → 10\.93\.93\.1:\d+"
    words = f"left: 2 sockets of an earlier test could not be ended, and may disturb this one: {end}; {end}"
    assert re.fullmatch(words, said[0]), said
    target.close()


def test_settings_of_before_come_back_and_not_defaults(bench: Bench) -> None:
    own = bench.own
    addresses = [AddressAdd("eth1", f"203.0.113.{last}/24") for last in (5, 6)]  # the second one is a secondary address
    own.apply(Plan.of("the owner's", [*addresses, LinkSet("eth1", up=True, mtu=1400)]))
    before = own.state()
    target = bench.target()
    with target.lab(pair(), Link(), Journal()) as lab:
        link = lab.left.state().links["eth1"]
        assert (link.mtu, [each for each in link.addresses if ":" not in each]) == (1500, [])
    target.close()
    assert own.state() == before
    assert target.remarks == []


OWNERS = """
ip link set eth1 up
ip address add 203.0.113.5/24 broadcast + metric 100 dev eth1
ip address add 2001:db8:1::5/64 dev eth1 nodad
ip route add 198.51.100.0/24 via 203.0.113.9 dev eth1 proto static metric 50
ip route add default via 203.0.113.9 dev eth1 table 77
ip rule add from 203.0.113.5 table 77 priority 500
"""
"""What a DHCP client and an administrator leave on a NIC."""


def test_a_nic_that_is_in_use_is_lent_and_comes_back(bench: Bench) -> None:
    own = bench.own
    own.run("sh", "-ec", OWNERS)
    saved = (
        "sh",
        "-c",
        "{ ip -o address show dev eth1; ip route show table all; ip -6 route show dev eth1; ip rule show; } | grep -v fe80",
    )

    def seen() -> list[str]:
        return sorted(own.run(*saved).stdout.splitlines())

    before = seen()
    target = bench.target()
    for _ in range(2):
        with target.lab(pair(), Link(), Journal()) as lab:
            state = lab.left.state()
            assert [each for each in state.links["eth1"].addresses if not each.startswith("fe80")] == []
            assert state.routes_lost_with("eth1") == ()
        assert seen() == before
    words = r"changes behind.*: left: eth1: MTU is 1400, was 1500$"
    with pytest.raises(TestbedError, match=words), target.lab(pair(), Link(), Journal()) as lab:
        lab.left.run("ip", "link", "set", "eth1", "mtu", "1400")
    target.close()
    assert seen() == before
    assert target.remarks == []


ODD = """
ip link set eth1 up
ip link set eth2 up
ip address add 10.5.0.1 peer 10.5.0.2/32 dev eth1
ip address add 2001:db8:5::1 peer 2001:db8:5::2/128 dev eth1 nodad
ip address add 10.6.0.1/24 dev eth1 noprefixroute label eth1:x scope link
ip neigh add 10.5.0.2 lladdr 02:00:00:00:00:02 dev eth1 nud permanent
ip neigh add proxy 10.5.0.3 dev eth1
ip neigh add 2001:db8:6::2 lladdr 02:00:00:00:00:02 dev eth2 nud permanent router
ip nexthop add id 5 via 10.5.0.2 dev eth1
ip route add 10.7.0.0/16 nhid 5 metric 7
ip route add 10.8.0.0/16 dev lo src 10.5.0.1
ip rule add from 10.5.0.1 fwmark 7 ipproto tcp sport 100-200 table 77 suppress_prefixlength 0 priority 500
ip rule add l3mdev priority 501
ip rule add uidrange 1-9 goto 32766 priority 502
"""
"""What nobody would call usual: eth2 has nothing but a neighbour."""


def test_the_peer_of_the_management_address_is_the_way_to_the_host(bench: Bench) -> None:
    bench.own.run(
        "sh", "-ec", "ip link add mgmt0 type bridge; ip address add 198.51.100.1 peer 198.51.100.129/32 dev mgmt0"
    )
    left = bench.entry.hosts["left"].model_copy(update={"management": "mgmt0"})
    bench.entry = bench.entry.model_copy(update={"hosts": {**bench.entry.hosts, "left": left}})
    target = bench.target()
    with (
        pytest.raises(UsageError, match=r"198\.51\.100\.128/25 covers the way to the host \(198\.51\.100\.129/32\)"),
        target.lab(pair(), Link(), Journal()) as lab,
    ):
        lab.left.apply(Plan("a way", (RouteAdd("198.51.100.128/25", "eth1"),)))
    target.close()


def test_odd_things_on_a_nic_come_back_whatever_a_test_does_to_it(bench: Bench) -> None:
    own = bench.own
    own.run("sh", "-ec", ODD)
    words = "address show; neigh show nud permanent; neigh show proxy; nexthop show; rule show; route show table all"
    saved = ("sh", "-c", "".join(f"ip -o {each};" for each in words.split(";")) + "ip -6 route show dev eth1")

    def seen() -> list[str]:
        return sorted(line for line in own.run(*saved).stdout.splitlines() if "fe80::" not in line)

    before = seen()
    target = bench.target()
    for _ in range(2):
        with target.lab(pair(), Link(), Journal()) as lab:
            left = lab.left
            assert [each for each in left.state().links["eth1"].addresses if each.startswith("10.5.")] == []
            for device in ("eth1", "eth2"):
                down = Plan("as a LAG does", (LinkSet(device, up=False), LinkSet(device, mtu=1400)))
                with left.applied(down):
                    pass
        assert seen() == before
    target.close()
    assert seen() == before
    assert target.remarks == []


def test_odd_things_on_a_nic_come_back_when_the_controller_dies(bench: Bench) -> None:
    own = bench.own
    own.run("sh", "-ec", ODD)
    saved = ("bash", "-c", SCRIPT.decode(), "guardian", "state", "eth1", "eth2")
    before = own.run(*saved).stdout
    target = bench.target()
    with pytest.raises(TestbedError), target.lab(pair(), Link(), Journal()) as lab:
        lab.left.apply(Plan("as a LAG does", (LinkSet("eth1", up=False, mtu=1400), LinkSet("eth2", up=False))))
        target.leases.at("left", bench.entry.hosts["left"]).link.give_up("the controller is gone")
        until(lambda: own.run("ls", leases.ROOT, check=False).returncode != 0, "the host to restore itself", 40, 0.2)
        assert differences(before, own.run(*saved).stdout) == []
    with suppress(TestbedError):
        target.close()
    assert differences(before, own.run(*saved).stdout) == []


@pytest.mark.parametrize(
    ("commands", "finding", "fatal"),
    [
        (
            "ip link add name m1 link eth1 type macvlan",
            "m1 (macvlan) is stacked on eth1 (nics.a), and no LAG or bridge could have the NIC: "
            "delete it, or give it another NIC: 'ip link delete m1'",
            True,
        ),
        (
            "ip link add name eth1.7 link eth1 type vlan id 7",
            "eth1.7 (vlan) is stacked on eth1 (nics.a), and is without it while a run lasts: "
            "give it another NIC where it is needed meanwhile",
            False,
        ),
        (
            "ip link add name own0 type bridge vlan_filtering 1; ip link set eth1 master own0",
            "eth1 (nics.a) is a port of the bridge own0, whose VLANs would be lost: "
            "take it out before a run: 'ip link set eth1 nomaster'",
            True,
        ),
        (
            "ip link add name own0 type bridge; ip link set eth1 master own0; "
            "bridge fdb add 02:00:00:00:00:77 dev eth1 master static",
            "eth1 (nics.a) is a port of the bridge own0, whose forwarding entries would be lost: "
            "take it out before a run: 'ip link set eth1 nomaster'",
            True,
        ),
        (
            "ip link add name own0 up type bridge; ip link set eth1 up master own0; "
            "bridge mdb add dev own0 port eth1 grp 239.1.1.1 permanent",
            "eth1 (nics.a) is a port of the bridge own0, whose forwarding entries would be lost: "
            "take it out before a run: 'ip link set eth1 nomaster'",
            True,
        ),
        (
            "ip mptcp endpoint add 127.0.0.1 id 3 signal",
            "it has MPTCP endpoints of its own (id 3), and the lab's would meet their numbers and paths: "
            "take them away while a run lasts: 'ip mptcp endpoint flush'",
            False,
        ),
    ],
)
def test_what_could_not_be_given_back_is_refused_before_the_first_change(
    bench: Bench, commands: str, finding: str, fatal: bool
) -> None:
    own = bench.own
    try:
        own.run("sh", "-ec", commands)
    except TestbedError as error:
        if not re.search("Unknown device type|kind is unknown|not supported", str(error)):
            raise
        pytest.skip(f"not on this kernel: {error}")
    before = own.state()
    target, said = bench.target(), list[str]()
    target.say = said.append
    if fatal:
        with (
            pytest.raises(TestbedError, match=f"^{re.escape(f'left: {finding}')}"),
            target.lab(pair(), Link(), Journal()),
        ):
            pass
        assert own.state() == before
        assert own.run("ls", leases.ROOT, check=False).returncode != 0
    else:
        with target.lab(pair(), Link(), Journal()):
            pass
        assert f"left: {finding}" in said
    target.close()


def test_a_nic_beneath_the_management_interface_is_no_test_nic(bench: Bench) -> None:
    bench.own.run("sh", "-ec", "ip link add mgmt0 type bridge; ip link set eth1 master mgmt0")
    entry = bench.entry.hosts["left"].model_copy(update={"management": "mgmt0"})
    target = bench.target()
    assert any(
        each.fatal and "the SSH connection goes through eth1 (nics.a)" in each.what
        for each in target.findings({"left": entry})
    )
    host_lease = target.leases.at("left", entry)
    assert "eth1 carries the management interface" in str(host_lease.policy.refused_device("eth1"))
    target.close()


def test_findings_that_stop_nothing_are_said_once(bench: Bench) -> None:
    bench.own.run("sh", "-ec", "ip link add bond0 type bridge; ip route add 198.51.100.0/24 dev lo table 102")
    target, said = bench.target(), list[str]()
    target.say = said.append
    for _ in range(2):
        with target.lab(pair(), Link(), Journal()):
            pass
    target.close()
    assert [line for line in said if "bond0" in line] == [
        "left: it has a device bond0 of its own, and the lab's LAGs or bridges would have that name: "
        "rename it: 'ip link set bond0 name ...'"
    ]
    assert sum("routing table 102 is in use" in line for line in said) == 1


def test_a_run_that_waits_says_for_whom_and_looks_at_the_host_again(target: PhysicalTarget, bench: Bench) -> None:
    target.leases.take(dict(bench.entry.hosts))
    bench.own.run("ip", "link", "add", "trial0", "type", "bridge")  # of the other run
    other, said = bench.target(wait=30), list[str]()
    other.say = said.append
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.leases.take, dict(bench.entry.hosts))
        until(lambda: said, "the line about the wait", 30, 0.1)
        target.close()
        host_lease = waiting.result(60)["left"]
    assert re.match(r"left is taken by \S+ pid \d+ since 20\S+, run run-\S+; waiting for it, 30 s at most", said[0])
    assert "trial0" not in host_lease.policy.foreign
    other.close()


def test_what_a_dead_run_left_is_put_back_and_said(bench: Bench) -> None:
    own = bench.own
    own.run("bash", "-c", SCRIPT.decode(), "guardian", "take", "run-dead", "15", "ann on desk", "eth1", "eth2")
    own.run("sh", "-c", 'kill -KILL "$(cut -d" " -f1 "$1")"', "sh", f"{leases.ROOT}/run-dead/watcher")
    own.run("ip", "link", "set", "eth1", "mtu", "1400")
    target, said = bench.target(wait=60), list[str]()
    target.say = said.append
    target.leases.take(dict(bench.entry.hosts))
    words = r"left: run run-dead of ann on desk, since \S+, died: what it changed is put back first"
    assert any(re.match(words, line) for line in said), said
    assert own.state().links["eth1"].mtu == 1500
    target.close()


def test_a_cable_that_is_plugged_in_again_has_its_routes(target: PhysicalTarget) -> None:
    with target.lab(pair(), Link(), Journal()) as lab:
        (cable,) = [each for each in lab.topology.cables if each.a.nic == "a"]
        device = lab.left.nic("a").device
        lab.left.apply(
            Plan("a way", (AddressAdd(device, "10.93.93.1/30"), RouteAdd("10.94.0.0/24", device, "10.93.93.2", 101)))
        )
        before = lab.left.state()
        lab.cabling.cut(cable)
        assert not lab.left.state().links[device].up
        lab.cabling.restore(cable)
        assert lab.left.state() == before


def test_frames_of_a_real_cable_cannot_be_made_to_vanish(target: PhysicalTarget) -> None:
    with (
        target.lab(pair(), Link(), Journal()) as lab,
        pytest.raises(NotAllowed, match="nothing between real hosts is this run's; --target=netns and --target=vm can"),
    ):
        lab.cabling.mute(lab.topology.cables[0])


def test_a_dry_run_shows_all_that_hosts_would_get_and_changes_nothing(bench: Bench) -> None:
    own = bench.own
    changes: list[Operation] = [
        AddressAdd("eth1", "203.0.113.5/24"),
        LinkSet("eth1", up=True, mtu=1400),
        LinkSet("eth2", up=False),
    ]
    own.apply(Plan.of("the owner's", changes))
    before = own.state()
    dry = DryTarget("physical", bench.target())
    assert dry.unmet(pair()) is None
    assert "no pair of hosts" in str(dry.unmet(trio()))
    with dry.lab(pair(), Link(), Journal()) as lab:
        assert lab.link == Link(100_000_000)
        lab.cabling.cut(lab.topology.cables[0])
    first = list(dry.said)
    for one, other in pairwise(
        (
            "left: take left, which saves its state and restores itself at the end",
            "left# ip address delete 203.0.113.5/24 dev eth1",
            "left# ip link set dev eth1 mtu 1500",
            "left  undo: ip address add 203.0.113.5/24 dev eth1",
            "left# ip link set dev eth1 up",
            "panel: prove the cable left.a–right.a: both ends get an address of 169.254.0.0/16, ping, and lose it again; "
            "then both send full frames of type 0x88b5 as fast as it carries them, for a second at most",
            "right# ip link set dev eth1 down",
        )
    ):
        assert one in first and other in first and first.index(one) < first.index(other), "\n".join(first)
    with dry.lab(pair(), Link(), Journal()):
        again = dry.said[len(first) :]
    assert "left# ip link set dev eth1 mtu 1500" in again
    assert not any("prove" in line or "take" in line for line in again)
    dry.close()
    assert own.state() == before
    assert own.run("ls", "/run/channover", check=False).returncode != 0


def test_a_dry_run_asks_the_hosts_for_their_lag_driver_and_changes_nothing(bench: Bench) -> None:
    before = bench.own.state()
    driver, _ = lag_driver(bench.own, "auto")
    place = Place("physical", bench.entry, dry_run=True)
    settings = Settings(place, Link(), "auto", None, 10.0, False, bench.folder / "reports")
    dry = DryTarget("physical", bench.target())
    assert Environment(settings, dry, (trio(), pair())).lag == (driver, None)
    dry.close()
    assert bench.own.state() == before
    assert bench.own.run("ls", leases.ROOT, check=False).returncode != 0


def test_a_dry_run_pulls_no_cable_that_the_inventory_protects(bench: Bench) -> None:
    bench.entry = bench.entry.model_copy(update={"allows": Allows(nics_down=False)})
    dry = DryTarget("physical", bench.target())
    with pytest.raises(NotAllowed, match="nics_down: false"), dry.lab(pair(), Link(), Journal()) as lab:
        lab.cabling.cut(lab.topology.cables[0])
    dry.close()


@pytest.mark.parametrize("rounds", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_one_of_five_runs_that_come_at_once_gets_all_hosts(bench: Bench, rounds: int) -> None:
    for number in range(rounds):
        runs = [bench.target() for _ in range(5)]
        for run in runs:
            run.leases.open(bench.entry.hosts)

        def come(run: PhysicalTarget) -> bool:
            try:
                run.take(bench.entry.hosts)
            except Taken:
                return False
            return True

        with ThreadPoolExecutor(5) as pool:
            won = list(pool.map(come, runs))
        for run in runs:
            run.close()
        assert won.count(True) == 1, f"round {number}: {won}"


def test_a_lab_is_taken_by_one_run_at_a_time(target: PhysicalTarget, bench: Bench) -> None:
    target.leases.take(dict(bench.entry.hosts))
    other = bench.target()
    with pytest.raises(
        Taken, match=r"left is taken by \S+ pid \d+ since 20\S+, run run-\S+; wait for it with --lease-wait"
    ):
        other.leases.take(dict(bench.entry.hosts))
    target.close()
    other.leases.take(dict(bench.entry.hosts))
    other.close()


def test_a_controller_that_is_gone_leaves_the_host_as_it_was(target: PhysicalTarget, bench: Bench) -> None:
    own = bench.own
    before = own.state()
    made = target.lab(pair(), Link(), Journal())
    lab = made.__enter__()
    lab.left.apply(Plan("kept", (AddressAdd("eth1", "10.93.93.1/30"),)))
    assert own.state() != before
    for host_lease in target.leases.open(dict(bench.entry.hosts)).values():  # as when the process dies
        host_lease.lost = "gone"
        host_lease._stop.set()
        host_lease.link.close()
    own.run(
        "sh", "-c", 'for i in $(seq 200); do [ -z "$(ls /run/channover | grep run-)" ] && exit; sleep 0.1; done; exit 1'
    )
    assert own.state() == before
    with pytest.raises(TestbedError, match="gone"):  # the controller finds that out when it comes to leave
        made.__exit__(None, None, None)


def test_a_host_that_has_restored_itself_is_changed_no_more(target: PhysicalTarget, bench: Bench) -> None:
    before = bench.own.state()
    run = target.leases.run_id
    with pytest.raises(TestbedError, match="restored itself"), target.lab(pair(), Link(), Journal()) as lab:
        bench.own.run("bash", f"{leases.ROOT}/{run}/guardian.sh", "end", run)
        lab.left.apply(Plan("too late", (AddressAdd("eth1", "10.93.93.1/30"),)))
    assert bench.own.state() == before


SSHD = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != sshd ] || kill -{} ${{p#/proc/}}; done 2>/dev/null; :'


def test_a_host_that_answers_nothing_is_given_up(target: PhysicalTarget, bench: Bench) -> None:
    before = bench.own.state()
    target.leases.ttl = 4
    with pytest.raises(TestbedError, match="left"), target.lab(pair(), Link(), Journal()) as lab:
        bench.own.run("sh", "-c", SSHD.format("STOP"))  # its connections stand, and nothing comes of them
        started = time.monotonic()
        with pytest.raises(TestbedError, match="left"):
            lab.left.run("sleep", "60", timeout=60)
        assert time.monotonic() - started < 4 + 3 * leases.BEAT
        with pytest.raises(
            TestbedError, match="left could not be reached for 4 s and restores itself: it answers nothing"
        ):
            lab.left.run("true")
    until(lambda: bench.own.state() == before, "the host to restore itself", 10, 0.2)
    bench.own.run("sh", "-c", SSHD.format("CONT"))


# What a run and the doctor look at


def test_a_lab_of_switches_only_can_be_used(bench: Bench) -> None:
    bench.lay(INVENTORY.replace("management: lo,", "management: lo, role: switch,"))
    session = bench.session(two_bridges(), pair())
    try:
        session.ready()
        assert session.lacks(two_bridges()) is None
        assert "the topology pair needs 2" in str(session.lacks(pair()))
    finally:
        session.target.close()


def test_a_run_is_refused_only_where_no_topology_of_its_tests_fits(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"--target=physical: .*the topology two-switches-1 needs"):
        bench.session(two_switches(), trio()).ready()


def test_every_host_that_tests_ask_for_is_probed_and_counts_for_its_topologies(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(host: Host) -> str | None:
        return "right cannot ping: mend it" if host.name == "right" else None

    monkeypatch.setitem(CAPABILITIES.entries, "iperf3", Capability("traffic", {}, trial))
    alone = Topology("alone", (Node("left", ("a",)),), ())
    behaviour = next(each for each in CATALOGUE.values() if "iperf3" in each.needs)
    session = bench.session(alone, pair())
    try:
        session.ready()
        assert session.gaps()["iperf3"] == "right cannot ping: mend it"
        assert "right cannot ping: mend it" in str(session.unmet(behaviour, pair()))
        assert "right" not in str(session.unmet(behaviour, alone))
    finally:
        session.target.close()


def test_a_third_host_that_cannot_be_reached_ends_the_run_and_is_no_skip(bench: Bench) -> None:
    bench.lay(with_beyond())
    session = bench.session(pair(), gateway())
    try:
        assert session.lacks(gateway()) is None
        with pytest.raises(TestbedError, match=r"--target=physical: .*beyond: cannot reach 127\.0\.0\.1 port 1"):
            session.ready()
    finally:
        session.target.close()


def examined(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Findings:
    monkeypatch.setattr(doctor, "target_of", lambda _: bench.target(prove=True))
    place = Place("physical", bench.entry)
    return doctor.examine(Settings(place, Link(), "auto", None, 10.0, False, Path("reports")))


def test_the_doctor_finds_what_is_wrong_with_each_host_and_shows_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lay(with_beyond().replace("{address: 192.0.2.2}", "{address: 127.0.0.1, port: 2}"))
    found = examined(bench, monkeypatch)
    assert found.broken and not found.complete
    for name, port in (("beyond", 1), ("right", 2)):
        assert any(check.startswith(f"{name}: cannot reach 127.0.0.1 port {port}") for check in found.checks)
    assert "left.a–right.a, left.b–right.b" in "".join(found.checks)
    assert [row[:2] for row in found.hosts] == [("left", "root"), ("right", "unknown"), ("beyond", "unknown")]
    assert found.hosts[0][2].startswith(os.uname().release) and "iproute2" in found.hosts[0][3]
    assert [row[:2] for row in found.nics] == [("left.a", "eth1"), ("left.b", "eth2")]
    assert {row[-1] for row in found.nics} == {"carrier"}, "they are up while they are looked at"
    assert {ability.name for ability in found.abilities} > {"iperf3", "ping"}
    missing = {prospect.behaviour.id: str(prospect.missing) for prospect in found.prospects if prospect.stated}
    assert "the topology two-switches-2 needs" in missing.pop("LAG-6")
    assert "the topology two-switches-8 needs" in missing.pop("LAG-7")
    for name, share in (("MP-10", 10), ("APP-1", 20)):
        assert f"the topology unequal-{share} needs" in missing.pop(name)
    assert len(missing) > 10 and all("right: cannot reach" in words for words in missing.values())
    plain = render(found, terminal=False)
    assert re.search(r"^left +root, \S+ .*iproute2", plain, re.MULTILINE)
    assert re.search(r"^left\.a +eth1, .*duplex.*, carrier$", plain, re.MULTILINE)
    assert "left.a" in render(found, terminal=True)


def test_the_doctor_proves_every_cable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bench.own.state()
    found = examined(bench, monkeypatch)  # nothing crosses between the two
    wrong = [check for check in found.checks if "do not reach" in check]
    assert len(wrong) == 2 and "(eth1)" in wrong[0] and "(eth2)" in wrong[1]
    assert found.broken and found.facts["topologies"] == "pair"
    assert not any(prospect.able for prospect in found.prospects), "no run begins with such cables"
    told = {prospect.behaviour.id: str(prospect.missing) for prospect in found.prospects}
    assert "(eth1)" in told["LAG-1"] and "do not reach" in told["LAG-1"]
    assert f"0 of {len(CATALOGUE)} behaviours can be tried with what is left" in found.closing
    assert bench.own.state() == before


def test_the_doctor_tells_what_a_lab_of_two_cables_is_good_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channover.targets.physical.cabling_check.miswired", lambda *_: [])
    found = examined(bench, monkeypatch)
    told = {prospect.behaviour.id: prospect for prospect in found.prospects}
    assert not found.broken and not found.complete
    assert told["MP-4"].able and told["MP-4"].in_part is None
    assert told["MP-1"].able and "trio" in str(told["MP-1"].in_part)
    assert told["MP-2"].able and "trio" in str(told["MP-2"].in_part)
    assert not told["MP-10"].able and "unequal-10 needs: left–right 1 cable, left–right 1 cable slower" in str(
        told["MP-10"].missing
    )
    assert not told["TUN-6"].able and "the topology gateway needs" in str(told["TUN-6"].missing)
    assert told["LAG-5"].stated and told["LAG-5"].able


def test_the_doctor_names_the_package_of_ping(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAPABILITIES.entries, "ping", Capability("ICMP echo", {"no-ping": "iputils-ping"}))
    found = examined(bench, monkeypatch)
    assert "the cabling cannot be proved: left has no no-ping: apt-get install iputils-ping" in found.checks
    assert "doctor" not in "".join(found.checks)
    assert len(found.hosts) == 2 and len(found.nics) == 4


def test_sudo_that_is_refused_is_a_finding_of_its_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*words: Any, **options: Any) -> str:
        if not words[2]:
            return command_line(*words, **options)
        return f"printf '\\n{options['mark']} sudo\\nsudo: a password is required\\n' >&2; exit 1"

    monkeypatch.setattr("channover.hosts.ssh.process.command_line", refusing)
    bench.lay(INVENTORY.replace("management: lo,", "management: lo, sudo: true,", 1))
    found = examined(bench, monkeypatch)
    assert [row[:2] for row in found.hosts] == [("left", "unknown"), ("right", "root")]
    (check,) = [check for check in found.checks if "sudo" in check]
    assert check.startswith("left: ") and "NOPASSWD" in check and len(check) < 240


def test_a_misfit_run_says_so_before_it_asks_a_host(bench: Bench) -> None:
    session = bench.session(trio())
    assert "no pair of hosts" in str(session.target_unmet)
    assert session.kernel and not session.target.leases._leases  # type: ignore[attr-defined]


def test_a_nic_is_found_by_its_own_address_where_a_bond_gives_all_members_one() -> None:
    shared, own = "52:54:00:00:00:01", "52:54:00:00:00:02"
    devices = {
        name: NicFacts(name, shared, up=True, carrier=True, physical=True, permanent=permanent)
        for name, permanent in (("eth1", shared), ("eth2", own))
    }
    found = [Facts(0, "6.1", 0.0, (5, 2), devices).device(address) for address in (shared, own.upper(), "eth2")]
    assert [each.device if each else None for each in found] == ["eth1", "eth2", "eth2"]
