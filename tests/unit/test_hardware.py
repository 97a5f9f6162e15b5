"""What counts as hardware: what a host's sysfs says of its NICs, and what follows from it."""

from __future__ import annotations

import json
import subprocess

import pytest

from channover.hosts.guardian.facts import Facts
from channover.hosts.guardian.inquiry import SCRIPT, parse
from channover.model.link import Link
from channover.targets.inventory.schema import HostEntry, LabEntry
from channover.targets.physical.preflight import of_host

ANSWER = """\
@id
0
@uname
6.12 x86_64
@clock
100.5
@bash
GNU bash, version 5.2.15
@lacks
@addresses
{addresses}
@route
@routing
@nft
@managers
@nics
{nics}
"""


@pytest.mark.parametrize(
    ("line", "bus", "driver"),
    [
        ("eth1|ice|25000|full|1|4.40 0x8001c967|pci|0x8086|", "pci", "ice"),
        ("eth1|vmxnet3|10000|full|1|1.9.0|pci|0x15ad|", "emulated pci", "vmxnet3"),
        ("eth1|e1000|1000|full|1||pci|0x1af4|", "emulated pci", "e1000"),
        ("eth1|virtio_net|-1|unknown|1||virtio||", "virtio", "virtio_net"),
        ("eth1|r8152|1000|full|1||usb||", "usb", "r8152"),
        ("eth0|ice|25000|full|1|4.40|pci|0x8086|", "", ""),
    ],
)
def test_what_a_nic_is_plugged_into_is_read(line: str, bus: str, driver: str) -> None:
    addresses = json.dumps([{"ifname": "eth1", "flags": ["UP"], "address": "02:00:00:00:00:01"}])
    found = parse(ANSWER.format(addresses=addresses, nics=line), 100.0, 101.0, "").devices["eth1"]
    assert (found.bus, found.driver, found.physical) == (bus, driver, bool(bus))


def vlans(*tags: int, mtu: int = 1500, below: str = "eth1", up: bool = True) -> Facts:
    """Return the facts of a host whose NIC has VLANs, and whose SSH connection goes by eth0."""
    flags = ["UP", "LOWER_UP"] if up else []
    told: list[dict[str, object]] = [
        {"ifname": name, "flags": flags, "address": f"02:00:00:00:00:0{name[-1]}", "mtu": mtu}
        for name in ("eth0", "eth1", "eth2")
    ]
    for tag in tags:
        linkinfo = {"info_kind": "vlan", "info_data": {"id": tag}}
        device = {"ifname": f"{below}.{tag}", "link": below, "address": told[1]["address"], "linkinfo": linkinfo}
        told.append({**device, "flags": ["UP", "LOWER_UP"], "mtu": mtu})
    nics = "\n".join(f"{name}|ice|25000|full|1|4.40|pci|0x8086|" for name in ("eth0", "eth1", "eth2"))
    return parse(ANSWER.format(addresses=json.dumps(told), nics=nics), 100.0, 101.0, "")


def test_a_vlans_device_has_what_its_nic_is_made_of_and_a_mac_address_names_the_nic() -> None:
    facts = vlans(100)
    found = facts.devices["eth1.100"]
    assert (found.driver, found.bus, found.speed, found.duplex) == ("ice", "pci", 25 * 10**9, "full")
    assert found.kind == "vlan" and not found.physical
    named = facts.device("02:00:00:00:00:01")
    assert named is not None and named.device == "eth1"


@pytest.mark.parametrize(
    ("nics", "facts", "words"),
    [
        ({"a": "eth1.100", "b": "eth2"}, vlans(100), ""),
        (
            {"a": "eth1.100", "b": "eth1.200"},
            vlans(100, 200),
            "so is nics.b on that link: a test NIC needs a link of its own",
        ),
        ({"a": "eth1.100", "b": "eth1"}, vlans(100), "so is nics.b on that link: a test NIC needs a link of its own"),
        ({"a": "eth0.100", "b": "eth2"}, vlans(100, below="eth0"), "which carries the SSH connection"),
        ({"a": "eth1.100", "b": "eth2"}, vlans(100, up=False), "which is down: set it up: 'ip link set eth1 up'"),
        (
            {"a": "eth1.100", "b": "eth2"},
            vlans(100, mtu=1400),
            "whose MTU of 1400 bytes is less than its cable's of 1500",
        ),
    ],
)
def test_what_speaks_against_a_vlans_device_is_named(nics: dict[str, str], facts: Facts, words: str) -> None:
    host = HostEntry.model_validate({"ssh": {"address": "192.0.2.1"}, "management": "eth0", "nics": nics})
    lab = LabEntry.model_validate({"hosts": {"left": host}, "cables": [{"ends": ["left.a", "sw.1"], "rate": "25gbit"}]})
    found = [str(one) for one in of_host("left", host, lab, facts) if one.fatal and "VLAN" in one.what]
    assert found == [] if not words else len(found) >= 1 and words in found[0]


def test_a_tag_takes_four_bytes_of_each_frame_on_the_wire() -> None:
    assert Link(10**9, tagged=True).tcp_goodput == 10**9 * 1448 / 1542
    assert Link(10**9, tagged=True, ipv6=True).mptcp_goodput == 10**9 * 1404 / 1542
    full = 1514 / 1542 * 10**9
    assert Link(10**9, tagged=True).counted(full) == pytest.approx(10**9)


def test_each_nic_of_this_machine_that_has_a_device_has_a_bus() -> None:
    done = subprocess.run(["sh", "-c", SCRIPT, "sh", ""], capture_output=True, text=True, timeout=30, check=False)
    nics = [line.split("|") for line in done.stdout.partition("@nics\n")[2].splitlines()]
    if not nics:
        pytest.skip("no NIC of this machine is a device: run it where one is")
    assert all(len(nic) == 9 and nic[6] and nic[1] not in ("driver", "subsystem") for nic in nics)
