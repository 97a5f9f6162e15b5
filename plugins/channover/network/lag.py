"""Link aggregation as a test sees it: policies, what a driver can be asked for, and two ends made into one LAG.

Which driver makes it (the kernel's bonding, Open vSwitch) is the testbed's matter: :mod:`channover.network.bonding` and
:mod:`channover.network.openvswitch` are the two there are. Protocol: IEEE 802.1AX-2020, clause 6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from ipaddress import IPv4Interface
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from channover.errors import TestbedError
from channover.hosts import readback
from channover.hosts.host import Host, until
from channover.model.link import Link
from channover.model.state import State
from channover.model.topology import Cable
from channover.network.flow_hash import Conversation
from channover.observe.bond import LagId, LagStatus, lag_id, working_state

DEVICE = "bond0"
"""The LAG's device on each host, as in the article."""
MORE = tuple(f"chanbond{number}" for number in range(1, 8))
"""The devices of further LAGs of a lab: no name that an owner's bond has."""

_UNSEEN = State()
"""Of a host that was not looked at."""


def addresses(number: int) -> tuple[IPv4Interface, IPv4Interface]:
    """Return the addresses of both ends of a lab's LAG of that number: 10.92.92.1 and .2, the article's, for the first."""
    return IPv4Interface(f"10.92.92.{4 * number + 1}/30"), IPv4Interface(f"10.92.92.{4 * number + 2}/30")


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
    _address: IPv4Interface | None = None
    _losses: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def host(self) -> Host:
        """The host or switch it is on."""
        return self.handle.host

    @property
    def address(self) -> IPv4Interface:
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
    """A LAG from end to end: ``link`` is one of its links."""

    left: LagEnd
    right: LagEnd
    link: Link
    policy: HashPolicy
    rate: LacpRate

    @property
    def ends(self) -> tuple[LagEnd, LagEnd]:
        """Both ends."""
        return self.left, self.right

    @property
    def links(self) -> int:
        """How many links it has."""
        return len(self.left.members)

    def id(self) -> LagId:
        """Return the LAG ID that each member must have, of what both ends say of themselves. Raises TestbedError."""
        left, right = (end.status().own for end in self.ends)
        return lag_id(left, right)

    def states(self, end: LagEnd) -> frozenset[str]:
        """Return each member of an end with each state bit that it must have set, as :attr:`LagStatus.states` does."""
        bits = working_state(self.rate is LacpRate.FAST)
        return frozenset(f"{device} {bit}" for device in end.members for bit in bits)

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
    driver: LagDriver,
    left: Host,
    right: Host,
    cables: Sequence[Cable],
    link: Link,
    policy: HashPolicy = HashPolicy.LAYER2,
    rate: LacpRate = LacpRate.FAST,
    number: int = 0,
) -> Iterator[Lag]:
    """Make cables between two hosts one LAG for the length of a block; LACP may still be at work. Raises TestbedError.

    ``number`` tells the LAGs of a lab apart: each has a device and addresses of its own.
    """
    device = (DEVICE, *MORE)[number]

    def make(host: Host, address: IPv4Interface) -> LagEnd:
        labels = [port.nic for cable in cables for port in cable.ports if port.node == host.name]
        members = [host.nic(label).device for label in labels]
        return LagEnd(driver.create(host, device, members, str(address), policy, rate), policy, rate, address)

    makers = [partial(make, host, address) for host, address in zip((left, right), addresses(number), strict=True)]
    with _both(makers) as (one, other):
        yield Lag(one, other, link, policy, rate)


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
                host.offloads(nic.device, ("tx",), on=False)

    def make(switch: Host) -> LagEnd:
        members = [switch.nic(label).device for label in trunk]
        ports = [nic.device for label, nic in switch.nics.items() if label not in trunk]
        return LagEnd(driver.create_switch(switch, members, ports, policy, rate), policy, rate)

    with _both([partial(make, switch) for switch in (west, east)]) as (one, other):
        yield Lag(one, other, link, policy, rate)
