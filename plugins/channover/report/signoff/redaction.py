"""What is secret, and must not leave the lab in a bundle: private keys, and what stands in the environment."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9 ]+ )?PRIVATE KEY(?: BLOCK)?-----|-----BEGIN OpenVPN Static key|PuTTY-User-Key-File-\d"
    rb"|openssh-key-v1\x00|b3BlbnNzaC1rZXktdjE"  # the last: an OpenSSH key without its armour
)
_NAMES = re.compile(r"^(?:id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|.*\.(?:ppk|p12|pfx|jks|kdbx)|\.env|\.netrc|\.pgpass)$")
_SECRET = re.compile(r"TOKEN|SECRET|PASS(?:WORD|WD|PHRASE)?(?:_|$)|API_?KEY|CREDENTIAL|PRIVATE|COOKIE|AUTH(?!OR)", re.I)
TOKEN = re.compile(rb"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10,})\b")
OPTION = re.compile(r"--?[\w-]*(?:password|passwd|passphrase|secret|token|api-?key)[\w-]*(?:=.*)?", re.I | re.DOTALL)
"""A word of a command line whose value, or the next word, is a secret."""
_URL = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
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
        if TOKEN.search(text):
            return "it has an access token"
        if reason := _of_environment(text, variables):
            return reason
    if name == "results.json" and _told(_command(data)):
        return "its command line has an option with a password or token"
    return None


def known(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the secrets of an environment, each with its variable: by the variable's name, or as the password of a URL."""
    for name, value in environment.items():
        if len(value.strip()) >= _SHORTEST and _SECRET.search(name) and not _is_path(value):
            yield name, value
        for password in _URL.findall(value):
            yield from ((name, text) for text in {password, unquote(password)} if len(text) >= _SHORTEST)


def _is_path(value: str) -> bool:
    return "/" in value and os.path.exists(value)


def _told(words: list[str]) -> bool:
    """Say whether a command line has an option with a secret that was not masked when the run was made."""
    return any(
        OPTION.fullmatch(word) and not word.endswith("=***") and not ("=" not in word and after == "***")
        for word, after in zip(words, [*words[1:], ""], strict=True)
    )


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
    for name, value in known(variables):
        escaped = json.dumps(value, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")
        if not value.isdigit() and (os.fsencode(value) in data or escaped in data):
            return f"it has the value of the environment variable {name}"
    copied = [
        name
        for name, value in variables.items()
        if len(value) >= _SHORTEST and not _HARMLESS.match(name) and os.fsencode(f"{name}={value}") in data
    ]
    return f"it has a copy of the environment ({', '.join(copied[:3])}, …)" if len(copied) >= _DUMP else None
