"""A program that runs on a host behind SSH."""

from __future__ import annotations

import contextlib
import signal
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from re import Match

import paramiko

from channover.errors import TestbedError
from channover.hosts.host import shown
from channover.hosts.ssh.connection import SshLink
from channover.hosts.ssh.shell import PACKAGES, PATH, Beginning, command_line, new_mark, refused, untold
from channover.hosts.ssh.sudo import PASSWORDS, NoPassword
from channover.hosts.streams import Output

_LOST = -1
"""paramiko's exit code where the connection ended before the program (``Channel.recv_exit_status``)."""


class RemoteProcess:
    """A program on a remote host (:class:`channover.hosts.host.Process`).

    ``patience`` is by what every time is multiplied that is waited for it.
    """

    def __init__(
        self,
        link: SshLink,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        kill: Callable[[int, int], None],
        *,
        sudo: bool = False,
        lease: str = "",
        patience: float = 1.0,
        passed: Sequence[str] = (),
    ) -> None:
        self.argv = argv
        self._host = link.host
        self._address = f"-p {link.login.port} {link.login.user}@{link.login.address}"
        self._kill = kill
        self._patience = patience
        self._status: int | None = None
        self._output = Output(link.host, argv)
        self._user = link.login.user
        self._who = f"{link.login.user}@{link.login.name_of_key}"
        self._told = ""  # the password that sudo was told last
        self._untold = ""  # why it was told none
        self._said = ""  # what had been said by then: of what sudo says as it is ended, any part may arrive
        self._started = threading.Event()
        mark = new_mark()
        self._begins = {1: Beginning(mark), 2: Beginning(mark)}
        self._channel = link.channel(command_line(argv, environment, sudo, mark=mark, lease=lease, passed=passed))
        self._threads = [
            threading.Thread(target=self._read, args=(stream, receive), daemon=True)
            for stream, receive in ((1, self._channel.recv), (2, self._channel.recv_stderr))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: int, receive: Callable[[int], bytes]) -> None:
        data = b"?"
        while data:
            try:
                data = receive(65536)
            except (OSError, EOFError, paramiko.SSHException):
                data = b""
            begins = self._begins[stream]
            prompts = begins.prompts
            rest = begins.take(data)
            if begins.prompts > prompts:
                self._answer()
            if rest or not data:
                self._output.add(stream, rest)
            if stream == 1 and (begins.word or not data):
                self._started.set()

    def _answer(self) -> None:
        """Tell sudo the password that it asks for, or end it."""
        try:
            self._told = PASSWORDS.of(self._who, refused=self._told)
            self._channel.sendall(f"{self._told}\n".encode())
        except (NoPassword, KeyboardInterrupt) as error:
            self._said = self._begins[2].before.decode(errors="replace")
            self._untold = str(error) or "interrupted"
            self._channel.close()
        except OSError:
            pass  # the connection is lost, and said to be

    @property
    def _what(self) -> str:
        return textwrap.shorten(shown(self.argv), 60, placeholder=" …")

    def begun(self, timeout: float) -> None:
        """Wait until it runs. Raises TestbedError where it is missing, or sudo or the connection refuses."""
        timeout *= self._patience
        while not self._started.wait(timeout):
            if PASSWORDS.asking:
                continue  # somebody types
            raise TestbedError(
                f"{self._host}: '{self._what}' did not start within {timeout:g} s: the login shell may wait in one of its "
                f"start-up files there (~/.bashrc); see that 'ssh {self._address} true' ends at once"
            )
        word = self._begins[1].word
        if word == "lost":
            raise TestbedError(
                f"{self._host}: '{shown(self.argv)}' was not started: the host has restored itself, since the run lost it"
            )
        if word == "missing":
            program = self.argv[0]
            raise TestbedError(
                f"{self._host}: cannot run '{program}': there is none; "
                + (f"install {PACKAGES[program]}" if program in PACKAGES else "'channover doctor' names the package")
            )
        if word == "nosudo":
            raise TestbedError(
                f"{self._host}: '{self._what}' did not start: there is no sudo; install sudo, or log in as root"
            )
        if not word:
            self._threads[1].join(1.0)
            self._channel.status_event.wait(1.0)
            code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else None
            if self._untold:
                why = untold(self._user, self._said, self._untold)
            else:
                said = (self._begins[2].before or self._begins[1].before).decode(errors="replace")
                why = refused(self._user, self._begins[2].asked, said, code)
            raise TestbedError(f"{self._host}: '{self._what}' did not start: {why}")

    @property
    def pid(self) -> int:
        """Its process number on the host."""
        return int(self._begins[1].word)

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

    def feed(self, text: str) -> None:
        """Write to its standard input. Raises TestbedError where it or the connection is gone."""
        try:
            self._channel.sendall(text.encode())
        except OSError as error:
            raise TestbedError(f"{self._host}: '{shown(self.argv)}' takes no more input: {error}") from None

    def close_input(self) -> None:
        """Close its standard input."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def poll(self) -> int | None:
        """Return its exit code (negative: the signal that ended it), or None while it runs. Raises TestbedError if lost."""
        if self._status is None and self._channel.exit_status_ready():
            code = self._channel.recv_exit_status()
            if code == _LOST:
                raise TestbedError(f"{self._host}: the SSH connection was lost while '{shown(self.argv)}' ran")
            self._status = 128 - code if 128 < code <= 192 else code
        return self._status

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code. Raises TestbedError after ``timeout``."""
        timeout *= self._patience
        if self._status is None and not self._channel.status_event.wait(timeout):
            raise TestbedError(f"{self._host}: '{shown(self.argv)}' did not end within {timeout:g} s")
        status = self.poll()
        for thread in self._threads:  # a child of its own may keep the stream open: what is there is enough
            thread.join(1.0)
        self._channel.close()
        assert status is not None
        return status

    def wait_for(self, pattern: str, timeout: float) -> Match[str]:
        """Wait until its output matches. Raises TestbedError when it ends first, or after ``timeout``."""
        return self._output.wait_for(pattern, timeout * self._patience, self._ended)

    def _ended(self) -> int | None:
        status = self.poll()
        return None if any(thread.is_alive() for thread in self._threads) else status

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            self._kill(self.pid, number)

    def stop(self, timeout: float = 5.0) -> int:
        """End it (SIGTERM, then SIGKILL) and return its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except TestbedError:
            self.signal(signal.SIGKILL)
            return self.wait(timeout)


def connection_of(link: SshLink) -> str:
    """Return SSH_CONNECTION as the host's sshd set it: address and port of the client, of the server. Raises TestbedError."""
    words = ("sh", "-c", 'echo "$SSH_CONNECTION"')
    process = RemoteProcess(link, words, {"PATH": PATH}, lambda *_: None, passed=("SSH_CONNECTION",))
    process.begun(30.0)
    process.close_input()
    process.wait(10.0)
    return process.stdout.strip()
