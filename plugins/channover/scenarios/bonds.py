"""LAGs of a lab as a test asks for them: the one that its topology is for, and one between any two hosts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

from channover.errors import NotAllowed, TestbedError, UsageError
from channover.hosts.host import Host, until
from channover.hosts.lab import Lab
from channover.measure.record import Record
from channover.network import lag as lags
from channover.network.drivers import DRIVERS
from channover.network.lag import HashPolicy, LacpRate, Lag, LagDriver, LagEnd, Manner
from channover.observe.lags.bond import LagStatus
from channover.targets.capabilities import lag_driver
from channover.verdict.notes import Note


def of_lag(end: LagEnd, status: LagStatus, speeds: Mapping[str, int]) -> Iterator[Note]:
    """Yield what a reader wants to know of an end of a LAG that is as it was asked for; ``speeds`` (bit/s) are its NICs'."""
    where = f"{end.host.name}: the LAG {end.device}"
    if end.rate is LacpRate.SLOW:
        text = f"{where} asks for LACP frames every 30 s, as it was told to: it notices a lost partner after 90 s"
        yield Note("slow-lacp", text, {"timeout": end.rate.timeout})
    slow = [one.device for one in status.members if one.heard and "timeout" not in one.partner.state]
    if slow and end.rate is LacpRate.FAST:
        text = (
            f"{where}: the partner of {', '.join(slow)} asks for LACP frames every 30 s: it notices a loss after 90 s"
        )
        yield Note("slow-lacp", text, {"timeout": LacpRate.SLOW.timeout})
    known = {device: speeds[device] for device in end.members if device in speeds}
    if len(set(known.values())) > 1:
        named = ", ".join(f"{device} {speed / 1e6:g} Mbit/s" for device, speed in known.items())
        yield Note("unlike-speeds", f"{where} has members of unlike speeds: {named}", known)
    if not status.policy:
        yield Note("hash", f"{where}: its driver does not tell its hash; {end.policy.value} was asked for")
    elif status.driver == "openvswitch" and end.policy is HashPolicy.LAYER2 and end.is_switch:
        yield Note("hash", f"{where} hashes sources only (balance-slb), where layer2 tells destinations apart as well")


class Apart(Enum):
    """Why links do not belong to a LAG: they lead to another system, or have another rate than the others."""

    SYSTEM = "system"
    RATE = "rate"


def _working(ends: Sequence[LagEnd]) -> int:
    return sum(len(end.status().working) for end in ends)


@dataclass
class Bonds:
    """Makes LAGs that last as long as the test: ``bond(lab["alpha"], lab["beta"], policy="layer3+4")``.

    ``real`` says whether there is a lab, or only notes are taken; ``attach`` is given a title and what an end says of itself
    at the end of the test.
    """

    lab: Lab
    driver: Callable[[], LagDriver]
    record: Record
    real: bool = True
    attach: Callable[[str, str], None] = lambda _title, _text: None
    made: list[Lag] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __call__(
        self, one: Host, other: Host, *, policy: HashPolicy | str = HashPolicy.LAYER2, rate: LacpRate = LacpRate.FAST
    ) -> Lag:
        """Make all cables between two hosts one LAG, and wait until LACP has converged on it; ``left`` is the first host.

        Raises TestbedError where it does not converge, and UsageError where no cable lies between the two, where one of them is
        in a LAG already, and for a policy that the driver has not.
        """
        made = self.between(one, other, policy=policy, rate=rate)
        if self.real:
            with self.record.converges():
                made.wait_converged()
        return made

    def between(
        self,
        one: Host,
        other: Host,
        *,
        policy: HashPolicy | str = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
        manners: tuple[Manner, Manner] | None = None,
    ) -> Lag:
        """Make the same LAG; LACP may still be at work on it. ``manners`` are how each end speaks LACP, where they differ.

        Raises NotAllowed where a host, or its driver, has not what a manner asks for.
        """
        near, far = manners or (Manner(rate), Manner(rate))
        drivers = self._named(one, near), self._named(other, far)
        chosen = self._driver(policy)[1]
        topology = self.lab.topology
        cables = list(topology.between(one.name, other.name))
        if not cables:
            raise UsageError(f"topology {topology.name}: no cable lies between {one.name} and {other.name}")
        for each in self.made:
            if {end.host.name for end in each.ends} == {one.name, other.name}:
                raise UsageError(f"the cables between {one.name} and {other.name} are a LAG already")
        if len(self.made) > len(lags.MORE):
            raise UsageError(f"a lab has at most {len(lags.MORE) + 1} LAGs")
        faces = any(port in self.lab.facing for cable in cables for port in cable.ports)
        if faces and near != far:
            raise NotAllowed(
                "the hosts face a switch that is not this run's: how it speaks LACP is not for a test to choose"
            )
        number = len(self.made)
        making = lags.between_hosts(drivers, one, other, cables, self.lab.link, chosen, (near, far), number, faces)
        with self.record.converges():
            return self._keep(making)

    @contextmanager
    def parted(self, by: Apart) -> Iterator[list[LagEnd]]:
        """Make all of the client's NICs one end of a LAG to which half of its links do not belong, for the length of a block.

        Returns the client's end and those opposite, once half of its links are at work or had the time for it. Raises
        TestbedError, and NotAllowed where a driver, or the owner of a NIC, does not allow it.
        """
        client = self.lab.left
        with ExitStack() as stack:
            if by is Apart.SYSTEM:
                driver, _ = self._driver(HashPolicy.LAYER2)
                others = [host for host in self.lab.hosts.values() if host is not client]
                ends = stack.enter_context(lags.unstacked(driver, client, others, self.lab.link))
            else:
                lag = self(client, self.lab.right)
                ends = list(lag.ends)
                for end in ends:
                    for member in end.members[-(len(end.members) // 2) :]:
                        stack.enter_context(end.apart(member))
            if self.real:
                with self.record.converges():
                    near = ends[0]
                    until(lambda: all(one.heard for one in near.status().members), "partners by all NICs", 10.0, 0.05)
                    near.wait_links(half := len(near.members) - len(near.members) // 2)
                    with suppress(TestbedError):  # what it comes to is for the test to compare
                        until(lambda: _working(ends[1:]) == half, "links at work opposite", 5.0, 0.05)
            yield ends

    def _keep(self, making: AbstractContextManager[Lag]) -> Lag:
        """Make a LAG that lasts as long as the test; what was asked of it is read back before traffic."""
        made = self._stack.enter_context(making)
        self.made.append(made)
        self.record.standing.append(made)
        if self.real:
            self.lab.asked.append(made)
            self._stack.callback(self.lab.asked.remove, made)
        return made

    def of_topology(self, policy: HashPolicy = HashPolicy.LAYER2) -> Lag:
        """Make the LAG that the topology is for: between its two switches where it has two, else from client to server."""
        topology = self.lab.topology
        if len(topology.switches) != 2:
            return self.between(self.lab.left, self.lab.right, policy=policy)
        driver, policy = self._driver(policy)
        west, east = topology.switches
        ports = [one.ports for one in topology.between(west.name, east.name)]
        trunk = [port.nic for pair in ports for port in pair if port.node == west.name]
        if trunk != [port.nic for pair in ports for port in pair if port.node == east.name]:
            raise UsageError(
                f"topology {topology.name}: NICs of the cables between its switches must have the same names"
            )
        left, right = self.lab.hosts[west.name], self.lab.hosts[east.name]
        making = lags.between_switches(driver, left, right, self.lab.link, trunk=trunk, policy=policy)
        with self.record.converges():
            return self._keep(making)

    def tell(self) -> None:
        """Note what each end says of itself."""
        for end in (end for each in self.made for end in each.ends):
            status = self.record.lags[end.host.name, end.device] = end.status()
            self.attach(f"{end.host.name}: bond state", status.text)
            speeds = {nic.device: nic.speed for nic in end.host.nics.values() if nic.speed}
            self.record.notes += of_lag(end, status, speeds)

    def close(self) -> None:
        """Take the LAGs apart, the last one first."""
        with self.record.converges():
            self._stack.close()

    def _named(self, host: Host, manner: Manner) -> LagDriver:
        """Return the driver of a manner. Raises NotAllowed where the host has it not."""
        if not manner.driver:
            return self.driver()
        reason = lag_driver(host, manner.driver)[1] if self.real else None
        if reason is not None:
            raise NotAllowed(reason)
        return DRIVERS[manner.driver]

    def _driver(self, policy: HashPolicy | str) -> tuple[LagDriver, HashPolicy]:
        driver = self.driver()
        known = {one.value: one for one in driver.policies}
        word = policy.value if isinstance(policy, HashPolicy) else policy
        if word not in known:
            raise UsageError(
                f"the LAG driver {driver.name} has no hash policy {word}; it has: {', '.join(sorted(known))}"
            )
        self.record.lag_driver = driver.name
        return driver, known[word]
