"""Target ``physical``: real hosts of an inventory, over SSH. Target ``vm`` reaches its machines through the same code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from channover.errors import ChannoverError, NotAllowed, TestbedError
from channover.hosts.guardian.lease import ROOT, HostLease
from channover.hosts.host import Host, Journal, Nic, until
from channover.hosts.lab import CableEnd, Cabling, Lab, mutes
from channover.hosts.ssh.host import RemoteHost
from channover.model.link import USUAL_MTU, Link
from channover.model.operations.devices import AddressDelete, LinkSet
from channover.model.operations.operation import Operation
from channover.model.plan import Plan
from channover.model.state import State
from channover.model.topology import Cable, Links, Port, Topology
from channover.targets.inventory.schema import HostEntry, LabEntry
from channover.targets.inventory.wiring import Wiring
from channover.targets.physical import preflight, routed
from channover.targets.physical.facing.prove import Outlook
from channover.targets.physical.facing.prove import prove as prove_ports
from channover.targets.physical.gate import INSIDE, gate
from channover.targets.physical.lease_pool import LeasePool, each
from channover.targets.physical.placement import Fit, fit
from channover.targets.physical.switch_readers import SwitchReaders

CARRIER_TIMEOUT = 15.0
"""Seconds that NICs may take to agree on a speed (IEEE 802.3, clause 28) once they are up."""
"""Bytes: what every lab starts with."""


@dataclass
class HostCabling:
    """Cables that nobody can pull from here: setting both NICs down comes closest (:class:`Cabling`).

    ``near`` are the NICs of which each is set down alone: the cable ends in a switch, and what lies opposite keeps its own.
    """

    hosts: Mapping[str, Host]
    allowed: bool
    near: Collection[Port] = ()
    pulled: set[Cable] = field(default_factory=set)
    _pulled: dict[Cable, list[tuple[Host, Plan]]] = field(default_factory=dict)

    def cut(self, cable: Cable) -> None:
        """Set both ends down. Raises NotAllowed where the inventory forbids it."""
        if not self.allowed:
            raise NotAllowed(f"the cable {cable} cannot be pulled: the inventory says allows.nics_down: false")
        self.pulled.add(cable)
        for port in [port for port in cable.ports if port in self.near] or cable.ports:
            host = self.hosts[port.node]
            undo = host.apply(Plan(f"pull {port}", (LinkSet(host.nic(port.nic).device, up=False),)))
            self._pulled.setdefault(cable, []).append((host, undo))

    def mute(self, cable: Cable, sender: Port | None = None) -> None:
        """Raise NotAllowed: what lies between the hosts is not this run's."""
        ends = " and ".join(map(str, mutes(cable, sender)))
        raise NotAllowed(
            f"frames from {ends} cannot be made to vanish while the carrier stays: nothing between real hosts is this "
            "run's; --target=netns and --target=vm can do it"
        )

    def delay(self, cable: Cable, seconds: float, ends: Sequence[CableEnd]) -> None:  # noqa: ARG002
        """Raise NotAllowed: nobody but the hosts' own kernels could, and their queues are not this run's."""
        raise NotAllowed(
            f"frames of the cable {cable} cannot be made to take {seconds * 1e3:g} ms: nothing between real hosts is this "
            "run's; --target=netns and --target=vm can do it"
        )

    def refused(self) -> dict[Port, int]:
        """Return nothing: a cable between two NICs has no queue of its own."""
        return {}

    def restore(self, cable: Cable) -> None:
        """Set both ends up, with the routes that they had."""
        for host, undo in self._pulled.pop(cable, ()):
            host.apply(undo)


@dataclass
class PhysicalTarget:
    """Labs of one lab of an inventory (:class:`channover.targets.base.Target`)."""

    entry: LabEntry
    leases: LeasePool = field(default_factory=LeasePool)
    name: str = "physical"
    cabling: Cabling | None = None
    """What pulls cables; None: only the hosts themselves can."""
    prove: bool = True
    """Whether to send frames over each cable before it is used, to see that it is what the inventory says."""
    ping: bool = True
    """Whether both ends ping each other then too: hosts that somebody else looks after may refuse to."""
    remarks: list[str] = field(default_factory=list)
    """What is to be said at the end of the run."""
    proven: set[tuple[Port, Port]] = field(default_factory=set)
    """The cables that were seen to lie where the inventory says."""
    measured: set[tuple[Port, Port]] = field(default_factory=set)
    """Those of them that frames of the proof could be sent over: what they carry is known to be as stated."""
    say: Callable[[str], None] = lambda _: None
    """Told, in a line, what the user should know meanwhile."""
    faced: set[Port] = field(default_factory=set)
    """The NICs whose switch ports were seen to be as the inventory says."""
    _found: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.leases.say = lambda text: self.say(text)
        self.readers = SwitchReaders(self.entry, lambda text: self.say(text))
        self.leases.nics_down = self.entry.allows.nics_down

    def unmet(self, topology: Topology) -> str | None:
        """Say what the inventory lacks for a topology; no host is asked."""
        found = fit(topology, self.entry)
        return found if isinstance(found, str) else None

    def take(self, names: Iterable[str]) -> dict[str, HostLease]:
        """Take hosts, once nothing speaks against them. Raises TestbedError, Taken."""
        wanted = {name: self.entry.hosts[name] for name in names}
        if new := {name: host for name, host in wanted.items() if not self.leases.at(name, host).held}:
            findings = self.findings(new)
            preflight.fatal(findings)
            for words in map(str, findings):
                if words not in self._found:
                    self._found.add(words)
                    self.say(words)
        return self.leases.take(wanted)

    def findings(self, hosts: Mapping[str, HostEntry]) -> list[preflight.Finding]:
        """Connect to hosts, and return what speaks against them; nothing is changed. Raises TestbedError."""
        found = self.leases.open(hosts)
        return [
            finding
            for name, host in hosts.items()
            if (facts := found[name].facts) is not None
            for finding in preflight.of_host(name, host, self.entry, facts)
        ]

    @contextmanager
    def lab(self, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
        """Lay a topology on the lab for the length of a block. Afterwards each host is as it was, or TestbedError names why."""
        found = fit(topology, self.entry)
        if isinstance(found, str):
            raise TestbedError(found)
        routed.require_family(found.uplinks, link)
        with ExitStack() as stack:
            taken = self.take(found.nodes.values())
            for host_lease in taken.values():
                host_lease.check()
            hosts = {node: self._host(node, taken[name], found, journal) for node, name in found.nodes.items()}
            stripped: set[str] = set()
            stack.callback(self._compare, list(taken.values()), stripped, journal)
            clashes(hosts, found, found.seen(topology), link)
            stack.callback(self._unwind, hosts.values())
            leases = {node: taken[name] for node, name in found.nodes.items()}
            self._prepare(hosts, leases, topology, found, stripped)
            cabling = self.cabling or HostCabling(hosts, self.entry.allows.nics_down, found.near(topology))
            made = laid(topology, found, hosts, link, cabling, journal)
            made = replace(made, patience=self.leases.patience, switches=self.readers.beside(found.nics.values()))
            self._prove(made, found)
            cables = made.topology.cables
            ends = {cable: (found.nics[cable.a], found.nics[cable.b]) for cable in cables}
            yield replace(made, proved=[cable for cable in cables if ends[cable] in self.measured])

    def looked_at(self, topology: Topology) -> dict[str, RemoteHost]:
        """Return the hosts of a topology to look at: nothing is taken, and nothing may be changed. Raises TestbedError."""
        found = fit(topology, self.entry)
        if isinstance(found, str):
            raise TestbedError(found)
        leases = self.leases.open({name: self.entry.hosts[name] for name in found.nodes.values()})
        return {node: self._host(node, leases[name], found, Journal()) for node, name in found.nodes.items()}

    def _prove(self, lab: Lab, found: Fit) -> None:
        """See that each cable lies where the inventory says and does what it states, once a run. Raises TestbedError."""
        if not self.prove:
            return
        new: dict[Cable, tuple[Port, Port]] = {}
        for number, cable in enumerate(lab.topology.cables):
            ends = (found.nics[cable.a], found.nics[cable.b])
            if cable.a in found.uplinks and not self.is_proven(*ends):
                self.say(routed.prove(lab, cable))
                self.proven.add(ends)
            elif cable.a not in found.facing and not self.is_proven(*ends):
                rate, mtu = preflight.rate_of(self.entry, ends[0]), preflight.mtu_of(self.entry, ends[0])
                if self.ping and (remark := preflight.prove(lab, cable, number, rate, mtu)):
                    self.say(remark)
                new[cable] = ends
        words = self.measure(lab, new)
        nics = [
            Outlook(found.nics[port], lab.hosts[port.node], lab.hosts[port.node].nic(port.nic)) for port in found.facing
        ]
        words += self.look_at_ports(nics)
        words += self.measure(lab, {} if words else self._paths(lab, found))
        if words:
            raise TestbedError("; ".join(words))
        self.proven |= set(new.values())

    def _paths(self, lab: Lab, found: Fit) -> dict[Cable, tuple[Port, Port]]:
        """Return the paths through one switch that were not proved to carry their rate yet: others may share what joins two."""
        if lab.topology.links is Links.LAG:
            return {}
        ways = {cable: (found.nics[cable.a], found.nics[cable.b]) for cable in lab.topology.cables}
        return {
            cable: ends
            for cable, ends in ways.items()
            if cable.a in found.facing
            and ends not in self.measured
            and found.facing[cable.a].node == found.facing[cable.b].node
        }

    def is_proven(self, one: Port, other: Port) -> bool:
        """Say whether what joins two NICs was seen to be as the inventory says."""
        return (one, other) in self.proven or {one, other} <= self.faced

    def look_at_ports(self, nics: Sequence[Outlook]) -> list[str]:
        """Say of NICs that face switches what is not as the inventory says, once a run. Raises TestbedError."""
        if {one.port for one in nics} <= self.faced:
            return []
        for name, host in {one.port.node: one.host for one in nics}.items():
            if not preflight.has_python(host):
                self.say(f"{name}: the switch ports that it faces are not proved, since it has no python3: install it")
                return []
        for one in nics:
            preflight.negotiated(one.host, one.nic.name, preflight.rate_of(self.entry, one.port))
        by_mtu: dict[int, list[Outlook]] = {}
        for one in nics:
            by_mtu.setdefault(preflight.mtu_of(self.entry, one.port), []).append(one)
        words = [
            said for mtu, some in by_mtu.items() for said in prove_ports(Wiring(self.entry), some, mtu, say=self.say)
        ]
        self.faced |= {one.port for one in nics if not any(f"{one.port} " in said for said in words)}
        return words

    def measure(self, lab: Lab, cables: Mapping[Cable, tuple[Port, Port]]) -> list[str]:
        """Say of cables, each with its ends by the inventory's names, what they do and should not. Raises TestbedError."""
        if not cables:
            return []
        rates = {}
        for cable, ends in cables.items():
            known = [rate for end in ends if (rate := preflight.rate_of(self.entry, end))]
            rates[cable] = min(known, default=lab.rate(cable))
        mtus = {cable: preflight.mtu_of(self.entry, ends[0]) for cable, ends in cables.items()}
        findings = []
        for mtu in sorted(set(mtus.values())):
            proof = preflight.measured(lab, {cable: rate for cable, rate in rates.items() if mtus[cable] == mtu}, mtu)
            for remark in proof.remarks:
                self.say(remark)
            self.measured |= {cables[cable] for cable in proof.cables}
            findings += proof.findings
        return findings

    def _host(self, node: str, host_lease: HostLease, found: Fit, journal: Journal) -> RemoteHost:
        nics = {}
        assert host_lease.facts is not None
        for ours, theirs in found.nics.items():
            if ours.node == node:
                device = host_lease.device(theirs.nic)
                one = host_lease.facts.devices[device]
                tagged = one.kind == "vlan"
                nics[ours.nic] = Nic(ours.nic, device, one.mac, one.driver, one.firmware, one.speed, one.bus, tagged)
        folder = f"{ROOT}/{host_lease.run_id}"
        lease = f"{folder}/beat" if host_lease.held else ""
        return RemoteHost(
            node,
            nics,
            host_lease.link,
            host_lease.run_id,
            f"{folder}/files",
            host_lease.policy,
            journal,
            lease,
            host_lease.patience,
        )

    def _prepare(
        self,
        hosts: Mapping[str, RemoteHost],
        leases: Mapping[str, HostLease],
        topology: Topology,
        found: Fit,
        stripped: set[str],
    ) -> None:
        """Make NICs bare and up, and wait for the carrier of each that has a cable. Raises TestbedError.

        What that takes from NICs goes to ``stripped``, in words: the guardian puts it back.
        """
        cabled = {port for cable in topology.cables for port in cable.ports}

        def prepare(host: RemoteHost) -> None:
            self._forget(leases[host.name])
            devices = [nic.device for nic in host.nics.values()]
            host.run("mkdir", "-p", host.folder, quiet=True)
            before = host.state()
            lent = leases[host.name].lent
            if (plan := bare(before, devices, lent, down=host.policy.nics_down, mtu=found.mtu)).operations:
                host.strip(plan)
                stripped.update(f"{leases[host.name].name}: {words}" for words in leases[host.name].differences())
            host_lease = leases[host.name]
            assert host_lease.facts is not None
            foreign = host_lease.policy.foreign - {"lo"}
            shut = gate(host, host_lease.run_id, devices, foreign, found.beyond(host.name))
            host.apply(shut + raised(before, devices, plan))
            wanted = [nic.device for label, nic in host.nics.items() if Port(host.name, label) in cabled]

            def ready() -> bool:
                links = host.state().links
                return all(links[device].carrier for device in wanted)

            until(
                ready, f"{host.name}: a carrier on {', '.join(wanted)}; is its cable plugged in", CARRIER_TIMEOUT, 0.2
            )

        each(hosts.values(), prepare)

    def _forget(self, host_lease: HostLease) -> None:
        """Begin with nothing of an earlier test, and say what cannot be got rid of. Raises TestbedError."""
        if host_lease.leftovers == ():
            return
        host_lease.forget(INSIDE)
        if left := host_lease.leftovers:
            words = f"{len(left)} socket{'s' if len(left) > 1 else ''} of an earlier test could not be ended"
            self.say(f"{host_lease.name}: {words}, and may disturb this one: {'; '.join(left)}")

    @property
    def _ending(self) -> bool:
        """Whether Ctrl-C ends this run, or is about to."""
        return self.leases.interrupted or isinstance(sys.exc_info()[1], KeyboardInterrupt)

    def interrupt(self) -> None:
        """Note that Ctrl-C ends the run: what differs is still put back, and is no error of a test."""
        self.leases.interrupted = True

    def _unwind(self, hosts: Iterable[RemoteHost]) -> None:
        """Undo what stands. Raises TestbedError, unless Ctrl-C ends the run: the hosts then put back what is left."""
        ending = self._ending
        try:
            each(hosts, RemoteHost.unwind)
        except ChannoverError:
            if not ending:
                raise

    def _compare(self, leases: list[HostLease], stripped: set[str], journal: Journal) -> None:
        """Have each host put back what differs. Raises TestbedError that names what a test left behind."""
        words: list[str] = []
        ending = self._ending

        def heal(host_lease: HostLease) -> None:
            with journal.step(host_lease.name, "compare with the saved state"):
                above = tuple(f"{device}: " for device in host_lease.above)  # follows its NIC, whatever a test does
                words.extend(
                    f"{host_lease.name}: {change}" for change in host_lease.heal() if not change.startswith(above)
                )
                host_lease.forget(INSIDE)

        try:
            each(leases, heal)
        except TestbedError as error:
            if not ending:
                raise
            self.remarks.append(str(error))
        if ending:
            return
        if left := [change for change in words if change not in stripped]:
            raise TestbedError(f"the test left changes behind, which were put back: {'; '.join(left)}")

    def close(self) -> None:
        """Release every host."""
        self.remarks += self.leases.end()


def bare(
    before: State, devices: list[str], lent: Collection[str] = (), *, down: bool = True, mtu: int = USUAL_MTU
) -> Plan:
    """Return the plan that takes addresses, masters and routes from NICs and gives them an ``mtu`` in bytes.

    A NIC that has any of these, or is one of ``lent``, ends ``down``, where that is allowed: the kernel then drops IPv6
    addresses, neighbours and what is left of the routes (``addrconf_ifdown`` in ``net/ipv6/addrconf.c``), as it would when a
    bond takes the NIC. Addresses go last one first, since secondary ones go with their primary one (``inet_del_ifa`` in
    ``net/ipv4/devinet.c``).
    """
    steps: list[Operation] = []
    for device in devices:
        link = before.links[device]
        own: list[Operation] = []
        if link.master:
            own.append(LinkSet(device, master=""))
        own += [AddressDelete(device, address) for address in reversed(link.addresses) if ":" not in address]
        if link.mtu != mtu:
            own.append(LinkSet(device, mtu=mtu))
        if down and link.up and (own or link.addresses or before.routes_lost_with(device) or device in lent):
            own.append(LinkSet(device, up=False))
        steps += own
    return Plan.of("bare NICs", steps)


def raised(before: State, devices: list[str], stripping: Plan) -> Plan:
    """Return the plan that sets NICs up, once :func:`bare` has been applied."""
    down = {step.device for step in stripping if isinstance(step, LinkSet) and step.up is False}
    return Plan.of(
        "set NICs up",
        [LinkSet(device, up=True) for device in devices if device in down or not before.links[device].up],
    )


def laid(
    topology: Topology, found: Fit, hosts: Mapping[str, Host], link: Link, cabling: Cabling, journal: Journal
) -> Lab:
    """Return a topology come alive on these hosts as it lies on them; ``link`` is what was asked for."""
    seen = found.seen(topology)
    ends = {near: far.node for cable in topology.cables for near, far in (cable.ports, cable.ports[::-1])}
    behind = {switch: tuple(port.node for port in found.nics if ends[port] == switch) for switch in found.foreign}
    tagged = any(hosts[port.node].nic(port.nic).tagged for port in ends if port.node in hosts)
    return Lab(
        seen,
        hosts,
        replace(found.link(link) if topology.cables else link, tagged=tagged),
        cabling,
        journal,
        found.rates,
        facing={ours: str(outlet) for ours, outlet in found.facing.items()},
        crowded=found.crowded,
        behind=behind,
        trunks=found.trunks,
        uplinks=found.uplinks,
    )


def clashes(hosts: Mapping[str, RemoteHost], found: Fit, topology: Topology, link: Link) -> None:
    """Raise TestbedError where a network of the lab lies on the way to a host."""
    planned = Lab(topology, hosts, found.link(link), HostCabling(hosts, False), uplinks=found.uplinks)
    for port in (port for cable in topology.cables for port in cable.ports):
        network = planned.address(port).network
        routed_there = ip_network(planned.address(port).ip) if port in found.uplinks else network
        for host in hosts.values():
            covered = network if port.node == host.name else routed_there
            known = host.policy.management.overlaps(str(covered))
            if known:
                raise TestbedError(
                    f"{host.name}: the lab's network {covered} covers the way to the host ({known}); "
                    "give the management network another range"
                )
