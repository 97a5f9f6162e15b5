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
from itertools import pairwise
from pathlib import Path

import pytest
from tests.sshd import Server

from channover.errors import NotAllowed, RigError
from channover.hosts import seat as seats
from channover.hosts.base import Journal, until
from channover.hosts.namespace import NamespaceHost
from channover.hosts.seat import Taken
from channover.hosts.sshlink import SshLink
from channover.inventory import Allows, HostEntry, load
from channover.plan import AddressAdd, LinkSet, Plan, RouteAdd, RuleAdd
from channover.reporting import machines, rig_of
from channover.targets.base import Lab
from channover.targets.dry import DryTarget
from channover.targets.netns import NetnsTarget
from channover.targets.physical import PhysicalTarget
from channover.targets.seats import Seats
from channover.topology import pair, trio
from channover.wire import Link

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
        (folder / "bench.yaml").write_text(INVENTORY)
        self.entry = load(folder / "bench.yaml").labs["bench"]

    def connect(self, name: str, _host: HostEntry) -> SshLink:
        link = self.servers[name].link()
        link.host = name
        return link

    def target(self, wait: float = 0.0) -> PhysicalTarget:
        return PhysicalTarget(self.entry, Seats(wait, connect=self.connect), prove=False)


@pytest.fixture
def bench(netns: NetnsTarget, two_hosts: Lab, tmp_path: Path) -> Iterator[Bench]:
    with netns.lab(pair(), Link(), Journal()) as other:
        yield Bench({"left": two_hosts, "right": other}, tmp_path)


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
        hosts, _ = rig_of(lab, machines(lab))
        assert [(host.name, host.machine, host.kernel) for host in hosts] == [
            (name, os.uname().nodename, os.uname().release) for name in ("left", "right")
        ]
        lab.left.apply(Plan("stands at the end", (RuleAdd("10.93.93.1", 101, 1001),)))


def test_what_a_test_leaves_behind_is_named_and_put_back(target: PhysicalTarget, bench: Bench) -> None:
    before = bench.own.state()
    words = re.compile(r"changes behind.*left: .*10\.93\.93\.1/30", re.DOTALL)
    with pytest.raises(RigError, match=words), target.lab(pair(), Link(), Journal()) as lab:
        lab.left.run(
            "sh", "-c", "ip address add 10.93.93.1/30 dev eth1; ip rule add from 10.93.93.1 table 101 priority 1001"
        )
        lab.left.spawn("sleep", "1000")
    assert bench.own.state() == before
    assert "sleep" not in bench.own.run("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null").stdout
    with target.lab(pair(), Link(), Journal()):
        pass


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
    with pytest.raises(RigError, match=words), target.lab(pair(), Link(), Journal()) as lab:
        lab.left.run("ip", "link", "set", "eth1", "mtu", "1400")
    target.close()
    assert seen() == before
    assert target.remarks == []


def test_a_nic_beneath_the_management_interface_is_no_test_nic(bench: Bench) -> None:
    bench.own.run("sh", "-ec", "ip link add mgmt0 type bridge; ip link set eth1 master mgmt0")
    entry = bench.entry.hosts["left"].model_copy(update={"management": "mgmt0"})
    target = bench.target()
    assert any(
        each.fatal and "the SSH connection goes through eth1 (nics.a)" in each.what
        for each in target.findings({"left": entry})
    )
    seat = target.seats.at("left", entry)
    assert "eth1 carries the management interface" in str(seat.permission.refused_device("eth1"))
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
    assert target.unmet(pair()) is None
    bench.own.run("ip", "link", "add", "trial0", "type", "bridge")  # of the other run
    other, said = bench.target(wait=30), list[str]()
    other.say = said.append
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.seats.take, dict(bench.entry.hosts))
        until(lambda: said, "the line about the wait", 10, 0.1)
        target.close()
        seat = waiting.result(60)["left"]
    assert re.match(r"left is taken by \S+ pid \d+ since 20\S+, run run-\S+; waiting for it, 30 s at most", said[0])
    assert "trial0" not in seat.permission.foreign
    other.close()


def test_what_a_dead_run_left_is_put_back_and_said(target: PhysicalTarget, bench: Bench) -> None:
    assert target.unmet(pair()) is None
    run, own = target.seats.run_id, bench.own
    own.run("sh", "-c", 'kill -KILL "$(cut -d" " -f1 "$1")"', "sh", f"{seats.ROOT}/{run}/watcher")
    own.run("ip", "link", "set", "eth1", "mtu", "1400")
    for seat in target.seats.open(dict(bench.entry.hosts)).values():
        seat._stop.set()
        seat.link.close()
    other, said = bench.target(wait=60), list[str]()
    other.say = said.append
    other.seats.take(dict(bench.entry.hosts))
    assert any(re.match(rf"left: run {run} of .* died: what it changed is put back first", line) for line in said)
    assert own.state().links["eth1"].mtu == 1500
    other.close()


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


def test_a_dry_run_shows_all_that_hosts_would_get_and_changes_nothing(bench: Bench) -> None:
    own = bench.own
    own.apply(Plan.of("the owner's", [AddressAdd("eth1", "203.0.113.5/24"), LinkSet("eth1", up=True, mtu=1400)]))
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
            "panel: prove the cable left.a–right.a: both ends get an address of 169.254.0.0/16, ping, and lose it again",
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


def test_a_dry_run_pulls_no_cable_that_the_inventory_protects(bench: Bench) -> None:
    bench.entry = bench.entry.model_copy(update={"allows": Allows(nics_down=False)})
    dry = DryTarget("physical", bench.target())
    with pytest.raises(NotAllowed, match="nics_down: false"), dry.lab(pair(), Link(), Journal()) as lab:
        lab.cabling.cut(lab.topology.cables[0])
    dry.close()


def test_a_lab_is_taken_by_one_run_at_a_time(target: PhysicalTarget, bench: Bench) -> None:
    assert target.unmet(pair()) is None
    other = bench.target()
    with pytest.raises(
        Taken, match=r"left is taken by \S+ pid \d+ since 20\S+, run run-\S+; wait for it with --lease-wait"
    ):
        other.seats.take(dict(bench.entry.hosts))
    target.close()
    assert other.unmet(pair()) is None
    other.close()


def test_a_controller_that_is_gone_leaves_the_host_as_it_was(target: PhysicalTarget, bench: Bench) -> None:
    own = bench.own
    before = own.state()
    made = target.lab(pair(), Link(), Journal())
    lab = made.__enter__()  # and never left
    lab.left.apply(Plan("kept", (AddressAdd("eth1", "10.93.93.1/30"),)))
    assert own.state() != before
    for seat in target.seats.open(dict(bench.entry.hosts)).values():  # as when the process dies
        seat.lost = "gone"
        seat._stop.set()
        seat.link.close()
    own.run(
        "sh", "-c", 'for i in $(seq 200); do [ -z "$(ls /run/channover | grep run-)" ] && exit; sleep 0.1; done; exit 1'
    )
    assert own.state() == before


def test_a_host_that_has_restored_itself_is_changed_no_more(target: PhysicalTarget, bench: Bench) -> None:
    before = bench.own.state()
    run = target.seats.run_id
    with pytest.raises(RigError, match="restored itself"), target.lab(pair(), Link(), Journal()) as lab:
        bench.own.run("bash", f"{seats.ROOT}/{run}/guardian.sh", "end", run)
        lab.left.apply(Plan("too late", (AddressAdd("eth1", "10.93.93.1/30"),)))
    assert bench.own.state() == before


SSHD = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != sshd ] || kill -{} ${{p#/proc/}}; done 2>/dev/null; :'


def test_a_host_that_answers_nothing_is_given_up(target: PhysicalTarget, bench: Bench) -> None:
    before = bench.own.state()
    target.seats.ttl = 4
    with pytest.raises(RigError, match="left"), target.lab(pair(), Link(), Journal()) as lab:
        bench.own.run("sh", "-c", SSHD.format("STOP"))  # its connections stand, and nothing comes of them
        started = time.monotonic()
        with pytest.raises(RigError, match="left"):
            lab.left.run("sleep", "60", timeout=60)
        assert time.monotonic() - started < 4 + 3 * seats.BEAT
        with pytest.raises(RigError, match="left could not be reached for 4 s and restores itself: it answers nothing"):
            lab.left.run("true")
    until(lambda: bench.own.state() == before, "the host to restore itself", 10, 0.2)
    bench.own.run("sh", "-c", SSHD.format("CONT"))
