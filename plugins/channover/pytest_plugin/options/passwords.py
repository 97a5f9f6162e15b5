"""Where a run's password for sudo comes from, and how xdist's workers come by it: in memory, through no file."""

from __future__ import annotations

from typing import Any

import pytest

from channover.errors import UsageError
from channover.hosts.ssh.sudo import PASSWORDS, NoPassword
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.options.command_line import PASSWORD


def take(config: pytest.Config) -> None:
    """Take the password out of the environment, or a worker's from its controller, before anything looks at either."""
    PASSWORDS.take_from_environment()
    told = getattr(config, "workerinput", None)
    if told is not None:
        PASSWORDS.asks = False  # its terminal is the controller's, and other workers'
        PASSWORDS.give(told.pop(PASSWORD, ""))


def ask(config: pytest.Config) -> None:
    """Ask for the password where the command line wants that. Raises UsageError where nobody can be asked."""
    if words.value(config, "--ask-sudo-password") and not hasattr(config, "workerinput"):
        try:
            PASSWORDS.ask()
        except NoPassword as error:
            raise UsageError(str(error)) from None


def tell_worker(node: Any) -> None:
    """Tell a worker the password, through the pipe that starts it."""
    if PASSWORDS.first:
        node.workerinput[PASSWORD] = PASSWORDS.first
