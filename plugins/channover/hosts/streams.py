"""What a running program has written so far, and waiting for words in it: the same for every kind of host."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from re import Match

from channover.errors import TestbedError
from channover.hosts.host import shown


class Output:
    """Both streams of one program, filled by whatever reads them."""

    def __init__(self, host: str | None, argv: tuple[str, ...]) -> None:
        self._who = f"{host}: " if host else ""
        self._argv = argv
        self._chunks: dict[int, list[bytes]] = {1: [], 2: []}
        self._arrived = threading.Condition()

    def add(self, stream: int, data: bytes) -> None:
        """Take what was written to stream 1 (output) or 2 (error); nothing at all marks an end."""
        with self._arrived:
            if data:
                self._chunks[stream].append(data)
            self._arrived.notify_all()

    def text(self, stream: int) -> str:
        """Return what was written to a stream so far."""
        return b"".join(self._chunks[stream]).decode(errors="replace")

    def wait_for(self, pattern: str, timeout: float, ended: Callable[[], int | None]) -> Match[str]:
        """Wait until either stream matches; ``ended`` gives the exit code when there is no more to come.

        Raises TestbedError when the program ends first, or after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern, re.MULTILINE)
        with self._arrived:
            while True:
                code = ended()
                if found := expression.search(self.text(1)) or expression.search(self.text(2)):
                    return found
                left = deadline - time.monotonic()
                if code is not None or left <= 0:
                    how = f"ended with code {code}" if code is not None else f"did not within {timeout:g} s"
                    raise TestbedError(
                        f"{self._who}waited for '{pattern}' from '{shown(self._argv)}', which {how}; "
                        f"its last words: {(self.text(2) or self.text(1)).strip()[-400:]!r}"
                    )
                self._arrived.wait(min(left, 0.1))
