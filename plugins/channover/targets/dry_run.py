"""Hosts that only note what they would be told: ``--dry-run``. Nothing is changed anywhere.

What a real host's state is may be read from it; without one NICs are bare. A test goes as far as it can without an answer.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from re import Match
from typing import TYPE_CHECKING

from channover.errors import ChannoverError, TestbedError
from channover.hosts.host import Completed, Host, Journal, Nic, shown
from channover.hosts.lab import CableEnd, Lab, mutes
from channover.model.link import Link
from channover.model.plan import Plan
from channover.model.state import Limits, LinkState, State
from channover.model.topology import Cable, Port, Topology
from channover.targets.base import Target
from channover.targets.netns import device_name

if TYPE_CHECKING:
    from channover.targets.physical.target import PhysicalTarget

FOLDER = "/run/channover/RUN/files"
"""Where a run's files lie on its hosts."""
PATIENCE = 12
"""How often a host may be asked for a state that cannot change before the test counts as waiting for an answer."""


class AnswerNeeded(ChannoverError):
    """What follows depends on what a host would answer."""


@dataclass
class DryProcess:
    """A program that was not started (:class:`channover.hosts.host.Process`)."""

    argv: tuple[str, ...]
    pid: int = 0
    stdout: str = ""
    stderr: str = ""
    lines: list[str] = field(default_factory=list)
    _serves: bool = False

    def poll(self) -> int | None:
        """Take it that a program which was ready still runs; of any other, say that the answer is missing."""
        if self._serves:
            return None
        raise AnswerNeeded(f"what follows depends on '{shown(self.argv)}'")

    def wait(self, timeout: float) -> int:  # noqa: ARG002 - as the protocol has it
        """End well."""
        return 0

    def wait_for(self, pattern: str, timeout: float) -> Match[str]:  # noqa: ARG002 - as the protocol has it
        """Take it that the words came."""
        self._serves = True
        found = re.match("", "")
        assert found is not None
        return found

    def signal(self, number: int) -> None:
        """Do nothing."""

    def stop(self, timeout: float = 5.0) -> int:  # noqa: ARG002 - as the protocol has it
        """End well."""
        return 0


@dataclass
class DryHost:
    """A host that notes what it is told (:class:`channover.hosts.host.Host`)."""

    name: str
    nics: Mapping[str, Nic]
    said: list[str]
    now: State
    real: Host | None = None
    folder: str = FOLDER
    guesses: list[str] = field(default_factory=list)
    """The programs of which it was taken that they end well and say nothing."""
    asked: int = 0

    def _say(self, text: str) -> None:
        self.asked = 0
        self.said += [f"{self.name}# {line}" for line in text.splitlines()]

    def nic(self, name: str) -> Nic:
        """Return a NIC by its label."""
        return self.nics[name]

    def run(
        self,
        *argv: str,
        input: str | None = None,  # noqa: ARG002 - as the protocol has it
        timeout: float = 30.0,  # noqa: ARG002
        check: bool = True,  # noqa: ARG002
        quiet: bool = False,
    ) -> Completed:
        """Note a command, and take it that it ended well and said nothing."""
        if not quiet:
            self._say(shown(argv))
        self.guesses.append(shown(argv))
        return Completed(argv, 0, "", "")

    def spawn(self, *argv: str, environment: Mapping[str, str] | None = None) -> DryProcess:  # noqa: ARG002
        """Note a command that would run in the background."""
        if argv[:1] != ("bash",):  # the sampler of counters changes nothing
            self._say(f"{shown(argv)} &")
        self.guesses.append(shown(argv))
        return DryProcess(argv)

    def read(self, path: str) -> str:
        """Read a kernel parameter, or take it that it is there; of any other file, say that the answer is missing."""
        if path.startswith("/proc/sys/"):
            return self.real.read(path) if self.real is not None else ""
        raise AnswerNeeded(f"what follows depends on {self.name}'s {path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Note a file."""
        self._say(f"install -m {mode:o} /dev/stdin {path}  # {len(text.encode())} bytes")

    def sparse(self, path: str, size: int) -> None:
        """Note a file."""
        self._say(f"truncate -s {size} {path}")

    def state(self, sysctls: tuple[str, ...] = ()) -> State:  # noqa: ARG002 - as the protocol has it
        """Return the state that the plans so far lead to."""
        self.asked += 1
        if self.asked > PATIENCE:
            raise AnswerNeeded(f"what follows waits for a change on {self.name}")
        return self.now

    def apply(self, plan: Plan) -> Plan:
        """Note a plan's commands and their undo."""
        if not plan.operations:
            return plan
        missing = tuple(key for key in plan.sysctl_keys if key not in self.now.sysctls)
        if missing and self.real is not None:
            self.now = replace(self.now, sysctls={**self.now.sysctls, **self.real.state(missing).sysctls})
        unknown = [key for key in missing if key not in self.now.sysctls]
        undo = plan.inverse(self.now)
        self.said.append(f"{self.name}: {plan.purpose}")
        for operation in plan:
            self._say(operation.command)
            self.now = operation.after(self.now)
        if not plan.purpose.startswith("undo: "):
            self.said += [f"{self.name}  undo: {line}" for step in undo for line in step.command.splitlines()]
            self.said += [f"{self.name}  undo: write back what was in /proc/sys/{key}" for key in unknown]
        return undo

    @contextmanager
    def applied(self, plan: Plan) -> Iterator[None]:
        """Note a plan, and its undo at the end of the block."""
        undo = self.apply(plan)
        try:
            yield
        finally:
            self.apply(undo)

    def offloads(self, device: str, features: tuple[str, ...], on: bool) -> None:
        """Note a command."""
        self._say(f"ethtool -K {device} " + " ".join(f"{feature} {'on' if on else 'off'}" for feature in features))


@dataclass
class DryCabling:
    """Notes what would be pulled (:class:`channover.hosts.lab.Cabling`)."""

    said: list[str]

    def cut(self, cable: Cable) -> None:
        """Note it."""
        self.said.append(f"panel: pull {cable}")

    def mute(self, cable: Cable, sender: Port | None = None) -> None:
        """Note it."""
        self.said.append(f"panel: let frames from {' and '.join(map(str, mutes(cable, sender)))} vanish")

    def delay(self, cable: Cable, seconds: float, ends: Sequence[CableEnd]) -> None:  # noqa: ARG002
        """Note it."""
        self.said.append(f"panel: let frames of {cable} take {seconds * 1e3:g} ms each way")

    def restore(self, cable: Cable) -> None:
        """Note it."""
        self.said.append(f"panel: plug in {cable}")


@dataclass
class DryTarget:
    """Labs in which nothing happens (:class:`channover.targets.base.Target`). ``source`` knows the real hosts, if any."""

    name: str
    source: Target | None = None
    remarks: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    """The programs whose answers were made up: an error after that may be the dry run's own."""
    _told: set[object] = field(default_factory=set)
    """The hosts and cables of which it was said what is done once a run."""

    def unmet(self, topology: Topology) -> str | None:
        """Say what the inventory lacks, or what speaks against a host; made-up commands can be told anywhere."""
        real = self._real
        if real is None:
            return None
        from channover.targets.physical import preflight  # here and below, since hosts behind SSH take long to import
        from channover.targets.physical.placement import fit

        found = fit(topology, real.entry)
        if isinstance(found, str):
            return found
        try:
            preflight.fatal(real.findings({name: real.entry.hosts[name] for name in found.nodes.values()}))
        except ChannoverError as error:
            return str(error)
        return None

    def likely(self, topology: Topology, look: Callable[[Host], str | None]) -> list[str | None]:
        """Return what a look at each real host of a topology shows; none without real hosts. Raises TestbedError."""
        real = self._real
        return [look(host) for host in real.looked_at(topology).values()] if real is not None else []

    @property
    def _real(self) -> PhysicalTarget | None:
        if self.source is None:
            return None
        from channover.targets.physical.target import PhysicalTarget

        return self.source if isinstance(self.source, PhysicalTarget) else None

    @contextmanager
    def lab(self, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
        """Give a lab of hosts that take notes. Raises TestbedError where real ones could not have it."""
        real = self._real
        made = self._made(topology, link, journal) if real is None else self._laid(real, topology, link, journal)
        with contextlib.suppress(AnswerNeeded):
            yield made

    def _made(self, topology: Topology, link: Link, journal: Journal) -> Lab:
        hosts = {}
        for node in topology.nodes:
            nics = {nic: Nic(nic, device_name(number)) for number, nic in enumerate(node.nics)}
            links = {nic.device: LinkState(nic.device, False, 1500, "", ()) for nic in nics.values()}
            now = State(links=links, limits=Limits(2, 0))
            hosts[node.name] = DryHost(node.name, nics, self.said, now, guesses=self.guesses)
        return Lab(topology, hosts, link, DryCabling(self.said), journal)

    def _laid(self, real: PhysicalTarget, topology: Topology, asked: Link, journal: Journal) -> Lab:
        """Look at real hosts, and say what they would get before a test begins."""
        from channover.targets.physical.gate import gate
        from channover.targets.physical.placement import fit
        from channover.targets.physical.target import HostCabling, bare, clashes, laid, raised

        found = fit(topology, real.entry)
        if isinstance(found, str):
            raise TestbedError(found)
        known = real.looked_at(topology)
        clashes(known, found, found.seen(topology), asked)
        hosts: dict[str, Host] = {}
        for name, host in known.items():
            dry = DryHost(name, host.nics, self.said, host.state(), host, f"{FOLDER}/{name}", self.guesses)
            if self._first(found.nodes[name]):
                self.said.append(
                    f"{name}: take {found.nodes[name]}, which saves its state and restores itself at the end"
                )
            self.said.append(f"{name}# mkdir -p {dry.folder}")
            before, devices = dry.now, [nic.device for nic in host.nics.values()]
            owner = found.nodes[name]
            lent = real.leases.at(owner, real.entry.hosts[owner]).lent
            stripping = bare(before, devices, lent, down=real.entry.allows.nics_down, mtu=found.mtu)
            dry.apply(stripping)
            foreign = host.policy.foreign - {"lo"}
            shut = gate(host, "RUN", devices, foreign, found.beyond(name))
            dry.apply(shut + raised(before, devices, stripping))
            hosts[name] = dry
        for cable in found.seen(topology).cables:
            if cable.a in found.facing:
                continue
            if cable.a in found.uplinks:
                if self._first((found.nics[cable.a], found.nics[cable.b])):
                    self.said.append(
                        f"panel: prove the path {cable}: both ends get their addresses and a route by their gateways, "
                        "ping, and lose them again"
                    )
                continue
            if self._first((found.nics[cable.a], found.nics[cable.b])):
                self.said.append(
                    f"panel: prove the cable {cable}: both ends get an address of 169.254.0.0/16, ping, and lose it again; "
                    "then both send full frames of type 0x88b5 as fast as it carries them, for a second at most"
                )
        ports = [str(outlet) for outlet in found.facing.values()]
        if ports and self._first(tuple(ports)):
            self.said.append(
                f"panel: prove the switch ports {', '.join(ports)}: hosts send broadcast frames of type 0x88b5 by these NICs, "
                "and LACP's where the inventory has a LAG, for a few seconds"
            )
        cabling = HostCabling(hosts, real.entry.allows.nics_down, found.near(topology))
        return laid(topology, found, hosts, asked, cabling, journal)

    def _first(self, thing: object) -> bool:
        """Say whether it is the first time that there is something to say of a thing."""
        new = thing not in self._told
        self._told.add(thing)
        return new

    def close(self) -> None:
        """Let go of the real hosts."""
        if self.source is not None:
            self.source.close()
