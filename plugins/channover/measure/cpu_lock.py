"""As many measurements at a time as this machine's processors are wires for, whatever runs, and how many.

Traffic between namespaces is made by the processors that the namespaces share. Measurements that take more than these have
would measure each other, whichever installation they are of. So the machine has a budget, three eighths of each processor, and
what is measured takes its share of it, in slots of a :data:`SLOT`; what takes more than there is has the machine for itself.

A slot is a name in the abstract namespace of unix sockets (``unix(7)``): one process can bind it at a time, and the kernel
frees it when its holder ends, however it ends; no file is made for it. Such names are those of a network namespace, so a
container does not see the slots of its host. Who waits for several holds the name of the next one, so that no small one
that comes later is served before.

Whoever measures on, since it waits for processors too often to come to a verdict, holds that name as well (:func:`make_room`):
nobody begins beside it, and what runs beside it ends.

What one test measures at once shares its slots: a process asks once, however often it measures. A second name, beside the
slots', says who holds them; whoever waits reads it in ``/proc/net/unix``, which every user may.
"""

from __future__ import annotations

import contextlib
import errno
import math
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
BUDGET = 0.375
"""The share of its processors that a machine has for what is measured: labs are made and unmade beside it.

With half of them four streams that asked for one of two processors took 1.8: what runs side by side shares caches, and often
a core.
"""
CARRIED = 1e9
"""What a processor carries of TCP (bit/s) between namespaces, from program to program."""
PROGRAMS = 0.05
"""What programs that look on take of a processor, whatever the rate."""
PACKED = 2.5
"""How many times as many what goes through a tunnel takes: two more programs have it in their hands."""
BUILDING = 0.5
"""What it takes of a processor to make a lab and its LAGs."""
SLOT = 0.125
"""What one slot is, in processors."""
LONGEST = 107
"""Bytes of a name (``unix(7)``, sun_path), the leading null left out."""


@dataclass
class _Held:
    """The slots that this process holds, if it does, and how many measurements share them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sockets: list[socket.socket] = field(default_factory=list)
    users: int = 0


_held = _Held()


@contextmanager
def cpu_lock(
    progress: Progress = lambda _: None, timeout: float = PATIENCE, processors: float = math.inf
) -> Iterator[float]:
    """Hold what is measured's share of the machine for the length of a block; yields how long (seconds) it was waited for.

    ``processors`` is how many of them the traffic takes; all that there are, where it is not said. Who is waited for is told
    as progress. Raises TestbedError after ``timeout`` seconds.
    """
    with _held.lock:
        waited = 0.0 if _held.users else _wait(progress, timeout, slots(processors))
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


def make_room() -> None:
    """Have nobody else begin to measure until this process, where it does, is done; nothing where another one is next."""
    with _held.lock:
        if _held.users and (place := _bound(f"{NAME}/next")):
            _held.sockets.append(place)


def taken(rate: float) -> float:
    """Return how many processors it takes to carry so much (bit/s) at once, and to look on."""
    return PROGRAMS + rate / CARRIED


def available() -> int:
    """Return how many slots this machine has."""
    return max(1, int((os.cpu_count() or 2) * BUDGET / SLOT))


def slots(processors: float) -> int:
    """Return how many of the machine's slots traffic takes that takes so many processors: one at least, all at most."""
    return available() if processors >= available() * SLOT else max(1, math.ceil(processors / SLOT))


def _wait(progress: Progress, timeout: float, wanted: int) -> float:
    """Take so many slots as soon as they are free; return how long (seconds) that took."""
    waiting = Waiting("turn to measure", timeout)
    asked = 0.0
    place: socket.socket | None = None
    try:
        while not ((place := place or _bound(f"{NAME}/next")) and _take(wanted)):
            if waiting.elapsed - asked > 1.0 or not asked:
                asked = waiting.elapsed
                waiting.name = f"turn to measure, after {holders()}"
            if waiting.elapsed > timeout:
                raise TestbedError(
                    f"waited {timeout:g} s for a turn to measure on this machine: {holders()}, is at it; wait for its end, "
                    "or end it"
                )
            progress(waiting)
            time.sleep(0.02)
    finally:
        if place is not None:
            place.close()
    waited = waiting.seconds = waiting.elapsed
    if asked:
        progress(waiting)
    return waited


def _take(wanted: int) -> bool:
    """Take so many free slots, and say by whom they are taken; False where there are fewer."""
    found = []
    for number in range(available()):
        if held := _bound(f"{NAME}/{number}"):
            found.append(held)
        if len(found) == wanted:
            _held.sockets += found
            label = f"{NAME}/{number}/{os.getpid()}/{time.time():.0f}/{_command()}"
            if said := _bound(label.encode()[:LONGEST].decode(errors="ignore")):
                _held.sockets.append(said)
            return True
    for one in found:
        one.close()
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
