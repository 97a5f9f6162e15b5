"""The file that describes a lab: what it may hold, what is said of one that is wrong, and that nothing is contacted."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from channover.cli import inventory as cli_inventory
from channover.errors import UsageError
from channover.model.topology import Links, Port, Role, gateway, pair, trio, two_switches
from channover.targets.inventory import fields as inventory_fields
from channover.targets.inventory.faults import InventoryError
from channover.targets.inventory.schema import HostEntry, Inventory, load, schema, ssh_from
from channover.targets.inventory.strict_yaml import LIMIT
from channover.targets.physical.placement import Fit, fit

FOLDER = Path(__file__).parents[2] / "inventory"
EXAMPLE = (FOLDER / "example.yaml").read_text()
PLAIN = """\
labs:
  bench:
    hosts:
      left:
        ssh: {address: 192.0.2.1}
        management: eth0
        nics: {a: eth1, b: eth2}
      right:
        ssh:
          address: 192.0.2.2
        management: eth0
        nics: {a: eth1, b: eth2}
    cables:
      - ends: [left.a, right.a]
        rate: 100mbit
      - {ends: [left.b, right.b], rate: 1gbit}
"""

JUMBO = PLAIN.replace("rate: 100mbit", "rate: 400gbit\n        mtu: 9000").replace("eth1, b", "eth1.100, b")
"""The same with jumbo frames on its fastest cable, and a VLAN's device as a test NIC."""
ROUTED = """\
labs:
  bench:
    hosts:
      left: {ssh: {address: 192.0.2.1}, management: eth0, nics: {a: eth1, b: eth2}}
      right: {ssh: {address: 192.0.2.2}, management: eth0, nics: {a: eth1, b: eth2}}
    paths:
      - ends: [left.a, right.a]
        addresses: [198.51.100.10/24, 203.0.113.10/24]
        gateways: [198.51.100.1, 203.0.113.1]
        rate: 100mbit
      - ends: [left.b, right.b]
        addresses: ["2001:db8:1::10/64", "2001:db8:2::10/64"]
        gateways: ["2001:db8:1::1", "fe80::1"]
        rate: 100mbit
        mtu: 1400
"""
"""Two routed paths, as two uplinks are."""


@pytest.fixture(autouse=True)
def no_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    def contact(*_: object, **__: object) -> None:
        pytest.fail("an inventory that is only read must contact nobody")

    for name in ("connect", "connect_ex", "sendto", "send", "bind"):
        monkeypatch.setattr(socket.socket, name, contact)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, contact)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lab.yaml"


Said = Callable[[str], tuple[str, ...]]


@pytest.fixture
def said(file: Path) -> Said:
    """Return the faults of a text, without the file's name, and checks that the error is one line."""

    def of(text: str) -> tuple[str, ...]:
        file.write_text(text)
        with pytest.raises(InventoryError) as raised:
            load(file)
        assert len(str(raised.value).splitlines()) == 1
        assert all(fault.startswith(f"{file}:") for fault in raised.value.faults)
        return tuple(fault.removeprefix(f"{file}:") for fault in raised.value.faults)

    return of


def changed(old: str, new: str) -> str:
    assert old in PLAIN
    return PLAIN.replace(old, new, 1)


# What it holds


def test_the_example_is_valid_and_says_what_it_seems_to_say() -> None:
    bench = load(FOLDER / "example.yaml").labs["bench"]
    assert bench.name == "bench"
    assert (bench.allows.nics_down, bench.allows.reboot) == (True, False)
    assert [str(port) for port in bench.cables[3].ports] == ["right.out", "beyond.a"]
    assert [cable.rate for cable in bench.cables] == [10**8, 10**8, 10**8, 10**9]
    left, right, beyond = bench.hosts.values()
    assert left.ssh.key == Path.home() / ".ssh/lab_ed25519"
    assert (right.ssh.user, right.sudo, right.role, right.ssh.key) == ("lab", True, Role.HOST, None)
    assert right.nics["out"] == "52:54:00:12:34:04"
    assert beyond.ssh.jump == inventory_fields.Jump("lab", "gate.example", 2222)


def test_the_example_serves_the_topologies_that_it_claims() -> None:
    labs = load(FOLDER / "example.yaml").labs
    for topology in (pair(), trio(), gateway()):
        found = fit(topology, labs["bench"])
        assert isinstance(found, Fit), found
        assert all(port == real for port, real in found.nics.items())
    found = fit(two_switches(1), labs["bridges"])
    assert isinstance(found, Fit), found
    assert found.nics[Port("west", "p1")] == Port("west", "p1")


def test_paths_are_relative_to_the_file(file: Path) -> None:
    file.write_text(changed("{address: 192.0.2.1}", "{address: 192.0.2.1, key: keys/lab, known_hosts: /etc/known}"))
    ssh = load(file).labs["bench"].hosts["left"].ssh
    assert (ssh.key, ssh.known_hosts) == (file.parent / "keys/lab", Path("/etc/known"))


def test_yaml_guesses_nothing(file: Path) -> None:
    """A host named no, a NIC labelled 1, an address of digits in base 60: in YAML 1.1 none of them is a text."""
    mac = "52:54:00:12:34:56"
    assert yaml.safe_load(f"mac: {mac}")["mac"] != mac
    text = PLAIN.replace("right", "no").replace("a: eth1", f"1: {mac}", 1).replace("left.a", "left.1")
    file.write_text(text)
    lab = load(file).labs["bench"]
    assert lab.hosts["left"].nics["1"] == mac
    assert str(lab.cables[0].ports[1]) == "no.a"


@pytest.mark.parametrize(
    "written",
    ["00-1B-21-AA-BB-0C", "001b.21aa.bb0c", "001B.21AA.BB0C", "001b21aabb0c", "001b-21aa-bb0c", "001b21-aabb0c",
     "0:1b:21:aa:bb:c", "'00:1b:21:aa:bb:0c'", '"001b.21aa.bb0c"'],
)  # fmt: skip
def test_a_mac_address_is_read_as_each_vendor_writes_it(file: Path, written: str) -> None:
    file.write_text(PLAIN.replace("b: eth2", f"b: {written}", 1))
    assert load(file).labs["bench"].hosts["left"].nics["b"] == "00:1b:21:aa:bb:0c"


@pytest.mark.parametrize(
    "written", ["123456123456", "12:34:56:12:34:56", "0x10", "017", "1e3", "on", "yes", "no", "1_0"]
)
def test_a_value_is_the_text_that_stands_there(file: Path, written: str) -> None:
    """Each of them is a number or a truth value to some reader of YAML."""
    file.write_text(PLAIN.replace("b: eth2", f"b: {written}", 1))
    device = load(file).labs["bench"].hosts["left"].nics["b"]
    assert device in (written, "12:34:56:12:34:56")


def test_jumbo_frames_and_a_vlans_device(file: Path) -> None:
    file.write_text(JUMBO)
    lab = load(file).labs["bench"]
    assert [(cable.rate, cable.mtu) for cable in lab.cables] == [(400 * 10**9, 9000), (10**9, 1500)]
    assert lab.hosts["left"].nics["a"] == "eth1.100"


@pytest.mark.parametrize("mtu", ["1279", "16001", "jumbo", "'9000 '", "1500.5", "-1500", "true", "[9000]"])
def test_what_is_no_mtu_is_one_line(file: Path, mtu: str) -> None:
    file.write_text(JUMBO.replace("mtu: 9000", f"mtu: {mtu}"))
    with pytest.raises(InventoryError, match=r"mtu: .* no MTU; write bytes from 1280 to 16000, such as 1500 or 9000"):
        load(file)


@pytest.mark.parametrize("rate", ["2.5gbit", "5gbit", "25gbit", "40gbit", "100gbit", "200gbit", "400gbit", "800gbit"])
def test_rates_of_the_ethernet_standards(file: Path, rate: str) -> None:
    file.write_text(PLAIN.replace("100mbit", rate))
    assert load(file).labs["bench"].cables[0].rate == float(rate.removesuffix("gbit")) * 10**9


def test_values_cannot_be_changed(file: Path) -> None:
    file.write_text(PLAIN)
    with pytest.raises(ValidationError):
        load(file).labs["bench"].hosts["left"].sudo = True


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("Left.Lab.Example.", "Left.Lab.Example"),
        ("'2001:DB8:0::1'", "2001:db8::1"),
        ("'[2001:db8::1]'", "2001:db8::1"),
        ("lab_1", "lab_1"),
    ],
)
def test_addresses_have_one_form(file: Path, given: str, meant: str) -> None:
    file.write_text(changed("192.0.2.1", given))
    assert load(file).labs["bench"].hosts["left"].ssh.address == meant


def test_what_is_left_empty_is_as_if_it_were_not_there(file: Path) -> None:
    file.write_text(PLAIN.partition("    cables:")[0] + "    cables:\n    # - ends:\n    switches:\n    allows:\n")
    lab = load(file).labs["bench"]
    assert (lab.cables, lab.switches, lab.allows.nics_down) == ((), {}, True)


def test_a_mac_address_has_one_form(file: Path) -> None:
    file.write_text(changed("a: eth1", "a: 52-54-00-AB-CD-EF"))
    assert load(file).labs["bench"].hosts["left"].nics["a"] == "52:54:00:ab:cd:ef"


def test_hosts_behind_jump_hosts_of_their_own_may_have_one_address(file: Path) -> None:
    text = PLAIN.replace("address: 192.0.2.2", "address: 192.0.2.1\n          jump: me@two.example:22")
    file.write_text(text.replace("{address: 192.0.2.1}", "{address: 192.0.2.1, jump: me@one.example}"))
    assert len(load(file).labs["bench"].hosts) == 2


# What is said of one that is wrong

HOST = "labs.bench.hosts.left"
FAULTS = [
    ("b: eth2}", "b: eth1}", f"7: {HOST}.nics.b: NIC 'a' is eth1 too;"),
    ("b: eth2}", "b: eth0}", f"7: {HOST}.nics.b: eth0 is the management interface, which is never a test NIC;"),
    ("b: eth2}", "b: lo}", f"7: {HOST}.nics.b: lo is the loopback device"),
    ("b: eth2}", "b: }", f"7: {HOST}.nics.b: is empty;"),
    ("b: eth2}", "b: eth2, a: x}", f"7: {HOST}.nics.a: is there twice (first on line 7);"),
    ("b: eth2}", "b c: eth2}", f"7: {HOST}.nics.'b c': is no name;"),
    ("b: eth2}", "b: 01:80:c2:00:00:02}", f"7: {HOST}.nics.b: 01:80:c2:00:00:02 is no MAC address of a NIC;"),
    ("b: eth2}", "b: 52:54:00:12:34}", f"7: {HOST}.nics.b: '52:54:00:12:34' is neither a device nor a MAC address;"),
    ("b: eth2}", "b: 00-1B-21-AA-BB}", f"7: {HOST}.nics.b: '00-1B-21-AA-BB' is neither a device nor a MAC address;"),
    ("b: eth2}", "b: 001b.21aa.bbc}", f"7: {HOST}.nics.b: '001b.21aa.bbc' is neither a device nor a MAC address;"),
    ("management: eth0", "management: 001b.21aa.bbcc", f"6: {HOST}.management: '001b.21aa.bbcc' is no name"),
    ("b: eth2}", "b: aninterface.of.16}", f"7: {HOST}.nics.b: 'aninterface.of.16' is neither"),
    ("{a: eth1, b: eth2}", "{}", f"7: {HOST}.nics: has too few entries; add one"),
    ("{a: eth1, b: eth2}", "[eth1]", f"7: {HOST}.nics: is wrong; write indented lines 'name: value' below it"),
    ("management: eth0", "managment: eth0", f"6: {HOST}.managment: is no field here; did you mean 'management'?"),
    ("        management: eth0\n", "", f"4: {HOST}.management: is missing; add it"),
    ("management: eth0", "management: 52:54:00:12:34:56", f"6: {HOST}.management: '52:54:00:12:34:56' is no name"),
    ("management: eth0", "management: eth0\n        role: router", f"7: {HOST}.role: 'router' is wrong; write host or"),
    ("management: eth0", "management: eth0\n        sudo: maybe", f"7: {HOST}.sudo: 'maybe' is wrong; write true"),
    ("192.0.2.1}", "fe80::1}", f"5: {HOST}.ssh.address: fe80::1 is a link-local address"),
    ("192.0.2.1}", "169.254.1.1}", f"5: {HOST}.ssh.address: 169.254.1.1 is a link-local address"),
    ("192.0.2.1}", "0.0.0.0}", f"5: {HOST}.ssh.address: 0.0.0.0 is no address of a host"),
    ("192.0.2.1}", "192.0.2.300}", f"5: {HOST}.ssh.address: '192.0.2.300' is neither"),
    ("192.0.2.1}", "''}", f"5: {HOST}.ssh.address: '' is neither"),
    ("192.0.2.1}", "}", f"5: {HOST}.ssh.address: is empty;"),
    ("192.0.2.1}", "me@host}", f"5: {HOST}.ssh.address: 'me@host' is no address; write the user in 'user'"),
    ("192.0.2.1}", "-oProxyCommand=x}", f"5: {HOST}.ssh.address: '-oProxyCommand=x' is neither"),
    ("192.0.2.1}", "192.0.2.1, user: -l}", f"5: {HOST}.ssh.user: '-l' is no name of a user;"),
    ("192.0.2.1}", "192.0.2.1, port: 65536}", f"5: {HOST}.ssh.port: '65536' is wrong; write a number from 1 to 65535"),
    ("192.0.2.1}", "192.0.2.1, jump: gate}", f"5: {HOST}.ssh.jump: 'gate' is no jump host; write USER@HOST"),
    ("192.0.2.1}", "192.0.2.1, key: id.pub}", f"5: {HOST}.ssh.key: 'id.pub' is a public key;"),
    ("192.0.2.1}", "192.0.2.1, key: ~nobody-here/id}", f"5: {HOST}.ssh.key: '~nobody-here/id': there is no such user"),
    (
        "192.0.2.1}",
        "192.0.2.2}",
        "10: labs.bench.hosts.right.ssh.address: 192.0.2.2 is port 22 of labs.bench.hosts.left",
    ),
    ("      right:", "      left:", f"8: {HOST}: is there twice (first on line 4); keep one"),
    ("ends: [left.a, right.a]", "ends: [left.a]", "14: labs.bench.cables.0.ends.1: is missing;"),
    ("ends: [left.a, right.a]", "ends: [left.a, left.b]", "14: labs.bench.cables.0.ends: both ends are at left;"),
    (
        "[left.a, right.a]",
        "[left.a, up.a]",
        "14: labs.bench.cables.0.ends.1: there is no host or switch 'up' in this lab",
    ),
    ("[left.a, right.a]", "[left.a, right.z]", "14: labs.bench.cables.0.ends.1: 'right' has no NIC or port 'z';"),
    ("[left.a, right.a]", "[left, right.a]", "14: labs.bench.cables.0.ends.0: 'left' is wrong; write HOST.NIC"),
    (
        "[left.b, right.b]",
        "[left.a, right.b]",
        "16: labs.bench.cables.1.ends.0: left.a has a cable already (cables.0);",
    ),
    ("rate: 100mbit", "rate: fast", "15: labs.bench.cables.0.rate: 'fast' is no rate from 1mbit to 800gbit;"),
    ("rate: 100mbit", "rate: 100", "15: labs.bench.cables.0.rate: '100' is no rate"),
    ("rate: 100mbit", "rate:", "15: labs.bench.cables.0.rate: is empty;"),
    (
        "    cables:",
        "    switches: {left: {ports: [x]}}\n    cables:",
        "13: labs.bench.switches.left: a host of this lab",
    ),
    (
        "    cables:",
        "    switches: {s: {ports: [x, x]}}\n    cables:",
        "13: labs.bench.switches.s.ports.1: port 'x' is",
    ),
    ("    cables:", "    switches: {s: {ports: []}}\n    cables:", "13: labs.bench.switches.s.ports: has too few"),
    (
        "    cables:",
        "    switches: {s: {ports: [ge-0/0/1], vlans: {4095: [ge-0/0/1]}}}\n    cables:",
        "13: labs.bench.switches.s.vlans.4095: '4095' is no VLAN; write its number, from 1 to 4094",
    ),
    (
        "    cables:",
        "    switches: {s: {ports: [x], vlans: {10: [y]}}}\n    cables:",
        "13: labs.bench.switches.s.vlans.10.0: the switch has no port 'y'; it has: x",
    ),
    (
        "    cables:",
        "    switches: {s: {ports: [x], lags: {one: [x], two: [x]}}}\n    cables:",
        "13: labs.bench.switches.s.lags.two.0: port 'x' is in one too; remove one",
    ),
    (
        "    cables:",
        "    switches: {s: {ports: [x, y], lags: {one: [x, y]}, vlans: {10: [x], 20: [y]}}}\n    cables:",
        "13: labs.bench.switches.s.lags.one: its ports are in several VLANs (10, 20); put them into one",
    ),
    (
        "    cables:",
        "    switches: {s: {ports: [x], mlag: rack}}\n    cables:",
        "13: labs.bench.switches.s.mlag: no other switch of this lab is of the MLAG 'rack';",
    ),
    (
        "    cables:\n      - ends: [left.a, right.a]",
        "    switches: {s: {ports: [x, y], lags: {one: [x, y]}}}\n    cables:\n"
        "      - {ends: [right.a, s.y], rate: 1gbit}\n      - ends: [left.a, s.x]",
        "13: labs.bench.switches.s.lags.one: port x leads to left and port y to right; a LAG has one partner",
    ),
    ("    cables:", "    name: x\n    cables:", "13: labs.bench.name: is no field here; there is: allows, hosts,"),
    ("rate: 100mbit", "rate: *fast", "15: labs.bench.cables.0.rate: is an alias (*); write out what it stands for"),
    ("rate: 100mbit", "rate: !!int 1", "15: labs.bench.cables.0.rate: has a tag (!);"),
    ("rate: 100mbit", "rate: [", "16: is not YAML ("),
    ("rate: 100mbit", "\trate: 1gbit", "15: is not YAML ("),
    ("labs:", "---\nlabs:\n---\nlabs:", "3: holds a second document;"),
]


@pytest.mark.parametrize(("old", "new", "words"), FAULTS)
def test_a_fault_names_line_field_and_remedy(said: Said, old: str, new: str, words: str) -> None:
    (fault,) = said(changed(old, new))
    assert fault.startswith(words)
    assert re.search(r"; \S|\?$", fault), "no remedy"


PATH_FAULTS = [
    (
        "[left.a, right.a]",
        "[left.a, left.b]",
        "7: labs.bench.paths.0.ends: both ends are at left; a path joins two hosts",
    ),
    (
        "[left.a, right.a]",
        "[left.a, up.a]",
        "7: labs.bench.paths.0.ends.1: there is no host 'up' in this lab; there is: left,",
    ),
    ("[left.a, right.a]", "[left.a, right.z]", "7: labs.bench.paths.0.ends.1: 'right' has no NIC 'z'; it has: a, b"),
    (
        "[left.b, right.b]",
        "[left.a, right.b]",
        "11: labs.bench.paths.1.ends.0: left.a has a path already (paths.0); a NIC",
    ),
    (
        "    paths:",
        "    cables: [{ends: [left.a, right.b], rate: 1gbit}]\n    paths:",
        "8: labs.bench.paths.0.ends.0: left.a has a cable in 'cables'; a NIC has that or a path: remove one",
    ),
    (
        "198.51.100.10/24",
        "198.51.100.10",
        "8: labs.bench.paths.0.addresses.0: '198.51.100.10' says nothing of its network;",
    ),
    (
        "198.51.100.10/24",
        "x/24",
        "8: labs.bench.paths.0.addresses.0: 'x/24' is no address with its network; write one such",
    ),
    (
        "198.51.100.10/24",
        "127.0.0.1/8",
        "8: labs.bench.paths.0.addresses.0: 127.0.0.1 is no address that routers carry",
    ),
    (
        "203.0.113.10/24",
        "198.51.100.11/24",
        "8: labs.bench.paths.0.addresses: 198.51.100.10/24 and 198.51.100.11/24 are in",
    ),
    (
        "203.0.113.10/24",
        "'2001:db8:3::1/64'",
        "8: labs.bench.paths.0.addresses: one is of IPv4 and the other of IPv6; write",
    ),
    (
        "[198.51.100.1,",
        "[198.51.101.1,",
        "9: labs.bench.paths.0.gateways.0: 198.51.101.1 is not in 198.51.100.0/24; write",
    ),
    (
        "[198.51.100.1,",
        "[198.51.100.10,",
        "9: labs.bench.paths.0.gateways.0: 198.51.100.10 is the NIC's own address; write",
    ),
    ("[198.51.100.1,", "[up,", "9: labs.bench.paths.0.gateways.0: 'up' is no address; write the gateway's, such as"),
    ('"2001:db8:2::10/64"', '"2001:db8:1::10/64"', "12: labs.bench.paths.1.addresses"),
]


@pytest.mark.parametrize(("old", "new", "words"), PATH_FAULTS)
def test_a_fault_of_a_routed_path_names_line_field_and_remedy(said: Said, old: str, new: str, words: str) -> None:
    assert ROUTED.count(old) == 1
    assert any(fault.startswith(words) and re.search(r"; \S", fault) for fault in said(ROUTED.replace(old, new)))


def test_two_routed_paths_are_a_pair_of_hosts_with_the_addresses_of_their_networks(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(ROUTED)
    lab = load(tmp_path / "x.yaml").labs["bench"]
    found = fit(replace(pair(), links=Links.PATHS), lab)
    assert isinstance(found, Fit), found
    uplinks = {str(port): (str(one.address), one.gateway) for port, one in found.uplinks.items()}
    assert uplinks["left.a"] == ("198.51.100.10/24", "198.51.100.1")
    assert uplinks["right.b"] == ("2001:db8:2::10/64", "fe80::1")
    assert (found.rate, found.mtu) == (100_000_000, 1400)
    assert found.beyond("left")[Port("left", "a")] == ["203.0.113.10", "2001:db8:2::10"]
    unfit = fit(replace(pair(), links=Links.LAG), lab)
    assert isinstance(unfit, str) and "no pair of hosts in lab bench has 2 cables between them" in unfit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " is empty; begin with 'labs:'"),
        ("# nothing\n", " is empty; begin with 'labs:'"),
        ("labs\n", " is no mapping of names; begin with 'labs:'"),
        ("labs:\n", "1: labs: is empty;"),
        ("labs: {}\n", "1: labs: has too few entries; add one"),
        ("labs: {x: {hosts: {}}}\n", "1: labs.x.hosts: has too few entries; add one"),
        ("labs: {x: {cables: []}}\n", "1: labs.x.hosts: is missing; add it"),
        ("a: &a [x, x]\nb: &b [*a, *a]\n", "2: b.0: is an alias"),
        ("labs: &l {x: *l}\n", "1: labs.x: is an alias"),
        ("[" * 5000, "1: 0.0.0.0: is nested more than 16 deep;"),
        ("labs: \x07\n", "1: holds a control character;"),
        ('labs: "\\ud800"\n', "1: labs: holds a character that cannot be printed;"),
        ('"\\UFFFFFFFF"\n', " is not YAML ("),
        ("%YAML " + "9" * 5000 + ".1\n---\nlabs:", " is not YAML ("),
        ("? [a, b]\n: c\n", "1: has a key that is no plain name;"),
    ],
)
def test_a_text_that_is_no_inventory_is_told_apart(said: Said, text: str, words: str) -> None:
    assert said(text)[0].startswith(words)


def test_a_host_belongs_to_one_lab(said: Said) -> None:
    second = PLAIN.removeprefix("labs:\n").replace("bench", "other").replace("192.0.2.2", "192.0.2.3")
    (fault,) = said(PLAIN + second)
    assert fault == (
        "20: labs.other.hosts.left.ssh.address: 192.0.2.1 is port 22 of labs.bench.hosts.left too; "
        "a host belongs to one lab: remove it from one of the two"
    )


def test_a_mac_address_is_one_nic_s(said: Said) -> None:
    text = PLAIN.replace("a: eth1", "a: '52:54:00:12:34:56'")
    (fault,) = said(text)
    assert fault.startswith(
        "12: labs.bench.hosts.right.nics.a: labs.bench.hosts.left.nics.a has 52:54:00:12:34:56 too;"
    )


SECRETS = [
    "{address: 192.0.2.1, password: hunter2}",
    "{address: 192.0.2.1, passphrase: hunter2}",
    "{address: 192.0.2.1, ssh_pass: hunter2}",
    "{address: 192.0.2.1, private_key: hunter2}",
    "{address: 192.0.2.1, key_data: hunter2}",
    "{address: 192.0.2.1, token: hunter2}",
    "{address: 192.0.2.1, user: 'root:hunter2'}",
    "{address: 192.0.2.1, jump: 'root:hunter2@gate'}",
    "{address: 192.0.2.1, jump: 'root:hunter2@'}",
    "{address: 'root:hunter2@192.0.2.1'}",
    "'root:hunter2@192.0.2.1'",
    '{address: 192.0.2.1, key: "-----BEGIN OPENSSH PRIVATE KEY-----\\nhunter2"}',
    "{address: 192.0.2.1}\n        sudo_password: hunter2",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_refused_and_not_repeated(said: Said, secret: str) -> None:
    (fault,) = said(changed("{address: 192.0.2.1}", secret))
    assert "hunter2" not in fault
    if not secret.startswith("'root"):
        assert "secret" in fault


def test_all_faults_are_kept_in_the_order_of_lines_and_the_first_says_how_many_more(file: Path) -> None:
    file.write_text(PLAIN.replace("b: eth2}", "b: eth0}").replace("100mbit", "1gbit"))
    with pytest.raises(InventoryError) as raised:
        load(file)
    assert [fault.split(":")[1] for fault in raised.value.faults] == ["7", "12"]
    assert str(raised.value).endswith(f"(and 1 more: channover inventory validate {file})")


def test_files_that_cannot_be_read_are_told_apart(tmp_path: Path) -> None:
    def words(path: Path) -> str:
        with pytest.raises(UsageError) as raised:
            load(path)
        return str(raised.value)

    assert words(tmp_path / "none.yaml").endswith("none.yaml: there is no such file; check the path")
    assert words(tmp_path).endswith(": is a folder; name a YAML file in it")
    os.mkfifo(tmp_path / "pipe")
    assert words(tmp_path / "pipe").endswith(": is no regular file; name a YAML file")
    assert "cannot be read" in words(Path("a\0b"))
    assert "cannot be read" in words(Path("x" * 300))
    assert words(tmp_path / "two\nlines").count("\n") == 0
    long = tmp_path / "long.yaml"
    long.write_text("#" * (LIMIT + 1))
    assert words(long).endswith("is longer than 256 KiB; split it into several files")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"labs:\n  # caf\xe9\n")
    assert words(latin).endswith("latin.yaml:2: byte 14 is not UTF-8; save the file as UTF-8")


def test_a_file_of_the_greatest_length_is_read_in_bounded_time(file: Path) -> None:
    file.write_text(("a: [" + "b," * LIMIT)[: LIMIT - 1] + "]")
    with pytest.raises(UsageError):
        load(file)


# What editors are told


def test_the_schema_in_the_folder_is_the_one_of_the_models() -> None:
    Draft202012Validator.check_schema(schema())
    stored = json.loads((FOLDER / "inventory.schema.json").read_text())
    assert stored == schema(), "write it anew: channover inventory schema > inventory/inventory.schema.json"


@pytest.mark.parametrize(
    ("old", "new", "valid"),
    [
        ("management: eth0", "management: eth0", True),
        ("management: eth0", "managment: eth0", False),
        ("{address: 192.0.2.1}", "{address: 192.0.2.1, password: x}", False),
        ("b: eth2}", "b c: eth2}", False),
        ("[left.a, right.a]", "[left, right.a]", False),
        ("rate: 100mbit", "rate: fast", False),
    ],
)
def test_the_schema_says_what_the_loader_says(file: Path, old: str, new: str, valid: bool) -> None:
    text = changed(old, new)
    assert Draft202012Validator(schema()).is_valid(yaml.safe_load(text)) is valid
    file.write_text(text)
    if valid:
        load(file)
    else:
        with pytest.raises(UsageError):
            load(file)


def test_the_example_fits_the_schema_and_names_it() -> None:
    Draft202012Validator(schema()).validate(yaml.safe_load(EXAMPLE))
    assert EXAMPLE.startswith("# yaml-language-server: $schema=inventory.schema.json\n")


def test_every_field_is_described() -> None:
    for name, part in {"Inventory": schema(), **schema()["$defs"]}.items():
        for field, about in part.get("properties", {}).items():
            assert about.get("description"), f"{name}.{field}"


# The command


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli_inventory.add_parser(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["inventory", *words])
    return int(arguments.run(arguments))


def test_validate_tells_of_every_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PLAIN.replace("b: eth2}", "b: eth0}"))
    assert run("validate", str(FOLDER / "example.yaml")) == 0
    assert capsys.readouterr().out == (
        f"{FOLDER}/example.yaml: valid: lab bench (3 hosts, 4 cables), lab bridges (4 hosts, 6 cables)\n"
    )
    assert run("validate", str(file), "none.yaml") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{file}:7", f"{file}:12", "none.yaml"]


def test_schema_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_what_discover_is_given_is_checked_as_an_inventory_is() -> None:
    ssh = ssh_from("lab@[2001:db8::1]:2222", jump="me@gate")
    assert (ssh.user, ssh.address, ssh.port, str(ssh.jump)) == ("lab", "2001:db8::1", 2222, "me@gate:22")
    assert (ssh_from("left").user, ssh_from("left").port) == (None, None), "the user's own configuration says"
    for text, words in [("a@", "address: '' is neither"), ("left:x", "port: 'x' is wrong"), ("a:b@c", "user: seems")]:
        with pytest.raises(UsageError, match=words):
            ssh_from(text)


# Fuzzing: a valid lab, or one line that names the file; nothing else, ever


def outcome(file: Path, data: bytes) -> bool:
    """Load a file's worth of bytes and return whether it is valid; anything but that or one line fails the test."""
    file.write_bytes(data)
    try:
        found = load(file)
    except UsageError as error:
        text = str(error)
        assert text.startswith(f"{file}:"), text
        assert len(text.splitlines()) == 1 and len(text) < 700, text
        assert text.isprintable(), text
        assert isinstance(error, InventoryError) and all(len(fault.splitlines()) == 1 for fault in error.faults)
        return False
    assert isinstance(found, Inventory) and all(lab.hosts for lab in found.labs.values())
    assert all(isinstance(host, HostEntry) for lab in found.labs.values() for host in lab.hosts.values())
    return True


ODD = [b"&a ", b"*a", b"!!python/object/apply:os.system [id]", b"<<: ", b"\x00", b"\xff\xfe", b"\t", b"---\n", b"...\n"]
ODD += [
    b"%",
    b"{",
    b"}",
    b"[",
    b"]",
    b"? ",
    b": ",
    b"- ",
    b"|\n",
    b">\n",
    b"'",
    b'"',
    b"#",
    b"\r",
    b"\xe2\x80\xa8",
    b"@",
    b"`",
]
ODD += [
    b"\xef\xbb\xbf",
    b"~",
    b"null",
    b"0x",
    b"1e999",
    b".inf",
    b"\\",
    b"\x1b[31m",
    b"9" * 400,
    b"password: x\n",
    b"{}",
]


@pytest.mark.parametrize("seed", range(5))
def test_mutated_bytes(file: Path, seed: int) -> None:
    """60 mutations a seed: bytes changed, taken out, put in, lines swapped, doubled and indented."""
    chance = random.Random(seed)
    valid = 0
    for _ in range(60):
        data = bytearray((PLAIN if chance.random() < 0.5 else EXAMPLE).encode())
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(len(data))
            match chance.randrange(6):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.choice([1, 2, 20, 200])]
                case 2:
                    data[at:at] = chance.choice(ODD)
                case 3:
                    data[at:at] = data[at : at + chance.choice([1, 20, 200])]
                case 4:
                    lines = bytes(data).split(b"\n")
                    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
                    lines[one], lines[other] = lines[other], lines[one]
                    data = bytearray(b"\n".join(lines))
                case _:
                    data[at:at] = b" " * chance.choice([1, 2, 4])
        valid += outcome(file, bytes(data))
    assert 0 < valid < 55


VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    10**400,
    "",
    " ",
    "\n",
    "a.b",
    "left",
    "left.a",
    "eth0",
    "1gbit",
]
VALUES += [[], {}, [[]], {"": ""}, ["left.a", "right.a"], {"ssh": {}}, "52:54:00:12:34:56", "x" * 5000]
VALUES += ["é", "\u202e", "\U0001f600", "~", "~x", "../.."]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container with a key of its, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@pytest.mark.parametrize("seed", range(5))
def test_mutated_structures(file: Path, seed: int) -> None:
    """50 mutations a seed: values replaced and moved, keys renamed, entries taken out and doubled."""
    chance = random.Random(1000 + seed)
    valid = 0
    for _ in range(50):
        document = yaml.safe_load(PLAIN if chance.random() < 0.5 else EXAMPLE)
        for _ in range(chance.choice([1, 1, 2, 4])):
            found = places(document)
            if not found:
                break
            holder, key = chance.choice(found)
            other, other_key = chance.choice(found)
            match chance.randrange(5):
                case 0:
                    holder[key] = chance.choice(VALUES)
                case 1:
                    del holder[key]
                case 2:
                    holder[key] = yaml.safe_load(yaml.safe_dump(other[other_key]))
                case 3 if isinstance(holder, dict):
                    holder[chance.choice([key, "password", "hosts", "", "a b", "labs", 7, None, True])] = holder.pop(
                        key
                    )
                case _ if isinstance(holder, list):
                    holder.insert(key, holder[key])
        valid += outcome(file, yaml.safe_dump(document, allow_unicode=chance.random() < 0.5).encode())
    assert 0 < valid < 45


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes(file: Path, data: bytes) -> None:
    outcome(file, data)


WHOLE = (PLAIN, EXAMPLE, JUMBO, ROUTED)
LABELS = st.sampled_from(["left", "right", "x", "sw", "", "a b", "-"])
NICS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["eth0", "eth1", "eth2", "52:54:00:00:00:01", ""]))
HOSTS = st.fixed_dictionaries(
    {
        "ssh": st.fixed_dictionaries(
            {"address": st.sampled_from(["192.0.2.1", "192.0.2.2", "left", "fe80::1", "::1"])},
            optional={"port": st.integers(-1, 70000), "key": st.text(max_size=5), "jump": st.text(max_size=5)},
        ),
        "management": st.sampled_from(["eth0", "eth1", "br0"]),
        "nics": NICS,
    },
    optional={"role": st.sampled_from(["host", "switch", "x"]), "sudo": st.sampled_from([True, "no", 3])},
)
PORTS = st.lists(st.sampled_from(["p1", "p2", "ge-0/0/1", "p 3"]), max_size=3)
SWITCHES = st.fixed_dictionaries(
    {"ports": st.sampled_from([["p1", "p2"], ["p1", "ge-0/0/1", "p2"]])},
    optional={
        "vlans": st.dictionaries(st.sampled_from(["10", "20", "0", "x"]), PORTS, max_size=2),
        "lags": st.dictionaries(st.sampled_from(["left", "up", "-"]), PORTS, max_size=2),
        "mlag": st.sampled_from(["rack", "", None]),
    },
)
ENDS = st.sampled_from(["left.a", "left.b", "right.a", "right.b", "x.a", "sw.p1", "sw.p2", "left"])
ADDRESSES = st.sampled_from(
    ["198.51.100.10/24", "203.0.113.10/24", "2001:db8::10/64", "fe80::1/64", "192.0.2.1", "x", 5]
)
LABS = st.fixed_dictionaries(
    {"hosts": st.dictionaries(LABELS, HOSTS, max_size=3)},
    optional={
        "cables": st.lists(
            st.fixed_dictionaries(
                {"ends": st.lists(ENDS, min_size=1, max_size=3), "rate": st.sampled_from(["100mbit", "1gbit", 5])},
                optional={"mtu": st.sampled_from([1500, 9000, "9000", 68, 65536, True, 1500.5, "jumbo", None])},
            ),
            max_size=3,
        ),
        "paths": st.lists(
            st.fixed_dictionaries(
                {
                    "ends": st.lists(ENDS, min_size=1, max_size=3),
                    "addresses": st.lists(ADDRESSES, min_size=1, max_size=3),
                    "gateways": st.lists(
                        st.sampled_from(["198.51.100.1", "2001:db8::1", "fe80::1", "up", 5]), max_size=3
                    ),
                    "rate": st.sampled_from(["100mbit", None]),
                },
                optional={"mtu": st.sampled_from([1500, "x"]), "via": st.just("x")},
            ),
            max_size=3,
        ),
        "switches": st.dictionaries(st.sampled_from(["sw", "other"]), SWITCHES, max_size=2),
        "allows": st.dictionaries(st.sampled_from(["nics_down", "reboot", "all"]), st.booleans()),
    },
)


FUZZED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=200, suppress_health_check=FUZZED)
@given(st.dictionaries(LABELS, LABS, max_size=2))
def test_any_labs(file: Path, labs: dict[str, Any]) -> None:
    outcome(file, yaml.safe_dump({"labs": labs}).encode())


@pytest.mark.slow
def test_two_thousand_labs(file: Path) -> None:
    """As above, and nearly all of them labs that are whole: what is wrong in them is one value, in any field."""
    seen: list[bool] = []

    @settings(max_examples=2000, suppress_health_check=FUZZED, deadline=None)
    @given(st.dictionaries(LABELS, LABS, min_size=1, max_size=2), st.sampled_from(WHOLE), st.data())
    def look(labs: dict[str, Any], whole: str, data: st.DataObject) -> None:
        document = yaml.safe_load(whole)
        found = places(document)
        holder, key = found[data.draw(st.integers(0, len(found) - 1))]
        others = places({"labs": labs})
        other, other_key = others[data.draw(st.integers(0, len(others) - 1))]
        holder[key] = other[other_key]
        seen.append(outcome(file, yaml.safe_dump(document).encode()))

    look()
    assert len(seen) >= 1000 and any(seen) and not all(seen), "compared nothing"
