"""The operations of a plan, told to the kernel by netlink in a namespace; pyroute2 writes the messages.

Sockets stay in the namespace in which they were made, and with them all that is said through them. Sources:
``rtnetlink(7)``, ``linux/fib_rules.h``, ``linux/genetlink.h``, ``linux/mptcp.h``.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from pyroute2.netlink import ctrlmsg
from pyroute2.netlink.generic.mptcp import (
    MPTCP_PM_CMD_ADD_ADDR,
    MPTCP_PM_CMD_DEL_ADDR,
    MPTCP_PM_CMD_SET_FLAGS,
    MPTCP_PM_CMD_SET_LIMITS,
    mptcp_msg,
)
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from channover.hosts.netns.netlink import CREATE, IFF_UP, Netlink, encoded
from channover.model.operations import devices, kernel, mptcp, routing
from channover.model.state import ENDPOINT_FLAGS

_UNICAST, _STATIC, _LINK_SCOPE, _NOWHERE = 1, 4, 253, 255
_TO_TABLE, _PROHIBIT = 1, 8
_NO_DETECTION = 0x02
"""``IFA_F_NODAD`` of ``linux/if_addr.h``."""
_GENERIC = 16
_CONTROL = 16
_GET_FAMILY = 3
_SIOCGIFINDEX = 0x8933


@dataclass
class Session:
    """What plans need of a host's namespace: its descriptor, and sockets made inside it."""

    namespace: int
    route: Netlink
    generic: Netlink
    control: socket.socket
    _family: int = 0

    @classmethod
    def here(cls, namespace: int) -> Session:
        """Open the sockets in the calling thread's namespace, whose descriptor is given. Raises OSError."""
        control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return cls(namespace, Netlink(), Netlink(_GENERIC), control)

    def index_of(self, device: str) -> int:
        """Return a device's index. Raises OSError that names the device."""
        try:
            answer = fcntl.ioctl(self.control, _SIOCGIFINDEX, struct.pack("16s24x", device.encode()))
        except OSError as error:
            raise OSError(errno.ENODEV, f"no device {device}") from error
        return int(struct.unpack_from("=i", answer, 16)[0])

    def family_of_mptcp(self) -> int:
        """Return the number of the family ``mptcp_pm``. Raises OSError where the kernel has no MPTCP."""
        if not self._family:
            question = ctrlmsg()
            question["cmd"], question["version"] = _GET_FAMILY, 1
            question["attrs"] = [["CTRL_ATTR_FAMILY_NAME", "mptcp_pm"]]
            answer = ctrlmsg(self.generic.send([encoded(question, _CONTROL)]))
            answer.decode()
            self._family = int(answer.get_attr("CTRL_ATTR_FAMILY_ID"))
        return self._family

    def path_manager(self, command: int, attributes: list[Any]) -> None:
        """Send a command to MPTCP's path manager. Raises OSError."""
        message = mptcp_msg()
        message["cmd"], message["version"] = command, 1
        message["attrs"] = attributes
        self.generic.send([encoded(message, self.family_of_mptcp())])


@singledispatch
def told(operation: object, _session: Session) -> bytearray:
    """Return the rtnetlink message of one operation of a plan. Raises OSError where it names a device that is not there."""
    raise TypeError(f"no netlink telling of {type(operation).__name__}")


_WORDS: dict[str, dict[str, int]] = {
    "mode": {"802.3ad": 4},
    "xmit_hash_policy": {"layer2": 0, "layer3+4": 1, "layer2+3": 2, "encap2+3": 3, "encap3+4": 4},
    "lacp_rate": {"slow": 0, "fast": 1},
}
"""Numbers of the words that a bond's options take (``linux/if_bonding.h``)."""
_RENAMED = {"lacp_rate": "ad_lacp_rate"}


@told.register
def _(operation: devices.LinkAdd, _session: Session) -> bytearray:
    options = []
    for key, value in operation.options:
        number = _WORDS.get(key, {}).get(str(value), value)
        name = f"IFLA_{operation.kind}_{_RENAMED.get(key, key)}".upper()
        options.append([name, int(number)])
    info: list[Any] = [["IFLA_INFO_KIND", operation.kind]]
    if options:
        info.append(["IFLA_INFO_DATA", {"attrs": options}])
    message = ifinfmsg()
    message["attrs"] = [["IFLA_IFNAME", operation.device], ["IFLA_LINKINFO", {"attrs": info}]]
    return encoded(message, RTM_NEWLINK, CREATE)


@told.register
def _(operation: devices.LinkDelete, session: Session) -> bytearray:
    message = ifinfmsg()
    message["index"] = session.index_of(operation.device)
    return encoded(message, RTM_DELLINK)


@told.register
def _(operation: devices.LinkSet, session: Session) -> bytearray:
    message = ifinfmsg()
    message["index"] = session.index_of(operation.device)
    if operation.up is not None:
        message["flags"], message["change"] = IFF_UP if operation.up else 0, IFF_UP
    if operation.mtu is not None:
        message["attrs"].append(["IFLA_MTU", operation.mtu])
    if operation.master is not None:
        message["attrs"].append(["IFLA_MASTER", session.index_of(operation.master) if operation.master else 0])
    return encoded(message, RTM_NEWLINK)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _addressed(operation: devices.AddressAdd | devices.AddressDelete, session: Session) -> ifaddrmsg:
    text, length = operation.address.split("/")
    address, _, peer = text.partition(" peer ")
    message = ifaddrmsg()
    message["family"], message["prefixlen"] = _family(address), int(length)
    message["index"] = session.index_of(operation.device)
    message["attrs"] = [["IFA_LOCAL", address], ["IFA_ADDRESS", peer or address]]
    return message


@told.register
def _(operation: devices.AddressAdd, session: Session) -> bytearray:
    message = _addressed(operation, session)
    if message["family"] == socket.AF_INET6:
        message["attrs"].append(["IFA_FLAGS", _NO_DETECTION])
    return encoded(message, RTM_NEWADDR, CREATE)


@told.register
def _(operation: devices.AddressDelete, session: Session) -> bytearray:
    return encoded(_addressed(operation, session), RTM_DELADDR)


def _prefix(text: str, everything: str) -> tuple[int, str, int]:
    """Return a prefix's family, address and length; ``everything`` is the word for 0.0.0.0/0."""
    if text == everything:
        return socket.AF_INET, "", 0
    address, _, length = text.partition("/")
    family = _family(address)
    return family, address, int(length or (128 if family == socket.AF_INET6 else 32))


def _tabled(table: int | str) -> tuple[int, int]:
    """Return a table's number, and what the header's byte says of it. Raises OSError where only its name is known."""
    if isinstance(table, str):
        raise OSError(errno.EINVAL, f"the number of the routing table {table} is not known")
    return table, table if table < 256 else 252


def _routed(operation: routing.RouteAdd | routing.RouteDelete, session: Session) -> rtmsg:
    family, address, length = _prefix(operation.destination, "default")
    message = rtmsg()
    message["family"] = _family(operation.via) if operation.via else family
    number, short = _tabled(operation.table)
    message["dst_len"], message["table"], message["type"] = length, short, _UNICAST
    message["attrs"] = [["RTA_OIF", session.index_of(operation.device)], ["RTA_TABLE", number]]
    if address:
        message["attrs"].append(["RTA_DST", address])
    if operation.via:
        message["attrs"].append(["RTA_GATEWAY", operation.via])
    return message


@told.register
def _(operation: routing.RouteAdd, session: Session) -> bytearray:
    message = _routed(operation, session)
    message["proto"], message["scope"] = _STATIC, 0 if operation.via else _LINK_SCOPE
    metrics = {"RTAX_WINDOW": operation.window, "RTAX_QUICKACK": int(operation.quick_ack)}
    if wanted := [[name, value] for name, value in metrics.items() if value]:
        message["attrs"].append(["RTA_METRICS", {"attrs": wanted}])
    return encoded(message, RTM_NEWROUTE, CREATE)


@told.register
def _(operation: routing.RouteDelete, session: Session) -> bytearray:
    # Whatever made a route, and however far it reaches, it can be deleted (``ip-route(8)`` does the same).
    message = _routed(operation, session)
    message["proto"], message["scope"] = 0, _NOWHERE
    return encoded(message, RTM_DELROUTE)


def _ruled(operation: routing.RuleAdd | routing.RuleDelete) -> fibmsg:
    family, address, length = _prefix(operation.source, "all")
    message = fibmsg()
    message["family"], message["src_len"] = family, length
    number, short = _tabled(operation.table)
    message["table"], message["action"] = short, _TO_TABLE
    message["attrs"] = [["FRA_TABLE", number], ["FRA_PRIORITY", operation.priority]]
    if address:
        message["attrs"].append(["FRA_SRC", address])
    return message


@told.register
def _(operation: routing.RuleAdd, _session: Session) -> bytearray:
    return encoded(_ruled(operation), RTM_NEWRULE, CREATE)


@told.register
def _(operation: routing.RuleDelete, _session: Session) -> bytearray:
    return encoded(_ruled(operation), RTM_DELRULE)


def _prohibited(operation: routing.ProhibitAdd | routing.ProhibitDelete) -> fibmsg:
    message = fibmsg()
    message["family"] = socket.AF_INET6 if operation.version == 6 else socket.AF_INET
    message["action"] = _PROHIBIT
    message["attrs"] = [
        ["FRA_FWMARK", operation.mark],
        ["FRA_OIFNAME", operation.device],
        ["FRA_PRIORITY", operation.priority],
    ]
    return message


@told.register
def _(operation: routing.ProhibitAdd, _session: Session) -> bytearray:
    return encoded(_prohibited(operation), RTM_NEWRULE, CREATE)


@told.register
def _(operation: routing.ProhibitDelete, _session: Session) -> bytearray:
    return encoded(_prohibited(operation), RTM_DELRULE)


_NESTED = 0x8000


def _bits(flags: tuple[str, ...]) -> int:
    return sum(ENDPOINT_FLAGS[flag] for flag in flags)


@singledispatch
def perform(operation: object, session: Session) -> None:
    """Carry out one operation of a plan. Raises OSError.

    A kernel parameter is that of the calling thread's namespace, all else that of the session's.
    """
    session.route.send([told(operation, session)])


@perform.register
def _(operation: mptcp.LimitsSet, session: Session) -> None:
    session.path_manager(
        MPTCP_PM_CMD_SET_LIMITS,
        [
            ["MPTCP_PM_ATTR_RCV_ADD_ADDRS", operation.add_addr_accepted],
            ["MPTCP_PM_ATTR_SUBFLOWS", operation.subflows],
        ],
    )


@perform.register
def _(operation: mptcp.EndpointAdd, session: Session) -> None:
    family = _family(operation.address)
    fields: list[Any] = [
        ["MPTCP_PM_ADDR_ATTR_FAMILY", family],
        ["MPTCP_PM_ADDR_ATTR_ID", operation.id],
        [f"MPTCP_PM_ADDR_ATTR_ADDR{6 if family == socket.AF_INET6 else 4}", operation.address],
        ["MPTCP_PM_ADDR_ATTR_FLAGS", _bits(operation.flags)],
    ]
    if operation.port:
        fields.append(["MPTCP_PM_ADDR_ATTR_PORT", operation.port])
    if operation.device:
        index = struct.pack("=i", session.index_of(operation.device))
        fields.append(["MPTCP_PM_ADDR_ATTR_IF_IDX", index])
    session.path_manager(MPTCP_PM_CMD_ADD_ADDR, [["MPTCP_PM_ATTR_ADDR", {"attrs": fields}, _NESTED]])


@perform.register
def _(operation: mptcp.EndpointDelete, session: Session) -> None:
    fields = [["MPTCP_PM_ADDR_ATTR_ID", operation.id]]
    session.path_manager(MPTCP_PM_CMD_DEL_ADDR, [["MPTCP_PM_ATTR_ADDR", {"attrs": fields}, _NESTED]])


@perform.register
def _(operation: mptcp.EndpointChange, session: Session) -> None:
    fields = [
        ["MPTCP_PM_ADDR_ATTR_ID", operation.id],
        ["MPTCP_PM_ADDR_ATTR_FLAGS", _bits(operation.flags)],
    ]
    session.path_manager(MPTCP_PM_CMD_SET_FLAGS, [["MPTCP_PM_ATTR_ADDR", {"attrs": fields}, _NESTED]])


@perform.register
def _(operation: kernel.SysctlSet, _session: Session) -> None:
    with open(operation.path, "w") as file:
        file.write(operation.value)
