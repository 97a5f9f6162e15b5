"""LLDP of a rack's switches, which have no daemon for it: frames made by hand, of one port each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.rack import Switch

LLDP = r"""
import socket, struct, sys, time
def tlv(kind, value): return struct.pack("!H", kind << 9 | len(value)) + value
while True:
    for name in sys.argv[2:]:
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        out.bind((name, 0))
        own = out.getsockname()[4]
        body = (tlv(1, b"\4" + own) + tlv(2, b"\5" + name.encode()) + tlv(3, b"\0\x78")
                + tlv(5, sys.argv[1].encode()) + tlv(0, b""))
        out.send(bytes.fromhex("0180c200000e") + own + struct.pack("!H", 0x88CC) + body)
        out.close()
    time.sleep(0.3)
"""


@contextmanager
def speaking(switch: Switch, name: str, ports: Sequence[str]) -> Iterator[None]:
    """Have a switch tell its name and its port by LLDP on some of its ports."""
    words = ("nsenter", f"--net=/proc/{switch.pid}/ns/net", sys.executable, "-S", "-c", LLDP, name, *ports)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
