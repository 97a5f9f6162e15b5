"""A third system that speaks LACP on a wire: ``lacp_stranger.py PORT PAUSE`` sends LACP frames of its own, so often (s).

SIGUSR1 has it tell how many it has sent.
"""

import signal
import socket
import struct
import sys
import time

SYSTEM = b"\x02\xde\xad\0\0\x01"


def frame() -> bytes:
    actor = struct.pack("!BBH6sHHHB3x", 1, 20, 0xFFFF, SYSTEM, 1, 0xFF, 2, 0x3F)
    partner = struct.pack("!BBH6sHHHB3x", 2, 20, 0xFFFF, b"\0" * 6, 0, 0xFF, 0, 0)
    collector = struct.pack("!BBH12x", 3, 16, 0)
    body = b"\x01\x01" + actor + partner + collector + b"\0" * 52
    return b"\x01\x80\xc2\0\0\x02" + SYSTEM + b"\x88\x09" + body


def main() -> None:
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((sys.argv[1], 0))
    sent = 0
    signal.signal(signal.SIGUSR1, lambda *_: print(f"sent {sent} frames", flush=True))
    print("ready", flush=True)
    while True:
        try:
            out.send(frame())
            sent += 1
        except OSError:
            pass
        time.sleep(float(sys.argv[2]))


main()
