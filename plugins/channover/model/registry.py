"""What other packages add to channover: behaviours, parts, capabilities, LAG drivers, targets, each by its name.

A package says in an entry point of the group ``channover`` which of its modules registers what it adds. These modules are
imported once in a process, as soon as a name is asked for that channover itself does not have, or all names are: a run of
pytest that has nothing to do with channover imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from channover.errors import UsageError

GROUP = "channover"
"""The group of entry points."""
OWN = "channover's own"
"""Where names come from that no package has added."""

_Entry = TypeVar("_Entry")


@dataclass
class _Loading:
    """What became of the entry points in this process. ``origin`` is the package whose module is being imported."""

    begun: bool = False
    origin: str = ""
    fault: str = ""


_LOADING = _Loading()


@dataclass
class Register(Mapping[str, _Entry], Generic[_Entry]):
    """Entries of one kind by name, channover's own first. ``noun`` is what an entry is called in errors.

    Asking for a name of channover's own loads no package; asking for any other, and for all, does. What a package registers
    wrongly is said by :func:`load`, where a run begins.
    """

    noun: str
    entries: dict[str, _Entry]
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, entry: _Entry) -> None:
        """Add an entry of another package. Raises UsageError where the name is taken."""
        if name in self.entries:
            raise UsageError(f"{self.noun} '{name}' is there already: {self.origin(name)}")
        self.entries[name] = entry
        self.origins[name] = _LOADING.origin

    def origin(self, name: str) -> str:
        """Return the package that a name comes from."""
        return self.origins.get(name, OWN) or "registered by this run's own modules"

    def __getitem__(self, name: str) -> _Entry:
        if name not in self.entries:
            fault()
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        fault()
        return iter(self.entries)

    def __len__(self) -> int:
        fault()
        return len(self.entries)


def fault() -> str:
    """Say, in a line that names the package, what is wrong with what packages register; nothing where all is well."""
    if not _LOADING.begun:
        _LOADING.begun = True
        for entry in sorted(entry_points(group=GROUP), key=lambda one: (_package(one), one.name)):
            _LOADING.fault = _LOADING.fault or _loaded(entry)
    return _LOADING.fault


def load() -> None:
    """Have every package register what it adds, once in a process. Raises UsageError in one line that names the package."""
    if found := fault():
        raise UsageError(found)


def _loaded(entry: EntryPoint) -> str:
    """Import an entry point's module; return what went wrong, or nothing."""
    _LOADING.origin = _package(entry)
    try:
        entry.load()
    except UsageError as error:
        words = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a stranger's module raises is to be said in one line
        words = f"{type(error).__name__}: {error}"
    else:
        return ""
    finally:
        _LOADING.origin = ""
    return " ".join(f"{_package(entry)} (entry point '{entry.name}' of the group {GROUP}): {words}".split())


def _package(entry: EntryPoint) -> str:
    found = entry.dist
    return f"{found.metadata['Name']} {found.version}" if found is not None else "a package without a name"
