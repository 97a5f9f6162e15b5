"""A program that finds out what switch ports a host's NICs face: it sends and hears frames of its own, and says it as JSON.

It is one file of the standard library alone, so that it runs on any host by ``python3 -I -S``. By each NIC it sends broadcast
frames of the ethertype 0x88b5, that of local experiments (IEEE 802, clause 9.2.3), of several sizes: who hears them is in the
same broadcast domain. By NICs that are to be in a LAG of the switch it also speaks LACP as a host does that forms one (IEEE
802.1AX-2014, 6.4), since a port in a LAG hands nothing on before that. Nothing is configured, and nothing is changed.

What the frames tell is judged in :mod:`channover.targets.physical.facing.judgement`. Programs of several hosts end together:
each says in its frames when it has heard all that it expects. Sources: ``packet(7)``; IEEE 802.1AX-2014, 6.4.2.3 (LACPDU);
IEEE 802.1Q-2014, 14.1 (BPDU); IEEE 802.1AB-2016, 8.5 (LLDP).
"""

from __future__ import annotations

import fcntl
import json
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

ETHERTYPE, SLOW_PROTOCOLS, LLDP = 0x88B5, 0x8809, 0x88CC
BROADCAST = b"\xff" * 6
LACP_GROUP = bytes.fromhex("0180c2000002")
BRIDGES = (bytes.fromhex("0180c2000000"), bytes.fromhex("01000ccccccd"))
"""Where bridge protocol data units go: IEEE 802.1D's address, and that of a spanning tree of each VLAN."""
SMALL = 60
LINGER = 0.6
"""Seconds for which the last frames are sent: a program that began later hears from them that all have heard."""
PACE = 0.05
"""Seconds between two frames by a NIC."""
LACP_EVERY = 0.9
"""Seconds between two LACP frames; one more is sent at once where there is something to say."""
ACTIVITY, TIMEOUT, AGGREGATION, SYNC, COLLECTING, DISTRIBUTING = 1, 2, 4, 8, 16, 32
FORWARDING = 0x20
"""A flag of a rapid spanning tree's BPDU: the port that sent it hands frames on (IEEE 802.1Q-2014, 14.2.7)."""

_BODY = struct.Struct("!8sBHB")
_HEAD = 14
_PORT_INFO = struct.Struct("!H6sHHHB")
_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS, _AUXILIARY, _IGNORE_OUTGOING = 263, 1, 1, 8, 23
_TAGGED = 0x10
"""A packet's status: it came with a VLAN's tag, which the kernel has taken off (``TP_STATUS_VLAN_VALID``)."""
_ETH_P_ALL = 3
_GET_FLAGS, _UP_AND_RUNNING = 0x8913, 0x41


class Nic:
    """One NIC: its socket, what it sends, and what was heard by it."""

    def __init__(self, host: str, wanted: dict[str, Any], nonce: bytes, number: int, speaks: bool) -> None:
        self.name = f"{host} {wanted['nic']}"
        self.device: str = wanted["device"]
        self.sizes: list[int] = wanted["sizes"]
        self.nonce, self.number, self.speaks = nonce, number, speaks
        self.system = b""
        self.heard: dict[str, dict[str, float]] = {}
        self.finished: set[str] = set()
        self.lacp: dict[str, Any] | None = None
        self.partners: list[str] = []
        self.bpdus: dict[str, Any] = {"count": 0, "forwarding": None}
        self.lldp: list[list[str]] = []
        self.foreign: dict[str, int] = {}
        self.refused = ""
        self.sent = 0
        self._next = self._next_lacp = 0.0
        self._partner = _PORT_INFO.pack(0, bytes(6), 0, 0, 0, 0)
        self._state = ACTIVITY | TIMEOUT | AGGREGATION
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with suppress(OSError):  # before Linux 4.20: frames that go out are told apart by their packet type
            self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self.socket.setsockopt(_SOL_PACKET, _AUXILIARY, 1)
        self.socket.bind((self.device, _ETH_P_ALL))
        join = struct.pack("iHH8s", socket.if_nametoindex(self.device), _PROMISCUOUS, 0, b"")
        self.socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, join)
        self.socket.setblocking(False)
        self.own: bytes = self.socket.getsockname()[4]

    def carrier(self) -> bool:
        """Return whether the NIC is up and running (``netdevice(7)``)."""
        asked = fcntl.ioctl(self.socket, _GET_FLAGS, struct.pack("16sH14x", self.device.encode(), 0))
        return bool(struct.unpack("16sH14x", asked)[1] & _UP_AND_RUNNING == _UP_AND_RUNNING)

    def _send(self, frame: bytes) -> None:
        try:
            self.socket.send(frame)
        except OSError as error:
            self.refused = f"{len(frame)} bytes: {error.strerror}"

    def say(self, now: float, done: bool, begin: float) -> None:
        """Send what is due: a frame of the next size, and LACP's."""
        if now >= self._next:
            self._next = now + PACE
            size = self.sizes[(self.sent // 2) % len(self.sizes)] if self.sent % 2 else SMALL
            name = self.name.encode()
            since = min(int((now - begin) * 1000), 0xFFFF)
            body = _BODY.pack(self.nonce, done, since, len(name)) + name
            self._send((BROADCAST + self.own + struct.pack("!H", ETHERTYPE) + body).ljust(size, b"\0"))
            self.sent += 1
        if self.speaks and now >= self._next_lacp:
            self._next_lacp = now + LACP_EVERY
            actor = _PORT_INFO.pack(0xFFFF, self.system, 1, 255, self.number, self._state)
            body = b"\x01\x01" + b"\x01\x14" + actor + bytes(3) + b"\x02\x14" + self._partner + bytes(3)
            body += b"\x03\x10" + bytes(14)
            self._send(LACP_GROUP + self.own + struct.pack("!H", SLOW_PROTOCOLS) + body.ljust(110, b"\0"))

    def receive(self) -> None:
        """Take what has arrived."""
        while True:
            try:
                frame, more, _, (_, _, packet_type, _, source) = self.socket.recvmsg(16384, 64)
            except OSError:
                return
            if packet_type == socket.PACKET_OUTGOING or len(frame) < _HEAD:
                continue
            if any(struct.unpack_from("I", data)[0] & _TAGGED for _, _, data in more if len(data) >= 4):
                continue  # of a VLAN that this NIC is not in
            kind = struct.unpack_from("!H", frame, 12)[0]
            if kind == ETHERTYPE and frame[_HEAD : _HEAD + 8] == self.nonce:
                self._take(frame)
            elif kind == SLOW_PROTOCOLS and frame[:6] == LACP_GROUP and frame[_HEAD : _HEAD + 1] == b"\x01":
                self._take_lacp(frame)
            elif frame[:6] in BRIDGES:
                self._take_bpdu(frame)
            elif kind == LLDP:
                self._take_lldp(frame)
            else:
                key = source.hex(":")
                self.foreign[key] = self.foreign.get(key, 0) + 1

    def _take(self, frame: bytes) -> None:
        _, done, since, length = _BODY.unpack_from(frame, _HEAD)
        start = _HEAD + _BODY.size
        name = frame[start : start + length].decode(errors="replace")
        known = self.heard.setdefault(name, {"frames": 0, "largest": 0, "after": since / 1000})
        known["frames"] += 1
        known["largest"] = max(known["largest"], len(frame))
        if done:
            self.finished.add(name.partition(" ")[0])

    def _take_lacp(self, frame: bytes) -> None:
        if len(frame) < _HEAD + 44:
            return
        actor = frame[_HEAD + 4 : _HEAD + 4 + _PORT_INFO.size]
        priority, system, key, _, port, state = _PORT_INFO.unpack(actor)
        _, echo, _, _, number, _ = _PORT_INFO.unpack_from(frame, _HEAD + 24)
        told = f"{system.hex(':')} {key}"
        if told not in self.partners:
            self.partners.append(told)
        self.lacp = {
            "system": system.hex(":"),
            "priority": priority,
            "key": key,
            "port": port,
            "state": state,
            "knows_us": echo == self.system and number == self.number,
        }
        before = self._state
        self._state = ACTIVITY | TIMEOUT | AGGREGATION
        if state & AGGREGATION:
            self._state |= SYNC
            if state & SYNC and self.lacp["knows_us"]:
                self._state |= COLLECTING | DISTRIBUTING
        if self._state != before or actor != self._partner:
            self._next_lacp = 0.0
        self._partner = actor

    def _take_bpdu(self, frame: bytes) -> None:
        self.bpdus["count"] += 1
        at = frame.find(b"\x00\x00\x02\x02", _HEAD)  # protocol 0, version 2 or later, type 2: a rapid one
        if at < 0:
            at = frame.find(b"\x00\x00\x03\x02", _HEAD)
        if at >= 0 and len(frame) > at + 4:
            self.bpdus["forwarding"] = bool(frame[at + 4] & FORWARDING)

    def _take_lldp(self, frame: bytes) -> None:
        at = _HEAD
        found: dict[int, bytes] = {}
        while at + 2 <= len(frame):
            kind, length = frame[at] >> 1, (frame[at] & 1) << 8 | frame[at + 1]
            if kind == 0:
                break
            found[kind] = frame[at + 2 : at + 2 + length]
            at += 2 + length
        chassis, port = found.get(1, b""), found.get(2, b"")
        if port[:1] == b"\3":  # a MAC address (IEEE 802.1AB-2016, table 8-3), which nobody calls a port by
            port = b"\0" + found.get(4, port[1:].hex(":").encode())
        name = found.get(5) or (chassis[1:].hex(":").encode() if chassis[:1] == b"\4" else chassis[1:])
        told = ["".join(s for s in word.decode(errors="replace") if s.isprintable()) for word in (name, port[1:])]
        if all(told) and told not in self.lldp:
            self.lldp.append(told)

    def formed(self) -> bool:
        """Return whether the switch has taken this port into a LAG with us, and hands frames on."""
        working = SYNC | COLLECTING | DISTRIBUTING
        return self.lacp is not None and self.lacp["knows_us"] and self.lacp["state"] & working == working

    def report(self) -> dict[str, Any]:
        """Return what was heard."""
        return {
            "mac": self.own.hex(":"),
            "carrier": bool(self.heard) or self.carrier(),
            "heard": self.heard,
            "lacp": self.lacp,
            "partners": self.partners,
            "formed": self.formed(),
            "bpdus": self.bpdus,
            "lldp": self.lldp,
            "foreign": self.foreign,
            "refused": self.refused,
            "error": "",
        }


def listen(wanted: dict[str, Any]) -> dict[str, Any]:
    """Send and hear for as long as it takes, ``patience`` seconds at most; return a report by NIC."""
    nonce, host = bytes.fromhex(wanted["nonce"]), wanted["host"]
    nics: dict[str, Nic] = {}
    reports: dict[str, Any] = {}
    groups = []
    for group in wanted["groups"]:
        members = []
        for number, one in enumerate(group["nics"], start=1):
            try:
                members.append(Nic(host, one, nonce, number, group["lacp"]))
            except OSError as error:
                reports[one["nic"]] = {"error": error.strerror or str(error)}
                continue
            nics[one["nic"]] = members[-1]
            members[-1].system = members[0].own
        groups.append((members, set(group["expects"]), group["lacp"]))
    size = wanted["size"]
    poll = select.poll()
    by_socket = {nic.socket.fileno(): nic for nic in nics.values()}
    for number in by_socket:
        poll.register(number, select.POLLIN)

    def satisfied() -> bool:
        for members, expects, lacp in groups:
            full = {name for nic in members for name, seen in nic.heard.items() if seen["largest"] >= size}
            if not expects <= full or (lacp and not all(nic.formed() for nic in members)):
                return False
        return not reports

    begin = time.monotonic()
    until = begin + wanted["patience"]
    done = ending = False
    while (now := time.monotonic()) < until:
        for nic in nics.values():
            nic.say(now, done, begin)
        for number, event in poll.poll(int(PACE * 500)):
            if event & select.POLLIN:
                by_socket[number].receive()
            elif event:
                poll.unregister(number)  # the device has gone
        if not done and satisfied():
            done = True
        if done and not ending and set(wanted["others"]) <= {name for nic in nics.values() for name in nic.finished}:
            until, ending = min(until, time.monotonic() + LINGER), True
    reports.update({name: nic.report() for name, nic in nics.items()})
    return {"host": host, "nics": reports, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    print(json.dumps(listen(json.loads(sys.argv[1]))))
