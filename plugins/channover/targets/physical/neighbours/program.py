"""A program that hears what is at the other end of a host's NICs, and says it as JSON.

It is one file of the standard library alone, so that it runs on any host by ``python3 -I -S``. By each NIC it sends small
frames of the ethertype 0x88b5, that of local experiments (IEEE 802, clause 9.2.3), to 01:80:c2:00:00:0e, which no bridge
forwards (IEEE 802.1Q, table 8-1): whoever hears one is at the other end of the cable. It listens for those of other hosts, for
LLDP (IEEE 802.1AB-2016, 8.5), which switches send every 30 s as a rule, and for LACP (IEEE 802.1AX-2020, 6.4.2.3), which a port
of a LAG sends every second or every 30 s. Nothing is configured. It ends as soon as every NIC has heard something, or when its
time is over.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

ETHERTYPE, LLDP, SLOW = 0x88B5, 0x88CC, 0x8809
GROUPS = ("0180c200000e", "0180c2000003", "0180c2000000")
"""Where LLDP is sent: to the nearest bridge, the nearest one that is no two-port relay, the nearest customer's."""
SLOW_GROUP = "0180c2000002"
"""Where LACP is sent."""
EVERY = 0.25
"""Seconds between two frames by a NIC."""
LEAST = 3.0
"""Seconds for which it listens at least: a host may speak LLDP too, and be one that is asked as well."""
LINGER = 1.0
"""Seconds for which frames are still sent when all has been heard: others may not have heard them yet."""
_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST, _IGNORE_OUTGOING = 263, 1, 0, 23
_ETH_P_ALL = 3


class Nic:
    """One NIC: its socket, and what was heard by it."""

    def __init__(self, device: str, wanted: dict[str, Any]) -> None:
        self.device = device
        self.mark: str = wanted["nonce"]
        self.words = json.dumps([self.mark, wanted["host"], device]).encode()
        self.lldp: dict[str, str] = {}
        self.host: list[str] = []
        self.lacp: list[str] = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        with suppress(OSError):  # before Linux 4.20: own frames are told by who sent them
            self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self.socket.bind((device, _ETH_P_ALL))
        for group in (*GROUPS, SLOW_GROUP):
            join = struct.pack("iHH8s", socket.if_nametoindex(device), _MULTICAST, 6, bytes.fromhex(group))
            self.socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, join)
        self.socket.setblocking(False)
        own: bytes = self.socket.getsockname()[4]
        self.frame = (
            bytes.fromhex(GROUPS[0])
            + own
            + struct.pack("!HH", ETHERTYPE, len(self.words))
            + self.words.ljust(46, b"\0")
        )

    @property
    def done(self) -> bool:
        """Whether anything was heard."""
        return bool(self.lldp or self.host)

    def send(self) -> None:
        """Send a frame, where the NIC takes it."""
        with suppress(OSError):
            self.socket.send(self.frame)

    def hear(self) -> None:
        """Take what has arrived."""
        with suppress(OSError):
            while True:
                frame = self.socket.recv(2048)
                kind = int.from_bytes(frame[12:14], "big")
                if kind == LLDP:
                    self.lldp = self.lldp or told(frame[14:])
                elif kind == SLOW and frame[6:12] != self.frame[6:12]:
                    self.lacp = self.lacp or partner(frame[14:])
                elif kind == ETHERTYPE and len(frame) > 16:
                    with suppress(ValueError):
                        mark, host, device = json.loads(frame[16 : 16 + int.from_bytes(frame[14:16], "big")])
                        if mark == self.mark and frame[6:12] != self.frame[6:12]:
                            self.host = [host, device]


def told(data: bytes) -> dict[str, str]:
    """Return what an LLDPDU says: chassis, port, its description, system and its description; empty where it is none."""
    found: dict[str, str] = {}
    while len(data) >= 2:
        kind, length = data[0] >> 1, (data[0] & 1) << 8 | data[1]
        value, data = data[2 : 2 + length], data[2 + length :]
        if kind == 0:
            break
        if kind in (1, 2) and value:
            name = ("chassis", "port")[kind - 1]
            mac = value[0] == (4, 3)[kind - 1]  # the subtypes of a MAC address
            found[name] = ":".join(f"{byte:02x}" for byte in value[1:]) if mac else _text(value[1:])
            found[f"{name} is a MAC address"] = "yes" if mac else ""
        elif kind in (4, 5, 6):
            found[("port description", "system", "system description")[kind - 4]] = _text(value)
    return found if "chassis" in found and "port" in found else {}


def partner(data: bytes) -> list[str]:
    """Return the system and the key of who sends an LACPDU, its actor: empty where it is none (IEEE 802.1AX-2020, 6.4.2.3)."""
    if len(data) < 22 or data[:4] != b"\x01\x01\x01\x14":
        return []
    return [data[6:12].hex(":"), str(int.from_bytes(data[12:14], "big"))]


def _text(value: bytes) -> str:
    return " ".join(value.decode(errors="replace").split())


def main() -> None:
    """Hear by the NICs that the command line names, and print what was heard by each."""
    wanted = json.loads(sys.argv[1])
    found: dict[str, dict[str, Any]] = {}
    nics = []
    for device in wanted["devices"]:
        try:
            nics.append(Nic(device, wanted))
        except OSError as error:
            found[device] = {"refused": error.strerror or str(error)}
    start = time.monotonic()
    end, last, next_frame = start + wanted["seconds"], 0.0, 0.0
    while nics and time.monotonic() < end and not (last and time.monotonic() > last + LINGER):
        if time.monotonic() >= next_frame:
            next_frame = time.monotonic() + EVERY
            for nic in nics:
                nic.send()
        select.select([nic.socket for nic in nics], [], [], EVERY / 2)
        for nic in nics:
            nic.hear()
        if not last and all(nic.done for nic in nics):
            last = time.monotonic() if all(nic.host for nic in nics) else max(time.monotonic(), start + LEAST)
    found.update({nic.device: {"lldp": nic.lldp, "host": nic.host, "lacp": nic.lacp} for nic in nics})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
