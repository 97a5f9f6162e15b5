"""Somebody else on a wire: sends frames of an ethertype for experiments by a port, ``stranger.py PORT SIZE PAUSE``.

SIGUSR1 has it tell how many frames it has sent.
"""

import contextlib
import signal
import socket
import sys
import time


def main() -> None:
    device, size, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((device, 0))
    frame = b"\xff" * 6 + b"\x02\0\0\0\0\x99" + b"\x88\xb6" + b"x" * (size - 14)
    sent = 0
    signal.signal(signal.SIGUSR1, lambda *_: print(f"sent {sent} frames", flush=True))
    print("ready", flush=True)
    start = time.monotonic()
    while True:
        due = int((time.monotonic() - start) / pause) + 1
        while sent < due:
            with contextlib.suppress(OSError):  # a port that is down
                out.send(frame)
            sent += 1
        time.sleep(min(max(pause, 0.002), 0.1))


main()
