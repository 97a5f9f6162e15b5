"""What is wrong with an inventory, in words: one line a fault, which names file, line, field and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from channover.errors import UsageError
from channover.targets.inventory.fields import SECRET
from channover.targets.inventory.strict_yaml import Document, Where, quoted, shortened, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SECRET_FIELD = (
    "a secret must not stand in an inventory; remove it, and use an SSH agent, or 'key' with a key file's path"
)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where: what it is, a semicolon, and the remedy."""

    where: Where
    what: str


class InventoryError(UsageError):
    """An inventory that cannot be used. Its text is the first fault, and how many more there are; ``faults`` has all."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        more = f" (and {len(faults) - 1} more: channover inventory validate {_word(path)})" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self.faults = tuple(faults)

    @classmethod
    def at(cls, path: Path, line: int, where: Where, what: str) -> InventoryError:
        """Return the error of one fault; line 0 stands for the whole file."""
        return cls(path, [_line(path, line, where, what)])

    @classmethod
    def of(cls, path: Path, document: Document, faults: Iterable[Fault]) -> InventoryError:
        """Return the error of all these faults, in the order of the file's lines."""
        found = sorted(((document.line(fault.where), fault) for fault in faults), key=lambda pair: pair[0])
        return cls(path, [_line(path, line, fault.where, fault.what) for line, fault in found])


def _line(path: Path, line: int, where: Where, what: str) -> str:
    place = f"{_word(path)}:{line}" if line else _word(path)
    return ": ".join(part for part in (place, shown(where), what) if part)


def _word(path: Path) -> str:
    """Return a path as it is, or quoted where it would not stand on one line."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def worded(errors: Iterable[ErrorDetails], fields: Callable[[Where], Sequence[str]]) -> list[Fault]:
    """Return pydantic's errors as faults. ``fields`` names the fields that may stand at a place."""
    errors = list(errors)
    meant = {where for error in errors if error["type"] == "extra_forbidden" for where in _meant(error, fields)}
    return [_fault(error, fields) for error in errors if error["type"] != "missing" or tuple(error["loc"]) not in meant]


def _meant(error: ErrorDetails, fields: Callable[[Where], Sequence[str]]) -> list[Where]:
    """Return where the field stands that an unknown one seems to be, misspelt: it is not missing besides."""
    *around, name = error["loc"]
    return [(*around, close) for close in _close(str(name), fields(tuple(around)))]


def _close(name: str, known: Sequence[str]) -> list[str]:
    return get_close_matches(name.lower(), known, 1)


def _fault(error: ErrorDetails, fields: Callable[[Where], Sequence[str]]) -> Fault:
    where, kind = tuple(error["loc"]), error["type"]
    if where and where[-1] == "[key]":
        where = where[:-1]
        if kind == "value_error":
            return Fault(where, str(error["ctx"]["error"]))
        return Fault(where, "is no name; use up to 32 letters, digits, '_' and '-', and no '-' at the start")
    if kind == "extra_forbidden":
        return Fault(where, _unknown(str(where[-1]), fields(where[:-1])))
    if kind == "value_error":
        return Fault(where, str(error["ctx"]["error"]))
    given = error["input"]
    return Fault(where, _plain(kind, given, error.get("ctx", {}), error["msg"]))


def _unknown(name: str, known: Sequence[str]) -> str:
    if SECRET.search(name):
        return SECRET_FIELD
    close = _close(name, known)
    hint = f"did you mean '{close[0]}'?" if close else f"there is: {', '.join(known)}"
    return f"is no field here; {hint}"


def _plain(kind: str, given: object, limits: dict[str, object], words: str) -> str:
    if isinstance(given, str) and re.search(r":.*@", given):  # USER:PASSWORD@HOST is not repeated
        given = "…"
    what = "is empty" if given is None else f"{quoted(given)} is wrong" if isinstance(given, str) else "is wrong"
    if kind == "missing":
        return "is missing; add it"
    if kind in ("dict_type", "mapping_type", "model_type", "model_attributes_type"):
        return f"{what}; write indented lines 'name: value' below it"
    if kind in ("list_type", "tuple_type"):
        return f"{what}; write a list, such as [one, two]"
    if kind == "string_type":
        return f"{what}; write one plain value"
    if kind == "string_pattern_mismatch":
        example = "HOST.NIC, such as left.a" if r"\." in str(limits["pattern"]) else "letters, digits, '_' and '-'"
        return f"{quoted(given)} is wrong; write {example}"
    if kind in ("bool_parsing", "bool_type"):
        return f"{what}; write true or false"
    if kind in (
        "int_parsing",
        "int_type",
        "int_parsing_size",
        "int_from_float",
        "greater_than_equal",
        "less_than_equal",
    ):
        return f"{what}; write a number from 1 to 65535"
    if kind in ("enum", "literal_error"):
        return f"{what}; write {str(limits['expected']).replace(chr(39), '')}"
    if kind == "too_short":
        return f"has too few entries; add {'one' if limits['min_length'] == 1 else 'the other'}"
    if kind == "too_long":
        return f"has more than {limits['max_length']} entries; remove the rest"
    return f"{what} ({shortened(' '.join(words.split()), 80)}); correct it"
