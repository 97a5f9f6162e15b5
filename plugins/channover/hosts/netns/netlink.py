"""Netlink as namespace hosts speak it: pyroute2 writes the messages, a socket of our own sends them in bulk.

Cables go out as one batch, acknowledged together, because a round trip for each message is what makes large labs slow.
Sources: ``netlink(7)``, ``rtnetlink(7)``, ``linux/if_link.h``, ``linux/pkt_sched.h``, ``linux/pkt_cls.h``,
``linux/ethtool.h``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR, nlmsg
from pyroute2.netlink.rtnl import RTM_DELQDISC, RTM_NEWLINK, RTM_NEWQDISC, RTM_NEWTFILTER
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from channover.model.link import ETHERNET_HEADER, MTUS, USUAL_MTU, WIRE_OVERHEAD

CREATE = NLM_F_CREATE | NLM_F_EXCL
"""Flags of a message that makes something new."""
IFF_UP = 1

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
ROOT, INGRESS = 0xFFFF_FFFF, 0xFFFF_FFF1
"""Where a qdisc of a device hangs: what it sends, and what it receives (``linux/pkt_sched.h``)."""
_CODES_OF_NO_QDISC = (2, 22)
_INGRESS_HANDLE = 0xFFFF_0000
_ALL_PROTOCOLS = socket.htons(3) | 1 << 16
_LINKLAYER_ETHERNET = 1
_MOST, _TBF_RATE64 = 0xFFFF_FFFF, 4
"""The most bytes a second that the shaper's own field holds, and the attribute for more (``linux/pkt_sched.h``)."""
_STOLEN, _EGRESS_REDIRECT = 4, 1
_TICKS_PER_MICROSECOND = 15.625
"""Psched ticks: 64 ns each since Linux 2.6.31 (``PSCHED_SHIFT`` 6 in ``include/net/pkt_sched.h``)."""

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 4, 20, 21
_ANY_STATE, _LISTEN = 0xFFFF, 10
_SIOCETHTOOL = 0x8946
_ETHTOOL_SET = {"tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

BURST = 16_384
"""Bucket in bytes of the shaper of a cable of 100 Mbit/s: the smallest that does not throttle it (measured: 3 kB does)."""
BURST_TIME = BURST * 8 / 100e6
"""What the shaper of a cable of any rate may be late by (seconds), or it loses what it was late by. A slower one lets no more
through at once either: with 16 kB at 20 Mbit/s BBR took the path for one of 250 to 1,200 Mbit/s."""
MOST_BURST = 262_144
"""A bucket's largest size in bytes: what it lets through at once has to fit the 1000 frames that a processor's backlog holds
(``net.core.netdev_max_backlog``)."""
LATENCY = 0.050
"""How long (seconds) a frame may wait in a cable's queue before it is dropped: half of what a NIC's own queue of 1000 frames
holds at 100 Mbit/s. With 20 ms, in one of six connections over three paths, losses at the start left what one subflow had yet
to send behind a window that the others had filled, and it stood still for seconds; with 50 or 100 ms in none of 28.
"""


def encoded(message: nlmsg, kind: int, flags: int = 0) -> bytearray:
    """Return a message as it is sent, to be acknowledged; its sequence number is filled in as it is sent."""
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    message["header"]["sequence_number"] = 0
    message["header"]["pid"] = 0
    message.encode()
    return bytearray(message.data)


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

    def _await(self, last: int) -> bytes:
        refused: OSError | None = None
        answer = b""
        while True:
            data = self._socket.recv(65536)
            offset = 0
            while offset + 20 <= len(data):
                length, kind, _, sequence, _, code = struct.unpack_from("=IHHIIi", data, offset)
                if kind == NLMSG_ERROR:
                    if code and refused is None:
                        refused = OSError(-code, os.strerror(-code))
                    if sequence == last:
                        if refused is not None:
                            raise refused
                        return answer
                else:
                    answer = data[offset : offset + length]
                offset += (length + 3) & ~3


def veth(
    index: int, name: str, namespace: int, peer_index: int, peer_name: str, peer_namespace: int, mtu: int = USUAL_MTU
) -> bytearray:
    """Message: make a veth pair, each end in the namespace (a descriptor) and with the index that are given; MTU in bytes.

    The first end comes up at once. The peer cannot: while it is configured it has no peer yet (``veth_open`` in
    ``drivers/net/veth.c`` answers ENOTCONN).
    """
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = message["change"] = IFF_UP
    far = [["IFLA_IFNAME", peer_name], ["IFLA_NET_NS_FD", peer_namespace], ["IFLA_MTU", mtu]]
    peer = {"index": peer_index, "attrs": far}
    data = {"attrs": [["VETH_INFO_PEER", peer]]}
    message["attrs"] = [
        ["IFLA_IFNAME", name],
        ["IFLA_NET_NS_FD", namespace],
        ["IFLA_MTU", mtu],
        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", data]]}],
    ]
    return encoded(message, RTM_NEWLINK, CREATE)


def link_state(index: int, up: bool) -> bytearray:
    """Message: set a device up or down."""
    return _on(_link_state_template(up), index)


@lru_cache
def _link_state_template(up: bool) -> bytearray:
    message = ifinfmsg()
    message["flags"] = IFF_UP if up else 0
    message["change"] = IFF_UP
    return encoded(message, RTM_NEWLINK)


def _on(template: bytearray, index: int) -> bytearray:
    """Return a copy of a message for another device: both headers have the index at byte 20 (``linux/rtnetlink.h``)."""
    message = bytearray(template)
    struct.pack_into("=i", message, 20, index)
    return message


def _traffic_control(handle: int, parent: int, name: str, info: int, options: dict[str, Any] | None) -> tcmsg:
    message = tcmsg()
    message["handle"], message["parent"], message["info"] = handle, parent, info
    message["attrs"] = [["TCA_KIND", name]]
    if options:
        message["attrs"].append(["TCA_OPTIONS", options])
    return message


def shaper(index: int, rate: int, mtu: int = MTUS[-1]) -> bytearray:
    """Message: a token bucket of ``rate`` (bit/s) at the device's root that counts 24 bytes a frame beside the frame."""
    return _on(_shaper_template(rate, mtu), index)


def bucket(rate: int, mtu: int = MTUS[-1]) -> int:
    """Return the size (bytes) of the bucket of a cable's shaper of ``rate`` bit/s: two full frames at the least, or 16 kB."""
    frame = mtu + ETHERNET_HEADER + WIRE_OVERHEAD
    return min(max(min(2 * frame, BURST), round(rate * BURST_TIME / 8)), MOST_BURST)


@lru_cache
def _shaper_template(rate: int, mtu: int) -> bytearray:
    size = bucket(rate, mtu)
    parameters = {
        "rate": min(rate // 8, _MOST),
        "rate_overhead": WIRE_OVERHEAD,
        "rate___reserved": _LINKLAYER_ETHERNET,
        "limit": min(int(rate / 8 * LATENCY) + size, _MOST),
        "buffer": int(size * 8 / rate * 1e6 * _TICKS_PER_MICROSECOND),
    }
    options = {"attrs": [["TCA_TBF_PARMS", parameters]]}
    message = encoded(_traffic_control(0x1_0000, ROOT, "tbf", 0, options), RTM_NEWQDISC, CREATE)
    return message if rate // 8 < _MOST else _with_rate64(message, rate // 8)


def _with_rate64(message: bytearray, rate: int) -> bytearray:
    """Return a shaper's message with its rate (bytes a second) as pyroute2 knows no attribute for: TCA_TBF_RATE64.

    It belongs into the last attribute, TCA_OPTIONS, which stands behind both headers and the kind.
    """
    added = struct.pack("=HHQ", 12, _TBF_RATE64, rate)
    at = message.index(b"tbf\0") + 4
    struct.pack_into("=H", message, at, struct.unpack_from("=H", message, at)[0] + len(added))
    struct.pack_into("=I", message, 0, len(message) + len(added))
    return message + added


def crossover(index: int, to: int) -> list[bytearray]:
    """Messages: send every frame that the device receives out of device ``to`` (ingress, u32 match-all, mirred)."""
    redirection = bytearray(_redirection_template())
    struct.pack_into("=I", redirection, redirection.index(_MARK), to)
    return [_on(_ingress_template(), index), _on(redirection, index)]


def bare(rtnl: Netlink, index: int, parent: int) -> None:
    """Take the qdisc (ROOT or INGRESS) of a device away, and with it its shaper or its crossover, if any. Raises OSError."""
    message = tcmsg()
    message["index"], message["parent"] = index, parent
    try:
        rtnl.send([encoded(message, RTM_DELQDISC)])
    except OSError as error:
        if error.errno not in _CODES_OF_NO_QDISC:
            raise


_MARK = struct.pack("=I", 0x6D61_726B)


@lru_cache
def _ingress_template() -> bytearray:
    return encoded(_traffic_control(_INGRESS_HANDLE, INGRESS, "ingress", 0, None), RTM_NEWQDISC, CREATE)


@lru_cache
def _redirection_template() -> bytearray:
    (mark,) = struct.unpack("=I", _MARK)
    redirect = {"eaction": _EGRESS_REDIRECT, "ifindex": mark, "action": _STOLEN}
    action = {
        "attrs": [
            ["TCA_ACT_KIND", "mirred"],
            ["TCA_ACT_OPTIONS", {"attrs": [["TCA_MIRRED_PARMS", redirect]]}],
        ]
    }
    options = {
        "attrs": [
            ["TCA_U32_SEL", {"keys": ["0x0/0x0+0"]}],
            ["TCA_U32_ACT", {"attrs": [["TCA_ACT_PRIO_1", action]]}],
        ]
    }
    return encoded(_traffic_control(0, _INGRESS_HANDLE, "u32", _ALL_PROTOCOLS, options), RTM_NEWTFILTER, CREATE)


def offloads(control: socket.socket, device: str, features: Iterable[str], on: bool) -> None:
    """Switch ``tx``, ``tso``, ``gso`` or ``gro`` of a device on or off. Raises OSError.

    ``control`` is any socket of the device's namespace (``SIOCETHTOOL``, ``linux/ethtool.h``).
    """
    value = (ctypes.c_uint32 * 2)(0, int(on))
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
    for feature in features:
        value[0] = _ETHTOOL_SET[feature]
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def offloaded(control: socket.socket, device: str, features: Iterable[str]) -> dict[str, bool]:
    """Return which of these offloads of a device are on. Raises OSError."""
    value = (ctypes.c_uint32 * 2)(0, 0)
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
    found = {}
    for feature in features:
        value[0] = _ETHTOOL_SET[feature] - 1  # what reads a feature is numbered before what sets it
        fcntl.ioctl(control, _SIOCETHTOOL, request)
        found[feature] = bool(value[1])
    return found


def abort_connections() -> None:
    """Abort every TCP connection and MPTCP subflow of the namespace one is in (``sock_diag(7)``, ``SOCK_DESTROY``).

    Where the kernel cannot (no CONFIG_INET_DIAG_DESTROY), nothing happens.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diagnosis:
        for family in (socket.AF_INET, socket.AF_INET6):
            for identity in _connections(diagnosis, family):
                request = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _ANY_STATE) + identity
                diagnosis.send(struct.pack("=IHHII", 16 + len(request), _SOCK_DESTROY, 0x5, 0, 0) + request)
                diagnosis.recv(4096)


def _connections(diagnosis: socket.socket, family: int) -> list[bytes]:
    """Return the identity (``struct inet_diag_sockid``) of each TCP socket that is no listener."""
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, _ANY_STATE & ~(1 << _LISTEN))
    diagnosis.send(struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, 0x301, 0, 0) + request)
    found: list[bytes] = []
    while True:
        data = diagnosis.recv(1 << 16)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind != _SOCK_DIAG_BY_FAMILY:
                return found
            found.append(data[20:68])
            data = data[(length + 3) & ~3 :]
