"""One measurement at a time for every two cores of this machine, whatever runs, and how many.

Traffic between namespaces is made by the processors that the namespaces share. Two measurements at once on two cores
would measure each other, whichever installation they are of. A slot is a name in the abstract namespace of unix sockets
(``unix(7)``): one process can bind it at a time, and the kernel frees it when its holder ends, however it ends; no file is
made for it. Such names are those of a network namespace, so a container does not see the slots of its host.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def measuring_slot(timeout: float = 7200.0) -> Iterator[float]:
    """Hold one of the machine's slots for the length of a block; yields how long (seconds) it was waited for.

    Raises TimeoutError.
    """
    slots = range(max(1, (os.cpu_count() or 2) // 2))
    start = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        while not any(_bound(held, number) for number in slots):
            if time.monotonic() - start > timeout:
                raise TimeoutError(f"another measurement held this machine for {timeout:g} s")
            time.sleep(0.02)
        yield time.monotonic() - start


def _bound(held: socket.socket, number: int) -> bool:
    """Take a slot; False where another has it."""
    try:
        held.bind(f"\0channover/measuring/{number}")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
