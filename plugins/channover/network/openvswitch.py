"""LAGs by Open vSwitch in its userspace datapath: real LACP on any kernel, without a module.

Each host runs daemons of its own (:mod:`channover.network.programs.ovs_daemons`). Sources: ``ovs-vswitchd.conf.db(5)``;
the Open vSwitch documentation, "Open vSwitch without Kernel Support".

What it takes on a host beside the daemons:

- The kernel still sees what arrives at a member, and would answer ARP with the member's own MAC address and deliver
  packets twice. On members, then, ``arp_ignore`` 8 answers no ARP, ``rp_filter`` 1 refuses packets whose way back is
  the LAG's device, and IPv6 is off, as it is on the members of a kernel bond (``addrconf_notify``, ``IFF_SLAVE``).
- A tap device has no checksum or segmentation hardware, so the LAG's device does both in software.
- Rebalancing is off: a flow stays on the link that its hash chose, as it does with the bonding driver. But Open vSwitch
  deals its 256 hash buckets out once, at random, to the members that are enabled then; in two of ten starts that was one
  member, and after a lost link it is the ones that were left. So the buckets are dealt anew, by another
  ``bond-hash-basis``, whenever convergence was waited for and a member turns out to have none.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host, until
from channover.model.link import USUAL_MTU
from channover.model.operations.devices import AddressAdd, LinkDelete, LinkSet
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.operation import Operation
from channover.model.plan import Plan
from channover.model.state import State
from channover.network import lag
from channover.network.flow_hash import Conversation, dp_hash
from channover.network.lag import HashPolicy, LacpRate
from channover.network.programs.ovs_daemons import Switch
from channover.observe.lags.bond import LagStatus
from channover.observe.lags.bond_parsers import (
    OVS_POLICIES,
    parse_hashes,
    parse_losses,
    parse_ovs,
    parse_placement,
)

BRIDGE = "br0"
"""The bridge of a switch."""
KEY = 1
"""LACP key of members: given, because the daemon would otherwise take a number that differs from host to host."""

MODES = {HashPolicy(policy): mode for mode, policy in OVS_POLICIES.items()}
"""Bond modes by policy. ``balance-slb`` hashes the source MAC address only: as ``layer2`` does for one pair of hosts.

Of many hosts, ``layer2`` also tells the destinations apart, which ``balance-slb`` does not.
"""


@dataclass
class OvsBond:
    """A bond in a bridge (:class:`channover.network.lag.LagHandle`)."""

    host: Host
    device: str
    members: tuple[str, ...]
    switch: Switch
    bridge: str
    port: str
    policy: HashPolicy
    undo: Plan
    options: Mapping[str, str]
    """Its port's LACP and ``other_config`` as it was set up; the LACP rate, which it tells by itself, is left out."""
    deals: int = 0
    """How often the hash buckets have been dealt anew."""

    def status(self) -> LagStatus:
        """Ask the switch daemon, and the kernel for the carriers."""
        bond = self.switch.show("bond/show", self.port)
        lacp = "" if "lacp_status: off" in bond else self.switch.show("lacp/show", self.port)
        links = json.loads(self.host.run("ip", "-j", "link", "show", quiet=True).stdout)
        dead = [link["ifname"] for link in links if "LOWER_UP" not in link["flags"]]
        try:
            return parse_ovs(lacp, bond, dead)
        except ValueError as error:
            raise TestbedError(f"{self.host.name}: {error}") from None

    def losses(self) -> Mapping[str, int]:
        """Ask the switch daemon how often each member has lost its link or its partner: Open vSwitch 2.13 and later tell."""
        try:
            return parse_losses(self.switch.show("lacp/show-stats", self.port))
        except TestbedError:
            self.switch.alive()
            return {}

    def unmet(self, now: State) -> Iterator[str]:  # noqa: ARG002 - the kernel knows nothing of it
        """Yield what is not as it was set up in the daemon's configuration (``ovs-vswitchd.conf.db(5)``, table Port)."""
        asked = {**self.options, **({"bond-hash-basis": str(self.deals)} if self.deals else {})}
        asked |= {f"LACP key of {member}": str(KEY) for member in self.members}
        found = self.switch.config(self.port)
        members = sum(key.startswith("LACP key of") for key in found)
        if members != len(self.members):
            yield f"it has {members} of its {len(self.members)} members"
            return
        for key in sorted(asked.keys() | found.keys()):
            if asked.get(key) != found.get(key) and key != "lacp-time":
                known, wanted = (f"{one[key]}" if key in one else "not set" for one in (found, asked))
                yield f"its {key} is {known}, and {wanted} was asked for"

    @property
    def notices_carrier(self) -> float:
        """Nothing: the kernel tells the daemon (rtnetlink), and it has no delay (``bond_downdelay``)."""
        return 0.0

    def wait_converged(self, timeout: float = 10.0) -> float:
        """Wait until LACP has converged, then see to it that every member has its share of hash buckets."""
        took = lag.wait_converged(self, timeout)
        if self.policy is HashPolicy.LAYER2:
            self.deal()
        else:
            until(self._dealt, f"{self.host.name}: hash buckets on every member of {self.device}", 5.0)
        return took

    def _dealt(self) -> bool:
        if set(self.members) <= set(self.placement().values()):
            return True
        self.deal()
        return False

    def placement(self) -> Mapping[int, str]:
        """Return which member each of the 256 hash buckets is on; with ``layer2`` the daemon does not tell."""
        return parse_placement(self.switch.show("bridge/dump-flows", self.bridge), self.members)

    def choices(self, flows: Sequence[Conversation]) -> Sequence[str] | str:
        """Return the member of each flow's hash bucket, or why nobody can tell: another mode, or a build that hashes otherwise.

        What the datapath shows of those that run must be what is computed: builds differ (:func:`.flow_hash.dp_hash`).
        """
        if self.policy is HashPolicy.LAYER2:
            return f"{self.host.name}: Open vSwitch does not tell which member balance-slb has given a MAC address"
        shown = parse_hashes(self.switch.show("dpctl/dump-flows", "-m"))
        computed = [dp_hash(flow, self.deals) for flow in flows]
        for flow, value in zip(flows, computed, strict=True):
            seen = shown.get((flow.source, flow.source_port, flow.target, flow.target_port), value)
            if seen != value:
                return (
                    f"{self.host.name}: this build of Open vSwitch hashes otherwise than Debian's of amd64: {seen:#x} of a "
                    f"flow from {flow.source} port {flow.source_port}, where {value:#x} was computed"
                )
        buckets = self.placement()
        if len(buckets) <= 0xFF:
            return f"{self.host.name}: Open vSwitch has dealt {len(buckets)} of 256 hash buckets"
        return [buckets[value & 0xFF] for value in computed]

    def deal(self) -> None:
        """Deal the hash buckets out anew: flows may change their link."""
        self.deals += 1
        self.switch.configure("set", "Port", self.port, f"other_config:bond-hash-basis={self.deals}")

    def close(self) -> None:
        """Give the members back to the kernel; with the host's last LAG the daemons end."""
        self.switch.bridges.remove(self.bridge)
        if self.switch.bridges:
            self.switch.configure("del-br", self.bridge)
        else:
            self.switch.stop()
        links = self.host.state().links
        gone = (self.bridge,) if self.switch.bridges else (self.bridge, "ovs-netdev")
        left = [LinkDelete(device) for device in gone if device in links]
        self.host.apply(Plan.of("what a killed daemon left behind", left))  # its tap devices outlive it
        self.host.apply(self.undo)


KERNEL_OFF = (("ipv4", "rp_filter", "1"), ("ipv4", "arp_ignore", "8"), ("ipv6", "disable_ipv6", "1"))
"""Parameters of a member that keep the kernel's own stack quiet there (``ip-sysctl.rst``)."""


def members_plan(host: Host, devices: Sequence[str]) -> Plan:
    """Return the plan that hands devices over to Open vSwitch: up, and without a stack of the kernel's own on them."""
    steps: list[Operation] = []
    for device in devices:
        for family, name, value in KERNEL_OFF:
            key = f"net/{family}/conf/{device}/{name}"
            with contextlib.suppress(TestbedError):  # a kernel without that family
                host.read(f"/proc/sys/{key}")
                steps.append(SysctlSet(key, value))
        steps.append(LinkSet(device, up=True))
    return Plan.of(f"hand {', '.join(devices)} over to Open vSwitch", steps)


def _words(
    bridge: str,
    port: str,
    members: Sequence[str],
    ports: Sequence[str],
    mode: str,
    lacp: tuple[str, LacpRate],
    rebalance: int,
) -> list[str]:
    """Return the whole configuration as one transaction of ``ovs-vsctl``."""
    words = ["init", "--", "set", "Open_vSwitch", ".", "other_config:n-handler-threads=1"]
    words += ["other_config:n-revalidator-threads=1"]
    words += ["--", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev"]
    words += ["--", "add-bond", bridge, port, *members, f"lacp={lacp[0]}", f"bond_mode={mode}"]
    words += [f"other_config:lacp-time={lacp[1].value}", f"other_config:bond-rebalance-interval={rebalance}"]
    for number, member in enumerate(members, start=1):
        words += ["--", "set", "Interface", member, f"ofport_request={number}", f"other_config:lacp-port-id={number}"]
        words += [f"other_config:lacp-aggregation-key={KEY}"]
    for access in ports:
        words += ["--", "add-port", bridge, access]
    return words


def _sized(bridge: str, host: Host, members: Sequence[str]) -> list[str]:
    """Return the words that give a bridge's own port the MTU of its members, where that is not the usual one."""
    links = host.state().links
    mtu = min((links[member].mtu for member in members if member in links), default=USUAL_MTU)
    return [] if mtu == USUAL_MTU else ["--", "set", "Interface", bridge, f"mtu_request={mtu}"]


@dataclass
class OpenVSwitchDriver:
    """Open vSwitch (:class:`channover.network.lag.LagDriver`); ``rebalance`` in milliseconds, 0: flows stay put."""

    name: str = "openvswitch"
    needs: tuple[str, ...] = ("ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl")
    policies: frozenset[HashPolicy] = field(default=frozenset(MODES))
    checksums: bool = True
    rebalance: int = 0
    _running: dict[str, Switch] = field(default_factory=dict, repr=False)
    """By the folder of a host: it has one switch daemon, however many LAGs are there (``ovs-netdev`` is one device)."""

    def create(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None = None,
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> OvsBond:
        """Make the members one bond; the bridge's own port is the LAG's device."""
        return self._on_host(host, device, members, address, policy, ("active", rate))

    def create_passive(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None = None,
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> OvsBond:
        """Make the members one bond that sends no LACP frame before it has heard one."""
        return self._on_host(host, device, members, address, policy, ("passive", rate))

    def _on_host(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None,
        policy: HashPolicy,
        lacp: tuple[str, LacpRate],
    ) -> OvsBond:
        bond = self._bridge(host, device, device, members, (), policy, lacp)
        try:
            host.offloads(device, ("tx", "tso", "gso"), on=False)
            steps: list[Operation] = [AddressAdd(device, address)] if address else []
            host.apply(Plan.of(f"{device} of Open vSwitch", [*steps, LinkSet(device, up=True)]))
        except BaseException:
            bond.close()
            raise
        return bond

    def create_switch(
        self,
        host: Host,
        members: Sequence[str],
        ports: Sequence[str],
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> OvsBond:
        """Make the members one bond in a learning bridge without spanning tree, with the access ports."""
        return self._bridge(host, BRIDGE, lag.DEVICE, members, ports, policy, ("active", rate))

    def _bridge(
        self,
        host: Host,
        bridge: str,
        device: str,
        members: Sequence[str],
        ports: Sequence[str],
        policy: HashPolicy,
        lacp: tuple[str, LacpRate],
    ) -> OvsBond:
        if policy not in MODES:
            known = ", ".join(sorted(policy.value for policy in MODES))
            raise UsageError(f"Open vSwitch has no transmit hash policy {policy.value}: it has {known}")
        switch = self._running.get(host.folder)
        if switch is None or not switch.bridges:
            switch = self._running[host.folder] = Switch(host)
        port = device if bridge != device else f"{device}-lag"
        undo = host.apply(members_plan(host, (*members, *ports)))
        options = {"LACP": lacp[0], "bond-rebalance-interval": str(self.rebalance)}
        bond = OvsBond(host, device, tuple(members), switch, bridge, port, policy, undo, options)
        switch.bridges.append(bridge)
        try:
            if switch.process is None:
                switch.start()
            words = _words(bridge, port, members, ports, MODES[policy], lacp, self.rebalance)
            switch.configure(*words, *_sized(bridge, host, members))
            switch.ports += len(members) + len(ports)
            switch.widen(switch.ports)
        except BaseException:
            bond.close()
            raise
        return bond
