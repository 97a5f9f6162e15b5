"""An archive of named members: a ZIP file that any program opens, without times and owners, and with a seal.

What the members are is signed in one of them. The seal, the archive's comment, is the SHA-256 of all bytes before it: it
finds what a copy has damaged where no member shows it, such as a date or the directory. It is no proof against anybody.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from channover.errors import UsageError
from channover.text import printable

MOST_BYTES, MOST_MEMBERS = 1 << 31, 60_000
"""Of all members unpacked (bytes), and how many: less than where ZIP needs its 64-bit fields."""
MOST_READ = 1 << 25
"""Bytes of one member that is read into memory."""
_SEAL = 64
_BROKEN = (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, struct.error, zlib.error)
"""What zipfile raises for data that are not as they should be."""


@dataclass(frozen=True)
class Unpacked:
    """What an archive held, by the members' names: the SHA-256 of each, the data of those that were wanted.

    ``damage`` is what was wrong, by the place where it was (a member's name, or a part); such a member is in neither.
    """

    digests: dict[str, str]
    members: dict[str, bytes]
    damage: dict[str, str]


def safe(name: str) -> str | None:
    """Return why a member must not have this name, or None."""
    parts = name.split("/")
    if not name:
        return "it has no name"
    if {"", ".", ".."} & {*parts}:
        return "its name points outside of the archive"
    if "\\" in name or ":" in parts[0]:
        return "its name has a backslash, or a drive"
    if printable(name) != name or "\n" in name or "\t" in name:
        return "its name has control characters"
    return None if len(name.encode("utf-8", "replace")) < 1024 else "its name is too long"


def pack(members: Mapping[str, bytes], path: Path) -> None:
    """Write an archive; the same members make the same bytes (with the same zlib). Raises UsageError and OSError."""
    for name in members:
        if reason := safe(name):
            raise UsageError(f"{printable(name)!r} cannot be packed: {reason}; rename it")
    size = sum(map(len, members.values()))
    if size > MOST_BYTES or len(members) > MOST_MEMBERS:
        raise UsageError(
            f"{path}: {len(members)} files of {size} bytes are more than a bundle holds; make a smaller run"
        )
    with open(path, "x+b") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(members):
                info = zipfile.ZipInfo(name)  # of 1980-01-01, the earliest day that the format knows
                info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, members[name], zipfile.ZIP_DEFLATED, 9)
            archive.comment = bytes(_SEAL)
        seal = _sealed(file)
        file.seek(-_SEAL, os.SEEK_END)
        file.write(seal)


def unpack(path: Path, wanted: Container[str] | None = None) -> Unpacked:
    """Return what an archive holds, with the data of the members that are ``wanted`` (default: of all).

    Raises UsageError, in one line, where the file is no archive, or one that is not safe to open: names that point
    outside, links, a member twice, more data than it says or than fits. Nothing is written anywhere.
    """
    try:
        # a pipe would wait for whoever writes into it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            return _unpacked(path, file, wanted)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _unpacked(path: Path, file: BinaryIO, wanted: Container[str] | None) -> Unpacked:
    about = os.fstat(file.fileno())
    if not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{path}: cannot be read: it is no regular file")
    if about.st_size > MOST_BYTES:
        raise UsageError(f"{path}: {about.st_size} bytes are more than a bundle can have")
    if file.read(4) != b"PK\x03\x04" and not zipfile.is_zipfile(file):
        raise UsageError(f"{path}: no bundle of channover sign-off")
    found = Unpacked({}, {}, {})
    try:
        with zipfile.ZipFile(file) as archive:
            _refuse(path, archive.infolist())
            if len(archive.comment) != _SEAL:
                found.damage["the archive"] = "was packed anew by another program"
            elif _sealed(file) != archive.comment:
                found.damage["the archive"] = "changed: it is not what was packed"
            for info in archive.infolist():
                if not info.filename.endswith("/"):
                    _read(archive, info, found, keep=wanted is None or info.filename in wanted)
    except _BROKEN as error:
        found.damage["the archive's directory"] = f"damaged: {_words(error)}"
    return found


def _words(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def _sealed(file: BinaryIO) -> bytes:
    """Return what an archive's seal should be."""
    left = file.seek(0, os.SEEK_END) - _SEAL
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest().encode("ascii")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, found: Unpacked, *, keep: bool) -> None:
    """Take a member's SHA-256, and its data where they are to be kept."""
    digest, size, chunks = hashlib.sha256(), 0, []
    try:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("packed in a way that no bundle is")
        if keep and info.file_size > MOST_READ:
            raise ValueError(f"more than {MOST_READ} bytes")
        with archive.open(info) as member:  # ends where the directory says, and checks the checksum there
            while chunk := member.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
                chunks += [chunk] * keep
        if size != info.file_size:
            raise ValueError(f"{size} bytes instead of {info.file_size}")
    except _BROKEN as error:
        found.damage[info.filename] = f"changed: its data are not what was packed ({_words(error)})"
        return
    found.digests[info.filename] = digest.hexdigest()
    if keep:
        found.members[info.filename] = b"".join(chunks)


def _refuse(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    names: set[str] = set()
    for info in infos:
        name = info.orig_filename
        shown = printable(name)
        folder = name.endswith("/") and not info.file_size
        if reason := safe(name.removesuffix("/") if folder else name):
            raise UsageError(f"{path}: refused: member {shown!r}: {reason}")
        if name.casefold() in names:
            raise UsageError(f"{path}: refused: member {shown!r} is there twice")
        names.add(name.casefold())
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not folder and kind not in (0, stat.S_IFREG):
            raise UsageError(f"{path}: refused: member {shown!r} is a link or no regular file")
    if len(infos) > MOST_MEMBERS or sum(info.file_size for info in infos) > MOST_BYTES:
        raise UsageError(f"{path}: refused: it unpacks to more than a bundle can have ({MOST_BYTES} bytes)")
