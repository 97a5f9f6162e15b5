"""Waivers: who answers for a behaviour that did not pass, why, and until when. Read from a YAML file.

    waivers:
      - behaviour: LAG-8
        who: A. Engineer, network operations
        why: the switch's firmware 3.2 is slow to notice a lost link; 3.3 is ordered (ticket 4711)
        until: 2026-12-31

A waiver holds to the end of its last day in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from channover.behaviours import CATALOGUE, behaviour
from channover.errors import UsageError

_FIELDS = ("behaviour", "who", "why", "until")
_LARGEST = 1 << 20
_REMEDY = "a waiver has the fields behaviour, who, why and until"


@dataclass(frozen=True)
class Waiver:
    """``who`` accepts that a behaviour did not pass, for the reason ``why``, to the end of the day ``until``."""

    behaviour: str
    who: str
    why: str
    until: date


def load(path: Path, today: date) -> tuple[Waiver, ...]:
    """Return the waivers of a file, in its order.

    Raises UsageError, in one line with file, line and field, where the file cannot be read, a field is missing, empty
    or unknown, a behaviour is not in the catalogue or waived twice, or a waiver has expired before ``today``.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path}: larger than a file of waivers can be ({_LARGEST} bytes)")
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{path}: the waivers cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}{_mark(error)}: no YAML: {_words(error)}") from None
    found: dict[str, Waiver] = {}
    for node in _entries(path, root):
        waiver = _waiver(path, node, today)
        if waiver.behaviour in found:
            raise _wrong(path, node, "behaviour", f"{waiver.behaviour} is waived twice; leave one of the two")
        found[waiver.behaviour] = waiver
    return tuple(found.values())


def _entries(path: Path, root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    if root is None:
        return
    shape = "the file has one key, 'waivers', with a list under it"
    if not isinstance(root, yaml.MappingNode) or len(root.value) != 1:
        raise _wrong(path, root, "waivers", shape)
    key, entries = root.value[0]
    if key.value != "waivers":
        raise _wrong(path, key, "waivers", shape)
    if isinstance(entries, yaml.ScalarNode) and entries.value in ("", "~", "null"):
        return
    if not isinstance(entries, yaml.SequenceNode):
        raise _wrong(path, entries, "waivers", shape)
    for number, node in enumerate(entries.value, start=1):
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(path, node, f"waivers[{number}]", _REMEDY)
        yield node


def _waiver(path: Path, node: yaml.MappingNode, today: date) -> Waiver:
    texts: dict[str, tuple[yaml.Node, str]] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in _FIELDS:
            raise _wrong(path, key, name, f"no such field: {_REMEDY}")
        if name in texts:
            raise _wrong(path, key, name, "stands there twice")
        if not isinstance(value, yaml.ScalarNode) or not value.value.strip() or value.tag == "tag:yaml.org,2002:null":
            raise _wrong(path, value, name, "must be a text that is not empty")
        texts[name] = (value, " ".join(value.value.split()))
    for name in _FIELDS:
        if name not in texts:
            raise _wrong(path, node, name, f"is missing: {_REMEDY}")
    where, identifier = texts["behaviour"]
    if identifier not in CATALOGUE:
        try:
            behaviour(identifier)
        except UsageError as error:
            raise _wrong(path, where, "behaviour", str(error)) from None
    where, text = texts["until"]
    try:
        # Python 3.11 reads further forms of ISO 8601
        until = date.fromisoformat(text if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else "")
    except ValueError:
        raise _wrong(path, where, "until", f"'{text}' is no day such as 2026-12-31") from None
    if until < today:
        raise _wrong(path, where, "until", f"expired on {until}; renew the waiver or take it out")
    return Waiver(identifier, texts["who"][1], texts["why"][1], until)


def _wrong(path: Path, node: yaml.Node, name: str, what: str) -> UsageError:
    return UsageError(f"{path}, line {node.start_mark.line + 1}, field '{name}': {what}")


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f", line {mark.line + 1}"


def _words(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).replace("\n", " ")
