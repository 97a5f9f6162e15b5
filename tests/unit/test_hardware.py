"""What counts as hardware: what a host's sysfs says of its NICs, and what follows from it."""

from __future__ import annotations

import json
import subprocess

import pytest

from channover.hosts.guardian.inquiry import SCRIPT, parse

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


def test_each_nic_of_this_machine_that_has_a_device_has_a_bus() -> None:
    done = subprocess.run(["sh", "-c", SCRIPT, "sh", ""], capture_output=True, text=True, timeout=30, check=False)
    nics = [line.split("|") for line in done.stdout.partition("@nics\n")[2].splitlines()]
    if not nics:
        pytest.skip("no NIC of this machine is a device: run it where one is")
    assert all(len(nic) == 9 and nic[6] and nic[1] not in ("driver", "subsystem") for nic in nics)
