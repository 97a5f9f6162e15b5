"""Labs made ready for a test: hosts joined by several paths with MPTCP."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

from channover.errors import NotAllowed, TestbedError, UsageError
from channover.hosts.host import Host, each
from channover.hosts.lab import Interface, Lab
from channover.model.link import Link
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, EndpointDelete, LimitsSet
from channover.model.operations.operation import Operation
from channover.model.plan import Plan
from channover.model.state import Endpoint
from channover.model.topology import Cable, Port
from channover.network import addressing, mptcp
from channover.scenarios.middlebox import Middlebox, Takes, standing


@dataclass(frozen=True)
class HostEnd:
    """A host, and the one address by which the other end asks for it."""

    host: Host
    address: Interface


@dataclass(frozen=True)
class Multipath:
    """Two multihomed hosts: ``left``, the client, connects, ``right`` listens, ``paths`` cables lie between them."""

    lab: Lab
    left: HostEnd
    right: HostEnd
    paths: int

    @property
    def link(self) -> Link:
        """One of its links."""
        return self.lab.link

    @property
    def nics(self) -> list[str]:
        """The NICs of the paths, by label."""
        client = self.left.host.name
        return [port.nic for cable in self._cables for port in cable.ports if port.node == client]

    @property
    def goodput(self) -> float:
        """The goodput (bit/s) that the wire allows a connection over all paths: what each of them adds."""
        return sum(self.added(nic) for nic in self.nics)

    def added(self, nic: str) -> float:
        """Return the goodput (bit/s) that one path adds to a connection, by the client's NIC: as fast as its cable is."""
        cable = self.cable(nic)
        return replace(self.link, rate=round(self.lab.rate(cable)), ipv6=cable in self.lab.over_ipv6).mptcp_goodput

    @property
    def _cables(self) -> list[Cable]:
        return list(self.lab.topology.between(self.left.host.name, self.right.host.name))

    def address(self, host: str, nic: str) -> str:
        """Return the address of a NIC of a host, both by the topology's names."""
        return str(self.lab.address(Port(host, nic)).ip)

    def mesh(self, host: Host) -> set[tuple[str, str]]:
        """Return the pairs of addresses of the full mesh as a host sees them: each of its own with each of the other's.

        Those of a pair are of one family.
        """
        own: list[Interface] = []
        others: list[Interface] = []
        for port in (port for cable in self._cables for port in cable.ports):
            (own if port.node == host.name else others).append(self.lab.address(port))
        return {(str(near.ip), str(far.ip)) for near in own for far in others if near.version == far.version}

    @contextmanager
    def off(self, nics: Collection[str]) -> Iterator[None]:
        """Take these NICs' endpoints away for the length of a block: the article's ``multipath off``."""
        with ExitStack() as stack:
            for end in (self.left, self.right):
                doomed = [
                    endpoint
                    for nic in nics
                    for endpoint in end.host.state().endpoints.values()
                    if endpoint.address == str(self.lab.address(Port(end.host.name, nic)).ip)
                ]
                stack.enter_context(end.host.applied(mptcp.without(doomed)))
            yield

    @contextmanager
    def one_server_address(self) -> Iterator[None]:
        """Have the server announce nothing for the length of a block: every subflow goes to the address asked for."""
        host = self.right.host
        with host.applied(mptcp.without(host.state().endpoints.values())):
            yield

    def cable(self, nic: str) -> Cable:
        """Return the cable of a path, by the client's NIC. Raises UsageError."""
        found = next((one for one in self._cables if Port(self.left.host.name, nic) in one.ports), None)
        if found is None:
            raise UsageError(f"{self.left.host.name} has no path by a NIC '{nic}'; it has: {', '.join(self.nics)}")
        return found

    def _endpoint(self, nic: str, end: HostEnd | None = None) -> Endpoint:
        """Return an end's endpoint, the client's else, on the path of a NIC. Raises TestbedError where it has none."""
        end = end or self.left
        address = str(self.lab.address(self._port(nic, end)).ip)
        found = [one for one in end.host.state().endpoints.values() if one.address == address]
        if not found:
            raise TestbedError(f"{end.host.name} has no MPTCP endpoint {address}")
        return found[0]

    @contextmanager
    def one_subflow_a_path(self, backup: Collection[str] = ()) -> Iterator[None]:
        """Have each path carry one subflow and its acknowledgements for the length of a block; NICs may be ``backup``.

        The server announces nothing, and answers by the NIC on which the client's address lies, not by its own address's.
        """
        server, client = self.right.host, self.left.host
        flags: list[Operation] = [
            EndpointChange(self._endpoint(nic).id, ("backup",) if nic in backup else ()) for nic in self.nics
        ]
        with (
            self.one_server_address(),
            server.applied(addressing.no_source_rules(self.lab, server)),
            client.applied(Plan.of("one subflow a path", flags)),
        ):
            yield

    @contextmanager
    def no_backup(self, nic: str) -> Iterator[None]:
        """Make a path that is a backup one like any other for the length of a block (MP_PRIO, RFC 8684, 3.3.8)."""
        change = EndpointChange(self._endpoint(nic).id, ())
        with self.left.host.applied(Plan.of("the path is no backup", [change])):
            yield

    @contextmanager
    def address_removed(self, nic: str) -> Iterator[None]:
        """Take a path's address out of the connection for the length of a block (REMOVE_ADDR, RFC 8684, 3.4.2)."""
        with self.left.host.applied(mptcp.without([self._endpoint(nic)])):
            yield

    @property
    def by_rate(self) -> list[str]:
        """The NICs of the paths, the fastest first. Raises NotAllowed where the lab's cables are all of one rate."""
        rates = {nic: self.lab.rate(self.cable(nic)) for nic in self.nics}
        if len(set(rates.values())) == 1:
            raise NotAllowed("the cables of this lab are all of one rate: name cables of unlike rates in the inventory")
        return sorted(rates, key=lambda nic: -rates[nic])

    @contextmanager
    def delayed(self, nic: str, seconds: float) -> Iterator[None]:
        """Have the frames of a path take so long (seconds) each way for the length of a block; 0 leaves it as it is.

        Raises TestbedError, and NotAllowed where nothing can do that.
        """
        with self.lab.delayed(self.cable(nic), seconds) if seconds else nullcontext():
            yield

    @contextmanager
    def middlebox(self, nic: str, takes: Takes) -> Iterator[Middlebox]:
        """Have a middlebox stand on a path for the length of a block, which takes something of MPTCP. Raises TestbedError."""
        ends = [(end.host, end.host.nic(self._port(nic, end).nic).device) for end in (self.left, self.right)]
        with standing(ends, takes) as made:
            yield made

    def _port(self, nic: str, end: HostEnd) -> Port:
        return next(port for port in self.cable(nic).ports if port.node == end.host.name)

    @contextmanager
    def limited(self, subflows: int, *ends: HostEnd) -> Iterator[None]:
        """Have these ends, or both, allow no more extra subflows than so many for the length of a block."""
        limit = Plan.of(f"at most {subflows} extra subflows", [LimitsSet(subflows, mptcp.MAX_EXTRA_SUBFLOWS)])
        with ExitStack() as stack:
            for end in ends or (self.left, self.right):
                stack.enter_context(end.host.applied(limit))
            yield

    @contextmanager
    def listening_on(self, nic: str, port: int) -> Iterator[None]:
        """Have the server announce a NIC's address with a port, on which its kernel listens, for the length of a block."""
        known = self._endpoint(nic, self.right)
        plan = Plan.of("an address with a port", [EndpointDelete(known.id), replace(EndpointAdd.of(known), port=port)])
        with self.right.host.applied(plan):
            yield

    @contextmanager
    def checksums(self) -> Iterator[None]:
        """Have both ends protect each mapping by a checksum for the length of a block (RFC 8684, 3.3.1).

        Data are not taken from a subflow before all of their mapping is there. Meanwhile its window shrinks, and Linux puts
        acknowledgements off by 40 ms (``__tcp_ack_snd_check`` of ``net/ipv4/tcp_input.c``); where BBR holds its window to four
        segments, every ten seconds, the connection stands still. So the server acknowledges at once: measured, 184.6 and not
        180.9 Mbit/s of 185, with a tenth of the spread.
        """
        plan = Plan.of("checksums of MPTCP's own", [SysctlSet("net/mptcp/checksum_enabled", "1")])
        server = self.right.host
        with (
            self.left.host.applied(plan),
            server.applied(plan),
            server.applied(addressing.quick_acks(self.lab, server)),
        ):
            yield

    @contextmanager
    def ipv6(self, *nics: str) -> Iterator[Multipath]:
        """Have these paths, or all, go by IPv6 instead of IPv4 for the length of a block: yields both hosts as they are then.

        A connection is of the first path's family, since its address is asked for. Raises TestbedError.
        Raises NotAllowed on routed paths, whose addresses are not the lab's to choose.
        """
        if self.lab.uplinks:
            raise NotAllowed(
                "the paths are routed, and have the addresses of their networks: those of one family alone"
            )
        chosen = [self.cable(nic) for nic in nics or self.nics]
        ends = (self.left.host, self.right.host)
        former = {
            port: str(self.lab.address(port).ip) for cable in chosen for port in cable.ports
        }  # of IPv4, before the lab knows them by the others
        with ExitStack() as stack:
            self.lab.over_ipv6.update(chosen)
            stack.callback(self.lab.over_ipv6.difference_update, chosen)
            for host in ends:
                stack.enter_context(host.applied(addressing.over_ipv6(self.lab, host, chosen)))
                own = {port.nic: address for port, address in former.items() if port.node == host.name}
                stack.enter_context(host.applied(mptcp.readdressed(self.lab, host, own)))
            first = {
                port.node: HostEnd(self.lab.hosts[port.node], self.lab.address(port)) for port in self._cables[0].ports
            }
            yield replace(self, left=first[ends[0].name], right=first[ends[1].name])

    @contextmanager
    def without_source_rules(self) -> Iterator[None]:
        """Take the rules that tie each source address to its NIC away, for the length of a block."""
        with ExitStack() as stack:
            for end in (self.left, self.right):
                stack.enter_context(end.host.applied(addressing.no_source_rules(self.lab, end.host)))
            yield


def apply_all(lab: Lab, plans: dict[str, Plan]) -> None:
    """Apply a plan to each host named, side by side. Raises TestbedError."""
    each(lambda name: lab.hosts[name].apply(plans[name]), plans)


def configure(lab: Lab) -> Multipath:
    """Give every host addresses, and client and server source rules and MPTCP endpoints.

    Raises TestbedError, and UsageError where no cable lies between the two.
    """
    topology = lab.topology
    cables = list(topology.between(topology.client, topology.server))
    if not cables:
        raise UsageError(f"topology {topology.name}: no cable lies between {topology.client} and {topology.server}")
    plans = {name: addressing.addresses(lab, host) for name, host in lab.hosts.items()}
    for name in (topology.client, topology.server):
        host = lab.hosts[name]
        endpoints = mptcp.client_endpoints if name == topology.client else mptcp.server_endpoints
        plans[name] += addressing.source_rules(lab, host) + mptcp.enable() + endpoints(lab, host)
    apply_all(lab, plans)
    for host in lab.hosts.values():
        for port in addressing.cabled(lab, host):
            addressing.wait_usable(host, lab.address(port), host.nic(port.nic).device)
    first = {port.node: HostEnd(lab.hosts[port.node], lab.address(port)) for port in cables[0].ports}
    left, right = first[topology.client], first[topology.server]
    return Multipath(lab, left, right, len(cables))
