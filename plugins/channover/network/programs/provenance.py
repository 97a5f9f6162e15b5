"""Programs as they ran on a host: whether their distribution made them, and what they were told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from channover.errors import TestbedError
from channover.hosts.host import Host, Process
from channover.network.tunnel import MPTCPIZE

_PACKAGE = r"""
if owner=$(dpkg-query -S "$1" 2>/dev/null); then
    owner=${owner%%:*}
    ! dpkg -V "$owner" 2>/dev/null | grep -qF " $1" && echo "$owner"
elif owner=$(rpm -qf "$1" 2>/dev/null); then
    ! rpm -V "$owner" 2>/dev/null | grep -qF " $1" && echo "$owner"
elif owner=$(pacman -Qqo "$1" 2>/dev/null || apk info -qW "$1" 2>/dev/null); then
    echo "$owner"
fi
"""


_ADDRESS = re.compile(
    r"\b(\d+\.\d+\.\d+\.\d+)\b|(?<![\w:])([0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){2,7})(?![\w:])", re.IGNORECASE
)
"""An address as command lines have it, in brackets or without."""


@dataclass(frozen=True)
class Program:
    """A program that ran: the file that was executed, its words after the file's name, and the settings it was given."""

    host: Host
    path: str
    words: tuple[str, ...]
    settings: str = ""

    def package(self) -> str:
        """Return the package that the file is of, unchanged since it was installed; nothing where it is of none.

        Raises TestbedError where the host does not answer.
        """
        return self.host.run("sh", "-c", _PACKAGE, "package", self.path, check=False, quiet=True).stdout.strip()

    @property
    def about_mptcp(self) -> list[str]:
        """The words of its command line and settings that ask for Multipath TCP."""
        return re.findall(r"\S*(?:mptcp|multipath)\S*", " ".join([*self.words, self.settings]), re.IGNORECASE)

    @property
    def addresses(self) -> list[str]:
        """The addresses that its command line names, each once."""
        return sorted({four or six for four, six in _ADDRESS.findall(" ".join(self.words))})


def running(host: Host, process: Process, settings: str = "", *, command: Sequence[str] | None = None) -> Program:
    """Return the program that a process has become: ``mptcpize run`` and shells are gone by then. Raises TestbedError.

    ``command`` are its words where the process was started by another's.
    """
    path = host.run("readlink", f"/proc/{process.pid}/exe", quiet=True).stdout.strip()
    words = tuple(command or process.argv)
    if words[: len(MPTCPIZE)] == MPTCPIZE:
        words = words[len(MPTCPIZE) :]
    if path.rpartition("/")[2] in ("mptcpize", "env", "sh", "bash", "dash"):
        raise TestbedError(f"{host.name}: '{' '.join(words)}' has not begun: its process is {path} still")
    return Program(host, path, words[1:], settings)
