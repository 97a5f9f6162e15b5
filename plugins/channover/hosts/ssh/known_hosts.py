"""The host keys that a user trusts, read as OpenSSH reads them (``sshd(8)``, SSH_KNOWN_HOSTS FILE FORMAT).

A line that cannot be read is passed over: such a file has grown for years, and one bad line says nothing of the others.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

USUAL = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
"""Where OpenSSH looks (``ssh_config(5)``, UserKnownHostsFile and GlobalKnownHostsFile)."""
LIMIT = 64 * 1024 * 1024
"""The most bytes that are read of a file: a hundred thousand hosts."""


@dataclass(frozen=True)
class Known:
    """What is known of one host: its keys by kind (``ssh-ed25519``), those that are revoked, as bytes (RFC 4253, 6.6)."""

    keys: Sequence[tuple[str, bytes]] = ()
    elsewhere: Sequence[tuple[str, bytes]] = ()
    """Keys of the same name at port 22: they may vouch for a host at another port, and never speak against it."""
    revoked: frozenset[bytes] = frozenset()
    authority: bool = False
    """Whether a certificate authority vouches for the host, which nothing here can check."""

    @property
    def kinds(self) -> list[str]:
        """The kinds of key by which the host can be told, those of its own port first."""
        return list(dict.fromkeys(kind for kind, _ in (*self.keys, *self.elsewhere)))

    def vouches(self, key: bytes) -> bool:
        """Whether the host may have this key."""
        return key not in self.revoked and any(key == known for _, known in (*self.keys, *self.elsewhere))


def known(address: str, port: int, file: Path | None = None, others: Sequence[Path] = ()) -> Known:
    """Return what is known of the host at an address. Raises OSError where ``file`` cannot be read.

    Without a file ``others`` count, or the usual ones where there are none, as far as they are there.
    """
    names = [address.lower()] if port == 22 else [f"[{address.lower()}]:{port}", address.lower()]
    keys: list[list[tuple[str, bytes]]] = [[], []]
    revoked: set[bytes] = set()
    authority = False
    for line in _lines(file, others):
        marker, hosts, kind, key = line
        for place, name in enumerate(names):
            if not _matches(hosts, name):
                continue
            if marker == "@revoked":
                revoked.add(key)
            elif marker == "@cert-authority":
                authority = authority or place == 0
            else:
                keys[place].append((kind, key))
    return Known(keys[0], keys[1], frozenset(revoked), authority)


def _lines(file: Path | None, others: Sequence[Path]) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield marker (or nothing), hosts, kind and key of each line that can be read."""
    for path in [file] if file else others or [Path(each).expanduser() for each in USUAL]:
        try:
            data = _read(path)
        except OSError:
            if file:
                raise
            continue
        for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            if found := _parsed(line.partition(b"\0")[0].decode("latin-1").strip(" \t\r")):
                yield found


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would be waited for
    with open(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        return stream.read(LIMIT) if stat.S_ISREG(mode) else b""  # /dev/null trusts nobody


def _parsed(line: str) -> tuple[str, str, str, bytes] | None:
    words = line.split()
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked", "@cert-authority"):
        return None
    hosts, kind, text = words[:3]
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return (marker, hosts, kind, key) if _whole(kind.encode(), key) else None


def _whole(kind: bytes, key: bytes) -> bool:
    """Whether a key is of its kind, and not cut off: strings, each with its length before it (RFC 4251, 5)."""
    parts = []
    while key:
        length = int.from_bytes(key[:4], "big")
        if len(key) < 4 + length:
            return False
        parts.append(key[4 : 4 + length])
        key = key[4 + length :]
    return len(parts) > 1 and parts[0] == kind


def _matches(hosts: str, name: str) -> bool:
    """Whether the first word of a line means a host: a hashed name, or patterns, of which one with ``!`` rules it out."""
    if hosts.startswith("|"):
        return _hashed(hosts, name)
    found = False
    for pattern in hosts.lower().split(","):
        if like(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _hashed(text: str, name: str) -> bool:
    """Whether ``|1|SALT|HASH`` is a name's (HMAC-SHA1, ``host_hash()`` in OpenSSH's hostfile.c)."""
    try:
        _, version, salt, value = text.split("|")
        wanted = base64.b64decode(value, validate=True)
        made = hmac.digest(base64.b64decode(salt, validate=True), name.encode(), "sha1")
    except (binascii.Error, ValueError):
        return False
    return version == "1" and hmac.compare_digest(made, wanted)


def like(pattern: str, name: str) -> bool:
    """Whether a name is like a pattern with ``*`` and ``?`` (``ssh_config(5)``, PATTERNS)."""
    at = here = 0
    star, tried = -1, 0
    while here < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, tried = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[here]):
            at, here = at + 1, here + 1
        elif star >= 0:  # the last star takes one sign more
            tried += 1
            at, here = star + 1, tried
        else:
            return False
    return all(sign == "*" for sign in pattern[at:])
