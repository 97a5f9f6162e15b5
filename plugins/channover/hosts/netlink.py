"""The one netlink path of namespace hosts: bulk messages for cables, and the operations of a plan one by one.

pyroute2 encodes every message. Cables go out as one batch a namespace, acknowledged together, because a round trip for
each message is what makes large labs slow. Sources: ``rtnetlink(7)``, ``netlink(7)``, ``linux/ethtool.h``,
``net/sched/sch_tbf.c``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache, singledispatch
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.generic.mptcp import MPTCP
from pyroute2.netlink.rtnl import RTM_NEWLINK, RTM_NEWQDISC, RTM_NEWTFILTER
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from channover import plan
from channover.wire import WIRE_OVERHEAD

_IFF_UP = 1
_NLMSG_ERROR = 2
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_LINKLAYER_ETHERNET = 1
_INGRESS = 0xFFFF_FFF1
_INGRESS_HANDLE = 0xFFFF_0000
_ETH_P_ALL_BE = socket.htons(3)
_ROOT = 0xFFFF_FFFF
_SIOCETHTOOL = 0x8946
_ETHTOOL_SET = {"tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
_TICKS_PER_MICROSECOND = 15.625
"""Psched ticks: 64 ns each since Linux 2.6.31 (``PSCHED_SHIFT`` 6 in ``include/net/pkt_sched.h``)."""

BURST = 16_384
"""Bucket of a cable's shaper in bytes: the smallest that does not throttle below the rate (measured: 3 kB does)."""
LATENCY = 0.020
"""How long (seconds) a frame may wait in a cable's queue before it is dropped."""


class Rtnl:
    """A raw rtnetlink socket of the namespace in which it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def send(self, messages: Iterable[bytearray]) -> None:
        """Send messages and wait for their acknowledgements, sixty-four at a time. Raises OSError for a refused one."""
        batch = list(messages)
        for start in range(0, len(batch), 64):
            part = batch[start : start + 64]
            for message in part:
                self._sequence += 1
                struct.pack_into("=II", message, 8, self._sequence, 0)
            self._socket.send(b"".join(part))
            self._await(self._sequence)

    def _await(self, last: int) -> None:
        refused: OSError | None = None
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
                        return
                offset += (length + 3) & ~3

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _encode(message: nlmsg, kind: int, flags: int = 0) -> bytearray:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    message["header"]["sequence_number"] = 0
    message["header"]["pid"] = 0
    message.encode()
    return bytearray(message.data)


_CREATE = NLM_F_CREATE | NLM_F_EXCL


def veth(index: int, name: str, namespace: int, peer_index: int, peer_name: str, peer_namespace: int) -> bytearray:
    """Message: make a veth pair, each end in the namespace (a descriptor) and with the index that are given.

    The first end comes up at once. The peer cannot: while it is configured it has no peer yet (``veth_open`` in
    ``drivers/net/veth.c`` answers ENOTCONN).
    """
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = message["change"] = _IFF_UP
    peer = {
        "index": peer_index,
        "attrs": [["IFLA_IFNAME", peer_name], ["IFLA_NET_NS_FD", peer_namespace]],
    }
    message["attrs"] = [
        ["IFLA_IFNAME", name],
        ["IFLA_NET_NS_FD", namespace],
        [
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ["IFLA_INFO_KIND", "veth"],
                    ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}],
                ]
            },
        ],
    ]
    return _encode(message, RTM_NEWLINK, _CREATE)


def link_state(index: int, up: bool) -> bytearray:
    """Message: set a device up or down."""
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = _IFF_UP if up else 0
    message["change"] = _IFF_UP
    return _encode(message, RTM_NEWLINK)


def _on(template: bytearray, index: int) -> bytearray:
    """Return a copy of a traffic control message, for another device (``tcm_ifindex`` in ``linux/rtnetlink.h``)."""
    message = bytearray(template)
    struct.pack_into("=i", message, 20, index)
    return message


@lru_cache
def _shaper_template(rate: int) -> bytearray:
    message = tcmsg()
    message["index"] = 0
    message["handle"] = 0x10000
    message["parent"] = _ROOT
    microseconds = BURST * 8 / rate * 1e6
    parameters: dict[str, Any] = {
        "rate": min(rate // 8, 0xFFFF_FFFF),
        "rate_overhead": WIRE_OVERHEAD,
        "rate___reserved": _LINKLAYER_ETHERNET,
        "limit": int(rate / 8 * LATENCY) + BURST,
        "buffer": int(microseconds * _TICKS_PER_MICROSECOND),
    }
    message["attrs"] = [
        ["TCA_KIND", "tbf"],
        ["TCA_OPTIONS", {"attrs": [["TCA_TBF_PARMS", parameters]]}],
    ]
    return _encode(message, RTM_NEWQDISC, _CREATE)


def shaper(index: int, rate: int) -> bytearray:
    """Message: a token bucket of ``rate`` (bit/s) at the device's root that counts 24 bytes a frame beside the frame."""
    return _on(_shaper_template(rate), index)


@lru_cache
def _ingress_template() -> bytearray:
    message = tcmsg()
    message["index"] = 0
    message["handle"] = _INGRESS_HANDLE
    message["parent"] = _INGRESS
    message["attrs"] = [["TCA_KIND", "ingress"]]
    return _encode(message, RTM_NEWQDISC, _CREATE)


def crossover(index: int, to: int) -> list[bytearray]:
    """Messages: send every frame that the device receives out of device ``to`` (ingress, u32 match-all, mirred)."""
    message = tcmsg()
    message["index"] = index
    message["parent"] = _INGRESS_HANDLE
    message["info"] = _ETH_P_ALL_BE | (1 << 16)
    redirect = {"eaction": 1, "ifindex": to, "action": 4}  # egress redirect; stolen
    action = {
        "attrs": [
            [
                "TCA_ACT_PRIO_1",
                {
                    "attrs": [
                        ["TCA_ACT_KIND", "mirred"],
                        ["TCA_ACT_OPTIONS", {"attrs": [["TCA_MIRRED_PARMS", redirect]]}],
                    ]
                },
            ]
        ]
    }
    message["attrs"] = [
        ["TCA_KIND", "u32"],
        ["TCA_OPTIONS", {"attrs": [["TCA_U32_SEL", {"keys": ["0x0/0x0+0"]}], ["TCA_U32_ACT", action]]}],
    ]
    return [_on(_ingress_template(), index), _encode(message, RTM_NEWTFILTER, _CREATE)]


def offloads(control: socket.socket, device: str, features: Iterable[str], on: bool) -> None:
    """Switch ``tx``, ``tso``, ``gso`` or ``gro`` of a device on or off. Raises OSError.

    ``control`` is any socket of the device's namespace (``SIOCETHTOOL``, ``linux/ethtool.h``).
    """
    for feature in features:
        value = bytearray(struct.pack("=II", _ETHTOOL_SET[feature], int(on)))
        buffer = (memoryview(value)).cast("B")
        address = _address_of(value)
        request = struct.pack("16sP16x", device.encode(), address)
        fcntl.ioctl(control, _SIOCETHTOOL, request)
        del buffer


def _address_of(buffer: bytearray) -> int:
    import ctypes

    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


class Session:
    """Netlink sockets for the plans of one namespace, opened when first needed. Make it inside the namespace."""

    def __init__(self) -> None:
        self._route: IPRoute | None = None
        self._mptcp: MPTCP | None = None

    @property
    def route(self) -> IPRoute:
        """Rtnetlink."""
        if self._route is None:
            self._route = IPRoute()
        return self._route

    @property
    def mptcp(self) -> MPTCP:
        """Generic netlink, family ``mptcp_pm``."""
        if self._mptcp is None:
            self._mptcp = MPTCP()
        return self._mptcp

    def close(self) -> None:
        """Close what was opened."""
        for opened in (self._route, self._mptcp):
            if opened is not None:
                opened.close()


def index_of(device: str) -> int:
    """Return a device's index in the calling thread's namespace. Raises OSError that names the device."""
    try:
        return socket.if_nametoindex(device)
    except OSError as error:
        raise OSError(errno.ENODEV, f"no device {device}") from error


@singledispatch
def perform(operation: object, session: Session) -> None:
    """Carry out one operation of a plan in the calling thread's namespace. Raises OSError or NetlinkError."""
    raise TypeError(f"no netlink telling of {type(operation).__name__}")


@perform.register
def _(operation: plan.LinkAdd, session: Session) -> None:
    session.route.link("add", ifname=operation.device, kind=operation.kind, **_bond_options(operation))


_BOND = {
    "mode": {"802.3ad": 4},
    "lacp_rate": {"slow": 0, "fast": 1},
    "xmit_hash_policy": {"layer2": 0, "layer3+4": 1, "layer2+3": 2, "encap2+3": 3, "encap3+4": 4},
}


def _bond_options(operation: plan.LinkAdd) -> dict[str, int]:
    prefix = {"lacp_rate": "ad_lacp_rate"}
    found = {}
    for key, value in operation.options:
        number = _BOND.get(key, {}).get(str(value), value)
        found[f"{operation.kind}_{prefix.get(key, key)}"] = int(number)
    return found


@perform.register
def _(operation: plan.LinkDelete, session: Session) -> None:
    session.route.link("del", index=index_of(operation.device))


@perform.register
def _(operation: plan.LinkSet, session: Session) -> None:
    change: dict[str, Any] = {}
    if operation.mtu is not None:
        change["mtu"] = operation.mtu
    if operation.master is not None:
        change["master"] = index_of(operation.master) if operation.master else 0
    if operation.up is not None:
        change["state"] = "up" if operation.up else "down"
    session.route.link("set", index=index_of(operation.device), **change)


@perform.register
def _(operation: plan.AddressAdd, session: Session) -> None:
    address, length = operation.address.split("/")
    session.route.addr("add", index=index_of(operation.device), address=address, prefixlen=int(length))


@perform.register
def _(operation: plan.AddressDelete, session: Session) -> None:
    address, length = operation.address.split("/")
    session.route.addr("del", index=index_of(operation.device), address=address, prefixlen=int(length))


def _route(operation: plan.RouteAdd | plan.RouteDelete) -> dict[str, Any]:
    found: dict[str, Any] = {"family": socket.AF_INET, "oif": index_of(operation.device), "table": operation.table}
    if operation.destination != "default":
        found["dst"] = operation.destination
    if operation.via:
        found["gateway"] = operation.via
    else:
        found["scope"] = 253  # link
    return found


@perform.register
def _(operation: plan.RouteAdd, session: Session) -> None:
    session.route.route("add", **_route(operation))


@perform.register
def _(operation: plan.RouteDelete, session: Session) -> None:
    session.route.route("del", **_route(operation))


def _rule(operation: plan.RuleAdd | plan.RuleDelete) -> dict[str, Any]:
    found: dict[str, Any] = {"table": operation.table, "priority": operation.priority}
    if operation.source != "all":
        address, _, length = operation.source.partition("/")
        found |= {"src": address, "src_len": int(length or 32)}
    return found


@perform.register
def _(operation: plan.RuleAdd, session: Session) -> None:
    session.route.rule("add", **_rule(operation))


@perform.register
def _(operation: plan.RuleDelete, session: Session) -> None:
    session.route.rule("del", **_rule(operation))


@perform.register
def _(operation: plan.LimitsSet, session: Session) -> None:
    from pyroute2.netlink.generic.mptcp import MPTCP_PM_CMD_SET_LIMITS, mptcp_msg

    message = mptcp_msg()
    message["cmd"] = MPTCP_PM_CMD_SET_LIMITS
    message["version"] = 1
    message["attrs"] = [
        ("MPTCP_PM_ATTR_RCV_ADD_ADDRS", operation.add_addr_accepted),
        ("MPTCP_PM_ATTR_SUBFLOWS", operation.subflows),
    ]
    session.mptcp.nlm_request(message, msg_type=session.mptcp.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK)


ENDPOINT_FLAGS = {"signal": 1, "subflow": 2, "backup": 4, "fullmesh": 8}
"""Bits of an endpoint's flags (``MPTCP_PM_ADDR_FLAG_*``, ``linux/mptcp_pm.h``)."""


@perform.register
def _(operation: plan.EndpointAdd, session: Session) -> None:
    flags = sum(ENDPOINT_FLAGS[flag] for flag in operation.flags)
    fields: dict[str, Any] = {"addr": operation.address, "id": operation.id, "flags": flags}
    if operation.device:
        fields["if_idx"] = struct.pack("=i", index_of(operation.device))
    session.mptcp.endpoint("add", **fields)


@perform.register
def _(operation: plan.EndpointDelete, session: Session) -> None:
    session.mptcp.endpoint("del", id=operation.id)


@perform.register
def _(operation: plan.SysctlSet, session: Session) -> None:
    with open(operation.path, "w") as file:
        file.write(operation.value)
