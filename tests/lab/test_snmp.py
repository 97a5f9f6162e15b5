"""A switch read by SNMP: net-snmp's agent in a namespace, with its own IF-MIB, and what a switch has besides, by a script.

The kernel's bonding and a chassis are nobody's here, so IEEE8023-LAG-MIB and ENTITY-MIB come from that script (pass_persist).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from channover.hosts.host import Process, until
from channover.hosts.lab import Lab

pytestmark = pytest.mark.lab

V2C, V3 = (
    "defVersion 2c\ndefCommunity 'it is s3cret'\n",
    (
        "defVersion 3\ndefSecurityName reader\ndefAuthType SHA-256\ndefAuthPassphrase 'long enough'\n"
        "defPrivType AES\ndefPrivPassphrase 'long as well'\n"
    ),
)
READ = """
import dataclasses, json, sys
from pathlib import Path
from channover.hosts.snmp import session
from channover.hosts.snmp.credentials import credentials
from channover.hosts.snmp.switch import Switch
session.TIMEOUT = 0.4
found = []
for config in sys.argv[2:]:
    switch = Switch("core", session.Session(sys.argv[1], 1161, credentials(Path(config))), ["eth1", "ETH2", "7"])
    try:
        reading = switch.read()
        found.append({**dataclasses.asdict(reading), "what": reading.what})
    except session.Unreadable as error:
        found.append(str(error))
print(json.dumps(found, default=sorted))
"""
MORE = """
import sys
BASE = "1.2.840.10006.300.43.1.2.1.1"
MAC, PARTNER = "02 00 00 00 00 01", "02 00 00 00 00 02"
INDEX = int(sys.argv[1])
rows = {
    (BASE, 3): ("octet", MAC), (BASE, 5): ("integer", "7"), (BASE, 9): ("octet", PARTNER), (BASE, 11): ("integer", "9"),
    (BASE, 13): ("integer", str(INDEX)), (BASE, 21): ("octet", "BC"), (BASE, 23): ("octet", "3C"),
}
values = {f"{base}.{column}.{INDEX}": value for (base, column), value in rows.items()}
entity = "1.3.6.1.2.1.47.1.1.1.1"
values |= {f"{entity}.5.1": ("integer", "3"), f"{entity}.10.1": ("string", "4.2.1F"), f"{entity}.12.1": ("string", "Acme"),
           f"{entity}.13.1": ("string", "Rackmaster 48")}
known = sorted(values, key=lambda name: [int(part) for part in name.split(".")])
def parts(name): return [int(part) for part in name.strip(".").split(".")]
while True:
    word = sys.stdin.readline().strip()
    if not word: break
    if word == "PING":
        print("PONG", flush=True); continue
    asked = sys.stdin.readline().strip()
    fits = [n for n in known if (parts(n) == parts(asked) if word == "get" else parts(n) > parts(asked))]
    print(f".{fits[0]}\\n{values[fits[0]][0]}\\n{values[fits[0]][1]}" if fits else "NONE", flush=True)
"""


@dataclass
class Agent:
    """An agent on the right host of a lab, that the left one asks."""

    lab: Lab
    folder: Path
    process: Process

    def asked(self, *configs: str) -> Any:
        files = []
        for number, text in enumerate(configs):
            files.append(self.folder / f"snmp-{number}.conf")
            files[-1].write_text(text)
        done = self.lab.left.run(
            sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{READ}", "10.93.93.2", *map(str, files)
        )
        return json.loads(done.stdout)


@pytest.fixture
def agent(two_hosts: Lab, tmp_path: Path) -> Iterator[Agent]:
    if shutil.which("snmpd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("there is no snmpd: apt-get install snmpd")
    left, right = two_hosts.left, two_hosts.right
    for host, address in ((left, "10.93.93.1/30"), (right, "10.93.93.2/30")):
        host.run("ip", "link", "set", "eth1", "up")
        host.run("ip", "address", "add", address, "dev", "eth1")
    right.run("ip", "link", "set", "eth2", "down")
    left.run("ping", "-c1", "-s1000", "10.93.93.2")  # before: the agent looks at its counters only now and then
    index = right.run("ip", "-o", "link", "show", "eth1").stdout.partition(":")[0]
    (tmp_path / "more.py").write_text(MORE)
    config = tmp_path / "snmpd.conf"
    more = f"{sys.executable} -S {tmp_path}/more.py {index}"
    config.write_text(
        "rocommunity 'it is s3cret'\nsysDescr A switch of the tests\nsysName core-1\n"
        "createUser reader SHA-256 'long enough' AES 'long as well'\nrouser reader priv\n"
        f"pass_persist .1.2.840.10006.300.43 {more}\npass_persist .1.3.6.1.2.1.47 {more}\n"
        "[snmp] persistentDir " + str(tmp_path / "state") + "\n"
    )
    process = right.spawn(
        "/usr/sbin/snmpd", "-f", "-Lo", "-C", "-c", str(config), "-p", str(tmp_path / "pid"), "udp:10.93.93.2:1161"
    )
    until(lambda: ":1161" in right.run("ss", "-Hlnu", quiet=True).stdout, "snmpd to listen", 10)
    yield Agent(two_hosts, tmp_path, process)
    process.stop()


def test_what_a_switch_says_by_v2c_and_v3(agent: Agent) -> None:
    by_community, by_user = agent.asked(V2C, V3)
    for found in (by_community, by_user):
        assert (found["system"], found["description"]) == ("core-1", "A switch of the tests")
        assert (found["what"], found["software"]) == ("Acme Rackmaster 48", "4.2.1F")
        assert set(found["ports"]) == {"eth1", "ETH2"} and found["missing"] == ["7"]
        port = found["ports"]["eth1"]
        assert port["up"] and port["rx"] > 1000 and port["tx"] > 1000
        assert not found["ports"]["ETH2"]["up"] and found["ports"]["ETH2"]["member"] is None
        assert port["member"] == {
            "lag": "eth1", "system": "02:00:00:00:00:01", "key": 7, "partner": "02:00:00:00:00:02", "partner_key": 9,
            "state": ["activity", "aggregation", "collecting", "distributing", "synchronized"],
            "partner_state": ["aggregation", "collecting", "distributing", "synchronized"],
        }  # fmt: skip
    (shown,) = json.loads(agent.lab.right.run("ip", "-j", "-s", "link", "show", "eth1").stdout)
    real = shown["stats64"]["tx"]["bytes"]
    assert by_community["ports"]["eth1"]["tx"] <= by_user["ports"]["eth1"]["tx"] <= real


def test_a_switch_that_cannot_be_read_is_a_line_without_a_secret(agent: Agent) -> None:
    wrong = V2C.replace("s3cret", "wr0ng")
    silent, stranger, forged = agent.asked(
        wrong, V3.replace("reader", "nobody"), V3.replace("long enough", "l0ng enough")
    )
    assert "10.93.93.2 port 1161 does not answer SNMP v2c: " in silent and "keeps silent of a wrong one" in silent
    assert "refuses SNMP v3 with what /" in stranger and "nknown" in stranger
    assert "refuses SNMP v3 with what /" in forged
    agent.process.stop()
    (gone,) = agent.asked(V3)
    assert "does not answer SNMP v3: is its agent on" in gone
    for said in (silent, stranger, forged, gone):
        assert "\n" not in said and not any(word in said for word in ("wr0ng", "l0ng", "long as well"))
