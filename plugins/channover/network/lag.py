"""Link aggregation as a test sees it: policies, what a driver can be asked for, and two ends made into one LAG.

Which driver makes it (the kernel's bonding, Open vSwitch) is the testbed's matter: :mod:`channover.network.bonding` and
:mod:`channover.network.openvswitch` are the two there are. Protocol: IEEE 802.1AX-2020, clause 6.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from ipaddress import ip_interface
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from channover.errors import NotAllowed, TestbedError
from channover.hosts import readback
from channover.hosts.host import Host, until
from channover.hosts.lab import Interface
from channover.model.drivers import VIRTUAL
from channover.model.link import Link
from channover.model.state import State
from channover.model.topology import Cable
from channover.network.addressing import wait_usable
from channover.network.flow_hash import Conversation
from channover.observe.lags.bond import LagId, LagStatus, lag_id, working_state

WATCHED = 1.2
"""Seconds: somewhat longer than lies between two LACP frames of an end that was asked for them at the fast rate."""
DEVICE = "bond0"
"""The LAG's device on each host, as in the article."""
MORE = tuple(f"chanbond{number}" for number in range(1, 8))
"""The devices of further LAGs of a lab: no name that an owner's bond has."""

_UNSEEN = State()
"""Of a host that was not looked at."""


def addresses(number: int, ipv6: bool = False) -> tuple[Interface, Interface]:
    """Return the addresses of both ends of a lab's LAG of that number: 10.92.92.1 and .2, the article's, for the first.

    Those of IPv6 are of a prefix of local use (RFC 4193).
    """
    network = f"fd00:92:{number:x}::{{}}/64" if ipv6 else "10.92.92.{}/30"
    first = 1 if ipv6 else 4 * number + 1
    return ip_interface(network.format(first)), ip_interface(network.format(first + 1))


class HashPolicy(Enum):
    """What decides which link a flow takes, in the bonding driver's words (``xmit_hash_policy``)."""

    LAYER2 = "layer2"
    LAYER23 = "layer2+3"
    LAYER34 = "layer3+4"


class LacpRate(Enum):
    """How often the partner is asked to send LACP frames: every second, or every 30 s (IEEE 802.1AX-2020, 6.4.13)."""

    SLOW = "slow"
    FAST = "fast"

    @property
    def timeout(self) -> float:
        """After how long without a LACP frame (seconds) a partner is lost: three of them."""
        return 3 * self.interval

    @property
    def interval(self) -> float:
        """How long (seconds) lies between two LACP frames."""
        return 1.0 if self is LacpRate.FAST else 30.0


@dataclass(frozen=True)
class Manner:
    """How one end of a LAG speaks LACP: how often it asks for frames, whether it only answers, and by which driver.

    ``driver`` is the name of one of :mod:`channover.network.drivers`, empty for the run's own.
    """

    rate: LacpRate = LacpRate.FAST
    passive: bool = False
    driver: str = ""


class LagHandle(Protocol):
    """One end of a LAG that a driver has made."""

    @property
    def host(self) -> Host:
        """The host or switch it is on."""
        ...

    @property
    def device(self) -> str:
        """The LAG's device; on a switch its name only."""
        ...

    @property
    def members(self) -> tuple[str, ...]:
        """The devices it consists of."""
        ...

    def status(self) -> LagStatus:
        """Read what it says of itself. Raises TestbedError."""
        ...

    def wait_converged(self, timeout: float = 10.0) -> float:
        """Wait until LACP has converged and return how long (seconds) that took. Raises TestbedError with the reason."""
        ...

    def close(self) -> None:
        """Take it apart: the NICs are as they were. Raises TestbedError."""
        ...


@runtime_checkable
class TellsMore(Protocol):
    """An end of a LAG whose driver has settings beside those that :class:`LagStatus` tells, and reads them back."""

    def unmet(self, now: State) -> Iterable[str]:
        """Yield, in words, what is not as the driver set it up; ``now`` is what the host shows. Raises TestbedError."""
        ...


@runtime_checkable
class CountsLosses(Protocol):
    """An end of a LAG whose driver counts how often each member has lost its link or its partner."""

    def losses(self) -> Mapping[str, int]:
        """Return that by member. Raises TestbedError."""
        ...


@runtime_checkable
class TellsChoices(Protocol):
    """An end of a LAG whose driver's choice of a member for a flow can be computed."""

    def choices(self, flows: Sequence[Conversation]) -> Sequence[str] | str:
        """Return the member by which each flow leaves, or in words why nobody can tell. Raises TestbedError."""
        ...


@runtime_checkable
class NoticesCarrier(Protocol):
    """An end of a LAG whose driver tells how soon (seconds) it takes a lost carrier for a lost link."""

    @property
    def notices_carrier(self) -> float:
        """By polling and by its delays, at the latest."""
        ...


@runtime_checkable
class DealsFlows(Protocol):
    """An end of a LAG whose driver deals flows out to its members once: none moves back by itself to a link that returns."""

    def deal(self) -> None:
        """Deal them out anew. Raises TestbedError."""
        ...


@runtime_checkable
class NeedsLinks(Protocol):
    """An end of a LAG whose driver can be told to be down with fewer links than a least number (``min_links``)."""

    def least_links(self, number: int) -> AbstractContextManager[None]:
        """Tell it that number for the length of a block. Raises TestbedError."""
        ...


@runtime_checkable
class SetsApart(Protocol):
    """An end of a LAG whose driver can make a member one that does not belong with the others."""

    def apart(self, member: str) -> AbstractContextManager[None]:
        """Give a member another key than the others have, for the length of a block. Raises TestbedError, NotAllowed."""
        ...


class LagDriver(Protocol):
    """Something that makes LAGs. ``needs`` are its programs, ``policies`` the hash policies it has.

    ``checksums``: whether it forwards frames as it finds them, so that hosts behind its switches must send finished
    checksums; a virtual NIC leaves them to an offload that no hardware will do.
    """

    name: str
    needs: tuple[str, ...]
    policies: frozenset[HashPolicy]
    checksums: bool

    def create(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None = None,
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> LagHandle:
        """Make the members one device, with an address in prefix notation. Raises TestbedError, UsageError (policy)."""
        ...

    def create_switch(
        self,
        host: Host,
        members: Sequence[str],
        ports: Sequence[str],
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> LagHandle:
        """Make the members one trunk and bridge it with access ports. Raises TestbedError, UsageError (policy)."""
        ...


@runtime_checkable
class ActsPassive(Protocol):
    """A LAG driver that can make an end which sends no LACP frame before it has heard one (IEEE 802.1AX-2014, 6.4.1)."""

    def create_passive(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None = None,
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> LagHandle:
        """Make the members one device whose LACP is passive, as :meth:`LagDriver.create` does."""
        ...


def wait_converged(handle: LagHandle, timeout: float) -> float:
    """Wait until LACP has converged on one end; return how long (seconds) that took. Raises TestbedError with why not."""
    try:
        return until(lambda: handle.status().unconverged() is None, "LACP", timeout, interval=0.05)
    except TestbedError:
        reason = handle.status().unconverged()
        if reason is None:
            return timeout
        raise TestbedError(
            f"{handle.host.name}: LACP on {handle.device} has not converged in {timeout:g} s: {reason}"
        ) from None


@dataclass(frozen=True)
class LagEnd:
    """One end of a LAG, what was asked of it, and the address that its device has (None on a switch)."""

    handle: LagHandle
    policy: HashPolicy
    rate: LacpRate
    _address: Interface | None = None
    passive: bool = False
    _losses: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def host(self) -> Host:
        """The host or switch it is on."""
        return self.handle.host

    @property
    def address(self) -> Interface:
        """The address of its device. Raises ValueError on a switch, which has none."""
        if self._address is None:
            raise ValueError(f"{self.host.name} is a switch: its LAG has no address")
        return self._address

    @property
    def is_switch(self) -> bool:
        """Whether it is on a switch: its device has no address."""
        return self._address is None

    @property
    def device(self) -> str:
        """The LAG's device."""
        return self.handle.device

    @property
    def members(self) -> tuple[str, ...]:
        """The devices it consists of."""
        return self.handle.members

    def status(self) -> LagStatus:
        """Read what it says of itself. Raises TestbedError."""
        return self.handle.status()

    def wait_links(self, number: int, timeout: float = 10.0) -> None:
        """Give LACP some time (seconds) until so many links are at work here; how many are then, the caller may compare."""
        with contextlib.suppress(TestbedError):
            until(lambda: len(self.status().working) == number, "links at work", timeout, 0.05)

    def converged(self) -> None:
        """Have :meth:`lost` count from now on. Raises TestbedError."""
        self._losses.update(self._counted())

    def lost(self) -> tuple[str, ...]:
        """Return the members that have lost their link or their partner since LACP converged, if only for a moment.

        That is what the driver counts, and the changes of the NIC's carrier. Raises TestbedError.
        """
        return tuple(device for device, number in self._counted().items() if number > self._losses.get(device, number))

    def _counted(self) -> dict[str, int]:
        links = self.host.state().links
        losses = self.handle.losses() if isinstance(self.handle, CountsLosses) else {}
        carriers = {device: links[device].carrier_changes for device in self.members if device in links}
        return {device: losses.get(device, 0) + carriers.get(device, 0) for device in self.members}

    def apart(self, member: str) -> AbstractContextManager[None]:
        """Have a member not belong with the others for the length of a block. Raises TestbedError, NotAllowed."""
        if isinstance(self.handle, SetsApart):
            return self.handle.apart(member)
        raise NotAllowed(
            f"{self.host.name}: its LAG's driver gives all members one key, whatever their rate; the kernel's bonding has one "
            "for each rate: --target vm"
        )

    def choices(self, flows: Sequence[Conversation]) -> Sequence[str] | str:
        """Return the member by which each flow leaves this end, by its driver's own hash, or why nobody can tell.

        It is best asked for while the flows run: a build whose hash is another one shows that then. Raises TestbedError.
        """
        if isinstance(self.handle, TellsChoices):
            return self.handle.choices(flows)
        return f"{self.host.name}: the driver of its LAG does not tell by which member a flow leaves"

    def unmet(self, now: State = _UNSEEN, mtu: int = 0) -> Iterator[str]:
        """Yield, in words, what was asked of it and is not in force: members, hash policy, LACP rate, MTU, its driver's own.

        ``now`` is what the host shows, ``mtu`` (bytes) what its device is to have; without them those are not looked at.
        """
        where = f"{self.host.name}: the LAG {self.device}"
        more = [f"{where}: {one}" for one in self.handle.unmet(now)] if isinstance(self.handle, TellsMore) else []
        try:
            status = self.status()
        except TestbedError as error:  # it is no LAG by LACP any more
            yield from more or [" ".join(str(error).split())]
            return
        found = {member.device for member in status.members}
        yield from (f"{where} has lost its member {one}" for one in self.members if one not in found)
        yield from (f"{where} has a member {one} that nobody asked for" for one in sorted(found - {*self.members}))
        if status.policy and status.policy != self.policy.value:
            what = "hash" if status.policy in {one.value for one in HashPolicy} else "mode"
            yield f"{where}: its {what} is {status.policy}, and {self.policy.value} was asked for"
        if status.lacp_rate and status.lacp_rate != self.rate.value:
            yield f"{where}: its LACP rate is {status.lacp_rate}, and {self.rate.value} was asked for"
        link = now.links.get(self.device)
        if link is not None and mtu and link.mtu != mtu:
            yield f"{where}: its MTU is {link.mtu}, and {mtu} was asked for"
        yield from more


@dataclass(frozen=True)
class Lag:
    """A LAG from end to end: ``link`` is one of its links. What its ends do not share, each of them tells.

    With ``faces_switch`` each end is a LAG of its own, whose partner is a switch that nobody logs in to: an end then tells of
    its own members, and of its partner what that says in its LACP frames.
    """

    left: LagEnd
    right: LagEnd
    link: Link
    policy: HashPolicy
    rate: LacpRate
    faces_switch: bool = False

    @property
    def ends(self) -> tuple[LagEnd, LagEnd]:
        """Both ends."""
        return self.left, self.right

    @property
    def links(self) -> int:
        """How many links it has."""
        return len(self.left.members)

    def id(self, end: LagEnd) -> LagId:
        """Return the LAG ID that each member of an end must have, of what both ends say of themselves. Raises TestbedError.

        Of a switch it is what the first member was told: the partner's system and key must be the same on all of them.
        """
        if self.faces_switch:
            status = end.status()
            return lag_id(status.own, status.members[0].partner)
        left, right = (one.status().own for one in self.ends)
        return lag_id(left, right)

    @property
    def interval(self) -> float:
        """How long (seconds) lies between two LACP frames of the slower end: a switch asks for them as it is set up."""
        if not self.faces_switch:
            return self.rate.interval
        asked = (member.partner.state for end in self.ends for member in end.status().members)
        return self.rate.interval if all("timeout" in state for state in asked) else LacpRate.SLOW.interval

    def states(self, end: LagEnd) -> frozenset[str]:
        """Return each member of an end with each state bit that it must have set, as :attr:`LagStatus.states` does."""
        bits = working_state(end.rate is LacpRate.FAST, not end.passive)
        return frozenset(f"{device} {bit}" for device in end.members for bit in bits)

    def watched(self, seconds: float = WATCHED) -> list[tuple[LagEnd, LagStatus]]:
        """Return what each end says of itself within so long, once for each state that differs. Raises TestbedError.

        Two partners that take turns on a link are seen so: what has converged is to stay so.
        """
        found: dict[object, tuple[LagEnd, LagStatus]] = {}
        until = time.monotonic() + seconds
        while True:
            for end in self.ends:
                now = end.status()
                found.setdefault((end.host.name, now.aggregators, now.ports, now.lag_ids, now.states), (end, now))
            if time.monotonic() > until:
                return list(found.values())
            time.sleep(0.1)

    def unconverged(self, timeout: float = 10.0) -> str | None:
        """Give LACP some time (seconds) to converge; return why it has not, or None. Raises TestbedError as below."""
        self._require()
        try:
            self._wait(timeout)
        except TestbedError as error:
            self._require()
            return str(error)
        return None

    def unmet(self, states: Mapping[str, State] = MappingProxyType({})) -> list[str]:
        """Return, in words, what was asked of its ends and is not in force. Raises TestbedError."""
        return [words for end in self.ends for words in end.unmet(states.get(end.host.name, _UNSEEN), self.link.mtu)]

    def wait_converged(self, timeout: float = 10.0) -> float:
        """Wait until both ends have converged; return how long (seconds) that took. Raises TestbedError with the reason.

        A setting that is not in force is said at once, and is no time-out.
        """
        self._require()
        try:
            return self._wait(timeout)
        except TestbedError:
            self._require()
            raise

    def _wait(self, timeout: float) -> float:
        took = max(end.handle.wait_converged(timeout) for end in self.ends)
        for end in self.ends:
            end.converged()
            if not end.is_switch:
                wait_usable(end.host, end.address, end.device, timeout)
        return took

    def _require(self) -> None:
        """Raise TestbedError that names what was asked of its ends and is not in force, if there is any."""
        readback.require(self.unmet())


@contextlib.contextmanager
def _both(makers: Sequence[Callable[[], LagEnd]]) -> Iterator[list[LagEnd]]:
    """Make the ends side by side; take apart whatever was made, last first, whatever happens."""
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(len(makers)) as pool:
            pending = [pool.submit(maker) for maker in makers]
        for future in pending:
            if future.exception() is None:
                stack.callback(future.result().handle.close)
        yield [future.result() for future in pending]


@contextlib.contextmanager
def between_hosts(
    drivers: LagDriver | tuple[LagDriver, LagDriver],
    left: Host,
    right: Host,
    cables: Sequence[Cable],
    link: Link,
    policy: HashPolicy = HashPolicy.LAYER2,
    manners: tuple[Manner, Manner] = (Manner(), Manner()),
    number: int = 0,
    faces_switch: bool = False,
) -> Iterator[Lag]:
    """Make cables between two hosts one LAG for the length of a block; LACP may still be at work. Raises TestbedError.

    Where they lead through a switch, ``faces_switch``, each host has a LAG of its own with it. ``drivers`` and ``manners`` are
    those of each end; ``number`` tells the LAGs of a lab apart: each has a device and addresses of its own. Raises NotAllowed
    where a driver cannot do what a manner asks for.
    """
    device = (DEVICE, *MORE)[number]

    def make(host: Host, address: Interface, driver: LagDriver, manner: Manner) -> LagEnd:
        labels = [port.nic for cable in cables for port in cable.ports if port.node == host.name]
        members = [host.nic(label).device for label in labels]
        create = _passive(driver) if manner.passive else driver.create
        handle = create(host, device, members, str(address), policy, manner.rate)
        return LagEnd(handle, policy, manner.rate, address, manner.passive)

    each = drivers if isinstance(drivers, tuple) else (drivers, drivers)
    makers = [
        partial(make, *one) for one in zip((left, right), addresses(number, link.ipv6), each, manners, strict=True)
    ]
    with _both(makers) as (one, other):
        yield Lag(one, other, link, policy, manners[0].rate, faces_switch)


def _passive(driver: LagDriver) -> Callable[..., LagHandle]:
    if isinstance(driver, ActsPassive):
        return driver.create_passive
    raise NotAllowed(f"the LAG driver {driver.name} has no end whose LACP is passive: --lag-driver openvswitch has")


@contextlib.contextmanager
def unstacked(driver: LagDriver, host: Host, others: Sequence[Host], link: Link) -> Iterator[list[LagEnd]]:
    """Make all NICs of a host one end of a LAG, and those of each of the others one of their own, for a block's length.

    Returns the ends, the host's first. Raises TestbedError.
    """

    def make(number: int, at: Host) -> LagEnd:
        address = addresses(number, link.ipv6)[0]
        devices = [nic.device for nic in at.nics.values()]
        return LagEnd(driver.create(at, DEVICE, devices, str(address)), HashPolicy.LAYER2, LacpRate.FAST, address)

    with _both([partial(make, number, at) for number, at in enumerate((host, *others))]) as ends:
        yield ends


@contextlib.contextmanager
def between_switches(
    driver: LagDriver,
    west: Host,
    east: Host,
    link: Link,
    hosts: Iterable[Host] = (),
    trunk: Sequence[str] = ("a", "b"),
    policy: HashPolicy = HashPolicy.LAYER34,
    rate: LacpRate = LacpRate.FAST,
) -> Iterator[Lag]:
    """Make the trunk NICs (by label) of two switches one LAG, bridged with all their other NICs. Raises TestbedError.

    ``hosts`` are those behind the switches: their NICs finish their own checksums where the driver needs it.
    """
    if driver.checksums:
        for host in hosts:
            for nic in host.nics.values():
                if nic.driver in VIRTUAL or not nic.driver:  # a real one finishes them itself
                    host.offloads(nic.device, ("tx",), on=False)

    def make(switch: Host) -> LagEnd:
        members = [switch.nic(label).device for label in trunk]
        ports = [nic.device for label, nic in switch.nics.items() if label not in trunk]
        return LagEnd(driver.create_switch(switch, members, ports, policy, rate), policy, rate)

    with _both([partial(make, switch) for switch in (west, east)]) as (one, other):
        yield Lag(one, other, link, policy, rate)
