"""The lines of xdist's workers, below what pytest writes: a worker has no terminal, and sends its line to the controller.

It goes by a socket in the abstract namespace of unix sockets (``unix(7)``), of which nothing is left when a process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from channover.pytest_plugin.live.paint import LiveLine, Words

SOCKET = "channover_live"
"""Key of a worker's input: the name of the controller's socket."""
PERIOD = 0.2
"""Seconds between two lines of a worker, and between two paints of all."""


def address(controller: int) -> str:
    """Return the name of the socket by which a controller, a process by its number, hears its workers."""
    return f"\0channover/live/{controller}"


class Far:
    """Sends a worker's line to the controller; one that does not listen is no error."""

    def __init__(self, worker: str, name: str) -> None:
        self._worker = worker
        self._name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._sent = 0.0

    @classmethod
    def of(cls, config: pytest.Config) -> Far | None:
        """Return that of a worker; None where its controller did not say where it listens."""
        told: dict[str, Any] = getattr(config, "workerinput", {})
        return cls(str(told.get("workerid", "")), str(told[SOCKET])) if SOCKET in told else None

    @property
    def due(self) -> bool:
        """Whether a line would be sent now: the last one is not too recent."""
        return time.monotonic() - self._sent >= PERIOD

    def send(self, words: Words, *, always: bool = False) -> None:
        """Send what its line may say, unless the last one is too recent."""
        if always or self.due:
            self._sent = time.monotonic()
            with contextlib.suppress(OSError):
                self._socket.sendto(json.dumps([self._worker, list(words)]).encode(), self._name)

    def forget(self) -> None:
        """Send the next line at once."""
        self._sent = 0.0


class Hearing:
    """Paints what workers send, a line each, until it is closed."""

    def __init__(self, line: LiveLine) -> None:
        self._line = line
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PERIOD)
        self._words: dict[str, list[str]] = {}
        self._open = True
        try:
            self._socket.bind(address(os.getpid()))
        except OSError:  # a run within this very process: its workers have no lines
            self._open = False
        self._thread = threading.Thread(target=self._hear, name="live lines", daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        painted = 0.0
        while self._open:
            with contextlib.suppress(OSError, ValueError):
                worker, words = json.loads(self._socket.recv(65536))
                self._words[worker] = words
            if time.monotonic() - painted >= PERIOD and self._open:
                painted = time.monotonic()
                told = sorted((int(name.lstrip("gw") or 0), words) for name, words in self._words.items() if words)
                self._line.show_below([words for _, words in told])

    def close(self) -> None:
        """Paint no more."""
        self._open = False
        self._thread.join()
        self._socket.close()
