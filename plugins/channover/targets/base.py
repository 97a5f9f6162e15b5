"""What a target is: something that turns a topology into a live lab, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.topology import Topology


class Target(Protocol):
    """Where labs come from."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        ...

    def unmet(self, topology: Topology) -> str | None:
        """Say what is missing, and how to get it, where this topology cannot be had here; else None."""
        ...

    def lab(self, topology: Topology, link: Link, journal: Journal) -> AbstractContextManager[Lab]:
        """Bring a topology up for the length of a block. Raises TestbedError."""
        ...

    def close(self) -> None:
        """Give back all that the target holds. Raises nothing: what went wrong stands in :attr:`remarks`."""
        ...

    @property
    def remarks(self) -> list[str]:
        """What is to be said at the end of the run: hosts that were not as they had been."""
        ...


@runtime_checkable
class Mortal(Protocol):
    """A target whose machines can die by themselves."""

    def dead(self) -> list[str]:
        """Return what each machine that died has said last; none where all live."""
        ...

    def revive(self) -> None:
        """Put new machines in their places. Raises TestbedError."""
        ...


@runtime_checkable
class Talking(Protocol):
    """A target that says, in a line, what the user should know meanwhile."""

    say: Callable[[str], None]


@runtime_checkable
class Interruptible(Protocol):
    """A target that takes back a test's changes otherwise where Ctrl-C ends the run."""

    def interrupt(self) -> None:
        """Learn of Ctrl-C, before fixtures are torn down."""
        ...
