"""One measurement at a time for every two cores of this machine, whatever runs, and how many.

Traffic between namespaces is made by the processors that the namespaces share. Two measurements at once on two cores
would measure each other, whichever installation they are of. A slot is a name in the abstract namespace of unix sockets
(``unix(7)``): one process can bind it at a time, and the kernel frees it when its holder ends, however it ends; no file is
made for it. Such names are those of a network namespace, so a container does not see the slots of its host.

What one test measures at once shares one slot: a process holds one, however often it asks. A second name, beside the
slot's, says who holds it; whoever waits reads it in ``/proc/net/unix``, which every user may.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from channover.errors import TestbedError
from channover.measure.activity import UnderWay, Waiting

Progress = Callable[[UnderWay], None]
PATIENCE = 3600.0
"""How long (seconds) is waited for a slot: three times the long run that the article's LAG was given, 1200 s."""
NAME = "channover/measuring"
LONGEST = 107
"""Bytes of a name (``unix(7)``, sun_path), the leading null left out."""


@dataclass
class _Held:
    """The slot that this process holds, if it does, and how many measurements share it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sockets: list[socket.socket] = field(default_factory=list)
    users: int = 0


_held = _Held()


@contextmanager
def cpu_lock(progress: Progress = lambda _: None, timeout: float = PATIENCE) -> Iterator[float]:
    """Hold one of the machine's slots for the length of a block; yields how long (seconds) it was waited for.

    Who is waited for is told as progress. Raises TestbedError after ``timeout`` seconds.
    """
    with _held.lock:
        waited = 0.0 if _held.users else _wait(progress, timeout)
        _held.users += 1
    try:
        yield waited
    finally:
        with _held.lock:
            _held.users -= 1
            if not _held.users:
                for one in _held.sockets:
                    one.close()
                _held.sockets.clear()


def _wait(progress: Progress, timeout: float) -> float:
    """Take a slot as soon as one is free; return how long (seconds) that took."""
    waiting = Waiting("turn to measure", timeout)
    asked = 0.0
    while not _take():
        if waiting.elapsed - asked > 1.0 or not asked:
            asked = waiting.elapsed
            waiting.name = f"turn to measure, after {holders()}"
        if waiting.elapsed > timeout:
            raise TestbedError(
                f"waited {timeout:g} s for a turn to measure on this machine: {holders()}, is at it; wait for its end, or "
                "end it"
            )
        progress(waiting)
        time.sleep(0.02)
    waited = waiting.seconds = waiting.elapsed
    if asked:
        progress(waiting)
    return waited


def _take() -> bool:
    """Take a free slot, and say by whom it is taken; False where none is free."""
    for number in range(max(1, (os.cpu_count() or 2) // 2)):
        if held := _bound(f"{NAME}/{number}"):
            _held.sockets.append(held)
            label = f"{NAME}/{number}/{os.getpid()}/{time.time():.0f}/{_command()}"
            if said := _bound(label.encode()[:LONGEST].decode(errors="ignore")):
                _held.sockets.append(said)
            return True
    return False


def _bound(name: str) -> socket.socket | None:
    """Return a socket of that name; None where another has it."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(f"\0{name}")
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return made


def _command() -> str:
    """Return this process's command line as a person would know it: that of its parent where it is xdist's worker."""
    words: list[str] = []
    for process in ("self", str(os.getppid())):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if "exec(eval(sys.stdin.readline()))" not in " ".join(words):  # how execnet starts a worker
            break
    text = " ".join(os.path.basename(word) if word.startswith("/") else word for word in words)
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def holders() -> str:
    """Say who holds the machine's slots, and since when (local time)."""
    found = []
    with contextlib.suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        for line in file:
            name = line.rstrip("\n").partition(f"@{NAME}/")[2]
            _, _, who = name.partition("/")
            pid, _, rest = who.partition("/")
            since, _, command = rest.partition("/")
            if pid.isdigit() and since.isdigit():
                clock = time.strftime("%H:%M:%S", time.localtime(int(since)))
                found.append(f"process {pid} ({command}), since {clock}")
    return ", and ".join(sorted(found)) or "a measurement that does not tell its name"
