"""A program that proves cables: it sends frames from NICs of a host and says what arrived there, as JSON.

It is one file of the standard library alone, so that it runs on any host by ``python3 -I -S``; a lab of namespaces calls
:func:`probe` for the NICs of all of its hosts at once. What its figures mean is judged in :mod:`channover.observe.proof`.

Frames have the ethertype 0x88b5, that of local experiments (IEEE 802, clause 9.2.3), and the address 01:80:c2:00:00:0e, which
no bridge forwards (IEEE 802.1Q, table 8-1): what arrives has crossed this cable and nothing else. Through a switch
they have the far NIC's own address (``to``). From the moment in which the two ends of a cable hear each other they go through
the same phases:

1. *meet*: small frames with a time stamp, answered at once (round trip), and frames of several sizes up to the full one;
2. *load*: from one moment to another full frames, more than the cable's rate; counters are read every few milliseconds;
3. *drain*: nothing is sent until the last frame has arrived.

Sources: ``packet(7)``, ``sendmmsg(2)``, ``proc(5)`` (/proc/net/dev, /proc/PID/schedstat), ``linux/filter.h``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

ETHERTYPE = 0x88B5
GROUP = bytes.fromhex("0180c200000e")
HELLO, ANSWER, SAMPLE, FILLER = 1, 2, 3, 4
EVERY = 16
"""One loaded frame of so many is received by the far end's program too, which looks for duplicates; counters tell of all."""
MOST = 64
"""Frames that are sent before anything else is looked after."""
PROMPT = 0.005
"""The share of a load within which counters must be read for the moment of the reading to be known."""
LARGEST = 1 << 16
"""Bytes of the largest frame that there can be."""
LOOK = 0.05
"""Seconds after which it is looked at the clock again, whatever there is to do."""
LATE = 0.02
"""Seconds of load that are caught up with at most when this program was kept waiting."""

_BODY = struct.Struct("!8sBIQQB")
_HEAD = 14
_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST, _IGNORE_OUTGOING = 263, 1, 0, 23
_ETH_P_ALL = 3
_ATTACH_FILTER = 26
_KIND_AT = _HEAD + 8
_GET_FLAGS, _UP_AND_RUNNING = 0x8913, 0x41


class _IoVector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Messages(ctypes.Structure):
    _fields_ = [("message", _Message), ("sent", ctypes.c_uint)]


_libc = ctypes.CDLL(None, use_errno=True)


def _filter() -> tuple[bytes, Any]:
    """Return a filter that takes all frames but loaded ones of our own (classic BPF), and what must outlive it."""
    steps = [
        (0x28, 0, 0, 12),  # the ethertype
        (0x15, 0, 2, ETHERTYPE),
        (0x30, 0, 0, _KIND_AT),
        (0x15, 1, 0, FILLER),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    return struct.pack("@HP", len(steps), ctypes.addressof(program)), program


class _Load:
    """A span of time in which full frames are sent, ``factor`` times as many as the cable carries; what came of it."""

    def __init__(self, start: float, end: float, factor: float) -> None:
        self.start, self.end, self.factor = start, end, factor
        self.sent = self.skipped = self.sampled = self.calls = self.full = 0


class Port:
    """One NIC: its socket, what it sends, and what was seen of it."""

    def __init__(self, wanted: dict[str, Any], nonce: bytes) -> None:
        self.wanted = wanted
        self.nonce = nonce
        self.name = f"{wanted['host']} {wanted['nic']}"
        self.peer = "{} {}".format(*wanted["peer"])
        self.to = bytes.fromhex(wanted["to"].replace(":", "")) if wanted.get("to") else GROUP
        self.device: str = wanted["device"]
        self.other: Port | None = None
        self.met: float | None = None
        self.contact: float | None = None
        self.heard: dict[str, int] = {}
        self.largest = 0
        self.mac = ""
        self.peer_mac = ""
        self.refused = ""
        self.foreign: dict[str, int] = {}
        self.seen: dict[int, int] = {}
        self.trips: list[int] = []
        self.hellos = 0
        self.loads = [_Load(*one) for one in wanted["loads"]]
        self.before: tuple[int, ...] | None = None
        self.after: tuple[int, ...] | None = None
        self.samples: list[tuple[float, int, int, int]] = []
        self.ended = False
        self._next_hello = self._next_sample = 0.0
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        packed, program = _filter()
        self.socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, packed)
        del program  # the kernel has its own copy by now
        with suppress(OSError):  # before Linux 4.20: frames that go out are told apart by their packet type
            self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self.socket.bind((self.device, _ETH_P_ALL))
        index = socket.if_nametoindex(self.device)
        join = struct.pack("iHH8s", index, _MULTICAST, len(GROUP), GROUP)
        self.socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, join)
        self.own: bytes = self.socket.getsockname()[4]
        self.mac = self.own.hex(":")
        self.frames_per_second = wanted["rate"] / 8 / (wanted["size"] + 24)
        self.ahead = ahead = max(12, int(self.frames_per_second * wanted["ahead"]))
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, ahead * max(1300, wanted["size"])
        )  # of which the kernel makes twice as much
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.setblocking(False)
        self.counters = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        self.number = 0
        self._batch = self._messages()

    def _messages(self) -> Any:
        """Return messages for :manpage:`sendmmsg(2)`, of which the first is a sample; all share two frames."""
        size = self.wanted["size"]
        filler = self._frame(FILLER, 0, 0, 0, size)
        self._frames = [ctypes.create_string_buffer(filler, size) for _ in range(2)]
        self._vectors = [(_IoVector * 1)(_IoVector(ctypes.addressof(one), size)) for one in self._frames]
        self._frames[1][_KIND_AT] = bytes([SAMPLE])
        batch = (_Messages * (EVERY + 1))()
        for number, one in enumerate(batch):
            one.message.vectors = ctypes.addressof(self._vectors[number == 0])
            one.message.vector_count = 1
        return batch

    def _frame(self, kind: int, number: int, stamp: int, echoed: int, size: int) -> bytes:
        name = self.name.encode()
        body = _BODY.pack(self.nonce, kind, number, stamp, echoed, len(name)) + name
        return (self.to + self.own + struct.pack("!H", ETHERTYPE) + body).ljust(size, b"\0")

    def carrier(self) -> bool:
        """Return whether the NIC is up and running (``netdevice(7)``)."""
        asked = fcntl.ioctl(self.socket, _GET_FLAGS, struct.pack("16sH14x", self.device.encode(), 0))
        return bool(struct.unpack("16sH14x", asked)[1] & _UP_AND_RUNNING == _UP_AND_RUNNING)

    def count(self) -> tuple[int, int, int, int]:
        """Return bytes and packets received, bytes and packets sent."""
        for line in os.pread(self.counters, 1 << 16, 0).split(b"\n"):
            name, _, rest = line.partition(b":")
            if name.strip() == self.device.encode():
                found = rest.split()
                return int(found[0]), int(found[1]), int(found[8]), int(found[9])
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def _send(self, frame: bytes) -> None:
        try:
            self.socket.send(frame)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                self.refused = f"{len(frame)} bytes: {error.strerror}"

    def hello(self, now: float) -> None:
        """Send a frame that says who sends it: small ones, and those of the sizes in turn."""
        if now >= self._next_hello:
            sizes = self.wanted["sizes"]
            size = sizes[(self.hellos // 2) % len(sizes)] if self.hellos % 2 else 60
            self._send(self._frame(HELLO, self.hellos, time.monotonic_ns(), 0, size))
            self.hellos += 1
            self._next_hello = now + self.wanted["pace"]

    def receive(self) -> None:
        """Take what has arrived, and answer what asks for an answer."""
        while True:
            try:
                frame, (_, _, packet_type, _, source) = self.socket.recvfrom(LARGEST)
            except OSError:
                return
            if packet_type == socket.PACKET_OUTGOING:
                continue
            if packet_type == socket.PACKET_OTHERHOST and self.to != GROUP:
                continue  # a switch that has not learnt yet where the NIC is that it is for
            if struct.unpack_from("!H", frame, 12)[0] != ETHERTYPE or frame[_HEAD : _HEAD + 8] != self.nonce:
                what = f"{source.hex(':')} 0x{frame[12:14].hex()}"
                self.foreign[what] = self.foreign.get(what, 0) + 1
                continue
            _, kind, number, stamp, echoed, length = _BODY.unpack_from(frame, _HEAD)
            start = _HEAD + _BODY.size
            name = frame[start : start + length].decode(errors="replace")
            if kind == ANSWER:
                if name == self.peer:
                    self.trips.append(time.monotonic_ns() - echoed)
                continue
            key = number * 2 + (kind == SAMPLE)
            self.seen[key] = self.seen.get(key, 0) + 1
            self.heard[name] = self.heard.get(name, 0) + 1
            if name == self.peer:
                self.largest = max(self.largest, len(frame))
                self.peer_mac = source.hex(":")
                if self.met is None:
                    self.met = time.monotonic()
                    self._begin()
            if kind == HELLO:
                self._send(self._frame(ANSWER, number, time.monotonic_ns(), stamp, 60))

    def _begin(self) -> None:
        """Let the phases begin: where this program has both ends of the cable, once both have heard each other."""
        if self.other is None:
            self.contact = self.met
        elif self.met is not None and self.other.met is not None:
            self.contact = self.other.contact = max(self.met, self.other.met)

    def load(self, load: _Load, since: float) -> None:
        """Send what is due since a load began, as far as the NIC takes it."""
        pace = self.frames_per_second * load.factor
        # What lies ahead fills queues at once, and a shaper's bucket is emptied before what arrives is measured.
        due = int(since * pace) + (self.ahead if load.factor > 1 else 0) - load.sent - load.skipped
        late = int(LATE * pace) + MOST + self.ahead
        if due > late:  # it was kept waiting: what was not sent then is not made up for
            load.skipped += due - late
            due = late
        due = min(due, MOST)
        while due > 0:
            sampled = load.sent // EVERY >= load.sampled
            if sampled:
                self.number += 1
                struct.pack_into("!I", self._frames[1], _HEAD + 9, self.number)
            first = ctypes.byref(self._batch, 0 if sampled else ctypes.sizeof(_Messages))
            count = _libc.sendmmsg(self.socket.fileno(), first, min(due, EVERY), socket.MSG_DONTWAIT)
            load.calls += 1
            if count <= 0:
                if ctypes.get_errno() not in (errno.EAGAIN, errno.ENOBUFS):
                    self.refused = f"{self.wanted['size']} bytes: {os.strerror(ctypes.get_errno())}"
                load.full += 1
                return
            load.sampled += sampled
            load.sent += count
            due -= count

    def step(self, now: float, start: float) -> None:
        """Do what is due at a moment (seconds)."""
        wanted = self.wanted
        if self.contact is None:
            if now - start > wanted["patience"]:
                self.ended = True
            else:
                self.hello(now)
            return
        since = now - self.contact - wanted["meet"]
        if since < 0:
            self.hello(now)
            return
        since -= wanted["quiet"]
        if self.before is None and since >= -wanted["quiet"] / 2:
            self.before = self.count()
        if since >= wanted["until"] + wanted["drain"]:
            self.after = self.count()
            self.ended = True
        elif since >= wanted["until"]:
            self._account()
        elif wanted["from"] <= since < wanted["until"]:
            for load in self.loads:
                if load.start <= since < load.end:
                    self.load(load, since - load.start)
            if now >= self._next_sample:
                before = time.monotonic()
                rx_bytes, rx_packets, _, tx_packets = self.count()
                after = time.monotonic()
                if after - before < PROMPT * wanted["shortest"]:
                    at = (before + after) / 2 - self.contact - wanted["meet"] - wanted["quiet"]
                    self.samples.append((at, rx_bytes, rx_packets, tx_packets))
                self._next_sample = now + wanted["every"]

    def idle(self, now: float) -> float:
        """Return for how long (seconds) there is nothing to do but to receive."""
        meet, quiet, begin, tick = (float(self.wanted[word]) for word in ("meet", "quiet", "from", "tick"))
        if self.contact is None or now < self.contact + meet:
            return max(self._next_hello - now, 0.0)
        since = now - self.contact - meet - quiet
        if self.before is None:
            return max(-quiet / 2 - since, 0.0)
        return max(min(begin - since, LOOK), tick)

    def _account(self) -> None:
        """Let both ends of a cable have ended once all that was sent has arrived: a busy machine takes a while."""
        other = self.other
        if other is None or self.before is None or other.before is None:
            return
        own, others = self.count(), other.count()
        if (
            own[1] - self.before[1] >= others[3] - other.before[3]
            and others[1] - other.before[1] >= own[3] - self.before[3]
        ):
            self.after, other.after = own, others
            self.ended = other.ended = True

    def report(self) -> dict[str, Any]:
        """Return what was seen."""
        return {
            "host": self.wanted["host"],
            "nic": self.wanted["nic"],
            "device": self.device,
            "mac": self.mac,
            "peer_mac": self.peer_mac,
            "heard": self.heard,
            "largest": self.largest,
            "refused": self.refused,
            "duplicates": sum(times - 1 for times in self.seen.values()),
            "trip": min(self.trips) / 1e9 if self.trips else None,
            "typical": sorted(self.trips)[len(self.trips) // 2] / 1e9 if self.trips else None,
            "foreign": self.foreign,
            "before": self.before,
            "after": self.after,
            "samples": self.samples,
            "loads": [{"sent": one.sent, "full": one.full / max(one.calls, 1)} for one in self.loads],
            "carrier": bool(self.heard) or self.carrier(),
            "error": "",
        }

    def close(self) -> None:
        """Close its descriptors."""
        self.socket.close()
        os.close(self.counters)


def _failed(wanted: dict[str, Any], words: str) -> dict[str, Any]:
    return {"host": wanted["host"], "nic": wanted["nic"], "device": wanted["device"], "error": words}


def waited() -> float:
    """Return how long (seconds) this process has waited for a processor; 0 where the kernel does not say."""
    try:
        with open("/proc/self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def dropped() -> int:
    """Return how many frames this machine's processors have dropped because they came too fast; 0 where it is not told."""
    try:
        with open("/proc/net/softnet_stat") as file:
            return sum(int(line.split()[1], 16) for line in file)
    except (OSError, IndexError, ValueError):
        return 0


def probe(wanted: dict[str, Any], inside: Callable[[str], AbstractContextManager[None]]) -> dict[str, Any]:
    """Probe NICs and return a report of each, and how long (seconds) this took, and was waited for a processor.

    ``inside`` is entered for each NIC's host while its socket is opened.
    """
    nonce = bytes.fromhex(wanted["nonce"])
    ports: list[Port] = []
    reports: list[dict[str, Any]] = []
    delay, lost, start = waited(), dropped(), time.monotonic()
    try:
        for one in wanted["nics"]:
            try:
                with inside(one["host"]):
                    ports.append(Port(one, nonce))
            except OSError as error:
                reports.append(_failed(one, error.strerror or str(error)))
        by_name = {port.name: port for port in ports}
        for port in ports:
            port.other = by_name.get(port.peer)
        by_socket = {port.socket.fileno(): port for port in ports}
        poll = select.poll()
        for number in by_socket:
            poll.register(number, select.POLLIN)
        start = time.monotonic()
        while any(not port.ended for port in ports):
            now = time.monotonic()
            rest = min(port.idle(now) for port in ports if not port.ended)
            for number, event in poll.poll(max(rest * 1000, 1)):
                if event & select.POLLIN:
                    by_socket[number].receive()
                elif event:
                    poll.unregister(number)  # the device has gone down
            for port in ports:
                if not port.ended:
                    port.step(time.monotonic(), start)
        reports += [port.report() for port in ports]
    finally:
        for port in ports:
            port.close()
    took = time.monotonic() - start
    return {"nics": reports, "seconds": took, "waited": waited() - delay, "dropped": dropped() - lost}


if __name__ == "__main__":
    print(json.dumps(probe(json.loads(sys.argv[1]), lambda _: nullcontext())))
