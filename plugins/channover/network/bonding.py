"""LAGs by the kernel's bonding driver: mode 802.3ad, as the article's ``/etc/network/interfaces`` has it.

Everything is a plan of ``ip link`` and ``ip address`` steps, so its inverse gives the NICs back. Sources:
``Documentation/networking/bonding.rst``, ``drivers/net/bonding/bond_main.c`` and ``bond_options.c``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from channover.errors import NotAllowed, TestbedError
from channover.hosts.host import Host
from channover.model.link import USUAL_MTU
from channover.model.operations.devices import AddressAdd, LinkAdd, LinkSet
from channover.model.operations.operation import Operation
from channover.model.plan import Plan
from channover.model.state import State
from channover.network import flow_hash, lag
from channover.network.flow_hash import Conversation
from channover.network.lag import HashPolicy, LacpRate
from channover.observe.lags.bond import LagStatus
from channover.observe.lags.bond_parsers import parse_proc_bonding

BRIDGE = "br0"
"""The bridge of a switch."""
MIIMON = 100
"""How often (milliseconds) the driver looks at a NIC's carrier."""
DELAY = 200
"""How long (milliseconds) a carrier must have been there, or away, before it counts (``updelay``, ``downdelay``)."""

HASHES: Mapping[HashPolicy, Callable[[Conversation], int]] = {
    HashPolicy.LAYER2: flow_hash.layer2,
    HashPolicy.LAYER23: flow_hash.layer23,
    HashPolicy.LAYER34: flow_hash.layer34,
}
"""What each policy makes of a flow; a port of the active aggregator takes it by this number (``bond_3ad_xor_xmit``)."""

DEFAULTS = {
    "min_links": "0",
    "ad_select": "stable",
    "ad_lacp_active": "on",
    "all_slaves_active": "0",
    "fail_over_mac": "none",
}
"""Options that are left at the driver's defaults, by the names and words of ``ip -d link`` (``iplink_bond.c``)."""


def bond(device: str, members: Sequence[str], policy: HashPolicy, rate: LacpRate, before: State) -> list[Operation]:
    """Return the steps that make a bond of the members and set it up; ``before`` tells their MTU (bytes).

    A NIC has to be down to be enslaved (``bond_enslave`` refuses it otherwise); the driver sets it up again and gives
    it the bond's MTU, so that one is set first.
    """
    options = (
        ("mode", "802.3ad"),
        ("miimon", MIIMON),
        ("updelay", DELAY),
        ("downdelay", DELAY),
        ("lacp_rate", rate.value),
        ("xmit_hash_policy", policy.value),
    )
    steps: list[Operation] = [LinkAdd(device, "bond", options)]
    mtus = [before.links[member].mtu for member in members if member in before.links]
    if mtus and min(mtus) != USUAL_MTU:
        steps.append(LinkSet(device, mtu=min(mtus)))
    for member in members:
        steps += [LinkSet(member, up=False), LinkSet(member, master=device), LinkSet(member, up=True)]
    return [*steps, LinkSet(device, up=True)]


def host_plan(
    device: str, members: Sequence[str], address: str | None, policy: HashPolicy, rate: LacpRate, before: State
) -> Plan:
    """Return the plan of a host's end: the bond, and its address in prefix notation."""
    steps = bond(device, members, policy, rate, before)
    if address is not None:
        steps.append(AddressAdd(device, address))
    return Plan.of(f"LACP on {device} ({', '.join(members)})", steps)


def switch_plan(
    device: str, members: Sequence[str], ports: Sequence[str], policy: HashPolicy, rate: LacpRate, before: State
) -> Plan:
    """Return the plan of a switch: the bond and the access ports in one bridge, without spanning tree (its default)."""
    steps = [LinkAdd(BRIDGE, "bridge"), *bond(device, members, policy, rate, before)]
    for port in (device, *ports):
        steps += [LinkSet(port, master=BRIDGE), LinkSet(port, up=True)]
    return Plan.of(f"a switch of {device} and {len(ports)} ports", [*steps, LinkSet(BRIDGE, up=True)])


@dataclass
class Bond:
    """A bond that this run made (:class:`channover.network.lag.LagHandle`)."""

    host: Host
    device: str
    members: tuple[str, ...]
    undo: Plan
    policy: HashPolicy = HashPolicy.LAYER2

    def status(self) -> LagStatus:
        """Read ``/proc/net/bonding``."""
        try:
            return parse_proc_bonding(self.host.read(f"/proc/net/bonding/{self.device}"))
        except ValueError as error:
            raise TestbedError(f"{self.host.name}: {error}") from None

    @contextlib.contextmanager
    def apart(self, member: str) -> Iterator[None]:
        """Have a member run at another speed than the others for a block's length: its key is made of it.

        The driver reads it as the NIC goes up. Source: ``__get_link_speed`` and ``bond_netdev_event``. Raises NotAllowed for a
        NIC that is no virtual one.
        """
        if next((one.driver for one in self.host.nics.values() if one.device == member), "") != "virtio_net":
            raise NotAllowed(
                f"{self.host.name}: {member} is no virtual NIC: it is not this run's to give it another speed"
            )
        speed = int(self.host.read(f"/sys/class/net/{member}/speed"))
        self._run_at(member, 10 * speed)
        try:
            yield
        finally:
            self._run_at(member, speed)

    def _run_at(self, member: str, speed: int) -> None:
        """Have a member run at a speed (Mbit/s)."""
        self.host.run("ip", "link", "set", "dev", member, "down")
        self.host.run("ethtool", "-s", member, "speed", str(speed), "duplex", "full")
        self.host.run("ip", "link", "set", "dev", member, "up")

    def choices(self, flows: Sequence[Conversation]) -> Sequence[str] | str:
        """Return the member by which each flow leaves: the ports of the active aggregator, in the driver's order, by hash."""
        status = self.status()
        ports = [one.device for one in status.members if one.mii_up and one.aggregator == status.aggregator]
        if status.aggregator is None or not ports:
            return f"{self.host.name}: no aggregator of {self.device} is active"
        return [ports[HASHES[self.policy](flow) % len(ports)] for flow in flows]

    def losses(self) -> Mapping[str, int]:
        """Read what ``/proc/net/bonding`` counts of each member: failures of its link, and churns at either end."""
        return {member.device: member.losses for member in self.status().members}

    def unmet(self, now: State) -> Iterator[str]:
        """Yield the options that are not as the kernel has them by default, which is how they were left."""
        options = now.links[self.device].options if self.device in now.links else {}
        for option, default in DEFAULTS.items():
            if options.get(option, default) != default:
                yield f"its {option} is {options[option]}, and {default} was asked for"

    @contextmanager
    def least_links(self, number: int) -> Iterator[None]:
        """Have the bond be down with fewer links than a number for the length of a block (``min_links``)."""
        path = f"/sys/class/net/{self.device}/bonding/min_links"
        before = self.host.read(path)
        self.host.write(path, str(number))
        try:
            yield
        finally:
            self.host.write(path, before)

    @property
    def notices_carrier(self) -> float:
        """Seconds within which a lost carrier counts as a lost link: a look at it, and its delay (``bond_mii_monitor``)."""
        return (MIIMON + DELAY) / 1000

    def wait_converged(self, timeout: float = 10.0) -> float:
        """Wait until LACP has converged."""
        return lag.wait_converged(self, timeout)

    def close(self) -> None:
        """Delete the bond; its members are as they were."""
        self.host.apply(self.undo)


@dataclass
class BondingDriver:
    """The kernel's bonding driver (:class:`channover.network.lag.LagDriver`).

    It has no passive end: with ``lacp_active`` off, Linux 6.1 and 6.12 keep the activity bit, and send no frame by the timer
    even to an active partner, which then loses them (``ad_initialize_port``, ``ad_periodic_machine`` in ``bond_3ad.c``).
    """

    name: str = "bonding"
    needs: tuple[str, ...] = ()
    policies: frozenset[HashPolicy] = field(default=frozenset(HashPolicy))
    checksums: bool = False

    def create(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None = None,
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> Bond:
        """Make the members one bond."""
        plan = host_plan(device, members, address, policy, rate, host.state())
        return Bond(host, device, tuple(members), host.apply(plan), policy)

    def create_switch(
        self,
        host: Host,
        members: Sequence[str],
        ports: Sequence[str],
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> Bond:
        """Make the members one bond, and bridge it with the access ports."""
        plan = switch_plan(lag.DEVICE, members, ports, policy, rate, host.state())
        return Bond(host, lag.DEVICE, tuple(members), host.apply(plan), policy)
