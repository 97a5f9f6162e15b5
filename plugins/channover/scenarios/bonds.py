"""LAGs of a lab as a test asks for them: the one that its topology is for, and one between any two hosts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from channover.errors import UsageError
from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.measure.record import Record
from channover.network import lag as lags
from channover.network.lag import HashPolicy, LacpRate, Lag, LagDriver, LagEnd
from channover.observe.bond import LagStatus
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
        self, one: Host, other: Host, *, policy: HashPolicy | str = HashPolicy.LAYER2, rate: LacpRate = LacpRate.FAST
    ) -> Lag:
        """Make the same LAG; LACP may still be at work on it."""
        driver, chosen = self._driver(policy)
        topology = self.lab.topology
        cables = list(topology.between(one.name, other.name))
        if not cables:
            raise UsageError(f"topology {topology.name}: no cable lies between {one.name} and {other.name}")
        for each in self.made:
            if {end.host.name for end in each.ends} == {one.name, other.name}:
                raise UsageError(f"the cables between {one.name} and {other.name} are a LAG already")
        if len(self.made) > len(lags.MORE):
            raise UsageError(f"a lab has at most {len(lags.MORE) + 1} LAGs")
        number = len(self.made)
        making = lags.between_hosts(driver, one, other, cables, self.lab.link, chosen, rate, number)
        with self.record.converges():
            self._keep(making)
        return self.made[-1]

    def _keep(self, making: AbstractContextManager[Lag]) -> None:
        """Make a LAG that lasts as long as the test; what was asked of it is read back before traffic."""
        made = self._stack.enter_context(making)
        self.made.append(made)
        self.record.standing.append(made)
        if self.real:
            self.lab.asked.append(made)
            self._stack.callback(self.lab.asked.remove, made)

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
            self._keep(making)
        return self.made[-1]

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
