"""A cable that takes its time: frames that come in by one port leave by another, each after a delay (milliseconds).

``delay_line.py IN OUT DELAY [JITTER]``: a frame takes DELAY, and a random part of JITTER more, by which frames overtake each
other. SIGUSR1 has it tell how many frames have crossed. Runs without anything but Python's own library.
"""

import heapq
import random
import select
import signal
import socket
import sys
import time

PACKET_IGNORE_OUTGOING = 23


def main() -> None:
    into, out = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in range(2))
    into.setsockopt(263, PACKET_IGNORE_OUTGOING, 1)
    into.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    into.bind((sys.argv[1], 3))
    out.bind((sys.argv[2], 0))
    out.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)
    into.setblocking(False)
    delay, jitter = float(sys.argv[3]) / 1e3, float(sys.argv[4]) / 1e3 if len(sys.argv) > 4 else 0.0
    crossed = dropped = 0
    waiting: list[tuple[float, int, bytes]] = []

    def tell(*_: object) -> None:
        print(
            f"crossed {crossed} frames, {dropped} dropped, {delay * 1e3:g} ms and up to {jitter * 1e3:g} more",
            flush=True,
        )

    signal.signal(signal.SIGUSR1, tell)
    print("ready", flush=True)
    number = 0
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            try:
                out.send(heapq.heappop(waiting)[2])
                crossed += 1
            except OSError:
                dropped += 1
        select.select([into], [], [], max(waiting[0][0] - now, 0.0) if waiting else None)
        now = time.monotonic()
        for _ in range(64):
            try:
                frame = into.recv(65536)
            except BlockingIOError:
                break
            number += 1
            heapq.heappush(waiting, (now + delay + (random.random() * jitter if jitter else 0.0), number, frame))


main()
