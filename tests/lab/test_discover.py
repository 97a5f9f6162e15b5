"""The beginning of an inventory, read from a live host: a namespace with what sysfs shows of a machine with real NICs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from channover.cli import inventory as cli_inventory
from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host, Journal
from channover.model.link import Link
from channover.model.topology import parallel
from channover.targets.inventory.schema import HostEntry, Ssh, load
from channover.targets.netns import NetnsTarget
from tests.support.discovered import discovered

pytestmark = pytest.mark.lab

ADDRESS = "192.0.2.11"
SYSFS = """
for nic in eth1:e1000e:1000:full eth2:igb:2500:full eth3:igb:4294967295:unknown eth4:iwlwifi:-1:unknown; do
    name=${nic%%:*}; rest=${nic#*:}; driver=${rest%%:*}; rest=${rest#*:}
    mkdir -p $0/net/$name/device $0/drivers/$driver
    ln -s $0/drivers/$driver $0/net/$name/device/driver
    echo ${rest%%:*} > $0/net/$name/speed
    echo ${rest#*:} > $0/net/$name/duplex
done
mkdir $0/net/eth4/wireless $0/net/lo $0/net/eth5
mount --bind $0/net /sys/class/net
"""
"""A folder in place of /sys/class/net, for this lab alone: a namespace's own NICs are on no bus. eth5 stays virtual."""


@pytest.fixture
def host(netns: NetnsTarget) -> Iterator[Host]:
    """Return a host with the address on eth1, the default route there, and four more NICs, which are up."""
    with netns.lab(parallel(5), Link(), Journal()) as lab:
        host = lab.left
        host.run("sh", "-ec", SYSFS, host.folder)
        for number in range(1, 6):
            host.run("ip", "link", "set", f"eth{number}", "up")
        host.run("ip", "address", "add", f"{ADDRESS}/24", "dev", "eth1")
        host.run("ip", "route", "add", "default", "via", "192.0.2.1")
        yield host


def mac(host: Host, device: str) -> str:
    words = host.run("ip", "-o", "link", "show", device).stdout.split()
    return words[words.index("link/ether") + 1]


def entry(text: str, tmp_path: Path) -> HostEntry:
    """Load what was written, as a user would, and return its one host."""
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    (lab,) = load(file).labs.values()
    (host,) = lab.hosts.values()
    return host


def test_nics_are_told_from_all_else(host: Host, tmp_path: Path) -> None:
    text = discovered(host, ADDRESS, "root", 22)
    found = entry(text, tmp_path)
    assert found.ssh == Ssh(address=ADDRESS, user="root", port=22)
    assert (found.name, found.management, found.sudo) == ("left", "eth1", False)
    assert found.nics == {"a": mac(host, "eth2"), "b": mac(host, "eth3")}
    lines = [line.strip() for line in text.splitlines()]
    assert f'a: "{mac(host, "eth2")}" # eth2, igb, carrier, 2.5gbit full duplex' in lines
    assert f'b: "{mac(host, "eth3")}" # eth3, igb, carrier, speed not known' in lines
    assert "# left out: eth1, the management interface" in lines
    assert "# left out: eth4, wireless" in lines
    assert "# left out: eth5, no NIC: veth" in lines


def test_its_cables_are_filled_in_by_removing_marks(host: Host, tmp_path: Path) -> None:
    text = discovered(host, ADDRESS, "root", 22)
    assert "    # cables:\n    #   - ends: [left.a, HOST.NIC]\n    #     rate: 2.5gbit\n" in text
    assert "    #   - ends: [left.b, HOST.NIC]\n    #     rate: RATE\n" in text
    filled = text.replace("    # cables", "    cables").replace("    #   - ends", "      - ends")
    filled = filled.replace("    #     rate", "        rate").replace("RATE", "1gbit")
    (tmp_path / "lab.yaml").write_text(filled)
    with pytest.raises(UsageError, match="there is no host or switch 'HOST'"):
        load(tmp_path / "lab.yaml")


def test_carrier_is_told(host: Host) -> None:
    host.run("ip", "link", "set", "eth2", "down")
    lines = discovered(host, ADDRESS, "root", 22).splitlines()
    assert any(line.endswith("# eth2, igb, set down: carrier and speed are not known") for line in lines)


def test_nics_that_the_host_uses_are_comments(host: Host, tmp_path: Path) -> None:
    host.run("ip", "address", "add", "198.51.100.1/24", "dev", "eth2")
    text = discovered(host, ADDRESS, "root", 22)
    assert list(entry(text, tmp_path).nics.values()) == [mac(host, "eth3")]
    assert (
        f'# b: "{mac(host, "eth2")}" # eth2, igb, carrier, 2.5gbit full duplex, in use: it has 198.51.100.1/24' in text
    )


def test_ssh_connection_tells_the_management_interface(host: Host, tmp_path: Path) -> None:
    """The address that SSH was given may be a name, or that of a port forwarding; the default route is not touched."""
    host.run("ip", "address", "add", "198.51.100.1/24", "dev", "eth3")
    by_own = discovered(host, "left.example", "root", 22, connection="203.0.113.5 50000 198.51.100.1 22")
    by_route = discovered(host, "left.example", "root", 22, connection="198.51.100.7 50000 10.9.8.7 22")
    for text in (by_own, by_route):
        found = entry(text, tmp_path)
        assert (found.management, list(found.nics.values())) == ("eth3", [mac(host, "eth2")])
        assert "# left out: eth1, the management interface eth3 or a default route needs it" in text
    by_default = entry(discovered(host, "left.example", "root", 22), tmp_path)
    assert by_default.management == "eth1"


def test_what_carries_the_management_interface_is_left_out(host: Host, tmp_path: Path) -> None:
    made = host.run("ip", "link", "add", "br0", "type", "bridge", check=False)
    if "Unknown device type" in made.stderr or "not supported" in made.stderr:
        pytest.skip("this kernel has no bridge: load the module bridge")
    for line in ("link set eth1 master br0", "link set br0 up", f"address add {ADDRESS}/24 dev br0"):
        host.run("ip", *line.split())
    host.run("ip", "address", "del", f"{ADDRESS}/24", "dev", "eth1")
    text = discovered(host, ADDRESS, "root", 22)
    found = entry(text, tmp_path)
    assert (found.management, list(found.nics.values())) == ("br0", [mac(host, "eth2"), mac(host, "eth3")])
    assert "# left out: eth1, the management interface br0" in text


def test_without_a_management_interface_there_is_no_inventory(host: Host) -> None:
    host.run("ip", "address", "flush", "dev", "eth1")
    with pytest.raises(TestbedError, match="no interface has the address"):
        discovered(host, ADDRESS, "root", 22)


def test_a_host_with_no_nic_to_spare_says_so(host: Host, tmp_path: Path) -> None:
    for device in ("eth2", "eth3"):
        host.run("ip", "address", "add", "198.51.100.1/24", "dev", device)
    text = discovered(host, ADDRESS, "root", 22)
    assert "# No NIC is free on this host" in text
    with pytest.raises(UsageError, match="nics: is empty"):
        entry(text, tmp_path)


def test_the_command_prints_what_it_read(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @contextmanager
    def connected(name: str, ssh: Ssh) -> Iterator[tuple[Host, str]]:
        if ssh.port is not None:
            raise TestbedError(f"{name}: port {ssh.port} of {ssh.address} is closed:\nstart sshd")
        yield host, f"203.0.113.5 50000 {ADDRESS} 22"

    def reach(name: str, ssh: Ssh) -> AbstractContextManager[tuple[Host, str]]:
        return connected(name, ssh)

    def run(*words: str) -> int:
        parser = argparse.ArgumentParser()
        cli_inventory.add_parser(parser.add_subparsers(required=True), lambda sudo: reach)  # noqa: ARG005
        arguments = parser.parse_args(["inventory", "discover", "--listen", "0", *words])
        return int(arguments.run(arguments))

    assert run("lab@left.example", "--key", "/keys/lab", "--jump", "me@gate", "--name", "left") == 0
    found = entry(capsys.readouterr().out, tmp_path)
    assert (found.ssh.address, found.ssh.user, found.ssh.key, found.sudo) == (
        "left.example",
        "lab",
        Path("/keys/lab"),
        False,  # root answers here, whoever logs in
    )
    assert str(found.ssh.jump) == "me@gate:22"
    assert run("left.example:23") == 1
    assert capsys.readouterr() == ("", "channover: left: port 23 of left.example is closed: start sshd\n")
    for words in (["left:x"], ["left", "--name", "a b"]):
        with pytest.raises(UsageError):
            run(*words)


class Named:
    """A host by another name than its lab gives it."""

    def __init__(self, host: Host, name: str) -> None:
        self._host, self.name = host, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


NEIGHBOUR = r"""
import socket, struct, sys, time
def tlv(kind, value): return struct.pack("!H", kind << 9 | len(value)) + value
body = (tlv(1, b"\4" + bytes(range(6))) + tlv(2, b"\5ge-0/0/7") + tlv(3, b"\0\x78") + tlv(5, b"tor-1.lab.example")
        + tlv(6, b"Acme Rackmaster\n48, 4.2") + tlv(0, b""))
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
while True:
    out.send(bytes.fromhex("0180c200000e") + bytes.fromhex("020000000001") + struct.pack("!H", 0x88CC) + body)
    time.sleep(0.5)
"""


def test_several_hosts_find_the_cables_between_them_and_the_switches_that_they_are_on(
    netns: NetnsTarget, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with netns.lab(parallel(4), Link(), Journal()) as lab:
        sysfs = SYSFS.replace("4294967295", "1000").replace("eth4:iwlwifi:-1", "eth4:igb:10000")
        lab.left.run("sh", "-ec", sysfs.replace("$0/net/eth4/wireless ", ""), lab.left.folder)  # both hosts see it
        for host, number in ((lab.left, 11), (lab.right, 12)):
            for each in range(1, 5):
                host.run("ip", "link", "set", f"eth{each}", "up")
            host.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth1")
        lab.right.run("ip", "link", "set", "eth4", "address", "02:00:00:00:00:01")
        switch = lab.right.spawn(sys.executable, "-S", "-c", NEIGHBOUR, "eth4")
        lab.right.run("ip", "address", "add", "203.0.113.1/24", "dev", "eth4")  # in use, as the switch's end

        @contextmanager
        def reach(name: str, ssh: Ssh) -> Iterator[tuple[Host, str]]:
            host = lab.hosts[{"192.0.2.11": "left", "192.0.2.12": "right"}[ssh.address]]
            yield cast(Host, Named(host, name)), ""

        parser = argparse.ArgumentParser()
        cli_inventory.add_parser(parser.add_subparsers(required=True), lambda sudo: reach)  # noqa: ARG005
        words = ["inventory", "discover", "--listen", "8", "192.0.2.11", "192.0.2.12", "--name", "one"]
        arguments = parser.parse_args(words)
        assert arguments.run(arguments) == 0
        switch.stop()
    out, told = capsys.readouterr()
    assert told == "channover: listening by NICs for 8 s at most\n"
    file = tmp_path / "lab.yaml"
    file.write_text(out)
    (found,) = load(file).labs.values()
    assert list(found.hosts) == ["one", "left"], out
    assert {cable.ends for cable in found.cables} == {
        ("one.a", "left.a"), ("one.b", "left.b"), ("one.c", "tor-1.ge-0/0/7"),
    }, out  # fmt: skip
    assert found.cables[0].rate == 2_500_000_000
    assert found.switches["tor-1"].ports == ("ge-0/0/7",)
    assert found.switches["tor-1"].description == "Acme Rackmaster 48, 4.2"
