"""A program that runs in a namespace host."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Mapping
from re import Match

from channover.errors import TestbedError
from channover.hosts.host import shown
from channover.hosts.netns.client import LabProcess
from channover.hosts.streams import Output


class NamespaceProcess:
    """A program in a namespace host (:class:`channover.hosts.host.Process`)."""

    def __init__(
        self,
        lab: LabProcess,
        host: str | None,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        input: str = "",
    ) -> None:
        self.argv = argv
        self._lab = lab
        self._host = host
        self._status: int | None = None
        self._output = Output(host, argv)
        stdin_read, self._stdin = os.pipe()
        out_read, out_write = os.pipe()
        error_read, error_write = os.pipe()
        try:
            self.pid, self._pidfd = lab.start(host, argv, environment, (stdin_read, out_write, error_write))
        except BaseException:
            os.close(out_read)
            os.close(error_read)
            os.close(self._stdin)
            raise
        finally:
            os.close(stdin_read)
            os.close(out_write)
            os.close(error_write)
        self._streams = {out_read: 1, error_read: 2}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if input:
            with contextlib.suppress(BrokenPipeError), open(self._stdin, "wb", closefd=False) as file:
                file.write(input.encode())

    def _read(self) -> None:
        poll = select.poll()
        for descriptor in self._streams:
            poll.register(descriptor, select.POLLIN)
        while self._streams:
            for descriptor, _ in poll.poll():
                data = os.read(descriptor, 65536)
                stream = self._streams[descriptor]
                if not data:
                    poll.unregister(descriptor)
                    del self._streams[descriptor]
                    os.close(descriptor)
                self._output.add(stream, data)

    def _drain(self) -> None:
        """Wait for what it had written when it ended: on a busy machine the reader may be long in coming.

        A child of its own may keep a stream open: what is there is enough.
        """
        with contextlib.suppress(OSError, ValueError):  # the reader may close a stream meanwhile
            for _ in range(30):
                self._reader.join(1.0)
                if not self._reader.is_alive() or not select.select(list(self._streams), [], [], 0)[0]:
                    return

    @property
    def outer_pid(self) -> int:
        """Its process number here, outside the lab's PID namespace (``pidfd_open(2)``, fdinfo)."""
        with open(f"/proc/self/fdinfo/{self._pidfd}") as file:
            return int(next(line for line in file if line.startswith("Pid:")).split()[1])

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._output.text(1)

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._output.text(2)

    @property
    def lines(self) -> list[str]:
        """Complete lines of standard output so far."""
        return self.stdout.split("\n")[:-1]

    def close_input(self) -> None:
        """Close its standard input."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        if self._status is None and select.select([self._pidfd], [], [], 0)[0]:
            self._status = self._lab.call("reap", self.pid)
            os.close(self._pidfd)
            self.close_input()
        return self._status

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code. Raises TestbedError after ``timeout``."""
        if self._status is None and not select.select([self._pidfd], [], [], timeout)[0]:
            raise TestbedError(f"{self._host}: '{shown(self.argv)}' did not end within {timeout:g} s")
        status = self.poll()
        self._drain()
        assert status is not None
        return status

    def wait_for(self, pattern: str, timeout: float) -> Match[str]:
        """Wait until its output matches. Raises TestbedError when it ends first, or after ``timeout``."""
        return self._output.wait_for(pattern, timeout, self._ended)

    def _ended(self) -> int | None:
        status = self.poll()
        return None if self._reader.is_alive() else status

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            self._lab.call("kill", self.pid, number, False)

    def stop(self, timeout: float = 5.0) -> int:
        """End it (SIGTERM, then SIGKILL to its group) and return its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except TestbedError:
            self._lab.call("kill", self.pid, signal.SIGKILL, True)
            return self.wait(timeout)
