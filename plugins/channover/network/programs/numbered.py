"""Numbered traffic between two hosts: datagrams that tell what was lost and for how long, and a stream that tells its gaps.

iperf3 says how much arrives; when a link is lost, what counts is which datagrams did not, and how long an application waited.
What runs on the hosts is :mod:`channover.network.programs.numbered_program`, sent to them as it stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, python_program
from channover.network.programs import numbered_program
from channover.network.programs.numbered_program import SLICE

__all__ = ["SLICE", "Datagrams", "FlowSeen", "LossPeriod", "Stream", "StreamSeen", "datagrams", "facts", "stream"]

FIRST_PORT = 6000
"""The source port of the first flow of datagrams; the others follow."""
READY = 10.0
"""Seconds that a program may take to begin: a micro-VM without KVM starts Python slowly."""


@dataclass(frozen=True)
class LossPeriod:
    """Datagrams lost in a row (RFC 3357), or a silence without a loss.

    ``first`` is the first number that did not come, ``lost`` how many did not, ``start`` when the last one before came
    (seconds since the receiver's start), ``silent`` how long (seconds) nothing came.
    """

    first: int
    lost: int
    start: float
    silent: float


@dataclass(frozen=True)
class FlowSeen:
    """What became of one flow of datagrams: ``sent`` of its ``port``, and what the receiver saw of it."""

    port: int
    sent: int
    received: int
    duplicates: int
    reordered: int
    periods: Sequence[LossPeriod]
    rate: float
    """Datagrams a second."""

    @property
    def lost(self) -> int:
        """How many never arrived."""
        return self.sent - self.received

    @property
    def outage(self) -> float:
        """The longest loss period in seconds, by how many datagrams it holds: no clock of a busy receiver counts."""
        longest = max((period.lost for period in self.periods), default=0)
        return max(longest, self._at_the_end) / self.rate

    def lost_since(self, moment: float) -> int:
        """Return how many were lost in periods that began after a moment (seconds of the receiver's clock), or never ended."""
        return self.lost_between(moment, math.inf) + max(self._at_the_end, 0)

    def lost_between(self, begin: float, end: float) -> int:
        """Return how many were lost in periods that began between two moments (seconds of the receiver's clock)."""
        return sum(one.lost for one in self.periods if begin < one.start <= end)

    @property
    def _at_the_end(self) -> int:
        """How many did not arrive after the last one that did: of them no period tells."""
        return self.lost - sum(period.lost for period in self.periods)


@dataclass(eq=False)
class _Pair:
    """A receiver and a sender under way."""

    receiver: Process
    sender: Process
    ends: Sequence[Host]

    def _slices(self) -> list[Any]:
        return [one["slice"] for one in facts(self.receiver.lines) if "slice" in one]

    @property
    def now(self) -> float:
        """The receiver's clock, in seconds since its start, to a slice: when what is done now happens."""
        return len(self._slices()) * SLICE

    @property
    def over(self) -> bool:
        """Whether the receiver has ended by itself."""
        return self.receiver.poll() is not None

    @property
    def programs(self) -> Sequence[tuple[Host, str, Process]]:
        """The programs that it rests on, each with its host and what it is."""
        sender, receiver = self.ends
        return [(receiver, "what receives", self.receiver), (sender, "what sends", self.sender)]

    def _last(self, process: Process, host: Host, key: str) -> Mapping[str, Any]:
        found = [one for one in facts(process.lines) if key in one]
        if not found:
            words = process.stderr.strip()[-300:] or f"it ended with code {process.poll()} and said nothing of '{key}'"
            raise TestbedError(f"{host.name}: the program of numbered traffic: {words}")
        return found[-1]

    def abandon(self) -> None:
        """End both programs, whatever state they are in."""
        for process in (self.sender, self.receiver):
            with suppress(TestbedError):
                process.stop(1.0)


def facts(lines: Iterable[str]) -> list[Mapping[str, Any]]:
    """Return what a program has told in lines of JSON, what is no object left out."""
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return [one for one in found if isinstance(one, dict)]


@dataclass(eq=False)
class Datagrams(_Pair):
    """Flows of numbered datagrams under way: ``flows`` of them, each of ``rate`` datagrams a second."""

    flows: int = 1
    rate: float = 100.0
    first_port: int = FIRST_PORT

    @property
    def slices(self) -> list[list[int]]:
        """How many datagrams of each flow came in each slice of SLICE seconds so far."""
        return [[int(one.get(str(flow), 0)) for flow in range(self.flows)] for one in self._slices()]

    def end(self, late: float = 0.5) -> list[FlowSeen]:
        """End it, ``late`` seconds after the last datagram, and return what became of each flow. Raises TestbedError."""
        self.sender.stop()
        sent = self._last(self.sender, self.ends[0], "sent")["sent"]
        with suppress(TestbedError):
            self.receiver.wait(late)
        self.receiver.stop()
        seen = self._last(self.receiver, self.ends[1], "flows")["flows"]
        found = []
        for flow, number in enumerate(sent):
            told = seen.get(str(flow), {"received": 0, "duplicates": 0, "reordered": 0, "periods": []})
            periods = [LossPeriod(*one) for one in told["periods"]]
            found.append(
                FlowSeen(
                    self.first_port + flow,
                    number,
                    told["received"],
                    told["duplicates"],
                    told["reordered"],
                    periods,
                    self.rate,
                )
            )
        return found


@dataclass(frozen=True)
class StreamSeen:
    """What became of a stream: bytes at both ends, whether they are the same, and the receiver's gaps (start, seconds)."""

    sent: int
    received: int
    intact: bool
    complete: bool
    gaps: Sequence[tuple[float, float]]
    slices: Sequence[int]
    """Bytes that the application got in each slice of SLICE seconds."""
    error: str = ""
    """What the sender or the receiver was refused with, in the kernel's words."""

    def longest_gap(self, since: float = 0.0) -> float:
        """Return the longest time (seconds) without a byte that ended after ``since`` (the receiver's clock)."""
        return max((seconds for start, seconds in self.gaps if start + seconds > since), default=0.0)

    def rates(self, start: float, end: float) -> list[float]:
        """Return the rates (bit/s) of the whole slices from ``start`` to ``end`` (the receiver's clock)."""
        first, last = round(start / SLICE + 0.499), int(end / SLICE)
        return [one * 8 / SLICE for one in self.slices[first:last]]


@dataclass(eq=False)
class Stream(_Pair):
    """One connection under way that carries numbered bytes."""

    @property
    def slices(self) -> list[int]:
        """Bytes that the receiving application got in each slice of SLICE seconds so far."""
        return [int(one) for one in self._slices()]

    def wait(self, timeout: float) -> bool:
        """Wait until the receiver has all, and say whether it has."""
        try:
            return self.receiver.wait(timeout) == 0
        except TestbedError:
            return False

    def end(self, drain: float = 5.0) -> StreamSeen:
        """Have the sender stop, wait ``drain`` seconds at most for what is under way, and return what came.

        Raises TestbedError where the receiver says nothing.
        """
        if self.receiver.poll() is None:
            self.sender.signal(15)
            self.wait(drain)
        self.receiver.stop()
        with suppress(TestbedError):
            self.sender.wait(1.0)
        self.sender.stop(1.0)
        got = self._last(self.receiver, self.ends[1], "bytes")
        gave: Mapping[str, Any] = next((one for one in facts(self.sender.lines) if "bytes" in one), {})
        errors = [
            one["error"] for process in (self.sender, self.receiver) for one in facts(process.lines) if one.get("error")
        ]
        return StreamSeen(
            int(gave.get("bytes", 0)),
            int(got["bytes"]),
            bool(got["complete"]) and gave.get("sha256") == got["sha256"],
            bool(got["complete"]),
            [(float(start), float(seconds)) for start, seconds in got["gaps"]],
            self.slices,
            "; ".join(errors),
        )


_PROGRAM = Path(numbered_program.__file__)


def _started(
    receiver: Host, sender: Host, taking: Sequence[object], giving: Sequence[object]
) -> tuple[Process, Process]:
    """Start what receives, and once it is ready what sends, each with its words. Raises TestbedError; none stays then."""
    first = receiver.spawn(*python_program(receiver, _PROGRAM), *map(str, taking))
    try:
        first.wait_for('"ready"', READY)
        return first, sender.spawn(*python_program(sender, _PROGRAM), *map(str, giving))
    except BaseException:
        first.stop(1.0)
        raise


@contextmanager
def datagrams(
    sender: Host,
    receiver: Host,
    source: str,
    target: str,
    port: int,
    *,
    flows: int = 8,
    rate: float = 100.0,
    payload: int = 1000,
    limit: float = 120.0,
    first_port: int = FIRST_PORT,
) -> Iterator[Datagrams]:
    """Send flows of numbered datagrams between two addresses for the length of a block. Raises TestbedError.

    ``rate`` is datagrams a second of each flow, ``payload`` bytes, ``limit`` seconds. Flow n has the source port
    ``first_port`` + n.
    """
    taking, giving = _started(
        receiver,
        sender,
        ("receive-datagrams", target, port, rate),
        ("send-datagrams", source, first_port, target, port, flows, rate, payload, limit),
    )
    made = Datagrams(taking, giving, (sender, receiver), flows, rate, first_port)
    try:
        giving.wait_for('"ready"', READY)
        yield made
    finally:
        made.abandon()


@contextmanager
def stream(
    sender: Host,
    receiver: Host,
    target: str,
    port: int,
    *,
    mptcp: bool,
    source: str | None = None,
    size: int = 0,
    limit: float = 120.0,
) -> Iterator[Stream]:
    """Send bytes over one connection for the length of a block: ``size`` of them, or without an end (0). Raises TestbedError.

    Both ends' sockets are MPTCP's own, without a preloaded library; ``limit`` is seconds.
    """
    protocol = "mptcp" if mptcp else "tcp"
    taking, giving = _started(
        receiver,
        sender,
        ("receive-stream", target, port, protocol),
        ("send-stream", target, port, protocol, source or "-", size, limit),
    )
    made = Stream(taking, giving, (sender, receiver))
    try:
        giving.wait_for('"(ready|error)"', READY)
        yield made
    finally:
        made.abandon()
