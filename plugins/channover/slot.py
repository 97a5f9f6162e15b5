"""One measurement at a time for every two cores of this machine, whatever runs, and how many.

Traffic between namespaces is made by the processors that the namespaces share. Two measurements at once on two cores
would measure each other. The lock is an advisory one on an open descriptor (``flock(2)``), so the kernel releases it
when its holder ends, however it ends, and no file is made for it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = tuple(sorted(Path(__file__).parent.glob("*.py")))


@contextmanager
def measuring_slot(timeout: float = 600.0) -> Iterator[float]:
    """Hold one of the machine's slots for the length of a block; yields how long (seconds) it was waited for.

    Slots are this package's own files, so runs of one installation share them. Raises TimeoutError.
    """
    slots = _PLACES[: max(1, (os.cpu_count() or 2) // 2)]
    start = time.monotonic()
    while True:
        for place in slots:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            try:
                yield time.monotonic() - start
            finally:
                os.close(descriptor)
            return
        if time.monotonic() - start > timeout:
            raise TimeoutError(f"another measurement held this machine for {timeout:g} s")
        time.sleep(0.02)
