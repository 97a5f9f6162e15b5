"""An archive whose every byte follows from its members, so that a changed one cannot hide: a ZIP file of one fixed form.

PKWARE APPNOTE 6.3.3, sections 4.3 to 4.5: deflated members in the order of their names, without time, owner or extra
fields, then the directory. A member's comment there is the SHA-256 of its packed bytes, since several streams unpack to the
same. :func:`unpack` notices any other form: nothing lies between the members, before or behind them, and no name points
outside.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from channover.errors import UsageError
from channover.report.results import printable

MOST_BYTES, MOST_MEMBERS = 1 << 31, 60_000
"""Of all members unpacked (bytes), and how many: less than where ZIP needs its 64-bit fields."""
MOST_RATIO = 1100
"""Times that deflate can make data smaller (RFC 1951 allows no more than 1032)."""
_LOCAL, _CENTRAL, _END = "<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"
_DOS_TIME, _DOS_DATE = 0, 0x21  # 1980-01-01, the earliest that the format knows
_MODE = 0o100644 << 16


@dataclass(frozen=True)
class Unpacked:
    """What an archive held: members by name, and what was wrong, by the place where it was (a member's name, or a part)."""

    members: Mapping[str, bytes]
    damage: Mapping[str, str]


def safe(name: str) -> str | None:
    """Return why a member must not have this name, or None."""
    parts = name.split("/")
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
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
    infos = []
    with open(path, "xb") as file:
        for name in sorted(members):
            data = members[name]
            machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            packed = machine.compress(data) + machine.flush()
            info = zipfile.ZipInfo(name)
            info.CRC, info.compress_size, info.file_size = zlib.crc32(data), len(packed), len(data)
            info.header_offset, info.comment = file.tell(), _digest(packed)
            file.write(_local(info) + packed)
            infos.append(info)
        file.write(_directory(infos, file.tell()))


def _digest(packed: bytes) -> bytes:
    return hashlib.sha256(packed).hexdigest().encode("ascii")


def unpack(path: Path) -> Unpacked:
    """Return an archive's members, and where its bytes are not what :func:`pack` writes.

    What another program has packed anew is read as well, so that each of its members can be judged; that it was is said
    once. Raises UsageError, in one line, where the file is no archive, or one that is not safe to open: names that point
    outside, links, a member twice, more data than it says or than fits. Nothing is written anywhere.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UsageError(f"{path}: {size} bytes are more than a bundle can have")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data.startswith(b"PK\x03\x04") and b"PK\x05\x06" not in data[-22:]:
        raise UsageError(f"{path}: no bundle of channover sign-off")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _refuse(path, archive.infolist())
            return _unpacked(data, archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error, UnicodeDecodeError) as error:
        return Unpacked({}, {"the archive's directory": f"damaged: {error}"})


def _unpacked(data: bytes, archive: zipfile.ZipFile) -> Unpacked:
    members: dict[str, bytes] = {}
    damage: dict[str, str] = {}
    others: list[str] = []
    infos = archive.infolist()
    at, left = 0, MOST_BYTES
    for info in infos:
        start = info.header_offset + struct.calcsize(_LOCAL) + len(info.orig_filename.encode("utf-8", "replace"))
        packed = data[start : start + info.compress_size]
        if info.header_offset != at or data[at:start] != _local(info) or info.comment != _digest(packed):
            others.append(info.filename)
        at = start + info.compress_size
        if info.is_dir():
            continue
        found = _read(archive, info, min(info.file_size, left))
        if found is None:
            damage[info.filename] = "changed: its data are not what was packed"
            continue
        left -= len(found)
        members[info.filename] = found
    if len(others) > len(infos) / 2:
        damage["the archive"] = "was packed anew by another program"
    else:
        damage |= {name: "changed: its packed form is not what was packed" for name in others if name not in damage}
        if data[at:] != _directory(infos, at):
            damage["the archive's directory"] = "changed: it is not what was packed"
    return Unpacked(members, damage)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes | None:
    """Return a member's data, deflated or stored; None where they are damaged, or not as many as they should be."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    try:
        with archive.open(info) as member:
            found = member.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error):
        return None
    whole = len(found) == info.file_size <= most and zlib.crc32(found) == info.CRC
    return found if whole else None


def _refuse(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    names: set[str] = set()
    for info in infos:
        name = info.orig_filename
        shown = printable(name)
        folder = info.is_dir() and not info.file_size
        if reason := safe(name.removesuffix("/") if folder else name):
            raise UsageError(f"{path}: refused: member {shown!r}: {reason}")
        if name.casefold() in names:
            raise UsageError(f"{path}: refused: member {shown!r} is there twice")
        names.add(name.casefold())
        kind = info.external_attr >> 28
        if not folder and (kind not in (0, 8) or info.is_dir()):
            raise UsageError(f"{path}: refused: member {shown!r} is a link or no regular file")
        if info.file_size > MOST_RATIO * max(info.compress_size, 1):
            raise UsageError(f"{path}: refused: member {shown!r} unpacks to more than its data can hold")
    if len(infos) > MOST_MEMBERS or sum(info.file_size for info in infos) > MOST_BYTES:
        raise UsageError(f"{path}: refused: it unpacks to more than a bundle can have ({MOST_BYTES} bytes)")


def _fixed(info: zipfile.ZipInfo) -> tuple[bytes, int]:
    try:
        return info.orig_filename.encode("ascii"), 0
    except UnicodeEncodeError:
        return info.orig_filename.encode("utf-8", "replace"), 0x800


def _local(info: zipfile.ZipInfo) -> bytes:
    name, flags = _fixed(info)
    sizes = (info.CRC, info.compress_size, info.file_size)
    return struct.pack(_LOCAL, b"PK\x03\x04", 20, flags, 8, _DOS_TIME, _DOS_DATE, *sizes, len(name), 0) + name


def _directory(infos: list[zipfile.ZipInfo], offset: int) -> bytes:
    count = len(infos)
    try:
        parts = b"".join(_entries(infos))
        return parts + struct.pack(_END, b"PK\x05\x06", 0, 0, count, count, len(parts), offset, 0)
    except struct.error:  # offsets that are no offsets
        return b""


def _entries(infos: list[zipfile.ZipInfo]) -> Iterator[bytes]:
    for info in infos:
        name, flags = _fixed(info)
        sizes = (info.CRC, info.compress_size, info.file_size)
        made_by = 3 << 8 | 20
        head = (b"PK\x01\x02", made_by, 20, flags, 8, _DOS_TIME, _DOS_DATE)
        yield (
            struct.pack(_CENTRAL, *head, *sizes, len(name), 0, len(info.comment), 0, 0, _MODE, info.header_offset)
            + name
            + info.comment
        )
