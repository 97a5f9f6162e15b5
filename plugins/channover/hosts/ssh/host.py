"""Hosts behind SSH: real ones from an inventory, and virtual machines, which are reached in the same way.

A plan goes over as one shell script in one round trip: it reads the state that the inverse is computed from, then makes
the changes, consecutive ``ip`` commands as one batch (``ip(8)``, ``-batch``).
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from channover.errors import NotAllowed, TestbedError, UsageError
from channover.hosts.change_policy import ChangePolicy
from channover.hosts.host import Completed, Journal, Nic, Process, Started, finished, shown
from channover.hosts.ssh.connection import SshLink
from channover.hosts.ssh.process import RemoteProcess
from channover.hosts.ssh.shell import PATH
from channover.model import state as states
from channover.model.asked import Asked
from channover.model.operations.operation import Operation
from channover.model.plan import Plan
from channover.model.state import State

NOWHERE = "/nonexistent"
"""The home of programs on a host that is only looked at: in /tmp, the settings that they read there could be anybody's."""
START_TIMEOUT = 30.0
"""Seconds that a program may take to start: a busy host behind a slow link."""
TOKEN = "CHANNOVER_RUN"
"""The environment variable by which a host knows the programs of a run."""


@dataclass
class RemoteHost:
    """A host behind SSH (:class:`channover.hosts.host.Host`). ``run_id`` marks its programs as the run's."""

    name: str
    nics: Mapping[str, Nic]
    link: SshLink
    run_id: str
    home: str
    policy: ChangePolicy
    journal: Journal
    lease: str = ""
    """A file that is there while the run holds the host: without it nothing is started. Empty: nobody needs to hold it."""
    patience: float = 1.0
    """By what the times are multiplied that its programs may take: emulated processors are slow."""
    undos: list[Plan] = field(default_factory=list)
    """What would undo the plans that still stand, in the order in which they were made."""
    asked: Asked = field(default_factory=Asked, repr=False)

    @property
    def folder(self) -> str:
        """A folder of the run; it goes when the host is restored."""
        return f"{self.home}/{self.name}"

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": PATH,
            "HOME": self.folder,
            "TMPDIR": self.folder,
            "LC_ALL": "C",
            "LANG": "C",
            TOKEN: self.run_id,
        }

    def nic(self, name: str) -> Nic:
        """Return a NIC by its label."""
        return self.nics[name]

    def _process(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> RemoteProcess:
        process = RemoteProcess(
            self.link,
            argv,
            {**self._environment, **environment},
            self._kill,
            sudo=self.link.login.sudo,
            lease=self.lease,
            patience=self.patience,
        )
        process.begun(START_TIMEOUT)
        return process

    def _kill(self, pid: int, number: int) -> None:
        self.run("sh", "-c", 'kill -s "$1" -- "$2" 2>/dev/null || :', "sh", str(number), str(pid), quiet=True)

    def run(
        self, *argv: str, input: str | None = None, timeout: float = 30.0, check: bool = True, quiet: bool = False
    ) -> Completed:
        """Run a program to its end."""
        with self.journal.step(self.name, shown(argv), quiet=quiet) as told:
            process = told.process = self._process(argv, {})
            if input:
                process.feed(input)
            process.close_input()
            return finished(self.name, process, timeout, check)

    def spawn(self, *argv: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a program. It ends with the run, even where the connection dies: the host sees to that."""
        with self.journal.step(self.name, f"start {shown(argv)}"):
            process = self._process(argv, environment or {})
            self.journal.started.append(Started(self.name, time.time(), process))
            return process

    def _script(self, text: str, *arguments: str, input: str | None = None) -> Completed:
        return self.run("sh", "-c", text, "sh", *arguments, input=input, check=False, quiet=True)

    def read(self, path: str) -> str:
        """Return a text file's content."""
        done = self._script('cat -- "$1"', path)
        if done.returncode != 0:
            raise TestbedError(f"{self.name}: cannot read {path}: {done.stderr.strip()}")
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a text file."""
        done = self._script('umask 077; cat > "$1" && chmod "$2" "$1"', path, f"{mode:o}", input=text)
        if done.returncode != 0:
            raise TestbedError(f"{self.name}: cannot write {path}: {done.stderr.strip()}")

    def sparse(self, path: str, size: int) -> None:
        """Make a file of ``size`` zero bytes."""
        done = self._script('truncate -s "$2" -- "$1"', path, str(size))
        if done.returncode != 0:
            raise TestbedError(f"{self.name}: cannot write {path}: {done.stderr.strip()}")

    def state(self, sysctls: tuple[str, ...] = ()) -> State:
        """Read the host's network state."""
        return self._parsed(self._script(_question(sysctls), input=states.QUERY), sysctls)

    def _parsed(self, done: Completed, sysctls: Sequence[str]) -> State:
        answer, _, rest = done.stdout.partition(_MARK + "\n")
        values = dict(zip(sysctls, rest.split("\n"), strict=False))
        try:
            return State.parse(answer, {key: value for key, value in values.items() if value})
        except ValueError as error:
            raise TestbedError(f"{self.name}: {error}; {done.stderr.strip()[-300:]}") from None

    def apply(self, plan: Plan) -> Plan:
        """Apply a plan in one round trip and return its inverse; where a change is refused, take back those before it."""
        if plan not in self.undos:  # what undoes a change leads to what the owner had
            if reason := self.policy.refusal(plan.operations):
                raise UsageError(reason)
            if reason := self.policy.forbidden(plan.operations):
                raise NotAllowed(reason)
        keys = plan.sysctl_keys
        done = self._script(_question(keys) + _commands(plan.operations), input=states.QUERY)
        before = self._parsed(done, keys)
        refused = _refused(done, plan.operations)
        for operation in plan.operations[: refused[0] if refused else None]:
            with self.journal.step(self.name, operation.command):
                pass
        if refused is None:
            self.asked.note(plan, before)
            undo = plan.inverse(before)
            if plan in self.undos:
                self.undos.remove(plan)
            elif undo.operations:
                self.undos.append(undo)
            return undo
        position, perhaps = refused
        with contextlib.suppress(TestbedError):  # the refusal is what there is to say
            self._undo(Plan(plan.purpose, plan.operations[:perhaps]).inverse(before))
        words = " ".join(line for line in done.stderr.splitlines() if not line.startswith("Command failed"))
        command = plan.operations[position].command if position < len(plan.operations) else plan.purpose
        raise TestbedError(f"{self.name}: the host refused '{command}': {words.strip()[-600:]}")

    @contextlib.contextmanager
    def applied(self, plan: Plan) -> Iterator[None]:
        """Apply a plan for the length of a block."""
        undo = self.apply(plan)
        try:
            yield
        finally:
            self._undo(undo)
            if undo in self.undos:
                self.undos.remove(undo)

    def strip(self, plan: Plan) -> None:
        """Apply a plan that nothing here undoes: the guardian puts back what it changes, options and lifetimes included."""
        undo = self.apply(plan)
        if undo in self.undos:
            self.undos.remove(undo)

    def unwind(self) -> None:
        """Undo every plan that still stands, the last one first. Raises TestbedError, when all have been tried."""
        refusal: TestbedError | None = None
        while self.undos:
            try:
                self._undo(self.undos.pop())
            except TestbedError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal

    def _undo(self, plan: Plan) -> None:
        """Perform all of a plan that is not refused. Raises TestbedError, for the first refusal, when all has been tried."""
        if not plan.operations:
            return
        words = "\n".join(f"{self._unless_gone(operation)}{{ {operation.command}\n}} || failed=1" for operation in plan)
        done = self._script(f"failed=0\n{words}\nexit $failed")
        for operation in plan:
            with self.journal.step(self.name, operation.command):
                pass
        self.asked.note(plan, State())
        if done.returncode != 0:
            raise TestbedError(f"{self.name}: {plan.purpose}: {' '.join(done.stderr.split())[:600]}")

    def _unless_gone(self, operation: Operation) -> str:
        """Return what makes a shell pass over a change of a device of the run's own that has ended with its holder."""
        device = getattr(operation, "device", None)
        if not device or device in self.policy.nics:
            return ""
        return f"[ ! -e {shlex.quote(f'/proc/sys/net/ipv4/conf/{device}')} ] || "

    def offloads(self, device: str, features: tuple[str, ...], on: bool) -> None:
        """Switch a device's offloads. One that is fixed by the driver stays as it is."""
        if device not in self.policy.nics and (reason := self.policy.refused_device(device)):
            raise UsageError(f"{self.name}: refused to change the offloads of {device}: {reason}")
        words = [word for feature in features for word in (feature, "on" if on else "off")]
        self.run("ethtool", "-K", device, *words)
        self.asked.switched(device, features, on)

    def offloaded(self, device: str, features: tuple[str, ...]) -> Mapping[str, bool]:
        """Return which of these offloads of a device are on; one that is fixed by the driver is nobody's to switch."""
        said = self.run("ethtool", "-k", device, quiet=True).stdout
        found = {}
        for line in said.splitlines():
            name, _, value = line.strip().partition(": ")
            if name in _FEATURES and _FEATURES[name] in features and "[fixed]" not in value:
                found[_FEATURES[name]] = value.startswith("on")
        return found


_FEATURES = {
    "tx-checksumming": "tx",
    "tcp-segmentation-offload": "tso",
    "generic-segmentation-offload": "gso",
    "generic-receive-offload": "gro",
}
"""Offloads by the names that ``ethtool -k`` prints."""
_MARK = "@channover"


def _question(sysctls: Sequence[str]) -> str:
    """Return the script that prints the network state, a mark, and these kernel parameters, one a line."""
    reads = "".join(f"cat /proc/sys/{shlex.quote(key)} 2>/dev/null || echo\n" for key in sysctls)
    return f"{states.SCRIPT}\necho {_MARK}\n{reads}"


def _is_ip(operation: Operation) -> bool:
    return operation.command.startswith("ip ") and not operation.command.startswith("ip -")  # options are a batch's own


def _commands(operations: Sequence[Operation]) -> str:
    """Return the script that makes changes until one is refused, and says on standard output how far it came."""
    lines, position = ["exec 3>&1 >/dev/null", "set -e"], 0
    for batch, some in groupby(operations, _is_ip):
        group = list(some)
        lines.append(f"echo @at {position} >&3")
        if batch:
            words = "\n".join(operation.command.removeprefix("ip ") for operation in group)
            lines.append(f"ip -batch - <<'END'\n{words}\nEND")
            position += len(group)
        else:
            for operation in group:
                lines += [f"echo @at {position} >&3", operation.command]
                position += 1
    return "\n".join([*lines, "echo @done >&3", ""])


def _refused(done: Completed, operations: Sequence[Operation]) -> tuple[int, int] | None:
    """Return which operation was refused, and how many may have been made before; None where all were made.

    ``ip -batch`` names the line that the kernel refused, but ends without a word of it where it does not understand one. What
    was not made can be undone all the same: an inverse leads to what was there before, or fails.
    """
    words = done.stdout.rpartition(_MARK)[2].split("\n")
    if "@done" in words:
        return None
    reached = [int(line.split()[1]) for line in words if line.startswith("@at ")]
    start = reached[-1] if reached else 0
    end = start
    while end < len(operations) and _is_ip(operations[end]):
        end += 1
    failed = re.search(r"^Command failed -:(\d+)", done.stderr, re.MULTILINE)
    if failed and end > start:
        return min(start + int(failed[1]) - 1, len(operations)), end
    named = (n for n in range(start, end) if any(word in done.stderr for word in _odd(operations[n])))
    return next(named, start), end


def _odd(operation: Operation) -> list[str]:
    """Return the values in a command, by which a complaint about it can be told."""
    return [f'"{word}"' for word in operation.command.split() if any(sign.isdigit() for sign in word)]
