"""Where labs come from: a target, an inventory and its lab, kernels of virtual machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from channover.errors import UsageError
from channover.run.defaults import KERNEL, OWNERS

if TYPE_CHECKING:
    from channover.targets.inventory.schema import LabEntry


@dataclass(frozen=True)
class Place:
    """Where labs come from; times are seconds.

    ``lab`` is the inventory's lab of this process, ``labs`` names those that xdist's workers can have.
    """

    target: str = "netns"
    lab: LabEntry | None = None
    labs: tuple[str, ...] = ()
    lease_wait: float = 0.0
    kernel: str = KERNEL
    keep_lab: bool = False
    dry_run: bool = False
    options: Mapping[str, str | None] = field(default_factory=dict)
    """Values of the options that are the target's own, where another package has registered it."""


def check_owners(target: str, given: Mapping[str, object]) -> None:
    """Raise UsageError where an option was given that is another target's."""
    for option, value in given.items():
        if value is not None and target != OWNERS[option]:
            raise UsageError(f"{option} is for --target={OWNERS[option]}, and the target is {target}")


def chosen(labs: Mapping[str, LabEntry], name: str | None, path: str) -> LabEntry:
    """Return the lab that was named, or the only one. Raises UsageError."""
    if name is not None and name not in labs:
        raise UsageError(f"--lab: {path} has no lab '{name}'; it has: {', '.join(labs)}")
    if name is None and len(labs) > 1:
        names = ", ".join(labs)
        raise UsageError(f"{path} has {len(labs)} labs ({names}): choose one with --lab NAME, or use -n {len(labs)}")
    return labs[name] if name is not None else next(iter(labs.values()))
