"""Targets of other packages: how each is made, and the options on the command line that are its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from channover.errors import ChannoverError, UsageError
from channover.model import registry
from channover.model.link import parse_rate
from channover.model.registry import Register
from channover.run.defaults import OWNERS, TARGETS

if TYPE_CHECKING:
    from channover.targets.base import Target

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_OPTION = re.compile(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Option:
    """An option of a target, such as ``--acme-pod``. Its value is a text; ``default`` is what it is where it is not given."""

    name: str
    help: str
    metavar: str = "VALUE"
    default: str | None = None


Make = Callable[[Mapping[str, "str | None"]], "Target"]
"""Makes a target of the values of its options, by their names."""


@dataclass(frozen=True)
class OwnTarget:
    """How a target is made. ``link_rate`` is that of its cables where none is asked for, in tc's notation.

    ``emulated`` says that its hosts share this machine's processors: measurements take turns then, and what disturbs the
    processors disturbs them.
    """

    make: Make
    options: tuple[Option, ...] = ()
    link_rate: str = "100mbit"
    emulated: bool = True


OWN_TARGETS: Register[OwnTarget] = Register("target", {})


def add(name: str, target: OwnTarget) -> None:
    """Add a target of another package. Raises UsageError where it cannot be one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"target '{name}': the name is lower-case letters, digits and hyphens, as in acme")
    if name in TARGETS:
        raise UsageError(f"target '{name}' is there already: {registry.OWN}")
    if not callable(target.make):
        raise UsageError(f"target '{name}': {target.make!r} makes no target; give a function of the options' values")
    try:
        parse_rate(target.link_rate)
    except (UsageError, TypeError) as error:
        raise UsageError(f"target '{name}': link_rate: {error}") from None
    taken = {option.name: other for other, one in OWN_TARGETS.entries.items() for option in one.options} | OWNERS
    for option in target.options:
        if not isinstance(option, Option) or not isinstance(option.name, str) or not _OPTION.fullmatch(option.name):
            raise UsageError(f"target '{name}': {option!r} is no option; write Option(\"--{name}-pod\", help)")
        if option.name in taken:
            raise UsageError(f"target '{name}': the option {option.name} is that of target '{taken[option.name]}'")
    OWN_TARGETS.add(name, target)


def options_of(name: str) -> Sequence[Option]:
    """Return the options of a target; none of one that channover has, or that there is not."""
    found = None if name in TARGETS else OWN_TARGETS.get(name)
    return found.options if found else ()


def require(name: str) -> None:
    """Raise UsageError where there is no target of that name, or a package registers what cannot be."""
    if name not in TARGETS:
        registry.load()
        if name not in OWN_TARGETS:
            raise UsageError(f"--target: there is no target '{name}'; there are: {', '.join((*TARGETS, *OWN_TARGETS))}")


def made(name: str, values: Mapping[str, str | None]) -> Target:
    """Make a target of another package. Raises UsageError, and ChannoverError as it says."""
    try:
        target = OWN_TARGETS[name].make(values)
    except ChannoverError:
        raise
    except Exception as error:  # whatever a stranger's module raises is to be said in one line
        said = f"{type(error).__name__}: {error}"
        raise UsageError(f"--target={name} ({OWN_TARGETS.origin(name)}): {said}") from None
    missing = [part for part in ("name", "unmet", "lab", "close", "remarks") if not hasattr(target, part)]
    if missing:
        raise UsageError(
            f"--target={name} ({OWN_TARGETS.origin(name)}): a target has {', '.join(missing)}, and this has not"
        )
    return target
