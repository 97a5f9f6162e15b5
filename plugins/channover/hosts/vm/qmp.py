"""The QEMU Machine Protocol (``qmp-spec``): what is asked of a micro-VM's emulator, such as to pull a NIC's cable."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

from channover.errors import TestbedError


class Monitor:
    """The controller's end of an emulator's monitor."""

    def __init__(self, channel: socket.socket, name: str, timeout: float = 30.0) -> None:
        self._name = name
        channel.settimeout(timeout)
        self._channel = channel
        self._file = channel.makefile("rb")
        self._lock = threading.Lock()

    def greet(self) -> None:
        """Wait until it is there. Raises TestbedError when it has ended, or after the timeout (30 s)."""
        with self._lock:
            self._receive()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Have a command carried out and return its result. Raises TestbedError."""
        with self._lock:
            try:
                self._channel.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            except OSError as error:
                raise TestbedError(f"{self._name}: its emulator has ended ({error.strerror})") from None
            while True:
                answer = self._receive()
                if "error" in answer:
                    raise TestbedError(
                        f"{self._name}: its emulator refused {command}: {answer['error'].get('desc', '')}"
                    )
                if "return" in answer:
                    return answer["return"]

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except OSError as error:
            raise TestbedError(f"{self._name}: its emulator does not answer ({error})") from None
        if not line:
            raise TestbedError(f"{self._name}: its emulator has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._file.close()
            self._channel.close()
