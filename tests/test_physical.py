"""The physical target against hosts behind real SSH servers: namespaces of this machine, each of a lab of its own.

Hosts of one lab share a folder /run and see each other's processes, as machines never do. So ``left`` and ``right`` are of
two labs here, and nothing crosses between them; the micro-VMs are for that.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sshd import Server

from channover import doctor
from channover.behaviours import CATALOGUE
from channover.choices import Place
from channover.errors import RigError, UsageError
from channover.hosts import seat as seats
from channover.hosts.base import Host, Journal, until
from channover.hosts.namespace import NamespaceHost
from channover.hosts.seat import Taken
from channover.hosts.sshlink import SshLink, command_line
from channover.inventory import HostEntry, load
from channover.plan import AddressAdd, LinkSet, Plan, RuleAdd
from channover.reporting import machines, rig_of
from channover.session import Session
from channover.settings import Settings
from channover.targets.base import Lab
from channover.targets.capabilities import CAPABILITIES, Capability
from channover.targets.netns import NetnsTarget
from channover.targets.physical import PhysicalTarget
from channover.targets.seats import Seats, login_of
from channover.topology import Cable, Node, Port, Role, Topology, gateway, pair, trio, two_switches
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
        self.folder = folder
        self.lay(INVENTORY)

    def lay(self, inventory: str) -> None:
        (self.folder / "bench.yaml").write_text(inventory)
        self.entry = load(self.folder / "bench.yaml").labs["bench"]

    def connect(self, name: str, host: HostEntry) -> SshLink:
        if name not in self.servers or host.ssh.port != 22:
            return SshLink(name, login_of(host))
        link = self.servers[name].link(sudo=host.sudo)
        link.host = name
        return link

    def target(self, wait: float = 0.0, *, prove: bool = False) -> PhysicalTarget:
        return PhysicalTarget(self.entry, Seats(wait, connect=self.connect), prove=prove)

    def session(self, *topologies: Topology) -> Session:
        place = Place("physical", self.entry)
        settings = Settings(place, Link(), "auto", None, 10.0, False, self.folder / "reports")
        return Session(settings, self.target(), topologies)


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


def test_a_lab_is_taken_by_one_run_at_a_time(target: PhysicalTarget, bench: Bench) -> None:
    target.seats.take(dict(bench.entry.hosts))
    other = bench.target()
    with pytest.raises(
        Taken, match=r"left is taken by \S+ pid \d+ since 20\S+, run run-\S+; wait for it with --lease-wait"
    ):
        other.seats.take(dict(bench.entry.hosts))
    target.close()
    other.seats.take(dict(bench.entry.hosts))
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

    monkeypatch.setitem(CAPABILITIES, "iperf3", Capability("traffic", {}, trial))
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
        with pytest.raises(RigError, match=r"--target=physical: .*beyond: cannot reach 127\.0\.0\.1 port 1"):
            session.ready()
    finally:
        session.target.close()


def examined(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> doctor.Findings:
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
    assert all("right: cannot reach" in str(prospect.missing) for prospect in found.prospects)
    plain = doctor.render(found, terminal=False)
    assert re.search(r"^left +root, \S+ .*iproute2", plain, re.MULTILINE)
    assert re.search(r"^left\.a +eth1, .*duplex.*, carrier$", plain, re.MULTILINE)
    assert "left.a" in doctor.render(found, terminal=True)


def test_the_doctor_proves_every_cable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bench.own.state()
    found = examined(bench, monkeypatch)  # nothing crosses between the two
    wrong = [check for check in found.checks if "do not reach" in check]
    assert len(wrong) == 2 and "(eth1)" in wrong[0] and "(eth2)" in wrong[1]
    assert found.broken and found.facts["topologies"] == "pair"
    assert None in {prospect.missing for prospect in found.prospects}
    assert bench.own.state() == before


def test_the_doctor_names_the_package_of_ping(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAPABILITIES, "ping", Capability("ICMP echo", {"no-ping": "iputils-ping"}))
    found = examined(bench, monkeypatch)
    assert "the cabling cannot be proved: left has no no-ping: apt-get install iputils-ping" in found.checks
    assert "doctor" not in "".join(found.checks)
    assert len(found.hosts) == 2 and len(found.nics) == 4


def test_sudo_that_is_refused_is_a_finding_of_its_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*words: Any, **options: Any) -> str:
        return "echo 'sudo: a password is required' >&2; exit 1" if words[2] else command_line(*words, **options)

    monkeypatch.setattr("channover.hosts.remote_process.command_line", refusing)
    bench.lay(INVENTORY.replace("management: lo,", "management: lo, sudo: true,", 1))
    found = examined(bench, monkeypatch)
    assert [row[:2] for row in found.hosts] == [("left", "unknown"), ("right", "root")]
    (check,) = [check for check in found.checks if "sudo" in check]
    assert check.startswith("left: ") and "NOPASSWD" in check and len(check) < 240


def test_a_misfit_run_says_so_before_it_asks_a_host(bench: Bench) -> None:
    session = bench.session(trio())
    assert "no pair of hosts" in str(session.target_unmet)
    assert session.kernel and not session.target.seats._seats  # type: ignore[attr-defined]
