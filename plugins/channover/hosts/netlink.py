"""Netlink as namespace hosts speak it: messages, the socket that sends them in bulk, and what a cable is made of.

Messages are packed here, because a general encoder takes longer to write one than the kernel takes to obey. Cables go out as
one batch, acknowledged together, because a round trip for each message is what makes large labs slow. Sources:
``netlink(7)``, ``rtnetlink(7)``, ``linux/if_link.h``, ``linux/pkt_sched.h``, ``linux/pkt_cls.h``, ``linux/ethtool.h``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from channover.wire import WIRE_OVERHEAD

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST_ACK = 0x1 | 0x4
_REQUEST_DUMP = 0x1 | 0x300
CREATE = 0x400 | 0x200
"""Flags of a message that makes something new (``NLM_F_CREATE | NLM_F_EXCL``)."""
NESTED = 0x8000
"""Flag of an attribute that holds attributes, where the kernel insists on it (``NLA_F_NESTED``)."""

NEWLINK = 16
_NEWQDISC = 36
_NEWTFILTER = 44

IFNAME, LINKINFO, _NET_NS_FD = 3, 18, 28
INFO_KIND, INFO_DATA = 1, 2
IFF_UP = 1

_ROOT = 0xFFFF_FFFF
_INGRESS = 0xFFFF_FFF1
_INGRESS_HANDLE = 0xFFFF_0000
_ALL_PROTOCOLS = socket.htons(3) | 1 << 16
_TC_KIND, _TC_OPTIONS = 1, 2
_TICKS_PER_MICROSECOND = 15.625
"""Psched ticks: 64 ns each since Linux 2.6.31 (``PSCHED_SHIFT`` 6 in ``include/net/pkt_sched.h``)."""

_SIOCETHTOOL = 0x8946
_ETHTOOL_SET = {"tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

BURST = 16_384
"""Bucket of a cable's shaper in bytes: the smallest that does not throttle below the rate (measured: 3 kB does)."""
LATENCY = 0.020
"""How long (seconds) a frame may wait in a cable's queue before it is dropped."""


def attribute(kind: int, *payload: bytes) -> bytes:
    """Return an attribute, padded to four bytes."""
    body = b"".join(payload)
    return struct.pack("=HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)


def number(kind: int, value: int, layout: str = "=I") -> bytes:
    """Return an attribute that holds a number."""
    return attribute(kind, struct.pack(layout, value))


def text(kind: int, value: str) -> bytes:
    """Return an attribute that holds a text, with the zero byte that ends it."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """Return the attributes that begin at an offset, by kind, the last of each."""
    found = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def message(kind: int, *parts: bytes, flags: int = 0) -> bytearray:
    """Return a message; its sequence number is filled in as it is sent."""
    body = b"".join(parts)
    return bytearray(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_ACK | flags, 0, 0) + body)


def link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """Return the header of a message about a device (``struct ifinfomsg``); index 0 is a new one."""
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


class Netlink:
    """A netlink socket of the namespace in which it is made."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def send(self, messages: Iterable[bytearray]) -> bytes:
        """Send messages and wait for their acknowledgements, sixty-four at a time. Raises OSError for a refused one.

        Returns what came before the last acknowledgement.
        """
        batch = list(messages)
        answer = b""
        for start in range(0, len(batch), 64):
            part = batch[start : start + 64]
            for message in part:
                self._sequence += 1
                struct.pack_into("=II", message, 8, self._sequence, 0)
            self._socket.send(b"".join(part))
            answer = self._await(self._sequence)
        return answer

    def dump(self, kind: int, header: bytes) -> Iterator[bytes]:
        """Ask for all objects of a kind, and yield each one's message without the netlink header. Raises OSError."""
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(header), kind, _REQUEST_DUMP, self._sequence, 0) + header)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(65536)
            offset = 0
            while offset + 16 <= len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                if sequence == self._sequence:
                    if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                        (code,) = struct.unpack_from("=i", data, offset + 16)
                        if code:
                            raise OSError(-code, os.strerror(-code))
                        yield from found
                        return
                    found.append(data[offset + 16 : offset + length])
                offset += (length + 3) & ~3

    def _await(self, last: int) -> bytes:
        refused: OSError | None = None
        answer = b""
        while True:
            data = self._socket.recv(65536)
            offset = 0
            while offset + 20 <= len(data):
                length, kind, _, sequence, _, code = struct.unpack_from("=IHHIIi", data, offset)
                if kind == _NLMSG_ERROR:
                    if code and refused is None:
                        refused = OSError(-code, os.strerror(-code))
                    if sequence == last:
                        if refused is not None:
                            raise refused
                        return answer
                else:
                    answer = data[offset : offset + length]
                offset += (length + 3) & ~3

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def veth(index: int, name: str, namespace: int, peer_index: int, peer_name: str, peer_namespace: int) -> bytearray:
    """Message: make a veth pair, each end in the namespace (a descriptor) and with the index that are given.

    The first end comes up at once. The peer cannot: while it is configured it has no peer yet (``veth_open`` in
    ``drivers/net/veth.c`` answers ENOTCONN).
    """
    peer = attribute(1, link(peer_index), text(IFNAME, peer_name), number(_NET_NS_FD, peer_namespace))
    return message(
        NEWLINK,
        link(index, IFF_UP, IFF_UP),
        text(IFNAME, name),
        number(_NET_NS_FD, namespace),
        attribute(LINKINFO, text(INFO_KIND, "veth"), attribute(INFO_DATA, peer)),
        flags=CREATE,
    )


def link_state(index: int, up: bool) -> bytearray:
    """Message: set a device up or down."""
    return message(NEWLINK, link(index, IFF_UP if up else 0, IFF_UP))


def _traffic_control(
    kind: int, index: int, handle: int, parent: int, name: str, info: int, *options: bytes
) -> bytearray:
    header = struct.pack("=BxHiIII", 0, 0, index, handle, parent, info)
    found = attribute(_TC_OPTIONS, *options) if options else b""
    return message(kind, header, text(_TC_KIND, name), found, flags=CREATE)


def _rate(bytes_per_second: int, overhead: int) -> bytes:
    """Pack ``struct tc_ratespec``: cell logarithm and alignment as iproute2 sends them; link layer 1 is Ethernet."""
    return struct.pack("=BBHhHI", 3, 1, overhead, -1, 0, bytes_per_second)


def shaper(index: int, rate: int) -> bytearray:
    """Message: a token bucket of ``rate`` (bit/s) at the device's root that counts 24 bytes a frame beside the frame.

    Above 34 Gbit/s the rate takes an attribute of 64 bits (``net/sched/sch_tbf.c``).
    """
    limit = int(rate / 8 * LATENCY) + BURST
    ticks = int(BURST * 8 / rate * 1e6 * _TICKS_PER_MICROSECOND)
    speed = _rate(min(rate // 8, 0xFFFF_FFFF), WIRE_OVERHEAD)
    parameters = attribute(1, speed, bytes(12), struct.pack("=III", limit, ticks, 0))
    wide = number(4, rate // 8, "=Q") if rate // 8 > 0xFFFF_FFFF else b""
    return _traffic_control(_NEWQDISC, index, 0x1_0000, _ROOT, "tbf", 0, parameters, wide)


def crossover(index: int, to: int) -> list[bytearray]:
    """Messages: send every frame that the device receives out of device ``to`` (ingress, u32 match-all, mirred)."""
    # struct tc_mirred: generic part with action 4 (stolen), then 1 (egress redirect) and the device.
    redirect = attribute(2, struct.pack("=IIiiiiI", 0, 0, 4, 0, 0, 1, to))
    action = attribute(1, text(1, "mirred"), attribute(2 | NESTED, redirect))
    # struct tc_u32_sel, terminal, with one key that masks everything out.
    selector = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + struct.pack("=IIii", 0, 0, 0, 0)
    options = attribute(5, selector), attribute(7, action)
    return [
        _traffic_control(_NEWQDISC, index, _INGRESS_HANDLE, _INGRESS, "ingress", 0),
        _traffic_control(_NEWTFILTER, index, 0, _INGRESS_HANDLE, "u32", _ALL_PROTOCOLS, *options),
    ]


def offloads(control: socket.socket, device: str, features: Iterable[str], on: bool) -> None:
    """Switch ``tx``, ``tso``, ``gso`` or ``gro`` of a device on or off. Raises OSError.

    ``control`` is any socket of the device's namespace (``SIOCETHTOOL``, ``linux/ethtool.h``).
    """
    value = (ctypes.c_uint32 * 2)(0, int(on))
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
    for feature in features:
        value[0] = _ETHTOOL_SET[feature]
        fcntl.ioctl(control, _SIOCETHTOOL, request)
