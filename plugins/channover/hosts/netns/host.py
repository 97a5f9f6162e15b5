"""Hosts that are network namespaces of this machine, reached through their lab's first process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from channover.errors import TestbedError
from channover.hosts.host import Completed, Journal, Nic, Process, Started, finished, shown
from channover.hosts.netns.client import LabProcess
from channover.hosts.netns.process import NamespaceProcess
from channover.model import state
from channover.model.asked import Asked
from channover.model.operations.kernel import TableAdd, TableDelete
from channover.model.operations.operation import Operation
from channover.model.plan import Plan


@dataclass
class NamespaceHost:
    """A host that is a network namespace (:class:`channover.hosts.host.Host`)."""

    name: str
    nics: Mapping[str, Nic]
    lab: LabProcess
    journal: Journal
    asked: Asked = field(default_factory=Asked, repr=False)

    @property
    def folder(self) -> str:
        """A folder on the lab's own tmpfs."""
        return f"/run/{self.name}"

    def nic(self, name: str) -> Nic:
        """Return a NIC by its label."""
        return self.nics[name]

    def run(
        self, *argv: str, input: str | None = None, timeout: float = 30.0, check: bool = True, quiet: bool = False
    ) -> Completed:
        """Run a program to its end."""
        with self.journal.step(self.name, shown(argv), quiet=quiet) as told:
            process = told.process = NamespaceProcess(self.lab, self.name, argv, {}, input=input or "")
            process.close_input()
            return finished(self.name, process, timeout, check)

    def spawn(self, *argv: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a program."""
        with self.journal.step(self.name, f"start {shown(argv)}"):
            process = NamespaceProcess(self.lab, self.name, argv, environment or {})
            self.journal.started.append(Started(self.name, time.time(), process))
            return process

    def read(self, path: str) -> str:
        """Return a text file's content."""
        try:
            return bytes(self.lab.call("read", self.name, path)).decode(errors="replace")
        except OSError as error:
            raise TestbedError(f"{self.name}: cannot read {path}: {error.strerror}") from None

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a text file."""
        try:
            self.lab.call("write", self.name, path, text.encode(), mode)
        except OSError as error:
            raise TestbedError(f"{self.name}: cannot write {path}: {error.strerror}") from None

    def sparse(self, path: str, size: int) -> None:
        """Make a file of ``size`` zero bytes."""
        try:
            self.lab.call("sparse", path, size)
        except OSError as error:
            raise TestbedError(f"{self.name}: cannot write {path}: {error.strerror}") from None

    def state(self, sysctls: tuple[str, ...] = ()) -> state.State:
        """Read the host's network state."""
        found = self.run(*state.COMMAND, input=state.QUERY, check=False, quiet=True)
        values = {key: self.read(f"/proc/sys/{key}").strip() for key in sysctls}
        try:
            return state.State.parse(found.stdout, values)
        except ValueError as error:
            raise TestbedError(f"{self.name}: {error}; {found.stderr.strip()}") from None

    def apply(self, plan: Plan) -> Plan:
        """Apply a plan through netlink and return its inverse; where a change is refused, take back those before it."""
        before = self.state(plan.sysctl_keys)
        done: list[Operation] = []
        try:
            for operation in self._performed(plan.operations):
                done.append(operation)
        except BaseException:
            with contextlib.suppress(TestbedError):  # the refusal is what there is to say
                self._undo(Plan.of(plan.purpose, done).inverse(before))
            raise
        self.asked.note(plan, before)
        return plan.inverse(before)

    @contextlib.contextmanager
    def applied(self, plan: Plan) -> Iterator[None]:
        """Apply a plan for the length of a block."""
        undo = self.apply(plan)
        try:
            yield
        finally:
            self._undo(undo)

    def _undo(self, plan: Plan) -> None:
        """Perform all of a plan that is not refused. Raises TestbedError, for the first refusal, when all has been tried."""
        rest, refusal = plan.operations, None
        while rest:
            done = 0
            try:
                for _ in self._performed(rest):
                    done += 1
            except TestbedError as error:
                refusal = refusal or error
            rest = rest[done + 1 :]
        self.asked.note(plan, state.State())
        if refusal is not None:
            raise refusal

    def _performed(self, operations: tuple[Operation, ...]) -> Iterator[Operation]:
        """Perform operations and yield each one when it is done. Raises TestbedError for one that is refused."""
        for loads, some in groupby(operations, lambda one: isinstance(one, TableAdd | TableDelete)):
            group = tuple(some)
            yield from self._loaded(group) if loads else self._netlink(group)

    def _loaded(self, operations: tuple[Operation, ...]) -> Iterator[Operation]:
        for operation in operations:
            with self.journal.step(self.name, operation.command):
                if isinstance(operation, TableAdd):
                    done = self.run("nft", "-f", "-", input=operation.ruleset, check=False, quiet=True)
                else:
                    assert isinstance(operation, TableDelete)
                    words = ("nft", "delete", "table", "inet", operation.name)
                    done = self.run(*words, check=False, quiet=True)
                if done.returncode != 0:
                    reason = " ".join(done.stderr.split())[:600]
                    raise TestbedError(f"{self.name}: '{shown(done.argv)}' of table {operation.name}: {reason}")
            yield operation

    def _netlink(self, operations: tuple[Operation, ...]) -> Iterator[Operation]:
        """Have operations carried out in one request; the journal tells them one by one when the answer is there."""
        refused = self.lab.call("perform", self.name, operations)
        for position, operation in enumerate(operations):
            with self.journal.step(self.name, operation.command):
                if refused and refused[0] == position:
                    raise TestbedError(f"{self.name}: the kernel refused '{operation.command}': {refused[1]}")
            yield operation

    def offloads(self, device: str, features: tuple[str, ...], on: bool) -> None:
        """Switch a device's offloads."""
        words = " ".join(f"{feature} {'on' if on else 'off'}" for feature in features)
        with self.journal.step(self.name, f"ethtool -K {device} {words}"):
            try:
                self.lab.call("offloads", self.name, device, features, on)
            except OSError as error:
                raise TestbedError(f"{self.name}: offloads of {device}: {error.strerror}") from None
        self.asked.switched(device, features, on)

    def offloaded(self, device: str, features: tuple[str, ...]) -> Mapping[str, bool]:
        """Return which of these offloads of a device are on."""
        try:
            found: Mapping[str, bool] = self.lab.call("offloaded", self.name, device, features)
        except OSError as error:
            raise TestbedError(f"{self.name}: offloads of {device}: {error.strerror}") from None
        return found
