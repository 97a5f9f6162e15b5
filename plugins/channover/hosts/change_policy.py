"""What a plan may change on a host that is not the run's own: its test NICs, and never the way to it.

Whatever a plan says, a change that could touch the management interface, its addresses, its routes or the path of the SSH
session is refused here, before anything is sent to the host.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network

from channover.model.operations import devices, kernel, mptcp, routing
from channover.model.operations.operation import Operation


@dataclass(frozen=True)
class Management:
    """The way to a host: its device, its own networks in prefix notation, and where the controller calls from.

    ``carriers`` are the devices beneath it: the members of a bond or bridge, the device of a VLAN.
    """

    device: str
    networks: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    lower_devices: frozenset[str] = frozenset()

    def overlaps(self, prefix: str) -> str | None:
        """Return the network or peer that a prefix (or ``default``) covers or lies in, if any."""
        text = "0.0.0.0/0" if prefix in ("default", "all") else prefix
        wanted = ip_interface(text).network
        for known in (*self.networks, *self.peers):
            other = ip_network(known, strict=False)
            if other.version == wanted.version and other.overlaps(wanted):
                return known
        return None

    def holds(self, address: str) -> bool:
        """Say whether an address is one of the host's own on its management interface."""
        return any(str(ip_interface(known).ip) == address for known in self.networks)


_SYSCTLS = re.compile(
    r"net/(mptcp/\w+|ipv4/(ip_forward|tcp_congestion_control|tcp_[rw]mem)|core/[rw]mem_max|ipv6/conf/all/forwarding"
    r"|ipv4/conf/(all|default)/(rp_filter|accept_local|arp_announce)"
    r"|ipv4/conf/(?P<device>(?!all/|default/)[^/]+)/(rp_filter|forwarding|accept_local|arp_ignore|arp_announce|arp_filter)"
    r"|ipv6/conf/(?P<device6>(?!all/|default/)[^/]+)/disable_ipv6)"
)
"""Kernel parameters that a lab may set on somebody's host: of those that the guardian saves, the ones that cut nobody off."""
_DROPS = re.compile(r"\bpolicy\s+drop\b")


@dataclass
class ChangePolicy:
    """What may be changed on one host.

    ``foreign`` are the devices that were there before the run and are no test NICs, ``tables`` the routing tables and
    ``filters`` the nftables tables that were there. ``nics_down``: whether the inventory allows to set test NICs down.
    """

    host: str
    nics: frozenset[str]
    foreign: frozenset[str]
    management: Management
    tables: frozenset[int] = field(default=frozenset())
    filters: frozenset[str] = field(default=frozenset())
    nics_down: bool = True

    def forbidden(self, operations: Collection[Operation]) -> str | None:
        """Say which of these changes the owner of the host forbids, or None."""
        for operation in operations:
            if isinstance(operation, kernel.SysctlSet) and operation.key == "net/ipv6/conf/all/forwarding":
                return (
                    f"{self.host}: to forward IPv6 a host has to for all its interfaces, and gives up what routers have "
                    "advertised to it, the way to it perhaps among that: try this in namespaces, or with --family 4"
                )
        for operation in () if self.nics_down else operations:
            if isinstance(operation, devices.LinkSet) and operation.up is False and operation.device in self.nics:
                return f"{self.host}: '{operation.command}' is not allowed: the inventory says allows.nics_down: false"
        return None

    def refusal(self, operations: Collection[Operation]) -> str | None:
        """Say why one of these changes must not be made, or None."""
        for operation in operations:
            reason = self._refused(operation)
            if reason:
                return f"{self.host}: refused '{operation.command.splitlines()[0]}': {reason}"
        return None

    def _refused(self, operation: Operation) -> str | None:
        for attribute in ("device", "master"):
            device = getattr(operation, attribute, None)
            if device and (
                reason := self.refused_device(str(device), isinstance(operation, devices.LinkDelete | devices.LinkAdd))
            ):
                return reason
        if isinstance(operation, routing.RouteAdd | routing.RouteDelete):
            owned = operation.table in (routing.MAIN_TABLE, *self.tables) or isinstance(operation.table, str)
            return self._prefix(operation.destination) if owned else None
        if isinstance(operation, routing.RuleAdd | routing.RuleDelete):
            return self._prefix(operation.source)
        if isinstance(operation, devices.AddressAdd):
            parts = map(self._prefix, operation.address.split(" peer "))
            return next((reason for reason in parts if reason), None)
        if isinstance(operation, mptcp.EndpointAdd) and self.management.holds(operation.address):
            return f"{operation.address} is the management interface's"
        if isinstance(operation, kernel.TableAdd | kernel.TableDelete):
            if operation.name in self.filters:
                return f"the table {operation.name} was there before the run"
            if isinstance(operation, kernel.TableAdd) and _DROPS.search(operation.text):
                return "a chain that drops what it does not know would cut the way to the host"
        if isinstance(operation, kernel.SysctlSet):
            return self._sysctl(operation)
        return None

    def refused_device(self, device: str, made: bool = False) -> str | None:
        if device == self.management.device:
            return f"{device} is the management interface"
        if device in self.management.lower_devices:
            return f"{device} carries the management interface {self.management.device}"
        if device in self.foreign:
            return f"{device} is no test NIC of the inventory"
        if made and device in self.nics:
            return f"{device} is a NIC, which can be neither made nor deleted"
        return None

    def _prefix(self, prefix: str) -> str | None:
        known = self.management.overlaps(prefix)
        return f"{prefix} covers the way to the host ({known})" if known else None

    def _sysctl(self, operation: kernel.SysctlSet) -> str | None:
        match = _SYSCTLS.fullmatch(operation.key)
        if match is None:
            return f"{operation.key} is no parameter that a lab may set"
        if operation.key.endswith(("/all/rp_filter", "/default/rp_filter")) and operation.value not in ("0", "2"):
            return "strict reverse path filtering on every device could cut the way to the host"
        device = match["device"] or match["device6"]
        return self.refused_device(device, False) if device else None
