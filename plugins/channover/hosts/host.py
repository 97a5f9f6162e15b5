"""What every host can be asked for, whatever it is: run, spawn, read, write, apply a plan.

Floors above know only this protocol. Times are seconds, sizes bytes.
"""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from re import Match
from typing import Protocol, TypeVar

from channover.errors import TestbedError
from channover.model.plan import Plan
from channover.model.state import State

SAID = 8192
"""Characters of what a program said that a step keeps."""
LOOKS = 300
"""Observations that a journal keeps."""


def middle_left_out(text: str, most: int) -> str:
    """Return a text, of a longer one than ``most`` characters its beginning and its end."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n[… {len(text) - most // 2 * 2:,} characters left out …]\n{text[-(most // 2) :]}"


@dataclass(frozen=True)
class Nic:
    """A test NIC of a host: its label in the topology, its device, and what is known of it.

    ``speed`` is bit/s, ``bus`` what it is plugged into, as the kernel names it (``pci``); empty for a device made up.
    """

    name: str
    device: str
    mac: str = ""
    driver: str = ""
    firmware: str = ""
    speed: int | None = None
    bus: str = ""
    tagged: bool = False
    """Whether it is the device of a VLAN: its frames bear a tag on the wire (IEEE 802.1Q), and the rest is its NIC's."""


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Step:
    """One thing that was done to a host, for the report: what, when (seconds since the epoch), how long.

    ``output`` is what a program said that has ended since, with its exit code where that is not 0.
    """

    host: str
    title: str
    start: float
    duration: float
    output: str = ""


@dataclass(frozen=True)
class Started:
    """A program that was started on a host: when (seconds since the epoch), and itself, with what it writes."""

    host: str
    start: float
    process: Process


@dataclass
class Told:
    """What a step is told of while it happens: the program that it runs to its end."""

    process: Process | None = None

    @property
    def output(self) -> str:
        """What that program said: of much, the beginning and the end."""
        if self.process is None:
            return ""
        code = self.process.poll()
        ended = "" if code in (0, None) else f"(ended with code {code})"
        said = [self.process.stdout.strip("\n"), self.process.stderr.strip("\n"), ended]
        return middle_left_out("\n".join(filter(None, said)), SAID)


@dataclass
class Journal:
    """All that was done in a lab, in order. ``scope`` wraps each step, so that a report can show it as it happens.

    ``looks`` are the last mere observations, which are no steps, and ``started`` the programs that were started.
    """

    scope: Callable[[str], AbstractContextManager[object]] = nullcontext
    steps: list[Step] = field(default_factory=list)
    looks: deque[Step] = field(default_factory=lambda: deque(maxlen=LOOKS))
    started: list[Started] = field(default_factory=list)

    @contextmanager
    def step(self, host: str, title: str, *, quiet: bool = False) -> Iterator[Told]:
        """Record what happens in the block as one step, or, ``quiet``, as an observation."""
        start, told = time.time(), Told()
        try:
            with nullcontext() if quiet else self.scope(f"{host}: {title}"):
                yield told
        finally:
            (self.looks if quiet else self.steps).append(Step(host, title, start, time.time() - start, told.output))

    def forget(self) -> None:
        """Let go of what only a failure is explained by."""
        self.looks.clear()
        self.started.clear()


class Process(Protocol):
    """A program that runs on a host. It ends with the lab, whatever happens to the controller."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Its command line."""
        ...

    @property
    def pid(self) -> int:
        """Its process number on the host."""
        ...

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        ...

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        ...

    @property
    def lines(self) -> list[str]:
        """Complete lines of standard output so far."""
        ...

    def poll(self) -> int | None:
        """Return its exit code (negative: the signal that ended it), or None while it runs."""
        ...

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code. Raises TestbedError after ``timeout``."""
        ...

    def wait_for(self, pattern: str, timeout: float) -> Match[str]:
        """Wait until its output matches a regular expression. Raises TestbedError when it ends first, or after ``timeout``."""
        ...

    def signal(self, number: int) -> None:
        """Send it a signal."""
        ...

    def stop(self, timeout: float = 5.0) -> int:
        """End it (SIGTERM, then SIGKILL) and return its exit code."""
        ...


class Host(Protocol):
    """A machine of a lab."""

    @property
    def name(self) -> str:
        """Its name in the topology."""
        ...

    @property
    def folder(self) -> str:
        """A folder of its own for the lab's files; it is gone with the lab."""
        ...

    @property
    def nics(self) -> Mapping[str, Nic]:
        """Its test NICs by label, in the topology's order."""
        ...

    def nic(self, name: str) -> Nic:
        """Return a NIC by its label. Raises KeyError."""
        ...

    def run(
        self, *argv: str, input: str | None = None, timeout: float = 30.0, check: bool = True, quiet: bool = False
    ) -> Completed:
        """Run a program to its end. Raises TestbedError where it is missing, takes too long, or (``check``) fails.

        ``quiet`` keeps a mere observation out of the report's steps.
        """
        ...

    def spawn(self, *argv: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a program. Raises TestbedError where it is missing."""
        ...

    def read(self, path: str) -> str:
        """Return a text file's content. Raises TestbedError."""
        ...

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a text file. Raises TestbedError."""
        ...

    def sparse(self, path: str, size: int) -> None:
        """Make a file of ``size`` zero bytes."""
        ...

    def state(self, sysctls: tuple[str, ...] = ()) -> State:
        """Read the host's network state, and these kernel parameters. Raises TestbedError."""
        ...

    def apply(self, plan: Plan) -> Plan:
        """Apply a plan and return its inverse, computed from what was there before. Raises TestbedError."""
        ...

    def applied(self, plan: Plan) -> AbstractContextManager[None]:
        """Apply a plan for the length of a block, then restore what was there before."""
        ...

    def offloads(self, device: str, features: tuple[str, ...], on: bool) -> None:
        """Switch ``tx``, ``tso``, ``gso`` or ``gro`` of a device on or off. Raises TestbedError."""
        ...


def python_program(host: Host, source: Path) -> tuple[str, ...]:
    """Put a program of one file, which needs no more than Python itself, on a host; return how it is started.

    It runs in isolated mode and without site-packages (``python3 -I -S``), and is gone with the lab. Raises TestbedError.
    """
    path = f"{host.folder}/{source.name}"
    host.write(path, source.read_text("utf-8"))
    return ("python3", "-I", "-S", path)


def finished(host: str, process: Process, timeout: float, check: bool) -> Completed:
    """Wait for a program's end, and stop one that takes too long. Raises TestbedError then, and where it failed (``check``)."""
    try:
        code = process.wait(timeout)
    except TestbedError:
        with suppress(TestbedError):  # what it was waited for is what there is to say
            process.stop(1.0)
        raise
    if check and code != 0:
        words = (process.stderr or process.stdout).strip()[-600:]
        raise TestbedError(f"{host}: '{shown(process.argv)}' ended with code {code}: {words}")
    return Completed(process.argv, code, process.stdout, process.stderr)


_Given = TypeVar("_Given")
_Got = TypeVar("_Got")


def each(action: Callable[[_Given], _Got], things: Collection[_Given]) -> list[_Got]:
    """Do something with each of several things, side by side; return what came of it, in their order.

    All are done when the first error is raised.
    """
    with ThreadPoolExecutor(max(len(things), 1)) as pool:
        return [done.result() for done in [pool.submit(action, thing) for thing in things]]


def until(condition: Callable[[], object], what: str, timeout: float, interval: float = 0.01) -> float:
    """Wait until a condition holds and return how long (seconds) that took. Raises TestbedError that says what was awaited."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        if waited > timeout:
            raise TestbedError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)
    return time.monotonic() - start


def shown(argv: tuple[str, ...]) -> str:
    """Return a command line as a person would type it."""
    return shlex.join(argv)
