"""The program that plays a stream on a host, as far as its reader notices: when each piece of it came, and what was lost.

It is run as it stands, ``python3 -I -S FILE MODE …``, on hosts that have no channover: it needs the standard library of
Python 3.9 and nothing else, and prints JSON, a line each. SIGTERM ends it in good order. Times are seconds since it asked for
the first segment, by its own clock.

    play URL FIRST           follows an HLS playlist to its end; of a live one from the FIRST last segments on. Prints
                             {"slice": bytes} ten times a second, {"segment": number, "at": …, "duration": …, "bytes": …},
                             and {"complete": …, "error": …}
    take-rtp ADDRESS PORT    takes RTP until SIGTERM. Prints {"slice": bytes} ten times a second, and
                             {"received": …, "expected": …, "lost": …, "bytes": …}

Sources: RFC 8216 (HTTP Live Streaming), 4.3 and 6.3; RFC 3550, 5.1 (header) and A.3 (packets expected and lost); RFC 5761, 4
(how packets of the control protocol are told apart).
"""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

SLICE = 0.1
CHUNK = 1 << 16
POLL = 0.1
"""Seconds between two looks at a live playlist that has nothing new."""


class Ended(Exception):
    """It is to end."""


def end(*_: object) -> None:
    """Break off whatever is being waited for."""
    raise Ended


def tell(**facts: Any) -> None:
    """Print facts, at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class Slices:
    """What came, told ten times a second."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.due = self.start + SLICE
        self.bytes = 0

    def take(self, size: int) -> None:
        """Take note of so many bytes that have come now."""
        self.bytes += size
        while time.monotonic() >= self.due:
            tell(slice=self.bytes)
            self.bytes, self.due = 0, self.due + SLICE


def playlist(text: str) -> tuple[int, list[tuple[float, str]], bool]:
    """Return a playlist's first number, its segments with their durations, and whether it is complete."""
    number, found, duration = 0, [], 0.0
    for line in text.splitlines():
        if line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
            number = int(line.partition(":")[2])
        elif line.startswith("#EXTINF:"):
            duration = float(line.partition(":")[2].partition(",")[0])
        elif line and not line.startswith("#"):
            found.append((duration, line))
    return number, found, "#EXT-X-ENDLIST" in text


class Player:
    """Follows a playlist over one connection that is kept."""

    def __init__(self, url: str, first: int) -> None:
        self.url, self.first = url, first
        self.server = http.client.HTTPConnection(urlsplit(url).netloc)
        self.slices = Slices()
        self.asked: float | None = None

    def got(self, url: str) -> bytes:
        """Return a small file."""
        self.server.request("GET", urlsplit(url).path)
        answer = self.server.getresponse()
        text = answer.read()
        self.slices.take(len(text))
        return text if answer.status == 200 else b""

    def segment(self, number: int, duration: float, url: str) -> None:
        """Take a segment, in pieces, and tell when it was there."""
        self.asked = time.monotonic() if self.asked is None else self.asked
        self.server.request("GET", urlsplit(url).path)
        answer = self.server.getresponse()
        if answer.status != 200:
            answer.read()
            raise OSError(f"segment {number}: {answer.status} {answer.reason}")
        whole = 0
        while piece := answer.read(CHUNK):
            whole += len(piece)
            self.slices.take(len(piece))
        tell(segment=number, at=time.monotonic() - self.asked, duration=duration, bytes=whole)

    def play(self) -> None:
        """Take all segments, in their order."""
        following: int | None = None
        complete = False
        while not complete:
            begin, found, complete = playlist(self.got(self.url).decode())
            if following is None:
                if len(found) < self.first and not complete:
                    time.sleep(POLL)
                    continue
                following = begin if complete else begin + len(found) - self.first
            if following < begin:
                raise OSError(f"segments {following} to {begin - 1} are gone before they were asked for")
            fresh = found[following - begin :]
            for duration, name in fresh:
                self.segment(following, duration, urljoin(self.url, name))
                following += 1
            if not fresh and not complete:
                self.slices.take(0)
                time.sleep(POLL)


def play(url: str, first: str) -> None:
    """Follow a playlist to its end, or until SIGTERM."""
    player = Player(url, int(first))
    tell(ready=time.time())
    complete, words = False, ""
    try:
        player.play()
        complete = True
    except Ended:
        words = "broken off"
    except (OSError, http.client.HTTPException, ValueError) as error:
        words = str(error) or type(error).__name__
    tell(complete=complete, error=words)


def take_rtp(address: str, port: str) -> None:
    """Take RTP until SIGTERM: what is lost is what the numbers of the packets leave out (RFC 3550, A.3)."""
    receiver = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE, where it is allowed
        try:
            receiver.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
            break
        except OSError:
            pass
    receiver.bind((address, int(port)))
    receiver.setblocking(False)
    tell(ready=time.time())
    slices = Slices()
    received, whole = 0, 0
    first: int | None = None
    highest = 0
    try:
        while True:
            readable, _, _ = select.select([receiver], [], [], SLICE / 2)
            slices.take(0)
            for _ in range(512 if readable else 0):
                try:
                    data = receiver.recv(2048)
                except BlockingIOError:
                    break
                if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:
                    continue  # no RTP, or its control protocol's
                number = struct.unpack_from("!H", data, 2)[0]
                if first is None:
                    first = highest = number
                ahead = (number - highest) & 0xFFFF
                if ahead < 0x8000:
                    highest += ahead
                received, whole = received + 1, whole + len(data)
                slices.take(len(data))
    except Ended:
        pass
    expected = highest - first + 1 if first is not None else 0
    tell(received=received, expected=expected, lost=expected - received, bytes=whole)


MODES: dict[str, Callable[..., None]] = {"play": play, "take-rtp": take_rtp}


def main() -> None:
    """Do what the words say."""
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    MODES[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
