"""A program that holds frames back: what comes in by one device leaves by another after so many seconds, in order.

``delay_line.py IN OUT SECONDS``. A kernel without ``sch_netem`` cannot delay what it forwards; this needs no compiler. It takes
a tenth of a processor for 100 Mbit/s each way. Source: ``packet(7)``.
"""

import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress

_ALL = 3
"""``ETH_P_ALL`` of ``linux/if_ether.h``."""
_PACKET, _IGNORE_OUTGOING = 263, 23
"""``SOL_PACKET`` and ``PACKET_IGNORE_OUTGOING`` of ``linux/if_packet.h``: the other direction's frames are not to come back."""
_SEND_BUFFER, _RECEIVE_BUFFER = 32, 33
"""``SO_SNDBUFFORCE`` and ``SO_RCVBUFFORCE`` of ``asm-generic/socket.h``."""
BYTES = 8 << 20
"""Of frames that wait in a socket: as many as a gigabit carries in 60 ms."""
LONGEST = 65536
AT_ONCE = 64
"""Frames that are taken in before those that are due are looked for."""


def _socket(device: str, protocol: int, option: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with suppress(OSError):  # a kernel lets the owner of a user namespace have less
        made.setsockopt(socket.SOL_SOCKET, option, BYTES)
    made.setsockopt(_PACKET, _IGNORE_OUTGOING, 1)
    made.bind((device, protocol))
    return made


def main(into: str, out: str, seconds: float) -> None:
    """Hold frames back, for ever."""
    source, target = _socket(into, _ALL, _RECEIVE_BUFFER), _socket(out, 0, _SEND_BUFFER)
    source.setblocking(False)
    waiting: deque[tuple[float, bytes]] = deque()
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            with suppress(OSError):  # the queue of the cable is full: it drops the frame, as it does without a delay
                target.send(waiting.popleft()[1])
        select.select([source], [], [], max(waiting[0][0] - time.monotonic(), 0.0) if waiting else None)
        due = time.monotonic() + seconds
        for _ in range(AT_ONCE):
            try:
                waiting.append((due, source.recv(LONGEST)))
            except BlockingIOError:
                break


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
