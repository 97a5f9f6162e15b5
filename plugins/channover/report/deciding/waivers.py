"""Waivers: who answers for a behaviour that did not pass, why, and until when. Read from a YAML file.

    waivers:
      - behaviour: LAG-8
        who: A. Engineer, network operations
        why: the switch's firmware 3.2 is slow to notice a lost link; 3.3 is ordered (ticket 4711)
        until: 2026-12-31

It holds from ``since`` (default: the day on which it is read) to the end of the day ``until`` in UTC: a year at most,
unless ``why_longer`` says why that is not enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import yaml

from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE, behaviour

_FIELDS = ("behaviour", "who", "why", "until")
_MAY = ("since", "why_longer")
_LARGEST = 1 << 20
_REMEDY = "a waiver has the fields behaviour, who, why and until, and perhaps since and why_longer"


@dataclass(frozen=True)
class Waiver:
    """``who`` accepts that a behaviour did not pass, for the reason ``why``, to the end of the day ``until``.

    ``since`` is its first day, None where the file names none. ``why_longer`` is the reason for more than a year.
    """

    behaviour: str
    who: str
    why: str
    until: date
    since: date | None = None
    why_longer: str = ""


def load(path: Path, today: date) -> tuple[Waiver, ...]:
    """Return the waivers of a file, in its order.

    Raises UsageError, in one line with file, line and field, where the file cannot be read, a field is missing, empty
    or unknown, a behaviour is not in the catalogue or waived twice, or a waiver does not hold ``today``, or for longer
    than a year without a reason.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for whoever writes
            raise UsageError(f"{path}: the waivers cannot be read: no regular file")
        with open(path, "rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path}: the waivers cannot be read: {error.strerror or error}") from None
    return parse(raw, path, today)


def parse(raw: bytes, path: Path, today: date) -> tuple[Waiver, ...]:
    """Return the waivers that a file holds, as :func:`load` does; ``path`` is its name in errors. Raises UsageError."""
    if len(raw) > _LARGEST:
        raise UsageError(f"{path}: larger than a file of waivers can be ({_LARGEST} bytes)")
    try:
        root = yaml.compose(raw.decode("utf-8"), Loader=yaml.SafeLoader)
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
        if name not in (*_FIELDS, *_MAY):
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
    until = _day(path, texts, "until")
    since = _day(path, texts, "since") if "since" in texts else None
    why_longer = texts["why_longer"][1] if "why_longer" in texts else ""
    if until < today:
        raise _wrong(path, texts["until"][0], "until", f"expired on {until}; renew the waiver or take it out")
    if since is not None and since > today:
        raise _wrong(path, texts["since"][0], "since", f"does not hold before {since}; take the waiver out, or wait")
    longest = _year_after(since or today)
    if until > longest and not why_longer:
        remedy = f"end it on {longest} at the latest, or say why it takes longer in a field 'why_longer'"
        start = "" if since else " (today: the waiver has no field 'since')"
        raise _wrong(
            path, texts["until"][0], "until", f"{until} is more than a year after {since or today}{start}; {remedy}"
        )
    return Waiver(identifier, texts["who"][1], texts["why"][1], until, since, why_longer)


def _day(path: Path, texts: dict[str, tuple[yaml.Node, str]], name: str) -> date:
    where, text = texts[name]
    try:
        # Python 3.11 reads further forms of ISO 8601
        return date.fromisoformat(text if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII) else "")
    except ValueError:
        raise _wrong(path, where, name, f"'{text}' is no day such as 2026-12-31") from None


def _year_after(day: date) -> date:
    """Return the same day of the next year; of 29 February, 28 February."""
    if day.year == date.max.year:
        return date.max
    leap = (day.month, day.day) == (2, 29)
    return (day - timedelta(days=leap)).replace(year=day.year + 1)


def _wrong(path: Path, node: yaml.Node, name: str, what: str) -> UsageError:
    return UsageError(f"{path}, line {node.start_mark.line + 1}, field '{name}': {what}")


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f", line {mark.line + 1}"


def _words(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).replace("\n", " ")
