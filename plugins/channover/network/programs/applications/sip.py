"""Telephone calls by SIP over one TCP connection, or over one of TLS: sipp at both ends (RFC 3261, 18).

The calls are those of sipp's own scenarios: INVITE, the answers to it, ACK, silence, BYE. What became of them is read from the
statistics that sipp writes to a file (``sipp --help``, -trace_stat), never from its screen.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from channover.errors import TestbedError
from channover.hosts.host import Host, Process
from channover.network.programs.applications.tls_front import TlsFront, tls_front
from channover.network.programs.file_servers import ANY, wait_listening
from channover.network.tunnel import MPTCPIZE
from channover.text import authority

PORT, TLS_PORT, FRONT_PORT = 5080, 5081, 5082
"""TCP ports: of SIP, of SIP within TLS, and of the client's end of the TLS front; a host's own SIP has 5060 and 5061."""
EVERY = 0.5
"""Seconds between two lines of sipp's statistics."""


@dataclass(frozen=True)
class Interval:
    """What sipp says of the time since its last line: when it ends (seconds since sipp's start), and how many calls."""

    at: float
    placed: int
    kept: int
    failed: int


@dataclass(frozen=True)
class CallsSeen:
    """What became of calls: ``placed``, and ``kept`` to their end, ``failed`` by sipp's count; neither: they hang."""

    placed: int
    kept: int
    failed: int
    intervals: Sequence[Interval] = ()
    sessions: Sequence[str] = ()
    """Of TLS."""
    statistics: str = ""
    """The file, as sipp wrote it."""


def parse_statistics(text: str) -> CallsSeen:
    """Return what sipp's statistics tell. Raises ValueError where they are none."""
    rows = [row for row in csv.DictReader(text.splitlines(), delimiter=";") if row.get("FailedCall(C)")]
    if not rows:
        raise ValueError(f"no line of statistics in {text[-200:]!r}")
    try:
        intervals = [
            Interval(
                _moment(row["CurrentTime"]) - _moment(row["StartTime"]),
                int(row["OutgoingCall(P)"]),
                int(row["SuccessfulCall(P)"]),
                int(row["FailedCall(P)"]),
            )
            for row in rows
        ]
        last = rows[-1]
        return CallsSeen(
            int(last["OutgoingCall(C)"]), int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"]), intervals
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"sipp's statistics lack something: {error}") from None


def calls_a_second(intervals: Sequence[Interval]) -> list[tuple[float, float, float]]:
    """Return moments, and how many calls a second were placed and kept until each; lines that follow at once are left out."""
    found: list[tuple[float, float, float]] = []
    placed, kept, since = 0, 0, 0.0
    for one in intervals:
        placed, kept, width = placed + one.placed, kept + one.kept, one.at - since
        if width >= EVERY / 2:
            found.append((one.at, placed / width, kept / width))
            placed, kept, since = 0, 0, one.at
    return found


def _moment(text: str) -> float:
    """Return the seconds since the epoch that a moment names: sipp writes it as date, time and seconds."""
    return float(text.split()[-1])


@dataclass(eq=False)
class Calls:
    """Calls under way, from ``caller`` to ``callee``."""

    hosts: tuple[Host, Host]
    caller: Process
    callee: Process
    path: str
    front: TlsFront | None
    started: float

    @property
    def now(self) -> float:
        """Seconds since the first call."""
        return time.monotonic() - self.started

    @property
    def over(self) -> bool:
        """Whether all calls have ended."""
        return self.caller.poll() is not None

    @property
    def programs(self) -> Sequence[tuple[Host, str, Process]]:
        """The programs that it rests on, each with its host and what it is."""
        client, server = self.hosts
        held = [(client, "sipp, which calls", self.caller), (server, "sipp, which answers", self.callee)]
        if self.front is not None:
            held += [(client, "stunnel", self.front.client), (server, "stunnel", self.front.server)]
        return held

    def end(self) -> CallsSeen:
        """Break off what still runs, and return what became of the calls. Raises TestbedError where sipp tells nothing."""
        if not self.over:
            self.caller.stop(1.0)
        client, _ = self.hosts
        text = client.read(self.path)
        try:
            found = parse_statistics(text)
        except ValueError as error:
            words = self.caller.stderr.strip()[-300:]
            raise TestbedError(f"{client.name}: sipp tells nothing of its calls: {error}: {words}") from None
        sessions = self.front.sessions if self.front is not None else ()
        return CallsSeen(found.placed, found.kept, found.failed, found.intervals, sessions, text)


@contextmanager
def calls(
    client: Host,
    server: Host,
    address: str,
    *,
    number: int,
    rate: int,
    length: float,
    mptcp: bool,
    tls: bool,
    timeout: float = 10.0,
) -> Iterator[Calls]:
    """Place ``number`` calls of ``length`` seconds, ``rate`` a second, for the length of a block. Raises TestbedError.

    What connects the hosts, sipp itself or its TLS front, runs under ``mptcpize`` where ``mptcp`` is wanted.
    """
    prefix = MPTCPIZE if mptcp and not tls else ()
    listened = "127.0.0.1" if tls else ANY[ip_address(address).version] if mptcp else address
    environment = {"TERM": "dumb"}
    path = f"{client.folder}/calls.csv"
    with ExitStack() as stack:
        answering = ("sipp", "-sn", "uas", "-t", "t1", "-i", listened, "-p", str(PORT), "-nostdin")
        callee = server.spawn(*prefix, *answering, environment=environment)
        stack.callback(_end, callee)
        wait_listening(server, callee, PORT, timeout)
        front, target = None, authority(address, PORT)
        if tls:
            ports = (FRONT_PORT, PORT)
            front = stack.enter_context(tls_front(client, server, address, TLS_PORT, ports, mptcp=mptcp))
            target = f"127.0.0.1:{FRONT_PORT}"
        calling = ["sipp", target, "-sn", "uac", "-t", "t1", "-nostdin", "-r", str(rate), "-m", str(number)]
        calling += ["-d", f"{length * 1000:.0f}", "-trace_stat", "-stf", path, "-fd", f"{EVERY * 1000:.0f}ms"]
        started = time.monotonic()
        caller = client.spawn(*prefix, *calling, environment=environment)
        stack.callback(_end, caller)
        yield Calls((client, server), caller, callee, path, front, started)


def _end(process: Process) -> None:
    with suppress(TestbedError):
        process.stop(1.0)
