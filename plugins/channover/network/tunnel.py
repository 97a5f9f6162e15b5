"""What a tunnel is, whichever program carries it: two ends, an inner network, and one TCP port as its carrier.

The carrier is an ordinary TCP connection that ``mptcpize run`` turns into MPTCP, so that IP packets of any kind get the
sum of the links. IP within TCP is not sound in general; here it is what the article builds and what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, until
from channover.hosts.lab import Interface
from channover.model.inner_network import Inner
from channover.model.operations.devices import LinkDelete
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.routing import RouteAdd
from channover.model.plan import Plan
from channover.model.state import State

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
"""What has a host forward, by the version of IP; each is for all of its interfaces (``ip-sysctl.rst``)."""
MPTCPIZE = ("mptcpize", "run")
"""Turns every TCP socket of an unchanged program into an MPTCP socket (``mptcpize(8)``)."""


@dataclass(frozen=True)
class TunnelEnd:
    """One end: the host, the tunnel's device on it, its address inside, and the program that holds it."""

    host: Host
    device: str
    address: Interface
    process: Process


@dataclass(frozen=True)
class Tunnel:
    """A tunnel that is up. ``client`` has opened the carrier connection to ``port`` (TCP) of ``server``."""

    kind: str
    client: TunnelEnd
    server: TunnelEnd
    port: int

    @property
    def ends(self) -> tuple[TunnelEnd, TunnelEnd]:
        """Both ends, the client's first."""
        return self.client, self.server

    @property
    def network(self) -> IPv4Network | IPv6Network:
        """The network inside the tunnel: both ends' addresses lie in it."""
        return self.client.address.network

    def end(self, host: Host) -> TunnelEnd:
        """Return the end on a host. Raises KeyError."""
        for end in self.ends:
            if end.host is host:
                return end
        raise KeyError(host.name)

    def peer(self, end: TunnelEnd) -> TunnelEnd:
        """Return the other end."""
        return self.server if end is self.client else self.client

    def inner(self, host: Host) -> Inner:
        """Return what the loop detector needs to know of the tunnel at a host. Raises KeyError."""
        return Inner(self.end(host).device, (self.network,), self.port)

    def check(self) -> None:
        """Raise TestbedError where a program that holds the tunnel has ended."""
        for end in self.ends:
            if (code := end.process.poll()) is not None:
                raise TestbedError(
                    f"{end.host.name}: the {self.kind} tunnel's process ended with code {code}; "
                    f"its last words: {_words(end.process)}"
                )


@dataclass(frozen=True)
class Devices:
    """A tunnel's two devices as they were when it came up (:class:`channover.hosts.lab.Asking`): MTU in bytes, by host."""

    tunnel: Tunnel
    mtus: Mapping[str, int]

    @classmethod
    def of(cls, tunnel: Tunnel) -> Devices:
        """Read them. Raises TestbedError."""
        states = {end.host.name: end.host.state() for end in tunnel.ends}
        known = ((end.host.name, states[end.host.name].links.get(end.device)) for end in tunnel.ends)
        return cls(tunnel, {name: link.mtu for name, link in known if link is not None})

    def unmet(self, states: Mapping[str, State]) -> Iterator[str]:
        """Yield what is not as it was; a device that has ended with its program is somebody else's to tell."""
        for end in self.tunnel.ends:
            link = states[end.host.name].links.get(end.device) if end.host.name in states else None
            if link is None:
                continue
            if link.mtu != (asked := self.mtus.get(end.host.name, link.mtu)):
                yield f"{end.host.name}: the MTU of the tunnel's {end.device} is {link.mtu}, and it came up with {asked}"
            if str(end.address.ip) not in {one.replace("/", " ").split()[0] for one in link.addresses}:
                yield f"{end.host.name}: the tunnel's {end.device} has lost its address {end.address.ip}"


def present(host: Host, device: str) -> bool:
    """Whether a host has a device."""
    lines = host.read("/proc/net/dev").splitlines()
    return any(line.split(":")[0].strip() == device for line in lines)


def absent(host: Host, device: str) -> None:
    """Raise TestbedError where a device is there that a tunnel is about to make."""
    if present(host, device):
        raise TestbedError(
            f"{host.name}: {device} is there already: end what holds it, or give the tunnel another device"
        )


def wait_up(host: Host, device: str, processes: tuple[Process, ...], timeout: float) -> None:
    """Wait until a tunnel's device is there. Raises TestbedError after ``timeout`` seconds, or when a process has ended."""

    def there() -> bool:
        for process in processes:
            if (code := process.poll()) is not None:
                raise TestbedError(
                    f"{host.name}: {device} never came up, '{process.argv[0]}' ended with code {code}; "
                    f"its last words: {_words(process)}"
                )
        return present(host, device)

    until(there, f"{device} on {host.name}", timeout)


def wait_gone(host: Host, device: str, timeout: float) -> None:
    """Wait until a tunnel's device is gone, and delete it where its holder cannot tell that the other end has left.

    A carrier that was in a loop may keep the news of its end to itself. Raises TestbedError where it stays.
    """
    try:
        until(lambda: not present(host, device), f"the end of {device} on {host.name}", timeout)
    except TestbedError:
        host.apply(Plan(f"remove {device}, whose carrier is dead", (LinkDelete(device),)))
        until(lambda: not present(host, device), f"the end of {device} on {host.name}", timeout)


def through(tunnel: Tunnel, gateway: TunnelEnd, destination: str) -> dict[str, Plan]:
    """Return the plans, by host name, that reach ``destination`` (a prefix) beyond one end from the other end.

    The gateway forwards; the far host behind it needs a route back to the tunnel's network, which is
    its own affair: see :func:`way_back`.
    """
    far = tunnel.peer(gateway)
    return {
        far.host.name: Plan(
            f"{destination} is beyond the tunnel",
            (RouteAdd(destination, far.device, str(gateway.address.ip)),),
        ),
        gateway.host.name: Plan(
            f"forward between the tunnel and {destination}", (SysctlSet(FORWARDING[tunnel.network.version], "1"),)
        ),
    }


def way_back(tunnel: Tunnel, device: str, via: str) -> Plan:
    """Return the plan for a host beyond the tunnel: the route to its network by ``device`` and next hop ``via``."""
    return Plan("the way back to the tunnel", (RouteAdd(str(tunnel.network), device, via),))


def _words(process: Process) -> str:
    return repr((process.stderr or process.stdout).strip()[-400:])
