"""The program that sends and receives numbered traffic on a host: datagrams with numbers, and a byte stream with its gaps.

It is run as it stands, ``python3 -I -S FILE MODE …``, on hosts that have no channover: it needs the standard library of
Python 3.9 and nothing else, and prints JSON, a line each. SIGTERM ends it in good order. Times are seconds since its start by
its own clock, so that the clocks of two hosts need not agree; payload is bytes.

    receive-datagrams ADDRESS PORT RATE            prints {"slice": counts by flow} ten times a second, then {"flows": …}
    send-datagrams SOURCE PORT ADDRESS PORT FLOWS RATE PAYLOAD SECONDS      prints {"sent": numbers by flow}
    receive-stream ADDRESS PORT PROTOCOL           prints {"slice": bytes} ten times a second, then bytes, SHA-256, gaps
    send-stream ADDRESS PORT PROTOCOL SOURCE BYTES SECONDS                  prints bytes and SHA-256
    take-output COMMAND…                           prints of what a program writes what receive-stream prints of a connection
    fill-file PATH                                 numbers the blocks of a file, and prints its SHA-256

Sources: ``socket(7)`` (SO_TIMESTAMPNS), ``include/uapi/linux/in.h`` (IPPROTO_MPTCP), RFC 4737 (reordering by number), RFC 3357
(loss periods).
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

HEADER = struct.Struct("!IIQ")
"""Of a datagram: flow, number, and when it was sent (nanoseconds, the sender's clock)."""
SLICE = 0.1
GAP = 0.05
"""Seconds without a byte of a stream from which on it is told as a gap."""
BLOCK, PAGE = 1 << 16, 1 << 12
"""Bytes of a file's block, and of what is written of it: the rest takes no memory."""
SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
PROTOCOLS = {"tcp": 0, "mptcp": 262}

ended = False


def end(*_: object) -> None:
    """Take note that enough was seen."""
    global ended
    ended = True


def tell(**facts: Any) -> None:
    """Print facts, at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def family(address: str) -> int:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Flow:
    """What arrived of one flow, as it comes: numbers that are missing, that come twice, or after a later one."""

    def __init__(self) -> None:
        self.received = self.duplicates = self.reordered = 0
        self.next = 0
        self.last: float | None = None
        self.missing: dict[int, int] = {}
        self.periods: list[list[float]] = []

    def take(self, number: int, now: float, interval: float) -> None:
        """Take a datagram. A loss period is numbers that are missing in a row, and how long nothing came."""
        if number < self.next:
            first = next((one for one, count in self.missing.items() if one <= number < one + count), None)
            if first is None:
                self.duplicates += 1
                return
            count = self.missing.pop(first)
            if number > first:
                self.missing[first] = number - first
            if number + 1 < first + count:
                self.missing[number + 1] = first + count - number - 1
            self.reordered += 1
            self.received += 1
            return
        lost = number - self.next
        silent = now - self.last if self.last is not None else 0.0
        if lost:
            self.missing[self.next] = lost
        if lost or silent > 3 * interval:
            self.periods.append([self.next, lost, self.last if self.last is not None else 0.0, silent])
        self.next, self.last = number + 1, now
        self.received += 1

    def told(self) -> dict[str, Any]:
        """Return all of it. What was missing in a period and came late is not taken out of the period."""
        return {
            "received": self.received,
            "next": self.next,
            "missing": sum(self.missing.values()),
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "last": self.last,
            "periods": self.periods[:1000],
        }


def receive_datagrams(address: str, port: str, rate: str) -> None:
    """Receive until SIGTERM: the kernel's time stamps, so that a late program changes nothing."""
    receiver = socket.socket(family(address), socket.SOCK_DGRAM)
    for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE, where it is allowed
        try:
            receiver.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
            break
        except OSError:
            pass
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    receiver.bind((address, int(port)))
    receiver.setblocking(False)
    start = time.time()
    tell(ready=start)
    flows: dict[int, Flow] = {}
    counts: dict[int, int] = {}
    interval = 1.0 / float(rate)
    due = start + SLICE
    while not ended:
        readable, _, _ = select.select([receiver], [], [], max(min(due - time.time(), SLICE), 0.0))
        for _ in range(256 if readable else 0):
            try:
                data, extra, _, _ = receiver.recvmsg(2048, 128)
            except (BlockingIOError, InterruptedError):
                break
            if len(data) < HEADER.size:
                continue
            seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
            flow, number, _ = HEADER.unpack_from(data)
            counts[flow] = counts.get(flow, 0) + 1
            flows.setdefault(flow, Flow()).take(number, seconds + nanoseconds / 1e9 - start, interval)
        while time.time() >= due:
            tell(slice=counts)
            counts, due = {}, due + SLICE
    tell(flows={flow: one.told() for flow, one in flows.items()}, seconds=time.time() - start)


def send_datagrams(
    source: str, first: str, address: str, port: str, number: str, each: str, payload: str, seconds: str
) -> None:
    """Send numbers at a rate in each flow, the flows in turn; a datagram that the host refuses counts as sent."""
    flows, rate, limit = int(number), float(each), float(seconds)
    senders = []
    for flow in range(flows):
        sender = socket.socket(family(address), socket.SOCK_DGRAM)
        sender.bind((source, int(first) + flow))
        sender.connect((address, int(port)))
        sender.setblocking(False)
        senders.append(sender)
    filler = bytes(max(int(payload) - HEADER.size, 0))
    sent, refused = [0] * flows, 0
    start = time.monotonic()
    tell(ready=time.time())
    step = 1.0 / (rate * flows)
    turn = 0
    while not ended and time.monotonic() - start < limit:
        due = int((time.monotonic() - start) / step) + 1
        while turn < due and not ended:
            flow = turn % flows
            try:
                senders[flow].send(HEADER.pack(flow, sent[flow], time.time_ns()) + filler)
            except OSError:
                refused += 1
            sent[flow] += 1
            turn += 1
        time.sleep(max(min(start + turn * step - time.monotonic(), 0.01), 0.0))
    tell(sent=sent, refused=refused, seconds=time.monotonic() - start)


def receive_stream(address: str, port: str, protocol: str) -> None:
    """Take one connection to its end, or until SIGTERM."""
    listener = socket.socket(family(address), socket.SOCK_STREAM, PROTOCOLS[protocol])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    listener.listen(1)
    tell(ready=time.time())
    take(listener, None)


def take_output(*command: str) -> None:
    """Take what a program writes to its end, or until SIGTERM: what an application gets of it."""
    program = subprocess.Popen(command, stdout=subprocess.PIPE)
    tell(ready=time.time())
    take(None, program.stdout)
    if ended:
        program.terminate()
    tell(code=program.wait())


def take(listener: socket.socket | None, source: Any) -> None:
    """Take bytes from a source, or else from the first who connects, and tell of them slice by slice, and at the end."""
    start = time.monotonic()
    digest, whole, in_slice, complete, due = hashlib.sha256(), 0, 0, False, start + SLICE
    gaps: list[list[float]] = []
    last: float | None = None
    while not ended and not complete:
        readable, _, _ = select.select(
            [one for one in (source or listener,) if one], [], [], max(min(due - time.monotonic(), SLICE), 0.0)
        )
        now = time.monotonic()
        if readable and source is None and listener is not None:
            source, _ = listener.accept()
            source.setblocking(False)
            tell(connected=now - start)
        elif readable:
            data: bytes | None = None
            try:
                data = os.read(source.fileno(), 1 << 18)
            except BlockingIOError:
                pass
            except OSError as error:
                tell(error=error.strerror)
                break
            if data:
                if last is not None and now - last > GAP:
                    gaps.append([last - start, now - last])
                digest.update(data)
                whole, in_slice, last = whole + len(data), in_slice + len(data), now
            elif data is not None:
                complete = True
        while now >= due:
            tell(slice=in_slice)
            in_slice, due = 0, due + SLICE
    if not complete and last is not None and time.monotonic() - last > GAP:
        gaps.append([last - start, time.monotonic() - last])
    tell(bytes=whole, sha256=digest.hexdigest(), complete=complete, gaps=gaps[:1000], seconds=time.monotonic() - start)


def fill_file(path: str) -> None:
    """Write a number into each block of a file, with bytes that no other file has; what lies between stays a hole."""
    base = os.urandom(PAGE - 8)
    digest = hashlib.sha256()
    with open(path, "r+b") as file:
        for number, position in enumerate(range(0, os.path.getsize(path), BLOCK)):
            file.seek(position)
            file.write((struct.pack("!Q", number) + base)[: os.path.getsize(path) - position])
        file.seek(0)
        while block := file.read(1 << 20):
            digest.update(block)
    tell(sha256=digest.hexdigest())


def send_stream(address: str, port: str, protocol: str, source: str, number: str, limit: str) -> None:
    """Send bytes that no two blocks share until so many are sent (0: without an end), the time is over, or SIGTERM."""
    sender = socket.socket(family(address), socket.SOCK_STREAM, PROTOCOLS[protocol])
    if source != "-":
        sender.bind((source, 0))
    sender.settimeout(10)
    try:
        sender.connect((address, int(port)))
    except OSError as error:
        tell(error=error.strerror or str(error))
        sys.exit(1)
    sender.setblocking(False)
    start = time.monotonic()
    tell(ready=time.time(), port=sender.getsockname()[1])
    base = os.urandom(1 << 16)
    digest, whole, blocks, left = hashlib.sha256(), 0, 0, memoryview(b"")
    size, seconds, words = int(number), float(limit), ""
    while not ended and time.monotonic() - start < seconds and not (size and whole >= size):
        if not left:
            block = struct.pack("!Q", blocks) + base[8:]
            left = memoryview(block[: size - whole] if size else block)
            blocks += 1
        _, writable, _ = select.select([], [sender], [], SLICE)
        if writable:
            try:
                count = sender.send(left)
            except BlockingIOError:
                continue
            except OSError as refused:
                words = refused.strerror or str(refused)
                break
            digest.update(left[:count])
            whole, left = whole + count, left[count:]
    try:
        sender.shutdown(socket.SHUT_WR)
        sender.settimeout(max(seconds - (time.monotonic() - start), 1.0))
        sender.recv(1)  # the receiver closes once it has all
    except OSError:
        pass
    tell(bytes=whole, sha256=digest.hexdigest(), error=words, seconds=time.monotonic() - start)


MODES: dict[str, Callable[..., None]] = {
    "receive-datagrams": receive_datagrams,
    "send-datagrams": send_datagrams,
    "receive-stream": receive_stream,
    "take-output": take_output,
    "fill-file": fill_file,
    "send-stream": send_stream,
}


def main() -> None:
    """Do what the words say."""
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        MODES[sys.argv[1]](*sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror or error}")


if __name__ == "__main__":
    main()
