"""YAML as plain text values, each with the line it stands on: what a file that people write is read with.

The reader is meant for untrusted files. It takes one document of mappings, sequences and scalars, and refuses whatever
can surprise: a key written twice, aliases (a few lines of them can expand to gigabytes), tags, deep nesting, control
characters, anything above ``LIMIT`` bytes. A scalar stays the text that it is, an empty one or ``null`` is None: so a MAC
address of digits is no number in base 60 and a host named ``no`` is not false, as YAML 1.1 has it (yaml.org/type). What
a text means is the schema's to say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

LIMIT = 256 * 1024
"""The longest file, in bytes: thousands of hosts."""
DEPTH = 16
"""The deepest nesting."""

Where = tuple[str | int, ...]
"""The keys and positions that lead to a value."""

_NULLS = ("", "~", "null", "Null", "NULL")


class Unreadable(Exception):
    """The file is not what this module reads: the text says why and what to do."""

    def __init__(self, what: str, line: int = 0, where: Where = ()) -> None:
        super().__init__(what)
        self.line = line
        self.where = where


@dataclass(frozen=True)
class Document:
    """A document: mappings, lists, texts and None, and the line of each (of its key, where it has one; from 1)."""

    value: object
    lines: Mapping[Where, int]

    def line(self, where: Where) -> int:
        """Return the line of a value, or of the innermost thing around it that is there."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def read(path: Path) -> str:
    """Return a file's text. Raises Unreadable."""
    try:
        # Without O_NONBLOCK the opening of a named pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable("is no regular file; name a YAML file")
            data = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise Unreadable("there is no such file; check the path") from None
    except IsADirectoryError:
        raise Unreadable("is a folder; name a YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unreadable(f"cannot be read ({reason}); check the path and its permissions") from None
    if len(data) > LIMIT:
        raise Unreadable(f"is longer than {LIMIT // 1024} KiB; split it into several files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8", line) from None


def parse(text: str) -> Document:
    """Return the document that a text holds. Raises Unreadable."""
    builder = _Builder(_events(text))
    return builder.document()


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "indent with spaces" if "'\\t'" in what else "check indentation, quotes and colons here and above"
        raise Unreadable(f"is not YAML ({what}); {hint}", mark.line + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable("holds a control character; remove it", line) from None
    except (ValueError, OverflowError):  # an escape or a version beyond any character or number
        raise Unreadable(
            "is not YAML (a number in it is beyond all bounds); check its escapes and directives"
        ) from None


@dataclass
class _Builder:
    """Makes values of events without resolving anything. Recursion is bounded by ``DEPTH``."""

    events: Iterator[yaml.Event]
    lines: dict[Where, int] = field(default_factory=dict)

    def document(self) -> Document:
        value: object = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise Unreadable(
                        "holds a second document; keep one, and no line '---' after the first", _line(event)
                    )
            elif not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                value = self._value(event, ())
        return Document(value, self.lines)

    def _value(self, event: yaml.Event, where: Where) -> object:
        line = _line(event)
        self.lines.setdefault(where, line)
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("is an alias (*); write out what it stands for", line, where)
        if getattr(event, "tag", None) is not None:
            raise Unreadable("has a tag (!); write the plain value", line, where)
        if len(where) > DEPTH:
            raise Unreadable(f"is nested more than {DEPTH} deep; an inventory needs no such depth", line, where[:4])
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, where)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(where)
        return self._mapping(where)

    def _scalar(self, event: yaml.ScalarEvent, where: Where) -> str | None:
        if event.style is None and event.value in _NULLS:
            return None
        return self._text(event, where)

    def _text(self, event: yaml.ScalarEvent, where: Where) -> str:
        text: str = event.value
        if any(not sign.isprintable() and sign not in "\n\t " for sign in text):
            raise Unreadable("holds a character that cannot be printed; remove it", _line(event), where)
        return text

    def _sequence(self, where: Where) -> list[object]:
        found: list[object] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._value(event, (*where, len(found))))
        return found

    def _mapping(self, where: Where) -> dict[str, object]:
        found: dict[str, object] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise Unreadable("has a key that is no plain name; write 'name: value'", line, where)
            key = self._text(event, where)
            inner = (*where, key)
            if key in found:
                raise Unreadable(f"is there twice (first on line {self.lines[inner]}); keep one", line, inner)
            self.lines[inner] = line
            found[key] = self._value(next(self.events), inner)
        return found


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark is not None else 0


def shown(where: Where) -> str:
    """Return the way to a value as one printable word, such as ``labs.bench.cables.0.ends``."""
    return ".".join(_word(str(part)) for part in where)


def _word(part: str) -> str:
    plain = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
    return shortened(part) if plain else quoted(part)


def quoted(text: object) -> str:
    """Return a text in quotes, on one line, and not long, for a message."""
    return repr(shortened(str(text)))


def shortened(text: str, length: int = 40) -> str:
    """Return a text, or the start of one that is longer than ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
