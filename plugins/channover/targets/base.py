"""What a target is: something that turns a topology into a live lab, or says why it cannot."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

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
