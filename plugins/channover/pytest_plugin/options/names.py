"""The names of channover's options: a long one that is always its own, and a short one where nobody else has it.

Other plugins have a ``--target`` too, and argparse refuses the second of two. So only long names are told to pytest, and short
ones are made long once every plugin and every first conftest.py has told its own.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from channover.run.defaults import TARGETS

PREFIX = "--channover-"
GROUP = "channover"
OWN_WORDS = {"--no-skips": "--channover-strict"}
"""Short names that do not follow from the long one: ``--strict`` is pytest's."""
TAKEN = pytest.StashKey[frozenset[str]]()
"""Short names that are not channover's in this run."""
HELD = pytest.StashKey[Any]()
"""The places of a coordinator that this run holds (:class:`channover.targets.labgrid.places.Places`)."""
OPTIONS = pytest.StashKey[Sequence[Any]]()
"""channover's options in this run."""
STRICT = pytest.StashKey[bool]()
"""Whether pytest's own ``--strict`` was given."""


def long(short: str) -> str:
    """Return the name that always works: ``--channover-target`` for ``--target``."""
    return OWN_WORDS.get(short, f"{PREFIX}{short[2:]}")


def add(group: pytest.OptionGroup, short: str, *, help: str, **attributes: Any) -> None:
    """Add an option, by its short name, to channover's group."""
    group.addoption(long(short), dest=_destination(short), help=f"{help}{_said(short)}", **attributes)


def value(config: pytest.Config, short: str) -> Any:
    """Return what an option was given, by its short name, whichever of its names was used."""
    return config.getoption(_destination(short))


def given(config: pytest.Config) -> bool:
    """Say whether any of channover's options was given something."""
    values = ((config.getoption(one.dest), one.attrs().get("default")) for one in config.stash.get(OPTIONS, ()))
    return any(value is not None and value is not False and value != default for value, default in values)


def usable(config: pytest.Config, text: str) -> str:
    """Return a text for the user with the long names of options whose short ones are another plugin's here."""
    for short in _taken(config):
        text = re.sub(rf"(?<![\w-]){short}(?![\w-])", long(short), text)
    return text


def remarks(config: pytest.Config) -> Iterator[str]:
    """Yield a line on short names that are not channover's here, and one where pytest's own was taken for channover's."""
    taken = sorted(_taken(config))
    if taken:
        yield f"channover: not its own here: {', '.join(taken)}; use {', '.join(map(long, taken))}"
    if config.stash.get(STRICT, False) and not value(config, "--no-skips"):
        yield "channover: --strict is pytest's own and lets tests be skipped; --no-skips (or --channover-strict) forbids it"


def find_folders(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Add options of other packages' targets, and have the value of a short name be taken for no folder with a conftest.py."""
    known = config.known_args_namespace
    made = _lengthened(args, _free(parser))
    told = known if made == args else parser.parse_known_args(made, namespace=copy.copy(known))
    target = str(getattr(told, _destination("--target"), "netns"))
    if told is known and target in TARGETS and not told.help:
        return  # parsing takes a while, and nothing else would come of it
    _add_own(parser, target, all_of_them=bool(told.help))
    known.file_or_dir = parser.parse_known_args(_lengthened(args, _free(parser))).file_or_dir


def lengthen(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Make short names long, once all others have told theirs."""
    free = _free(parser)
    config.stash[TAKEN] = frozenset(_words(parser)) - free
    config.stash[STRICT] = "--strict" in args
    config.stash[OPTIONS] = _options(parser)
    args[:] = _lengthened(args, free)
    for option in _options(parser):
        for short in config.stash[TAKEN]:
            if long(short) in option.names():
                attributes = option.attrs()
                attributes["help"] = attributes["help"].replace(_said(short), f" ({short} is not channover's here)")


def _add_own(parser: pytest.Parser, target: str, *, all_of_them: bool) -> None:
    """Add the options of a target of another package, or of all such targets; who names none of them loads no package."""
    from channover.run import own_targets

    for name in own_targets.OWN_TARGETS if all_of_them else (target,):
        for one in own_targets.options_of(name):
            add(parser.getgroup(GROUP), one.name, default=one.default, metavar=one.metavar, help=one.help)


def _taken(config: pytest.Config) -> frozenset[str]:
    return config.stash.get(TAKEN, frozenset())


def _destination(short: str) -> str:
    return long(short)[2:].replace("-", "_")


def _said(short: str) -> str:
    return f" (short: {short})"


def _options(parser: pytest.Parser) -> list[Any]:
    """Return channover's options."""
    return list(parser.getgroup(GROUP).options)


def _words(parser: pytest.Parser) -> set[str]:
    """Return the short names of channover's options."""
    shorts = {own: short for short, own in OWN_WORDS.items()}
    names = [name for option in _options(parser) for name in option.names()]
    return {shorts.get(name, f"--{name.removeprefix(PREFIX)}") for name in names}


def _free(parser: pytest.Parser) -> set[str]:
    """Return the short names that no one has told pytest as theirs."""
    groups = [*parser._groups, parser._anonymous]
    return _words(parser) - {name for group in groups for option in group.options for name in option.names()}


def _lengthened(args: Iterable[str], free: set[str]) -> list[str]:
    """Return a command line with the free ones of the short names made long, up to a ``--``."""
    rest = iter(args)
    made: list[str] = []
    for word in rest:
        if word == "--":
            return [*made, word, *rest]
        name, equals, given = word.partition("=")
        if name in free:
            made.append(f"{long(name)}{equals}{given}")
        elif word.startswith("@") and (inside := _read(word)) and {line.partition("=")[0] for line in inside} & free:
            made += _lengthened(inside, free)
        else:
            made.append(word)
    return made


def _read(word: str) -> list[str]:
    """Return the words that a file holds, one a line, where pytest takes words from files: ``@FILE``, since 8.2."""
    try:
        return Path(word[1:]).read_text().splitlines() if pytest.version_tuple >= (8, 2) else []
    except (OSError, ValueError):
        return []  # pytest itself says so
