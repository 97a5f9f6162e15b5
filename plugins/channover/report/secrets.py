"""What must not leave the lab in a bundle: private keys, and what stands in the environment of whoever signs."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9 ]+ )?PRIVATE KEY(?: BLOCK)?-----|-----BEGIN OpenVPN Static key|PuTTY-User-Key-File-\d"
    rb"|openssh-key-v1\x00|b3BlbnNzaC1rZXktdjE"  # the last: an OpenSSH key without its armour
)
_NAMES = re.compile(r"^(?:id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|.*\.(?:ppk|p12|pfx|jks|kdbx)|\.env|\.netrc|\.pgpass)$")
_SECRET = re.compile(r"TOKEN|SECRET|PASS(?:WORD|WD|PHRASE)?(?:_|$)|API_?KEY|CREDENTIAL|PRIVATE|COOKIE|AUTH(?!OR)", re.I)
_TOKEN = re.compile(rb"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10,})\b")
_OPTION = re.compile(r"--?[\w-]*(?:password|passwd|passphrase|secret|token|api-?key)[\w-]*(?:=.*)?", re.I)
_ENCODED = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")
_HARMLESS = re.compile(
    r"^(?:LANG|LANGUAGE|LC_\w+|TERM|TZ|SHLVL|_|COLUMNS|LINES|PAGER|EDITOR|NO_COLOR|COLORTERM|DEBIAN_FRONTEND)$"
)
_SHORTEST = 6
_DUMP = 3
"""Variables of the environment that make a file a copy of it."""


def find(name: str, data: bytes, environment: Mapping[str, str] | None = None) -> str | None:
    """Say what a file has that must not be given away, or None. The words name it and do not repeat it.

    It looks for private keys, by content and by name; for tokens of known forms; for the value of any variable of
    ``environment`` (default: this process's) whose name says that it is secret; for a copy of the environment. Data in
    base64 of a page (``.html``) is looked into as well.
    """
    variables = os.environ if environment is None else environment
    if _NAMES.match(PurePosixPath(name).name):
        return "its name is that of a private key or of a file with secrets"
    for text in _views(name, data):
        if _KEY.search(text):
            return "it has a private key"
        if _TOKEN.search(text):
            return "it has an access token"
        if reason := _of_environment(text, variables):
            return reason
    if name == "results.json" and any(_OPTION.fullmatch(word) for word in _command(data)):
        return "its command line has an option with a password or token"
    return None


def _command(results: bytes) -> list[str]:
    try:
        return [str(word) for word in json.loads(results)["run"]["command"]]
    except (ValueError, KeyError, TypeError):
        return []


def _views(name: str, data: bytes) -> Iterator[bytes]:
    yield data
    if name.endswith((".html", ".htm", ".svg")):
        for match in _ENCODED.finditer(data):
            text = match[0].rstrip(b"=")
            yield base64.b64decode(text[: len(text) // 4 * 4])


def _of_environment(data: bytes, variables: Mapping[str, str]) -> str | None:
    copied = []
    for name, value in variables.items():
        raw = os.fsencode(value)
        if len(raw) < _SHORTEST:
            continue
        if _SECRET.search(name) and not value.isdigit() and not os.path.exists(value):
            escaped = json.dumps(value, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")
            if raw in data or escaped in data:
                return f"it has the value of the environment variable {name}"
        if not _HARMLESS.match(name) and os.fsencode(name) + b"=" + raw in data:
            copied.append(name)
    if len(copied) >= _DUMP:
        return f"it has a copy of the environment ({', '.join(copied[:3])}, …)"
    return None
