"""The passwords that sudo asks for on hosts: typed once, without echo, and kept in this process's memory alone.

One goes to a host through its SSH channel, as the first line of a program's input and when sudo has asked for it: it stands
in no command line, environment, log or file, here or there.
"""

from __future__ import annotations

import getpass
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

VARIABLE = "CHANNOVER_SUDO_PASSWORD"
"""Where a run without a terminal finds the password. It is taken out, so that no program started from here inherits it."""
OPTION = "--ask-sudo-password"


class NoPassword(Exception):
    """sudo asks for a password, and there is none to give: why, and the remedy."""


def has_terminal() -> bool:
    """Say whether somebody can be asked: there is a terminal, and this process is in its foreground (``credentials(7)``)."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@dataclass
class SudoPasswords:
    """What sudo is told, by host. The first password that was typed is tried on every host. Safe to use from threads."""

    asks: bool = True
    """Whether the terminal may be asked: not by one of several processes that share it."""
    typed: Callable[[str], str] = field(default=getpass.getpass)
    _first: str = field(default="", repr=False)
    _own: dict[str, str] = field(default_factory=dict, repr=False)
    _refused: set[tuple[str, str]] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def asking(self) -> bool:
        """Whether somebody is about to type one."""
        return self._lock.locked()

    @property
    def first(self) -> str:
        """The password that is tried first; empty where there is none."""
        return self._first

    def give(self, password: str) -> None:
        """Take a password that is to be tried first."""
        self._first = password

    def take_from_environment(self) -> None:
        """Take the password that the environment has, out of it."""
        self._first = os.environ.pop(VARIABLE, "") or self._first

    def ask(self) -> None:
        """Have the user type the password before any host asks for it, where none is known. Raises NoPassword."""
        if self._first:
            return
        if not has_terminal():
            raise NoPassword(f"{OPTION}: there is no terminal to ask at; set {VARIABLE} instead")
        self._first = self._answer("password for sudo on the lab's hosts: ")

    def of(self, who: str, refused: str = "") -> str:
        """Return the password of a login such as ``lab@192.0.2.11``; ``refused`` was tried there in vain. Raises NoPassword."""
        with self._lock:
            if refused:
                self._refused.add((who, refused))
            self.take_from_environment()
            for known in (self._own.get(who, ""), self._first):
                if known and (who, known) not in self._refused:
                    return known
            if not (self.asks and has_terminal()):
                if any(host == who for host, _ in self._refused):
                    raise NoPassword(f"sudo refuses the password of {who}")
                raise NoPassword(
                    f"sudo asks for a password, and there is no terminal to ask at: run it at one, with {OPTION} where "
                    f"workers need it, or set {VARIABLE}"
                )
            again = "sudo there refuses it; another " if refused else ""
            self._own[who] = self._answer(f"{again}password of {who} for sudo: ")
            self._first = self._first or self._own[who]
            return self._own[who]

    def _answer(self, prompt: str) -> str:
        try:
            password = self.typed(prompt)
        except EOFError:
            password = ""
        if not password:
            raise NoPassword("sudo asks for a password, and none was typed")
        return password


PASSWORDS = SudoPasswords()
"""Those of this process."""
