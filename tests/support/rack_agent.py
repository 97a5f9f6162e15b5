"""A management port for a switch of a rack that this machine reaches, and net-snmp's agent behind it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from tests.support.rack import Switch, daemon

COMMUNITY = "t0p-secret"


def require() -> None:
    """Skip a test that cannot have agents here."""
    daemon("snmpd", "a way to the switch's management port takes root")


@contextmanager
def managed(tor: Switch, folder: Path, address: str, name: str) -> Iterator[None]:
    """Give a switch a management port with an address (this machine has the one before), and an agent."""
    ours = f"chm{secrets.token_hex(3)}"
    run = ("nsenter", f"--net=/proc/{tor.pid}/ns/net")
    with ExitStack() as stack:
        subprocess.run(
            ["ip", "link", "add", ours, "type", "veth", "peer", "name", "mgmt", "netns", str(tor.pid)], check=True
        )
        stack.callback(subprocess.run, ["ip", "link", "delete", ours], check=False)
        subprocess.run(["ip", "address", "add", f"{IPv4Address(address) - 1}/30", "dev", ours], check=True)
        subprocess.run(["ip", "link", "set", ours, "up"], check=True)
        tor.run("ip", "address", "add", f"{address}/30", "dev", "mgmt")
        tor.run("ip", "link", "set", "mgmt", "up")
        settings = folder / f"{name}.conf"
        settings.write_text(
            f"rocommunity {COMMUNITY}\nsysDescr A switch of the tests\nsysName {name}\n"
            f"[snmp] persistentDir {folder}/{name}-state\n"
        )
        agent = ("/usr/sbin/snmpd", "-f", "-Lo", "-C", "-c", str(settings), "-p", f"{folder}/{name}.pid")
        process = subprocess.Popen(
            [*run, *agent, f"udp:{address}:161"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield
