"""What a plan may change on a host that is not the run's own: its test NICs, and never the way to it.

Whatever a plan says, a change that could touch the management interface, its addresses, its routes or the path of the SSH
session is refused here, before anything is sent to the host.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from channover import plan
from channover.plan import Operation


@dataclass(frozen=True)
class Management:
    """The way to a host: its device, its own networks in prefix notation, and where the controller calls from."""

    device: str
    networks: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()

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
    r"net/(mptcp/\w+|ipv4/(ip_forward|tcp_\w+)|ipv4/conf/(all|default)/(rp_filter|accept_local|arp_\w+)"
    r"|core/[rw]mem_max|ipv[46]/conf/(?P<device>[^/]+)/\w+)"
)


@dataclass
class Permission:
    """What may be changed on one host. ``foreign`` are the devices that were there before the run and are no test NICs."""

    host: str
    nics: frozenset[str]
    foreign: frozenset[str]
    management: Management

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
                reason := self.refused_device(str(device), isinstance(operation, plan.LinkDelete | plan.LinkAdd))
            ):
                return reason
        if isinstance(operation, plan.RouteAdd | plan.RouteDelete):
            return self._prefix(operation.destination) if operation.table == plan.MAIN_TABLE else None
        if isinstance(operation, plan.RuleAdd | plan.RuleDelete):
            return self._prefix(operation.source)
        if isinstance(operation, plan.AddressAdd):
            return self._prefix(operation.address)
        if isinstance(operation, plan.EndpointAdd) and self.management.holds(operation.address):
            return f"{operation.address} is the management interface's"
        if isinstance(operation, plan.SysctlSet):
            return self._sysctl(operation.key)
        return None

    def refused_device(self, device: str, made: bool = False) -> str | None:
        if device == self.management.device:
            return f"{device} is the management interface"
        if device in self.foreign:
            return f"{device} is no test NIC of the inventory"
        if made and device in self.nics:
            return f"{device} is a NIC, which can be neither made nor deleted"
        return None

    def _prefix(self, prefix: str) -> str | None:
        known = self.management.overlaps(prefix)
        return f"{prefix} covers the way to the host ({known})" if known else None

    def _sysctl(self, key: str) -> str | None:
        match = _SYSCTLS.fullmatch(key)
        if match is None:
            return f"{key} is no parameter that a lab may set"
        device = match["device"]
        return self.refused_device(device, False) if device and device not in ("all", "default") else None
