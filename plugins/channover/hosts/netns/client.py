"""Labs of namespaces as pytest's process uses them: it starts the process that forks them, and sends each lab its requests.

The controller (pytest) holds one socket a lab. When the controller goes, however it goes, so does the lab: see
:mod:`channover.hosts.netns.supervisor`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from typing import Any, cast

from channover import isolated
from channover.errors import TestbedError
from channover.hosts.netns.protocol import ENVIRONMENT, PanelCable, receive, send


class ForkServer:
    """The process that lab inits are forked from. One a run; started early, because it takes 0.2 s to get ready."""

    def __init__(self) -> None:
        self._channel, other = socket.socketpair()
        command = isolated.python("channover.hosts.netns.fork_server", str(other.fileno()))
        environment = {**os.environ, "PATH": ENVIRONMENT["PATH"]}
        with other:
            self._process = subprocess.Popen(
                command, pass_fds=[other.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._ready = False

    def lab(self) -> LabProcess:
        """Fork a lab init. Raises TestbedError with the kernel's reason where it refuses."""
        try:
            if not self._ready:
                (verdict, value), _ = receive(self._channel)
                if verdict == "error":
                    raise TestbedError(value[2])
                self._ready = True
            ours, theirs = socket.socketpair()
            with theirs:
                send(self._channel, "lab", (theirs.fileno(),))
        except (EOFError, OSError) as error:
            raise TestbedError(
                f"no lab can be made: the lab's parent process has ended with code {self._process.wait(5)}; "
                "run 'channover doctor --target netns'"
            ) from error
        return LabProcess(ours)

    def close(self) -> None:
        """End it, and with it every lab that is left."""
        self._channel.close()
        self._process.wait(10)


class LabProcess:
    """The controller's side of a lab init."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._reply()

    def _reply(self) -> tuple[Any, list[int]]:
        try:
            (verdict, value), descriptors = receive(self._channel)
        except (EOFError, ConnectionResetError) as error:
            raise TestbedError("the lab's first process has ended: the lab is gone") from error
        if verdict == "error":
            kind, number, text = value
            raise OSError(number, text) if number else TestbedError(f"{kind}: {text}")
        return value, descriptors

    def call(self, name: str, *arguments: object, descriptors: tuple[int, ...] = ()) -> Any:
        """Make a request of the lab init. Raises OSError or TestbedError."""
        return self._exchange(name, arguments, descriptors)[0]

    def _exchange(
        self, name: str, arguments: tuple[object, ...], descriptors: tuple[int, ...]
    ) -> tuple[Any, list[int]]:
        with self._lock:
            try:
                send(self._channel, (name, arguments), descriptors)
            except OSError as error:
                raise TestbedError("the lab's first process has ended: the lab is gone") from error
            return self._reply()

    def build(self, hosts: list[str], cables: list[PanelCable]) -> list[tuple[int, int]]:
        """Make hosts and cables; return the panel's port numbers of each cable."""
        return cast("list[tuple[int, int]]", self.call("build", hosts, cables))

    def prove(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Send frames over cables, and return what arrived: :func:`channover.hosts.prober.probe`. Raises OSError."""
        return cast("dict[str, Any]", self.call("prove", wanted))

    def start(
        self, host: str | None, argv: tuple[str, ...], environment: Mapping[str, str], streams: tuple[int, int, int]
    ) -> tuple[int, int]:
        """Start a program with these standard streams; return its pid and pidfd. Raises TestbedError where it is missing."""
        try:
            pid, passed = self._exchange("spawn", (host, list(argv), dict(environment)), streams)
        except OSError as error:
            raise TestbedError(
                f"{host}: cannot run '{argv[0]}': {error.strerror}; 'channover doctor' names the package"
            ) from None
        return pid, passed[0]

    def emulate(self, argv: tuple[str, ...], ports: list[int], descriptors: tuple[int, ...]) -> tuple[int, int]:
        """Start an emulator in the machine's own network with these panel ports; return its pid and pidfd.

        Its descriptors are those given, from 0 on, and its taps, from 10 on. Raises OSError.
        """
        pid, passed = self._exchange("emulate", (list(argv), ports), descriptors)
        return pid, passed[0]

    def folder(self, path: str) -> int:
        """Make a folder in the lab's /run and return a descriptor of it: ``/proc/PID/fd/N`` is its path elsewhere."""
        return self._exchange("folder", (path,), ())[1][0]

    def close(self) -> None:
        """End the lab: the kernel kills its processes and frees its namespaces. Returns when the first process is gone."""
        with self._lock, contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            self._channel.settimeout(10)
            while self._channel.recv(4096):
                pass
        self._channel.close()
