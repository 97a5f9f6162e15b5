"""IP packets of every protocol between two ends of a device: which arrived exactly as they were sent.

What runs on the hosts is :mod:`channover.network.programs.packet_program`, sent to them as it stands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, python_program
from channover.network.programs import packet_program

NAMES: Mapping[int, str] = MappingProxyType(
    {
        1: "ICMP", 2: "IGMP", 4: "IPv4", 6: "TCP", 17: "UDP", 33: "DCCP", 41: "IPv6", 46: "RSVP", 47: "GRE", 50: "ESP",
        51: "AH", 58: "ICMPv6", 88: "EIGRP", 89: "OSPF", 103: "PIM", 112: "VRRP", 115: "L2TP", 132: "SCTP", 136: "UDP-Lite",
        137: "MPLS-in-IP",
    }
)  # fmt: skip
"""Protocols that readers know, by their numbers (IANA, Assigned Internet Protocol Numbers)."""
LATE = 0.5
"""Seconds after the last packet was sent that one may still arrive."""


def named(version: int, number: int) -> str:
    """Return how a reader knows a packet: ``IPv4 protocol 132 (SCTP)``."""
    known = f" ({NAMES[number]})" if number in NAMES else ""
    return f"IPv{version} {'protocol' if version == 4 else 'next header'} {number}{known}"


@dataclass(frozen=True)
class Exchanged:
    """What was sent one way, and which of it arrived as it was sent, by name."""

    sent: frozenset[str]
    unchanged: frozenset[str]


def exchange(
    source: Host, target: Host, device: tuple[str, str], ipv4: tuple[str, str], ipv6: tuple[str, str]
) -> Exchanged:
    """Send a packet of every protocol from one host to another, and compare what arrives byte for byte.

    ``device`` are the device by which they leave and the one by which they arrive, ``ipv4`` and ``ipv6`` the addresses of
    source and target. Raises TestbedError.
    """
    program = Path(packet_program.__file__)
    taking = target.spawn(*python_program(target, program), "receive", device[1])
    try:
        taking.wait_for('"ready"', 10.0)
        done = source.run(*python_program(source, program), "send", device[0], *ipv4, *ipv6)
        sent = json.loads(done.stdout)["sent"]
        time.sleep(LATE)
        taking.signal(15)
        taking.wait(10.0)
        arrived = frozenset(_told(taking, target)["packets"])
    finally:
        taking.stop(1.0)
    return Exchanged(
        frozenset(named(version, number) for version, number, _ in sent),
        frozenset(named(version, number) for version, number, packet in sent if packet in arrived),
    )


def _told(process: Process, host: Host) -> Mapping[str, Any]:
    for line in process.lines:
        if "packets" in (told := json.loads(line)):
            return dict(told)
    raise TestbedError(f"{host.name}: what took the packets said nothing: {process.stderr.strip()[-300:]}")
