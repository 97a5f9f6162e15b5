"""A run's lease of one real host: the host's state is saved first, and restored when the run's signs of life end.

What guards the host is ``guardian.sh``, which runs there: see its head, and docs/safety.md.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources

from channover.errors import TestbedError
from channover.hosts.change_policy import ChangePolicy, Management
from channover.hosts.guardian import inquiry
from channover.hosts.guardian.differences import changes, parse_end
from channover.hosts.guardian.facts import Facts
from channover.hosts.ssh.connection import SshLink
from channover.hosts.ssh.process import RemoteProcess, connection_of
from channover.hosts.ssh.shell import PATH

ROOT = "/run/channover"
TTL = 20
"""Seconds without a sign of life from the controller after which a host restores itself."""
BEAT = 2.0
"""Seconds between two signs of life; a longer lease gets ten in its time, or one each ``SLOW_BEAT`` seconds."""
SLOW_BEAT = 10.0
TAKEN = 75
"""The guardian's exit code where somebody else holds the lease."""
NOT_HELD = 3
"""The guardian's exit code where the run does not hold the lease."""
_SENT = 'exec bash -c "$(cat)" guardian "$@"'


class Taken(TestbedError):
    """Another run holds the lease of a host."""


@dataclass
class HostLease:
    """One host of a lab, from the connection to the release."""

    name: str
    link: SshLink
    run_id: str
    who: str
    nics: Mapping[str, str]
    """The test NICs: device or MAC address by label."""
    management: str = ""
    """The management interface, as the inventory names it."""
    ttl: int = TTL
    nics_down: bool = True
    """Whether the inventory allows to set the test NICs down."""
    say: Callable[[str], None] = lambda _: None
    """Told, in a line, what somebody who waits or wonders should know."""
    patience: float = 1.0
    """By what the times are multiplied that programs on the host may take."""
    facts: Facts | None = None
    held: bool = False
    lost: str = ""
    leftovers: tuple[str, ...] | None = None
    """Sockets of earlier tests that the kernel kept when they were last ended, in words; None: not asked for yet."""
    _controller: str = ""
    _beat: RemoteProcess | None = field(default=None, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def open(self) -> Facts:
        """Connect, and read what is to be known. Raises TestbedError."""
        if self.facts is None:
            self.link.open()
            try:
                self.facts = self._greeted()
            except TestbedError:
                if self.link.alive:
                    raise
                self.link.open()  # a host with much to do may let a connection fall that it has just taken
                self.facts = self._greeted()
        return self.facts

    def _greeted(self) -> Facts:
        connection = connection_of(self.link).split()
        self._controller = connection[0] if len(connection) == 4 and connection[0] != "UNKNOWN" else ""
        return self._look()

    def _look(self) -> Facts:
        asked = time.time()
        done = self._bash("-c", inquiry.SCRIPT, "facts", self._controller, first="sh")
        try:
            return inquiry.parse(done[1], asked, time.time(), self._controller)
        except inquiry.Unusable as error:
            raise TestbedError(f"{self.name}: {error}") from None
        except ValueError as error:
            raise TestbedError(f"{self.name}: {error}; {' '.join(done[2].split())[-300:]}") from None

    def _process(self, *argv: str) -> RemoteProcess:
        environment = {"PATH": PATH, "LC_ALL": "C"}
        login = self.link.login
        return RemoteProcess(self.link, argv, environment, lambda *_: None, sudo=login.sudo, patience=self.patience)

    def _bash(
        self, *arguments: str, input: str = "", timeout: float = 60.0, first: str = "bash"
    ) -> tuple[int, str, str]:
        process = self._process(first, *arguments)
        process.begun(30.0)
        with contextlib.suppress(TestbedError):
            process.feed(input)
        process.close_input()
        code = process.wait(timeout)
        return code, process.stdout, process.stderr

    def guardian(self, *words: str, timeout: float = 60.0) -> tuple[int, str, str]:
        """Run a subcommand of the guardian, sent along. Raises TestbedError where the connection is lost."""
        return self._bash("-c", _SENT, "sh", *words, input=script(), timeout=timeout, first="sh")

    def device(self, label: str) -> str:
        """Return the device of a test NIC. Raises TestbedError where the host has none."""
        assert self.facts is not None
        found = self.facts.device(self.nics[label])
        if found is None:
            raise TestbedError(f"{self.name}: there is no NIC {self.nics[label]} (nics.{label}): 'ip link' lists them")
        return found.device

    @property
    def way(self) -> Management:
        """The way to the host: the interface that the inventory names, and the one that the host's routes show."""
        assert self.facts is not None
        seen = self.facts.management
        own = self.facts.devices.get(self.management)
        networks = own.networks if own else ()
        device = self.management if seen is None or seen.device == "lo" else seen.device
        if seen is not None and seen.device != self.management:
            networks = (*seen.networks, *networks)
        lower_devices = self.facts.beneath({device, self.management} - {""}) - {device}
        return Management(device, networks, seen.peers if seen else (), lower_devices)

    @property
    def policy(self) -> ChangePolicy:
        """What a plan may change here."""
        assert self.facts is not None
        nics = frozenset(self.device(label) for label in self.nics)
        foreign = frozenset(self.facts.devices) - nics
        return ChangePolicy(
            self.name, nics, foreign, self.way, self.facts.tables, self.facts.filters, nics_down=self.nics_down
        )

    @property
    def lent(self) -> frozenset[str]:
        """The test NICs that have what goes when they are set down and only the guardian knows of."""
        assert self.facts is not None
        nics = {self.device(label) for label in self.nics}
        return frozenset(nic for nic in nics if self.facts.devices[nic].entries or self.facts.above(nic))

    @property
    def above(self) -> frozenset[str]:
        """The devices that are stacked on test NICs."""
        assert self.facts is not None
        return frozenset(name for label in self.nics for name in self.facts.above(self.device(label)))

    def take(self, wait: float = 0.0) -> None:
        """Take the lease; the host saves its state and guards itself from now on.

        Waits for at most ``wait`` seconds while another run holds it. Raises Taken, and TestbedError where the host refuses.
        """
        self.open()
        devices = [self.device(label) for label in self.nics]
        deadline, waited = time.monotonic() + wait, False
        while True:
            code, out, error = self.guardian("take", self.run_id, str(self.ttl), self.who, *devices)
            if code == 0:
                break
            words = " ".join((out if code == TAKEN else error or out).split())
            if code != TAKEN:
                raise TestbedError(f"{self.name}: the host cannot be taken: {words[-500:]}")
            if time.monotonic() >= deadline:
                raise Taken(f"{self.name} is {words}; wait for it with --lease-wait SECONDS")
            if not waited:
                self.say(f"{self.name} is {words}; waiting for it, {wait:.0f} s at most")
            waited = True
            time.sleep(1.0)
        self.held = True
        for line in error.splitlines():
            self.say(f"{self.name}: {line.removeprefix('guardian: ')}")
        self._start_beat()
        if waited or error:  # what was seen before may have been the other run's
            self.facts = self._look()
        self._thread = threading.Thread(target=self._keep, name=f"beat {self.name}", daemon=True)
        self._thread.start()

    def _start_beat(self) -> None:
        self._beat = self._process("bash", f"{ROOT}/{self.run_id}/guardian.sh", "beat", self.run_id)
        self._beat.begun(30.0)

    def _keep(self) -> None:
        """Renew the lease as long as the host answers: a connection may seem to stand where nothing gets through."""
        last, heard, why = time.monotonic(), "", "it answers nothing"
        while not self._stop.wait(max(BEAT, min(self.ttl / 10, SLOW_BEAT))):
            try:
                assert self._beat is not None
                code = self._beat.poll()
                if code is not None:
                    words = self._beat.stderr.strip()[-200:]
                    self._lose(f"{self.name} has restored itself: its lease is gone ({words})")
                    return
                if self._beat.stdout != heard:
                    last, heard = time.monotonic(), self._beat.stdout
                self._beat.feed("\n")
            except TestbedError as error:
                why = str(error)
                with contextlib.suppress(TestbedError):  # tried again until the lease is over
                    self._start_beat()
                    heard = ""
            if time.monotonic() - last > self.ttl:
                self._lose(f"{self.name} could not be reached for {self.ttl} s and restores itself: {why}")
                return

    def _lose(self, reason: str) -> None:
        """Note that the host is not the run's any more, and have all that waits for it fail."""
        self.lost = reason
        self.link.give_up(reason)

    def check(self) -> None:
        """Raise TestbedError where the lease is lost."""
        if self.lost:
            raise TestbedError(self.lost)

    def differences(self) -> list[str]:
        """Return in words what differs now from the saved state. Raises TestbedError."""
        self.check()
        code, out, error = self.guardian("diff", self.run_id)
        if code != 0:
            raise TestbedError(f"{self.name}: the state could not be compared: {error.strip()[-300:]}")
        return changes(out.splitlines())

    def heal(self) -> list[str]:
        """End what a test left running and put the state back; return what had to be changed. Raises TestbedError."""
        self.check()
        code, out, error = self.guardian("heal", self.run_id)
        if code == NOT_HELD:
            self._lose(f"{self.name} has restored itself: its lease is gone ({error.strip()[-200:]})")
            self.check()
        if code not in (0, 1):
            raise TestbedError(f"{self.name}: the state could not be compared: {error.strip()[-300:]}")
        found = parse_end(out)
        if found.left:
            raise TestbedError(f"{self.name} could not be restored: {'; '.join(found.left)}")
        return list(found.changed)

    def forget(self, networks: Collection[str]) -> None:
        """End the sockets that a test left on addresses of the lab's networks, and forget what was learned of these.

        To be called where no test NIC has an address of the lab. What cannot be ended stands in :attr:`leftovers`. Raises
        TestbedError.
        """
        self.check()
        nics = [self.device(label) for label in self.nics]
        code, out, error = self._bash("-c", _text("leftovers.sh"), "leftovers", *networks, "--", *nics)
        if code != 0:
            raise TestbedError(f"{self.name}: what earlier tests left cannot be ended: {error.strip()[-300:]}")
        self.leftovers = tuple(out.splitlines())

    def end(self) -> list[str]:
        """Release the host; return what had to be put back. Raises TestbedError where something could not be."""
        self._stop.set()
        if not self.held:
            self.link.close()
            return []
        self.held = False
        try:
            code, out, error = self.guardian("end", self.run_id)
        finally:
            if self._beat is not None:
                self._beat.close_input()
            self.link.close()
        found = parse_end(out)
        if code != 0 and not self.lost:
            raise TestbedError(
                f"{self.name} is not as it was: {'; '.join(found.left) or error.strip()[-300:]}; try 'channover restore'"
            )
        return list(found.changed)


def script() -> str:
    """Return the guardian's script."""
    return _text("guardian.sh")


def _text(file: str) -> str:
    return (resources.files("channover") / "hosts" / "guardian" / file).read_text()
