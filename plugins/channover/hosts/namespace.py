"""Hosts that are network namespaces of this machine, reached through their lab's first process.

The controller (pytest) holds one socket a lab. When the controller goes, however it goes, so does the lab: see
:mod:`channover.hosts.lab_init`.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from re import Match
from typing import Any, cast

from channover import state
from channover.errors import RigError
from channover.hosts.base import Completed, Journal, Nic, Process, shown
from channover.hosts.lab_init import ENVIRONMENT, PanelCable, receive, send
from channover.plan import Operation, Plan, TableAdd, TableDelete


class Nursery:
    """The process that lab inits are forked from. One a run; started early, because it takes 0.2 s to get ready."""

    def __init__(self) -> None:
        self._channel, other = socket.socketpair()
        command = [sys.executable, "-c", "from channover.hosts.lab_init import main; main()", str(other.fileno())]
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        environment = {**os.environ, "PYTHONPATH": root, "PATH": ENVIRONMENT["PATH"]}
        with other:
            self._process = subprocess.Popen(
                command, pass_fds=[other.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._ready = False

    def lab(self) -> LabProcess:
        """Fork a lab init. Raises RigError with the kernel's reason where it refuses."""
        try:
            if not self._ready:
                (verdict, value), _ = receive(self._channel)
                if verdict == "error":
                    raise RigError(value[2])
                self._ready = True
            ours, theirs = socket.socketpair()
            with theirs:
                send(self._channel, "lab", (theirs.fileno(),))
        except (EOFError, OSError) as error:
            raise RigError(
                f"no lab can be made: the lab's parent process has ended with code {self._process.wait(5)}; "
                "run 'channover doctor --target netns'"
            ) from error
        return LabProcess(ours)

    def close(self) -> None:
        """End it, and with it every lab that is left."""
        self._channel.close()
        self._process.wait(10)


class LabProcess:
    """The controller's side of a lab init."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._reply()

    def _reply(self) -> tuple[Any, list[int]]:
        try:
            (verdict, value), descriptors = receive(self._channel)
        except (EOFError, ConnectionResetError) as error:
            raise RigError("the lab's first process has ended: the lab is gone") from error
        if verdict == "error":
            kind, number, text = value
            raise OSError(number, text) if number else RigError(f"{kind}: {text}")
        return value, descriptors

    def call(self, name: str, *arguments: object, descriptors: tuple[int, ...] = ()) -> Any:
        """Make a request of the lab init. Raises OSError or RigError."""
        return self._exchange(name, arguments, descriptors)[0]

    def _exchange(
        self, name: str, arguments: tuple[object, ...], descriptors: tuple[int, ...]
    ) -> tuple[Any, list[int]]:
        with self._lock:
            try:
                send(self._channel, (name, arguments), descriptors)
            except OSError as error:
                raise RigError("the lab's first process has ended: the lab is gone") from error
            return self._reply()

    def build(self, hosts: list[str], cables: list[PanelCable]) -> list[tuple[int, int]]:
        """Make hosts and cables; return the panel's port numbers of each cable."""
        return cast("list[tuple[int, int]]", self.call("build", hosts, cables))

    def spawn(self, host: str | None, argv: tuple[str, ...], environment: Mapping[str, str]) -> NamespaceProcess:
        """Start a program in a host."""
        return NamespaceProcess(self, host, argv, environment)

    def start(
        self, host: str | None, argv: tuple[str, ...], environment: Mapping[str, str], streams: tuple[int, int, int]
    ) -> tuple[int, int]:
        """Start a program with these standard streams; return its pid and pidfd. Raises RigError where it is missing."""
        try:
            pid, passed = self._exchange("spawn", (host, list(argv), dict(environment)), streams)
        except OSError as error:
            raise RigError(
                f"{host}: cannot run '{argv[0]}': {error.strerror}; 'channover doctor' names the package"
            ) from None
        return pid, passed[0]

    def close(self) -> None:
        """End the lab: the kernel kills its processes and frees its namespaces. Returns when the first process is gone."""
        with self._lock, contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            self._channel.settimeout(10)
            while self._channel.recv(4096):
                pass
        self._channel.close()


class NamespaceProcess:
    """A program in a namespace host (:class:`channover.hosts.base.Process`)."""

    def __init__(
        self,
        lab: LabProcess,
        host: str | None,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        input: str = "",
    ) -> None:
        self.argv = argv
        self._lab = lab
        self._host = host
        self._status: int | None = None
        self._chunks: dict[int, list[bytes]] = {1: [], 2: []}
        self._arrived = threading.Condition()
        stdin_read, self._stdin = os.pipe()
        out_read, out_write = os.pipe()
        error_read, error_write = os.pipe()
        try:
            self.pid, self._pidfd = lab.start(host, argv, environment, (stdin_read, out_write, error_write))
        except BaseException:
            os.close(out_read)
            os.close(error_read)
            os.close(self._stdin)
            raise
        finally:
            os.close(stdin_read)
            os.close(out_write)
            os.close(error_write)
        self._reader = threading.Thread(target=self._read, args=(out_read, error_read), daemon=True)
        self._reader.start()
        if input:
            with contextlib.suppress(BrokenPipeError), open(self._stdin, "wb", closefd=False) as file:
                file.write(input.encode())

    def _read(self, out: int, error: int) -> None:
        poll = select.poll()
        streams = {out: 1, error: 2}
        for descriptor in streams:
            poll.register(descriptor, select.POLLIN)
        while streams:
            for descriptor, _ in poll.poll():
                data = os.read(descriptor, 65536)
                with self._arrived:
                    if data:
                        self._chunks[streams[descriptor]].append(data)
                    else:
                        poll.unregister(descriptor)
                        del streams[descriptor]
                        os.close(descriptor)
                    self._arrived.notify_all()

    def _text(self, stream: int) -> str:
        return b"".join(self._chunks[stream]).decode(errors="replace")

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._text(1)

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._text(2)

    @property
    def lines(self) -> list[str]:
        """Complete lines of standard output so far."""
        return self.stdout.split("\n")[:-1]

    def close_input(self) -> None:
        """Close its standard input."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        if self._status is None and select.select([self._pidfd], [], [], 0)[0]:
            self._status = self._lab.call("reap", self.pid)
            os.close(self._pidfd)
            self.close_input()
        return self._status

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code. Raises RigError after ``timeout``."""
        if self._status is None and not select.select([self._pidfd], [], [], timeout)[0]:
            raise RigError(f"{self._host}: '{shown(self.argv)}' did not end within {timeout:g} s")
        status = self.poll()
        self._reader.join(1.0)  # a child of its own may keep the pipe open: what is there is enough
        assert status is not None
        return status

    def wait_for(self, pattern: str, timeout: float) -> Match[str]:
        """Wait until its output matches. Raises RigError when it ends first, or after ``timeout``."""
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern, re.MULTILINE)
        with self._arrived:
            while True:
                ended = self.poll() is not None and not self._reader.is_alive()
                if found := expression.search(self.stdout) or expression.search(self.stderr):
                    return found
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    how = f"ended with code {self._status}" if ended else f"did not within {timeout:g} s"
                    raise RigError(
                        f"{self._host}: waited for '{pattern}' from '{shown(self.argv)}', which {how}; "
                        f"its last words: {(self.stderr or self.stdout).strip()[-400:]!r}"
                    )
                self._arrived.wait(min(left, 0.1))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            self._lab.call("kill", self.pid, number, False)

    def stop(self, timeout: float = 5.0) -> int:
        """End it (SIGTERM, then SIGKILL to its group) and return its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except RigError:
            self._lab.call("kill", self.pid, signal.SIGKILL, True)
            return self.wait(timeout)


@dataclass
class NamespaceHost:
    """A host that is a network namespace (:class:`channover.hosts.base.Host`)."""

    name: str
    nics: Mapping[str, Nic]
    lab: LabProcess
    journal: Journal

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
        with contextlib.nullcontext() if quiet else self.journal.step(self.name, shown(argv)):
            process = NamespaceProcess(self.lab, self.name, argv, {}, input=input or "")
            process.close_input()
            try:
                code = process.wait(timeout)
            except RigError:
                process.stop(1.0)
                raise
            if check and code != 0:
                words = (process.stderr or process.stdout).strip()[-600:]
                raise RigError(f"{self.name}: '{shown(argv)}' ended with code {code}: {words}")
            return Completed(argv, code, process.stdout, process.stderr)

    def spawn(self, *argv: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a program."""
        with self.journal.step(self.name, f"start {shown(argv)}"):
            return NamespaceProcess(self.lab, self.name, argv, environment or {})

    def read(self, path: str) -> str:
        """Return a text file's content."""
        try:
            return bytes(self.lab.call("read", self.name, path)).decode(errors="replace")
        except OSError as error:
            raise RigError(f"{self.name}: cannot read {path}: {error.strerror}") from None

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a text file."""
        try:
            self.lab.call("write", self.name, path, text.encode(), mode)
        except OSError as error:
            raise RigError(f"{self.name}: cannot write {path}: {error.strerror}") from None

    def sparse(self, path: str, size: int) -> None:
        """Make a file of ``size`` zero bytes."""
        try:
            self.lab.call("sparse", path, size)
        except OSError as error:
            raise RigError(f"{self.name}: cannot write {path}: {error.strerror}") from None

    def state(self, sysctls: tuple[str, ...] = ()) -> state.State:
        """Read the host's network state."""
        found = self.run(*state.COMMAND, input=state.QUERY, check=False, quiet=True)
        values = {key: self.read(f"/proc/sys/{key}").strip() for key in sysctls}
        try:
            return state.State.parse(found.stdout, values)
        except ValueError as error:
            raise RigError(f"{self.name}: {error}; {found.stderr.strip()}") from None

    def apply(self, plan: Plan) -> Plan:
        """Apply a plan through netlink and return its inverse; where a change is refused, take back those before it."""
        before = self.state(plan.sysctl_keys)
        done: list[Operation] = []
        try:
            for operation in self._performed(plan.operations):
                done.append(operation)
        except BaseException:
            with contextlib.suppress(RigError):  # the refusal is what there is to say
                self._undo(Plan.of(plan.purpose, done).inverse(before))
            raise
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
        """Perform all of a plan that is not refused. Raises RigError, for the first refusal, when all has been tried."""
        rest, refusal = plan.operations, None
        while rest:
            done = 0
            try:
                for _ in self._performed(rest):
                    done += 1
            except RigError as error:
                refusal = refusal or error
            rest = rest[done + 1 :]
        if refusal is not None:
            raise refusal

    def _performed(self, operations: tuple[Operation, ...]) -> Iterator[Operation]:
        """Perform operations and yield each one when it is done. Raises RigError for one that is refused."""
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
                    raise RigError(f"{self.name}: '{shown(done.argv)}' of table {operation.name}: {reason}")
            yield operation

    def _netlink(self, operations: tuple[Operation, ...]) -> Iterator[Operation]:
        """Have operations carried out in one request; the journal tells them one by one when the answer is there."""
        refused = self.lab.call("perform", self.name, operations)
        for position, operation in enumerate(operations):
            with self.journal.step(self.name, operation.command):
                if refused and refused[0] == position:
                    raise RigError(f"{self.name}: the kernel refused '{operation.command}': {refused[1]}")
            yield operation

    def offloads(self, device: str, features: tuple[str, ...], on: bool) -> None:
        """Switch a device's offloads."""
        words = " ".join(f"{feature} {'on' if on else 'off'}" for feature in features)
        with self.journal.step(self.name, f"ethtool -K {device} {words}"):
            try:
                self.lab.call("offloads", self.name, device, features, on)
            except OSError as error:
                raise RigError(f"{self.name}: offloads of {device}: {error.strerror}") from None
