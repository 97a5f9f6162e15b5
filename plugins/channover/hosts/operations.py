"""The operations of a plan, told to the kernel by netlink in a namespace.

Sockets stay in the namespace in which they were made, and with them all that is said through them. Sources:
``rtnetlink(7)``, ``linux/rtnetlink.h``, ``linux/if_link.h``, ``linux/fib_rules.h``, ``linux/genetlink.h``,
``linux/mptcp.h``.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from functools import singledispatch

from channover import plan
from channover.hosts.netlink import (
    CREATE,
    IFF_UP,
    IFNAME,
    INFO_DATA,
    INFO_KIND,
    LINKINFO,
    NESTED,
    NEWLINK,
    Netlink,
    attribute,
    attributes,
    link,
    message,
    number,
    text,
)

_DELLINK = 17
_NEWADDR, _DELADDR = 20, 21
_NEWROUTE, _DELROUTE = 24, 25
_NEWRULE, _DELRULE = 32, 33
_MTU, _MASTER = 4, 10
_UNICAST, _STATIC, _LINK_SCOPE, _NOWHERE = 1, 4, 253, 255
_TO_TABLE = 1

_GENERIC = 16
_CONTROL = 16
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
            answer = self.generic.send([message(_CONTROL, struct.pack("=BBH", 3, 1, 0), text(2, "mptcp_pm"))])
            (self._family,) = struct.unpack("=H", attributes(answer, 20)[1])
        return self._family

    def path_manager(self, command: int, *parts: bytes) -> bytes:
        """Send a command to MPTCP's path manager and return its answer. Raises OSError."""
        return self.generic.send([message(self.family_of_mptcp(), struct.pack("=BBH", command, 1, 0), *parts)])


@singledispatch
def told(operation: object, _session: Session) -> bytearray:
    """Return the rtnetlink message of one operation of a plan. Raises OSError where it names a device that is not there."""
    raise TypeError(f"no netlink telling of {type(operation).__name__}")


_BOND: dict[str, tuple[int, str, dict[str, int]]] = {
    "mode": (1, "=B", {"802.3ad": 4}),
    "miimon": (3, "=I", {}),
    "updelay": (4, "=I", {}),
    "downdelay": (5, "=I", {}),
    "xmit_hash_policy": (14, "=B", {"layer2": 0, "layer3+4": 1, "layer2+3": 2, "encap2+3": 3, "encap3+4": 4}),
    "min_links": (18, "=I", {}),
    "lacp_rate": (21, "=B", {"slow": 0, "fast": 1}),
}
"""A bond's options: attribute and layout (``IFLA_BOND_*`` in ``linux/if_link.h``), and the numbers of words."""


@told.register
def _(operation: plan.LinkAdd, _session: Session) -> bytearray:
    options = []
    for key, value in operation.options:
        kind, layout, words = _BOND[key]
        options.append(number(kind, words[value] if value in words else int(value), layout))
    data = attribute(INFO_DATA, *options) if options else b""
    linkinfo = attribute(LINKINFO, text(INFO_KIND, operation.kind), data)
    return message(NEWLINK, link(), text(IFNAME, operation.device), linkinfo, flags=CREATE)


@told.register
def _(operation: plan.LinkDelete, session: Session) -> bytearray:
    return message(_DELLINK, link(session.index_of(operation.device)))


@told.register
def _(operation: plan.LinkSet, session: Session) -> bytearray:
    changes = []
    if operation.mtu is not None:
        changes.append(number(_MTU, operation.mtu))
    if operation.master is not None:
        changes.append(number(_MASTER, session.index_of(operation.master) if operation.master else 0))
    index = session.index_of(operation.device)
    return message(NEWLINK, link(index, IFF_UP if operation.up else 0, 0 if operation.up is None else IFF_UP), *changes)


def _packed(address: str) -> tuple[int, bytes]:
    """Return an address's family, and the address in network order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _address(kind: int, device: str, prefix: str, session: Session, flags: int = 0) -> bytearray:
    address, length = prefix.split("/")
    family, packed = _packed(address)
    header = struct.pack("=BBBBI", family, int(length), 0, 0, session.index_of(device))
    return message(kind, header, attribute(1, packed), attribute(2, packed), flags=flags)


@told.register
def _(operation: plan.AddressAdd, session: Session) -> bytearray:
    return _address(_NEWADDR, operation.device, operation.address, session, CREATE)


@told.register
def _(operation: plan.AddressDelete, session: Session) -> bytearray:
    return _address(_DELADDR, operation.device, operation.address, session)


def _prefix(text: str, everything: str) -> tuple[int, bytes, int]:
    """Return a prefix's family, address and length; ``everything`` is the word for 0.0.0.0/0."""
    if text == everything:
        return socket.AF_INET, b"", 0
    address, _, length = text.partition("/")
    family, packed = _packed(address)
    return family, packed, int(length or 8 * len(packed))


def _table(number_: int) -> int:
    """Return what the header's byte says of a table that the message's attribute names in full."""
    return number_ if number_ < 256 else 252


def _routed(kind: int, operation: plan.RouteAdd | plan.RouteDelete, session: Session, flags: int = 0) -> bytearray:
    family, packed, length = _prefix(operation.destination, "default")
    found = [number(4, session.index_of(operation.device)), number(15, operation.table)]
    if packed:
        found.append(attribute(1, packed))
    if operation.via:
        family, gateway = _packed(operation.via)
        found.append(attribute(5, gateway))
    # Whatever made a route, and however far it reaches, it can be deleted (``ip-route(8)`` does the same).
    protocol, scope = (_STATIC, 0 if operation.via else _LINK_SCOPE) if kind == _NEWROUTE else (0, _NOWHERE)
    header = struct.pack("=BBBBBBBBI", family, length, 0, 0, _table(operation.table), protocol, scope, _UNICAST, 0)
    return message(kind, header, *found, flags=flags)


@told.register
def _(operation: plan.RouteAdd, session: Session) -> bytearray:
    return _routed(_NEWROUTE, operation, session, CREATE)


@told.register
def _(operation: plan.RouteDelete, session: Session) -> bytearray:
    return _routed(_DELROUTE, operation, session)


def _ruled(kind: int, operation: plan.RuleAdd | plan.RuleDelete, flags: int = 0) -> bytearray:
    family, packed, length = _prefix(operation.source, "all")
    header = struct.pack("=BBBBBBBBI", family, 0, length, 0, _table(operation.table), 0, 0, _TO_TABLE, 0)
    found = [number(15, operation.table), number(6, operation.priority)]
    if packed:
        found.append(attribute(2, packed))
    return message(kind, header, *found, flags=flags)


@told.register
def _(operation: plan.RuleAdd, _session: Session) -> bytearray:
    return _ruled(_NEWRULE, operation, CREATE)


@told.register
def _(operation: plan.RuleDelete, _session: Session) -> bytearray:
    return _ruled(_DELRULE, operation)


ENDPOINT_FLAGS = {"signal": 1, "subflow": 2, "backup": 4, "fullmesh": 8, "implicit": 16, "laminar": 32}
"""Bits of an endpoint's flags (``MPTCP_PM_ADDR_FLAG_*``)."""


@singledispatch
def perform(operation: object, session: Session) -> None:
    """Carry out one operation of a plan. Raises OSError.

    A kernel parameter is that of the calling thread's namespace, all else that of the session's.
    """
    session.route.send([told(operation, session)])


@perform.register
def _(operation: plan.LimitsSet, session: Session) -> None:
    session.path_manager(5, number(2, operation.add_addr_accepted), number(3, operation.subflows))


@perform.register
def _(operation: plan.EndpointAdd, session: Session) -> None:
    address = [
        number(1, socket.AF_INET, "=H"),
        number(2, operation.id, "=B"),
        attribute(3, socket.inet_aton(operation.address)),
        number(6, sum(ENDPOINT_FLAGS[flag] for flag in operation.flags)),
    ]
    if operation.device:
        address.append(number(7, session.index_of(operation.device)))
    session.path_manager(1, attribute(1 | NESTED, *address))


@perform.register
def _(operation: plan.EndpointDelete, session: Session) -> None:
    session.path_manager(2, attribute(1 | NESTED, number(2, operation.id, "=B")))


@perform.register
def _(operation: plan.SysctlSet, _session: Session) -> None:
    with open(operation.path, "w") as file:
        file.write(operation.value)
