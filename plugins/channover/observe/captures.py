"""Packets as they passed a host's NICs, for the report and for a test: ``tcpdump`` on each, sliced and bounded.

A capture keeps what comes first: handshakes, joins and LACP's negotiation are at the start. It ends by itself at
``LIMIT`` bytes, and in any case with the lab.
"""

from __future__ import annotations

import base64
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from channover.errors import TestbedError
from channover.hosts.host import Host, Nic, Process, until

LIMIT = 1 << 20
"""Bytes of a file, at most."""
_RECORD = 16
"""Bytes of a packet's header in the file (pcap-savefile(5))."""


@dataclass(frozen=True)
class Packets:
    """What was captured at one NIC: a file as tcpdump writes it (pcap-savefile(5)), and whether it was cut short."""

    host: str
    nic: str
    content: bytes
    cut: bool


@dataclass
class _Running:
    host: Host
    nic: Nic
    path: str
    process: Process


class Captures:
    """Captures on every cabled NIC of some hosts. Raises TestbedError where tcpdump is missing, or is refused."""

    def __init__(self, hosts: Iterable[Host], size: int) -> None:
        self._size = size
        self._running: list[_Running] = []
        nics = [(host, nic) for host in hosts for nic in host.nics.values()]
        with ThreadPoolExecutor(max(min(len(nics), 16), 1)) as pool:
            self._running = list(pool.map(lambda pair: self._start(*pair), nics))

    def _start(self, host: Host, nic: Nic) -> _Running:
        path = f"{host.folder}/{nic.name}.pcap"
        most = LIMIT // (self._size + _RECORD)
        words = ["tcpdump", "-i", nic.device, "-n", "-s", str(self._size), "-c", str(most), "-Z", "root", "-w", path]
        process = host.spawn(*words)
        process.wait_for("listening on", 5.0)
        return _Running(host, nic, path, process)

    def stop(self, keep: bool) -> list[Packets]:
        """End all captures and return them, or nothing where they are not to be kept. Raises TestbedError."""
        running, self._running = self._running, []
        if not running:
            return []
        with ThreadPoolExecutor(min(len(running), 16)) as pool:
            return [one for one in pool.map(lambda one: _ended(one, keep), running) if one is not None]


_COUNTS = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped")


def _all_written(process: Process) -> bool:
    """Ask tcpdump whether it has taken all that the kernel holds for it: packets come to it up to a second late."""
    process.signal(signal.SIGUSR1)
    counts = _COUNTS.findall(process.stderr)
    if process.poll() is not None:
        return True
    captured, received, dropped = map(int, counts[-1]) if counts else (0, 1, 0)
    return captured >= received - dropped


def _ended(one: _Running, keep: bool) -> Packets | None:
    full = one.process.poll() is not None  # it ends by itself at the limit only
    if keep and not full:
        until(lambda: _all_written(one.process), f"tcpdump to write what {one.host.name}.{one.nic.name} got", 5.0, 0.1)
    one.process.stop()
    if not keep:
        return None
    done = one.host.run("base64", "-w", "0", one.path, quiet=True, timeout=60.0)
    try:
        content = base64.b64decode(done.stdout, validate=True)
    except ValueError as error:
        raise TestbedError(f"{one.host.name}: the capture of {one.nic.name} cannot be read: {error}") from None
    return Packets(one.host.name, one.nic.name, content, full)


CONTROL = (
    "(ether[0:4] = 0x0180c200 and ether[4:2] & 0xfff0 = 0) or arp or (ip6 and ether[0:2] = 0x3333) "
    "or (ip6 proto 58 and ip6[40] >= 135 and ip6[40] <= 136)"
)
"""What a NIC's own host or switch sends by itself, as a filter (``pcap-filter(7)``), and what is never a flow's data.

Frames to addresses that no bridge forwards (IEEE 802.1Q-2014, table 8-1), such as LLDP's, pause frames and LACP's own; ARP;
and what IPv6 has in its place, neighbour solicitations and advertisements, which are unicast once a neighbour is known and is
asked whether it is still there (RFC 4861, 4.3, 4.4, 7.3); and IPv6 multicast: router solicitations, reports of listeners.
"""
LACP = "ether proto 0x8809"
_LACP = "Slow Protocols"
_PORTS = re.compile(r"\.(\d+) > \S+\.(\d+): UDP")
ENOUGH = 2000
"""Frames after which a NIC is no longer listened to: it is not idle."""


@dataclass(frozen=True)
class Frames:
    """What passed a NIC: how many frames of LACP's by the address that sent them, its own end's and its partner's.

    ``data`` is, in tcpdump's words, what is neither that nor other control traffic.
    """

    lacp: Mapping[str, int]
    data: tuple[str, ...]

    def source_ports(self, target: int) -> frozenset[int]:
        """Return the source ports of the datagrams to a port."""
        found = (_PORTS.search(line) for line in self.data)
        return frozenset(int(ports[1]) for ports in found if ports and int(ports[2]) == target)


class Listening:
    """Listens for LACP's frames and for data at the NICs of some hosts, data and acknowledgements ``but_from`` an address.

    At a NIC that has passed ``enough`` of them it listens no longer.
    It is a context manager, and has after its block :attr:`heard`, by host and NIC, and for how long it listened,
    :attr:`seconds`. Raises TestbedError where tcpdump is missing, or is refused.
    """

    def __init__(self, hosts: Iterable[Host], but_from: IPv4Interface | IPv6Interface, enough: int = ENOUGH) -> None:
        self._nics = [(host, nic) for host in hosts for nic in host.nics.values()]
        self._filter = f"{LACP} or not ({CONTROL} or src host {but_from.ip})"
        self._enough = enough
        self._running: list[Process] = []
        self.heard: dict[tuple[str, str], Frames] = {}
        self.seconds = 0.0

    def __enter__(self) -> Listening:
        with ThreadPoolExecutor(max(len(self._nics), 1)) as pool:
            self._running = list(pool.map(lambda one: self._listen(*one), self._nics))
        self._since = time.monotonic()
        return self

    def _listen(self, host: Host, nic: Nic) -> Process:
        words = ["tcpdump", "--immediate-mode", "-i", nic.device, "-e", "-n", "-q", "-t", "-l", "-s", "64"]
        process = host.spawn(*words, "-c", str(self._enough), "-Z", "root", self._filter)
        process.wait_for("listening on", 5.0)
        return process

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._since
        for (host, nic), process in zip(self._nics, self._running, strict=True):
            process.stop()  # it tells of each frame at once: there is nothing to wait for
            lines = list(filter(None, process.stdout.splitlines()))
            data = tuple(line for line in lines if _LACP not in line)
            senders = Counter(line.split()[0] for line in lines if _LACP in line)
            self.heard[host.name, nic.name] = Frames(senders, data)


class Passing:
    """What passes the NICs of a host and a filter (``pcap-filter(7)``), in tcpdump's words.

    ``way`` is ``in``, ``out`` or ``inout``. It is a context manager, and has :attr:`lines` by NIC after its block. Raises
    TestbedError where tcpdump is missing, or is refused.
    """

    def __init__(self, host: Host, wanted: str, way: str = "inout") -> None:
        self._host, self._filter, self._way = host, wanted, way
        self._running: dict[str, Process] = {}
        self.lines: dict[str, list[str]] = {}

    def __enter__(self) -> Passing:
        nics = list(self._host.nics.values())
        with ThreadPoolExecutor(max(len(nics), 1)) as pool:
            self._running = dict(zip([nic.name for nic in nics], pool.map(self._listen, nics), strict=True))
        return self

    def _listen(self, nic: Nic) -> Process:
        words = ["tcpdump", "--immediate-mode", "-i", nic.device, "-Q", self._way, "-n", "-q", "-t", "-l", "-s", "96"]
        process = self._host.spawn(*words, "-Z", "root", self._filter)
        process.wait_for("listening on", 5.0)
        return process

    def __exit__(self, *_: object) -> None:
        for nic, process in self._running.items():
            process.stop()
            self.lines[nic] = list(filter(None, process.lines))


_DATAGRAM = re.compile(r"IP6? (\S+)\.(\d+) > \S+\.\d+: UDP")


def datagrams_from(passing: Passing, address: str) -> dict[int, frozenset[str]]:
    """Return the NICs by which UDP datagrams from an address passed, by their source port."""
    found: dict[int, frozenset[str]] = {}
    for nic, lines in passing.lines.items():
        told = filter(None, map(_DATAGRAM.match, lines))
        for port in {int(one[2]) for one in told if one[1] == address}:
            found[port] = found.get(port, frozenset()) | {nic}
    return found


class LacpFrames:
    """Counts the LACP frames that hosts send by their NICs. It is a context manager; :meth:`sent` tells after its block."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._passing = {host.name: Passing(host, LACP, "out") for host in hosts}
        self._stack = ExitStack()

    def __enter__(self) -> LacpFrames:
        with ExitStack() as begun:
            for passing in self._passing.values():
                begun.enter_context(passing)
            self._stack = begun.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sent(self, host: Host, nic: str) -> int:
        """Return how many LACP frames a host has sent by a NIC."""
        return len(self._passing[host.name].lines[nic])
