"""Secrets taken out of what a run writes, while their values are known: ``***`` stands in their place.

Known are the values of environment variables whose names say that they are secret, and the passwords of URLs in any
variable; each as it is, and as JSON, Python, HTML, URLs, base64 and hexadecimal write it. Private keys, access tokens of
known forms and passwords within URLs are recognised wherever they stand.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from channover.report.signoff import redaction as secrets

MASK = "***"
_URL = re.compile(r"(://[^\s/:@\"'<>]*:)[^\s/@\"'<>]+(?=@)")
_KEY = re.compile(
    r"-----BEGIN (?:(?:[A-Z0-9 ]+ )?PRIVATE KEY|OpenVPN Static key).*?(?:-----END[^-]*-----|\Z)", re.DOTALL
)
_TOKEN = re.compile(secrets.TOKEN.pattern.decode("ascii"))
_BEGINNINGS = ("AKIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-", "xox")
_LINE, _ENCODED, _SHORTEST = 16, 8, 3
"""Characters of a line of a secret of several, of an encoded part of one, of an end that is left of one: that is one still."""
_NONE = re.compile(r"(?!)")
_RESULTS = ("id", "target", "outcome", "outcomes", "unit", "behaviour", "role", "how", "start", "end")
_ALLURE = ("uuid", "historyId", "testCaseId", "source", "type", "status", "stage", "children")
FIXED = frozenset((*_RESULTS, *_ALLURE))
"""Fields whose values are words of a format, or names of files: a secret that is such a word is none there."""
_T = TypeVar("_T")


class Masker:
    """Knows the secrets that it has been told of, also those that have been forgotten since."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        self._values: set[str] = set()
        self._forms: list[str] = []
        self._numbers = self._ends = self._beginnings = _NONE

    def learn(self, environment: Mapping[str, str] | None = None) -> None:
        """Learn the secrets of an environment (default: this process's as it is now)."""
        now = os.environ if environment is None else environment
        changed = {name: value for name, value in now.items() if self._seen.get(name) != value}
        if not changed:
            return
        self._seen |= changed
        found = {value for _, value in secrets.known(changed)} - self._values
        if found:
            self._values |= found
            words = [value for value in self._values if not value.isdigit()]
            self._forms = sorted({form for value in words for form in forms(value)}, key=len, reverse=True)
            numbers = self._values - {*words}
            self._numbers = re.compile(rf"(?<![\d.])(?:{'|'.join(numbers)})(?![\d.])") if numbers else _NONE
            self._ends = _after_dots(words)
            self._beginnings = _after_dots([value[::-1] for value in words])

    def text(self, text: str, *, numbers: bool = True) -> str:
        """Return a text without secrets. ``numbers`` says whether those that are numbers are looked for."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        if "..." in text:  # pytest leaves out the middle of a long value
            text = self._beginnings.sub(f"...{MASK}", self._ends.sub(f"...{MASK}", text)[::-1])[::-1]
        if numbers:
            text = self._numbers.sub(MASK, text)
        if "://" in text:
            text = _URL.sub(rf"\g<1>{MASK}", text)
        if "-----BEGIN " in text:
            text = _KEY.sub(MASK, text)
        if any(beginning in text for beginning in _BEGINNINGS):
            text = _TOKEN.sub(MASK, text)
        return text

    def data(self, data: bytes, name: str = "") -> bytes:
        """Return a file's data without secrets. What is no text keeps its length; in JSON (by ``name``) a number is none."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            for form in self._forms:
                raw = form.encode("utf-8", "surrogateescape")
                data = data.replace(raw, b"*" * len(raw))
            return data
        masked = self.text(text, numbers=not name.endswith(".json"))
        return data if masked == text else masked.encode("utf-8")

    def words(self, words: Iterable[str]) -> Iterator[str]:
        """Yield a command line's words: the value of an option that is called after a secret is one."""
        hidden = False
        for word in words:
            option = secrets.OPTION.fullmatch(word)
            if option and "=" in word:
                yield f"{word.partition('=')[0]}={MASK}"
            else:
                yield MASK if hidden else self.text(word)
            hidden = bool(option) and "=" not in word

    def of(self, value: _T) -> _T:
        """Return a value without secrets in its texts: plain data, or a dataclass. Fields of ``FIXED`` stay as they are."""
        found: Any = value
        if isinstance(value, str):
            found = self.text(value)
        elif isinstance(value, Mapping):
            found = {key: each if key in FIXED else self.of(each) for key, each in value.items()}
        elif isinstance(value, (list, tuple)):
            found = type(value)(self._several(value))
        elif is_dataclass(value) and not isinstance(value, type):
            names = [each.name for each in fields(value) if each.init and each.name not in FIXED]
            found = replace(value, **{name: self.of(getattr(value, name)) for name in names})
        return found  # type: ignore[no-any-return]

    def _several(self, values: Sequence[Any]) -> Iterator[Any]:
        texts = all(isinstance(each, str) for each in values)
        return self.words(values) if texts else (self.of(each) for each in values)


def _after_dots(values: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the ends of values behind three dots."""
    ends = {value[at:] for value in values for at in range(1, len(value) - _SHORTEST)}
    return (
        re.compile(r"\.\.\.(?:" + "|".join(map(re.escape, sorted(ends, key=len, reverse=True))) + ")")
        if ends
        else _NONE
    )


def forms(value: str) -> Iterator[str]:
    """Yield how a secret may be written, itself first; of one of several lines also its longer lines."""
    for text in dict.fromkeys([value, value.strip(), *(line.strip() for line in value.splitlines())]):
        if text == value or len(text) >= min(_LINE, len(value.strip())):
            yield from _written(text)


def _written(text: str) -> Iterator[str]:
    yield text
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text), ascii(text)):
        yield written[1:-1]
    yield text.replace("'", "'\"'\"'")  # as a shell would want it quoted
    yield re.sub(r"\W", "_", ascii(text)[1:-1])  # as pytest calls folders after a test's parameters
    yield from (html.escape(text), html.escape(text, quote=False), html.escape(text).replace("&#x27;", "&#39;"))
    raw = text.encode("utf-8", "surrogateescape")
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    yield raw.hex()
    for before in range(3):  # where it begins within three bytes of what is encoded
        whole = base64.b64encode(bytes(before) + raw).decode("ascii")
        part = whole[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        if len(part) >= _ENCODED:
            yield from (part, part.replace("+", "-").replace("/", "_"))
