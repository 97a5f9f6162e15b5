"""The program that sends and receives IP packets of every protocol as they stand on a device, such as a tunnel's.

It is run as it stands, ``python3 -I -S FILE MODE …``, on hosts that have no channover: it needs the standard library of
Python 3.9 and root. SIGTERM ends it in good order. It prints JSON, a line each; packets are hexadecimal digits.

    receive DEVICE                                     prints {"packets": [...]} at its end: all that came in
    send DEVICE SOURCE4 TARGET4 SOURCE6 TARGET6        prints {"sent": [[version, number, packet], ...]}

IPv4 packets have every protocol number (RFC 791, 3.1), IPv6 packets every next header but those of extensions that hosts on the
way have to read (RFC 8200, 4: hop-by-hop 0, routing 43, fragment 44, destination options 60). Traffic class, TTL, length and
payload differ from packet to packet, and every third IPv4 packet has an option (RFC 791: no operation, end of list). Sources:
``packet(7)``, RFC 1071 (checksum).
"""

from __future__ import annotations

import ipaddress
import json
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

IPV4, IPV6 = 0x0800, 0x86DD
EXTENSIONS = (0, 43, 44, 60)
OUTGOING = 4
PAUSE = 0.001
"""Seconds between two packets: none is lost for want of room in the tunnel's own queue."""

ended = False


def end(*_: object) -> None:
    """Take note that enough was seen."""
    global ended
    ended = True


def tell(**facts: Any) -> None:
    """Print facts, at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def receive(device: str) -> None:
    """Take what comes in by a device until SIGTERM."""
    taking = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    taking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    taking.bind((device, 3))
    taking.setblocking(False)
    tell(ready=True)
    found = []
    while True:
        readable, _, _ = select.select([taking], [], [], 0.1)
        if readable:
            packet, (_, _, kind, _, _) = taking.recvfrom(1 << 16)
            if kind != OUTGOING:
                found.append(packet.hex())
        elif ended:
            break
    tell(packets=found)


def checksum(header: bytes) -> int:
    """Return the checksum of a header of 16-bit words (RFC 1071)."""
    whole: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while whole > 0xFFFF:
        whole = (whole & 0xFFFF) + (whole >> 16)
    return 0xFFFF - whole


def packet4(number: int, source: bytes, target: bytes, chance: random.Random) -> bytes:
    """Return an IPv4 packet of a protocol."""
    options = bytes((1, 1, 1, 0)) if number % 3 == 0 else b""
    payload = chance.randbytes(64 + number)
    words = 5 + len(options) // 4
    fields = (
        0x40 | words,
        4 * (number % 64),
        words * 4 + len(payload),
        1 + number,
        0x4000,
        1 + (number * 7) % 255,
        number,
    )
    header = struct.pack("!BBHHHBBH4s4s", *fields, 0, source, target) + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def packet6(number: int, source: bytes, target: bytes, chance: random.Random) -> bytes:
    """Return an IPv6 packet with a next header."""
    payload = chance.randbytes(64 + number)
    first = 6 << 28 | (4 * (number % 64)) << 20 | number * 97 % (1 << 20)
    return struct.pack("!IHBB16s16s", first, len(payload), number, 1 + (number * 7) % 255, source, target) + payload


def send(device: str, source4: str, target4: str, source6: str, target6: str) -> None:
    """Send a packet of each kind by a device."""
    chance = random.Random(f"{source4} {target4}")
    ours4, theirs4, ours6, theirs6 = (ipaddress.ip_address(one).packed for one in (source4, target4, source6, target6))
    kinds = [(4, number, IPV4, packet4(number, ours4, theirs4, chance)) for number in range(256)]
    kinds += [
        (6, number, IPV6, packet6(number, ours6, theirs6, chance)) for number in range(256) if number not in EXTENSIONS
    ]
    giving = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    for _, _, protocol, packet in kinds:
        giving.sendto(packet, (device, protocol))
        time.sleep(PAUSE)
    tell(sent=[[version, number, packet.hex()] for version, number, _, packet in kinds])


def main() -> None:
    """Do what the words say."""
    signal.signal(signal.SIGTERM, end)
    modes: dict[str, Callable[..., None]] = {"receive": receive, "send": send}
    modes[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
