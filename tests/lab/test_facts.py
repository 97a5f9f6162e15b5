"""What a host says of itself: its NICs' speeds, its clock, and programs that are missing or know less than usual."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.change_policy import ChangePolicy, Management
from channover.hosts.guardian.facts import Facts, NicFacts, speed_of
from channover.hosts.guardian.inquiry import parse
from channover.hosts.guardian.lease import HostLease
from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.host import RemoteHost
from channover.targets.inventory.schema import LabEntry, load
from channover.targets.physical import preflight
from tests.support.discovered import discovered
from tests.support.sshd import Server

INVENTORY = """
labs:
  bench:
    hosts:
      left: {ssh: {address: 192.0.2.1}, management: lo, nics: {a: eth1, b: eth2}}
      right: {ssh: {address: 192.0.2.2}, management: lo, nics: {a: eth1, b: eth2}}
    cables:
      - {ends: [left.a, right.a], rate: 1gbit}
      - {ends: [left.b, right.b], rate: 400gbit}
"""


@pytest.fixture
def bench(tmp_path: Path) -> LabEntry:
    (tmp_path / "bench.yaml").write_text(INVENTORY)
    return load(tmp_path / "bench.yaml").labs["bench"]


def found(bench: LabEntry, facts: Facts) -> list[str]:
    return [str(each) for each in preflight.of_host("left", bench.hosts["left"], bench, facts)]


# speeds


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("1000", 10**9),
        ("2500", 2_500_000_000),
        ("400000", 4 * 10**11),
        ("10", 10**7),
        ("-1", None),
        ("4294967295", None),
        ("65535", None),
        ("0", None),
        ("", None),
        ("unknown", None),
        ("1e3", None),
        ("9" * 30, None),
        ("²", None),
        ("1000\n", None),
    ],
)
def test_a_speed_that_is_not_known_is_none(text: str, speed: int | None) -> None:
    assert speed_of(text) == speed


def nic(driver: str, speed: int | None, device: str = "eth1", duplex: str = "full") -> NicFacts:
    return NicFacts(device, "", True, True, True, driver, "", speed, duplex)


def of_nics(*nics: NicFacts) -> Facts:
    lo = NicFacts("lo", "", True, True)
    return Facts(0, "6.1", 0.0, (5, 2), {each.device: each for each in (lo, *nics)})


@pytest.mark.parametrize("driver", ["vmxnet3", "virtio_net", "veth", "hv_netvsc", "vif", "ena"])
def test_a_virtual_nics_speed_is_no_finding(bench: LabEntry, driver: str) -> None:
    nics = nic(driver, 10**10), nic(driver, 10**10, "eth2", "half")
    assert found(bench, of_nics(*nics)) == []


def test_a_real_nics_speed_is_a_finding_where_it_is_known(bench: LabEntry) -> None:
    (said,) = found(bench, of_nics(nic("igb", 10**8), nic("mlx5_core", 4 * 10**11, "eth2")))
    assert "eth1 (nics.a) runs at 100 Mbit/s, and its cable's rate is 1000 Mbit/s" in said
    assert found(bench, of_nics(nic("igb", None), nic("igb", None, "eth2"))) == []


@pytest.mark.lab
def test_a_nic_that_is_up_is_held_to_its_cables_rate_where_its_speed_is_known(two_hosts: Lab) -> None:
    assert isinstance(two_hosts.left, NamespaceHost)
    own = two_hosts.left
    own.run("sh", "-ec", 'mkdir -p "$0/net/eth1"; mount --bind "$0/net" /sys/class/net', own.folder)

    def says(driver: str, speed: str, duplex: str = "full") -> str:
        for name, text in (("speed", speed), ("duplex", duplex)):
            own.write(f"{own.folder}/net/eth1/{name}", f"{text}\n")
        host = replace(own, nics={"a": replace(own.nic("a"), driver=driver)})
        try:
            preflight.negotiated(host, "a", 10**9)
        except TestbedError as error:
            return str(error)
        return ""

    for speed in ("4294967295", "-1", "", "65535", "0", "1000"):
        assert says("igb", speed) == "", speed
    assert "runs at 100 Mbit/s, and its cable's rate is 1000 Mbit/s" in says("igb", "100")
    assert "half duplex" in says("igb", "1000", "half")
    for driver in ("vmxnet3", "virtio_net", "hv_netvsc", ""):
        assert says(driver, "10000") == "", driver


# programs


@pytest.fixture
def server(two_hosts: Lab, tmp_path: Path) -> Server:
    assert isinstance(two_hosts.left, NamespaceHost)
    return Server(two_hosts.left, tmp_path)


def simpler(server: Server, *programs: str) -> None:
    """Put BusyBox in the place of programs, in this lab alone."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("there is no busybox: apt-get install busybox-static")
    for program in programs:
        server.host.run("mount", "--bind", busybox, os.path.realpath(str(shutil.which(program))))


@pytest.fixture
def host_lease(server: Server) -> Iterator[HostLease]:
    made = HostLease("left", server.link(), "run-trial", "me", {"a": "eth1"})
    yield made
    made.link.close()


@pytest.mark.lab
def test_busyboxs_clock_is_good_to_the_second(server: Server, host_lease: HostLease) -> None:
    simpler(server, "date")
    assert not server.host.run("date", "+%s.%N").stdout.strip().replace(".", "").isdigit()
    assert abs(host_lease.open().clock) < 1


@pytest.mark.lab
def test_an_ip_that_knows_no_json_is_named_with_its_package(server: Server, host_lease: HostLease) -> None:
    simpler(server, "ip")
    with pytest.raises(
        TestbedError, match=r"left: 'ip' does not answer in JSON there: install iproute2 5\.0 or newer$"
    ) as caught:
        host_lease.open()
    assert "\n" not in str(caught.value)
    host = RemoteHost(
        "left", {}, server.link(), "", "/tmp", ChangePolicy("left", frozenset(), frozenset(), Management("")), Journal()
    )
    with pytest.raises(TestbedError, match=r"left: 'ip .*' did not answer in JSON: install iproute2"):
        discovered(host, "192.0.2.1", "root", 22)
    host.link.close()


@pytest.mark.lab
@pytest.mark.parametrize(
    ("programs", "words"),
    [
        (["flock"], "left: flock there is missing, or knows too little (BusyBox's does): install util-linux"),
        (["awk", "sed", "grep", "stat", "readlink", "cat", "sort", "head", "id", "uname", "basename"], ""),
    ],
)
def test_busyboxs_other_programs_serve_or_are_findings(
    server: Server, host_lease: HostLease, bench: LabEntry, programs: list[str], words: str
) -> None:
    simpler(server, *programs)
    facts = host_lease.open()
    assert set(facts.devices) >= {"lo", "eth1", "eth2"} and facts.kernel == " ".join(os.uname()[i] for i in (2, 4))
    assert found(bench, facts) == ([words] if words else [])


@pytest.mark.lab
def test_a_host_without_bash_or_ip_gets_a_finding_and_not_a_lost_answer(
    server: Server, host_lease: HostLease, bench: LabEntry
) -> None:
    server.host.run("mount", "--bind", "/dev/null", os.path.realpath(str(shutil.which("bash"))))
    server.user("/bin/dash")
    assert "left: bash is none: install bash 5.0 or newer" in found(bench, host_lease.open())
    server.host.run("mount", "--bind", "/dev/null", os.path.realpath(str(shutil.which("ip"))))
    again = replace(host_lease, link=server.link(), facts=None)
    with pytest.raises(TestbedError, match=r"left: 'ip' does not answer in JSON there: install iproute2"):
        again.open()
    again.link.close()


HOST = """@id
0
@uname
6.1 x86_64
@clock
{clock}
@bash
GNU bash, version 5.2.15(1)-release
@lacks
@addresses
[{{"ifname": "eth1", "flags": ["UP"], "address": "52:54:00:00:00:01"}}]
@route
@routing
@nft
@managers
@nics
eth1|igb|{speed}|full|1|
"""


@pytest.mark.parametrize(
    ("clock", "ahead"),
    [
        ("1700000000.500000000", 0.0),
        ("1700000010.000000000", 9.0),
        ("1699999990.000000000", -10.0),
        ("1700000000.%N", 0.0),
        ("1699999999.%N", 0.0),
        ("1700000001", 0.0),
        ("1699999998.", -1.0),
        ("1700000003.N", 2.0),
    ],
)
def test_a_clocks_offset_is_what_it_is_off_at_least(clock: str, ahead: float) -> None:
    facts = parse(HOST.format(clock=clock, speed=1000), 1700000000.0, 1700000001.0, "")
    assert facts.clock == pytest.approx(ahead, abs=1e-6)


@pytest.mark.parametrize("clock", ["", "date: not found", "%s.%N"])
def test_a_clock_that_tells_nothing_names_the_package(clock: str) -> None:
    with pytest.raises(ValueError, match="install coreutils"):
        parse(HOST.format(clock=clock, speed=1000), time.time(), time.time(), "")


@pytest.mark.parametrize("speed", ["4294967295", "-1", ""])
def test_an_unknown_speed_is_unknown(speed: str, bench: LabEntry) -> None:
    facts = parse(HOST.format(clock="1700000000.5", speed=speed), 1700000000.0, 1700000001.0, "")
    assert facts.devices["eth1"].speed is None
    assert not [said for said in found(bench, facts) if "runs at" in said]
