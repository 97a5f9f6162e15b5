"""Options that choose where labs come from: a target, an inventory and its lab, kernels of virtual machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from channover.errors import UsageError
from channover.pytest_plugin import option_names as words

if TYPE_CHECKING:
    from channover.targets.inventory.schema import LabEntry

TARGETS = ("netns", "physical", "vm")
OWNERS = {"--inventory": "physical", "--lab": "physical", "--lease-wait": "physical", "--kernel": "vm"}
"""The target that each of these options is for."""
KERNEL = "6.1"
"""The Debian kernel that virtual machines boot where nothing else is asked for."""
LAB, WAIT = "channover_lab", "channover_wait"
"""What xdist's controller tells a worker: the name of its lab, and the least seconds to wait for the hosts."""


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


def add_options(group: pytest.OptionGroup) -> None:
    """Add the options to channover's group."""
    words.add(
        group,
        "--target",
        default="netns",
        metavar="NAME",
        help="where labs come from: netns, network namespaces of this machine; physical, hosts of an --inventory over SSH; "
        "vm, virtual machines with a --kernel of their own (default: %(default)s)",
    )
    words.add(group, "--inventory", default=None, metavar="FILE", help="the YAML file that describes physical labs")
    words.add(
        group,
        "--lab",
        default=None,
        metavar="NAME",
        help="the lab of the inventory (default: its only one; -n N: each)",
    )
    words.add(
        group,
        "--lease-wait",
        default=None,
        metavar="SECONDS",
        help="wait so long for a lab that another run holds (default: 0, which is not at all)",
    )
    words.add(
        group,
        "--kernel",
        default=None,
        metavar="NAME",
        help="the kernel of virtual machines: a version that 'channover kernel fetch' brought, or a folder with a vmlinuz "
        f"and its modules (default: {KERNEL})",
    )
    words.add(
        group,
        "--keep-lab",
        action="store_true",
        help="stop after the first test that fails, or the last one, and keep its lab until Ctrl-C: 'channover shell HOST' "
        "opens a shell in it",
    )
    words.add(
        group,
        "--dry-run",
        action="store_true",
        help="print, test by test, the commands that each host would get and their undo; nothing is changed",
    )


def read(config: pytest.Config) -> Place:
    """Return what was chosen. Raises UsageError with one clear line; no host is contacted."""
    target = str(words.value(config, "--target"))
    if target not in TARGETS:
        raise UsageError(f"--target: there is no target '{target}'; there are: {', '.join(TARGETS)}")
    check_owners(target, {option: words.value(config, option) for option in OWNERS})
    for option in ("--keep-lab", "--dry-run"):
        if words.value(config, option) and _workers(config):
            raise UsageError(f"{option} shows what a single process does, and workers cannot be seen: use -n 0")
    lab, labs = _lab(config) if target == "physical" else (None, ())
    wait = str(words.value(config, "--lease-wait") or 0)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", wait):
        raise UsageError(f"--lease-wait: '{wait}' is no number of seconds")
    return Place(
        target=target,
        lab=lab,
        labs=labs,
        lease_wait=max(float(wait), getattr(config, "workerinput", {}).get(WAIT, 0.0)),
        kernel=str(words.value(config, "--kernel") or KERNEL),
        keep_lab=bool(words.value(config, "--keep-lab")),
        dry_run=bool(words.value(config, "--dry-run")),
    )


def check_owners(target: str, given: Mapping[str, object]) -> None:
    """Raise UsageError where an option was given that is another target's."""
    for option, value in given.items():
        if value is not None and target != OWNERS[option]:
            raise UsageError(f"{option} is for --target={OWNERS[option]}, and the target is {target}")


def _lab(config: pytest.Config) -> tuple[LabEntry, tuple[str, ...]]:
    """Return this process's lab of the inventory, and the names of all: each xdist worker has one of its own."""
    path = words.value(config, "--inventory")
    if path is None:
        raise UsageError("--target=physical needs --inventory FILE: 'channover inventory discover' begins one")
    from channover.targets.inventory.schema import load  # here, since every run of pytest reads the options

    labs = load(Path(str(path))).labs
    name, workers = getattr(config, "workerinput", {}).get(LAB, words.value(config, "--lab")), _workers(config)
    if name is not None:
        labs = {name: chosen(labs, name, str(path))}
    if workers > len(labs):
        one = f"{len(labs)} lab{'s' if len(labs) > 1 else ''}"
        raise UsageError(
            f"-n {workers}: {path} has {one}, and each worker needs a lab of its own; -n {len(labs)} at most"
        )
    return (next(iter(labs.values())) if workers else chosen(labs, None, str(path))), tuple(labs)


def chosen(labs: Mapping[str, LabEntry], name: str | None, path: str) -> LabEntry:
    """Return the lab that was named, or the only one. Raises UsageError."""
    if name is not None and name not in labs:
        raise UsageError(f"--lab: {path} has no lab '{name}'; it has: {', '.join(labs)}")
    if name is None and len(labs) > 1:
        names = ", ".join(labs)
        raise UsageError(f"{path} has {len(labs)} labs ({names}): choose one with --lab NAME, or use -n {len(labs)}")
    return labs[name] if name is not None else next(iter(labs.values()))


def _workers(config: pytest.Config) -> int:
    """Return how many xdist workers this controller will start, ``--tx 2*popen`` being two; 0 without them."""
    if hasattr(config, "workerinput") or getattr(config.option, "dist", "no") == "no":
        return 0
    found = [re.match(r"(\d+)\*", spec) for spec in config.option.tx]
    return sum(int(many[1]) if many else 1 for many in found)
