"""iperf3 between two hosts: TCP, UDP and MPTCP, with the receiver's own figures ten times a second.

The server prints its intervals as it measures them; the client writes JSON at the end, also when it is interrupted. So a
transfer can be ended as soon as its verdict is settled. MPTCP comes from iperf3 itself (3.19 and later) or from
``mptcpize run``. Source: ``iperf3(1)``.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle
from typing import Any

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, each
from channover.network.programs.iperf_output import SLICE, Slice, even_rates, parse_slices, read_report

TCP_BLOCK = "16K"
"""A receiver counts whole blocks; with iperf3's 128 kB a slice of 0.1 s at 100 Mbit/s would be off by a tenth."""
BUSY = 85.0
"""Per cent of a processor above which a sender may be at the end of what it can do."""
HELD_BACK = 0.1
"""The share of datagrams that may be lost of a sender whose NIC takes no more than the wire does."""
INCOMPRESSIBLE_BLOCK = "128K"
"""iperf3 sends one random block over and over: zlib, which looks back 32 kB (RFC 1950, 2.2), sees that in a small one."""

PORTS = range(5201, 5400)
"""TCP and UDP ports of the servers, from iperf3's own on; the last is a background load's."""


def ports() -> Iterator[int]:
    """Return the ports one after the other, so that no two of what runs at once have the same."""
    return cycle(PORTS[:-1])


class Transport(Enum):
    """What carries the payload."""

    TCP = "tcp"
    UDP = "udp"
    MPTCP = "mptcp"


@dataclass(frozen=True)
class Load:
    """What is sent: ``offered`` is bit/s for each stream (0: as much as goes), ``payload`` the datagram's bytes (UDP).

    ``limit`` is the longest that it may last, in seconds. ``target`` is the address to connect to, ``source`` the one to
    bind (None: the kernel's choice). Stream n has the source port ``first_port`` + n (0: the kernel's choice).
    """

    protocol: Transport
    target: str
    source: str | None = None
    streams: int = 1
    offered: float = 0.0
    payload: int = 1470
    limit: float = 10.0
    port: int = 5201
    incompressible: bool = False
    first_port: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """The client's options."""
        words = ["-c", self.target, "-p", str(self.port), "-t", f"{self.limit:.0f}", "-P", str(self.streams)]
        if self.source:
            words += ["-B", self.source]
        if self.first_port:
            words += ["--cport", str(self.first_port)]
        if self.protocol is Transport.UDP:
            words += ["-u", "-l", str(self.payload), "-b", f"{self.offered:.0f}"]
        else:
            words += ["-l", INCOMPRESSIBLE_BLOCK if self.incompressible else TCP_BLOCK]
            if self.offered:
                words += ["-b", f"{self.offered:.0f}"]
        return tuple(words)


class GaveUp(TestbedError):
    """iperf3 ended with an error of its own, in its own words."""


def _program(protocol: Transport, native_mptcp: bool) -> tuple[str, ...]:
    """Return how iperf3 is started: its sockets are MPTCP by its own option, or by mptcpize's preloaded library."""
    return ("mptcpize", "run", "iperf3") if protocol is Transport.MPTCP and not native_mptcp else ("iperf3",)


@dataclass
class Transfer:
    """iperf3 at work between two hosts."""

    load: Load
    source: Host
    target: Host
    server: Process
    client: Process
    notes: list[str] = field(default_factory=list)
    _report: dict[str, Any] | None = field(default=None)
    _taken: int | None = field(default=None)
    _slices: list[Slice] = field(default_factory=list, repr=False)
    _read: int = 0

    @classmethod
    def start(cls, loads: Sequence[tuple[Host, Host, Load]], *, native_mptcp: bool = False) -> list[Transfer]:
        """Start a one-off server for each load (source, target, load) and, once all listen, every client, side by side.

        A client that connects while others send already may wait for ten seconds and more, and iperf3 then gives up.
        Raises TestbedError.
        """

        def listen(one: tuple[Host, Host, Load]) -> Process:
            _, target, load = one
            program = _program(load.protocol, native_mptcp)
            bound = () if load.protocol is Transport.MPTCP else ("-B", load.target)  # joins come to other addresses too
            server = target.spawn(
                *program, "-s", "-1", *bound, "-p", str(load.port), "-i", f"{SLICE:g}", "-f", "k", "--forceflush"
            )
            begun.append(server)
            server.wait_for("Server listening", 5.0)
            return server

        def send(one: tuple[tuple[Host, Host, Load], Process]) -> Transfer:
            (source, target, load), server = one
            option = ("--mptcp",) if load.protocol is Transport.MPTCP and native_mptcp else ()
            program = (*_program(load.protocol, native_mptcp), *option)
            client = source.spawn(*program, *load.options, "-i", f"{SLICE:g}", "-J")
            begun.append(client)
            return cls(load, source, target, server, client)

        begun: list[Process] = []
        try:
            servers = each(listen, loads)
            return each(send, list(zip(loads, servers, strict=True)))
        except BaseException:
            _end_all(begun)
            raise

    def slices(self) -> list[Slice]:
        """Return the receiver's slices so far; after :meth:`stop`, those from before it."""
        text = self.server.stdout
        if end := text.rfind("\n", self._read) + 1:  # only what is new: eight transfers are asked thirty times a second
            self._slices = parse_slices(text[self._read : end], self.load.streams, self._slices)
            self._read = end
        return self._slices[: self._taken]

    def rates(self) -> list[float]:
        """Return the receiver's rates so far (bit/s), in slices of SLICE seconds."""
        return even_rates(self.slices())

    @property
    def running(self) -> bool:
        """Whether the client is still sending. Raises TestbedError where it, or the server, ended in an error."""
        if self._report is None:
            if self.client.poll() is not None:
                self._close()
            elif self.server.poll() not in (None, 0):
                with contextlib.suppress(TestbedError):  # most often the server has ended because the client has
                    self.client.wait(1.0)
                if self.client.poll() is None:
                    raise TestbedError(f"{self._server} ended while its client went on: {self._server_said}")
                self._close()
        return self._report is None

    def take(self) -> None:
        """Let what comes from now on be no figure any more: the traffic's end disturbs it."""
        if self._taken is None:
            self._taken = len(self.slices())

    def stop(self) -> None:
        """End the transfer where it still runs. Raises TestbedError where iperf3 says that it failed."""
        if self.running:
            self.take()
            self.client.signal(signal.SIGINT)
            try:
                self.client.wait(5.0)
            except TestbedError as error:
                raise TestbedError(f"{error}{_halted(self.source, self.client)}") from None
            self._close(interrupted=True)

    def abandon(self) -> None:
        """End both programs, whatever state they are in."""
        _end_all([self.client, self.server])

    @property
    def _client(self) -> str:
        return f"{self.source.name}: iperf3 to {self.load.target} port {self.load.port}"

    @property
    def _server(self) -> str:
        return f"{self.target.name}: iperf3's server on port {self.load.port}"

    @property
    def _server_said(self) -> str:
        return self.server.stderr.strip()[-200:] or "nothing"

    def _close(self, interrupted: bool = False) -> None:
        """Take the client's report, once it has ended. Raises TestbedError where it, or its server, did not end well."""
        code = self.client.poll() or 0
        report, words = read_report(self.client.stdout)
        self._report = report or {}
        if code < 0 and not (interrupted and code == -signal.SIGINT):
            raise TestbedError(f"{self._client} was ended by {_signal(code)}")
        if (self.server.poll() or 0) < 0:
            raise TestbedError(f"{self._server} was ended by {_signal(self.server.poll() or 0)}")
        error = str(self._report.get("error", "")) if report is not None else self._without_report(words, code)
        if error and not (interrupted and "terminated" in error):
            elsewhere = ", by a signal that came from elsewhere" if error.startswith("interrupt") else ""
            raise GaveUp(f"{self._client}: {error}{elsewhere}; server: {self._server_said}")
        if words and report is not None:
            self.notes.append(f"{self._client} said besides its report: {words[:300]}")
        elif code and not interrupted:
            self.notes.append(f"{self._client} ended with code {code}")
        self._close_server()

    def _without_report(self, words: str, code: int) -> str:
        """Say what a client said that left no whole report; nothing where it ended on our signal before it could."""
        if code == -signal.SIGINT:
            return ""
        if said := self.client.stderr.strip()[-300:]:
            return said
        return (
            f"its report breaks off behind '{words[-60:]}'"
            if words
            else f"it left no report and ended with code {code}"
        )

    def _close_server(self) -> None:
        try:
            code = self.server.wait(3.0)
        except TestbedError as error:
            halted = _halted(self.target, self.server)
            self.server.stop(1.0)
            if halted:
                raise TestbedError(f"{error}{halted}") from None
            return
        if code < 0:
            raise TestbedError(f"{self._server} was ended by {_signal(code)}")

    @property
    def report(self) -> dict[str, Any]:
        """The client's JSON; empty while it runs."""
        return self._report or {}

    @property
    def offered(self) -> float:
        """What the client offered, in bit/s, of the :attr:`Load.offered` that it was asked for. Raises TestbedError.

        It is what it handed over. But where its own NIC holds it back, and none is lost on the way, it waits in its calls
        until there is room, and has offered all that it was asked for: unless it had no processor time left for more.
        """
        end = self.report.get("end", {})
        try:
            sent = float(end["sum_sent"]["bits_per_second"])
            busy = float(end["cpu_utilization_percent"]["host_total"])
        except (KeyError, TypeError, ValueError):
            raise TestbedError(f"{self.source.name}: iperf3 does not tell what it has sent") from None
        asked = self.load.offered * self.load.streams
        lost, total = self.datagrams
        held_back = busy < BUSY and lost < HELD_BACK * total
        return max(sent, asked) if held_back else sent

    @property
    def congestion_control(self) -> str:
        """The sender's congestion control, or an empty text for UDP."""
        return str(self.report.get("end", {}).get("sender_tcp_congestion", ""))

    @property
    def datagrams(self) -> tuple[int, int]:
        """How many UDP datagrams were lost, and how many were sent, as the receiver counts them by their numbers."""
        slices = self.slices()
        return sum(one.lost for one in slices), sum(one.total for one in slices)

    @property
    def out_of_order(self) -> tuple[int, int]:
        """How many UDP datagrams arrived out of their order, and of how many, as the client's report tells; 0 of TCP."""
        flows = [one.get("udp") or {} for one in self.report.get("end", {}).get("streams", ())]
        return sum(int(one.get("out_of_order", 0)) for one in flows), sum(int(one.get("packets", 0)) for one in flows)


def _end_all(processes: Sequence[Process]) -> None:
    """End programs, side by side, whatever becomes of one."""

    def end(one: Process) -> None:
        with contextlib.suppress(TestbedError):
            one.stop(1.0)

    each(end, processes)


def _signal(code: int) -> str:
    """Return the name of the signal that an exit code tells of."""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as a kernel that is out of memory sends it" if -code == signal.SIGKILL else name


def _halted(host: Host, process: Process) -> str:
    """Say that a program is stopped, or nothing (``proc(5)``, stat: state)."""
    with contextlib.suppress(TestbedError, OSError, IndexError):
        if host.read(f"/proc/{process.pid}/stat").rpartition(") ")[2].split()[0] in ("T", "t"):
            return ": it is stopped, by SIGSTOP or a debugger"
    return ""
