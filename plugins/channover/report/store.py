"""Where runs leave their reports: a folder each, whose files are whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path

from channover.errors import UsageError
from channover.report.facts import utc


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the former one or all of the new one, even after a crash. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def safe_name(text: str, identity: str = "", most: int = 100) -> str:
    """Return a name that every file system takes, made of what a text says; two of unlike ``identity`` get unlike ones.

    >>> safe_name("eth0"), safe_name("tcp left→right")
    ('eth0', 'tcp-left-right-52b3ae')
    """
    identity = identity or text
    plain = re.sub(r"[^A-Za-z0-9._+=-]+", "-", text).strip("-.")
    if plain and plain == identity and len(plain) <= most:
        return plain
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{plain[: most - 7].rstrip('-.') or 'unnamed'}-{digest}"


def claimed_folder(parent: Path, name: str, most: int) -> Path | None:
    """Make a folder of its own of that name, or one with a number; None where there are ``most`` already. Raises OSError."""
    parent.mkdir(exist_ok=True)
    if len(os.listdir(parent)) >= most:
        return None
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError


@dataclass
class BoundedFolder:
    """A folder that takes files as long as all of them are not larger than ``room`` (bytes); of a long text it keeps the ends.

    ``left_out`` are the names of those that it had no room for.
    """

    path: Path
    room: int
    left_out: list[str] = field(default_factory=list)

    def put(self, name: str, content: str | bytes) -> None:
        """Keep a file by its name, a path within the folder whose parts are safe. Raises OSError."""
        data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        if len(data) > self.room:
            self.left_out.append(name)
            return
        self.room -= len(data)
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def planned_folder(reports: Path, start: datetime) -> Path:
    """Return the folder of a run that starts now; nothing is made yet.

    Its name is the start in UTC and a few random digits: it sorts by time, and suits every file system.
    """
    return reports / f"{utc(start).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(4)}"


def open_folder(folder: Path) -> None:
    """Make a run's folder, and point ``latest`` beside it at it; other runs may do so at once.

    Raises UsageError where ``latest`` is something else than a link, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _point(folder.parent / "latest", folder.name)
    except OSError as error:
        raise UsageError(f"reports cannot be kept in {folder.parent}: {error.strerror or error}") from None


def run_folder(reports: Path, start: datetime) -> Path:
    """Make the folder of a run that starts now, and point ``reports/latest`` at it. Raises UsageError."""
    folder = planned_folder(reports, start)
    open_folder(folder)
    return folder


def _point(link: Path, name: str) -> None:
    if link.exists() and not link.is_symlink():
        raise UsageError(f"{link} is no link but a file or folder of its own: move it away")
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}.tmp")
    temporary.symlink_to(name, target_is_directory=True)
    try:
        os.replace(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
