"""Who may have put there what is read: folders that only their owner can write, checked before each use.

What lies below ``/tmp``, ``/run`` or a cache may be another user's, who was there first. A folder is *trusted* here when
nobody can put anything into it but root, this user, and whoever owns channover's own files (who decides what is run anyway),
and when none of the folders above it, nor a link on the way, is another's. Sources: ``path_resolution(7)``, ``open(2)``
(O_NOFOLLOW), ``inode(7)``, ``secure_filename()`` in OpenSSH's ``misc.c``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from channover.errors import UsageError

_LINKS = 40
"""How many links a path may have, as the kernel counts them (``path_resolution(7)``)."""


def _trusted() -> frozenset[int]:
    return frozenset({0, os.geteuid(), os.stat(__file__).st_uid})


def _private_group(status: os.stat_result) -> bool:
    """Whether the group is its owner's alone: where users have such groups, what they make is writable by them."""
    import grp
    import pwd

    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(status.st_uid)
        return owner.pw_gid == status.st_gid and set(grp.getgrgid(status.st_gid).gr_mem) <= {owner.pw_name}
    return False


def _complaint(path: str, status: os.stat_result) -> str | None:
    """Say why others can change what a folder holds, or what a link leads to; None where they cannot."""
    if status.st_uid not in _trusted():
        return f"{path} belongs to user {status.st_uid}"
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return None  # in a sticky folder each entry is its owner's
    if status.st_mode & 0o002 or (status.st_mode & 0o020 and not _private_group(status)):
        return f"{path} can be written by others"
    return None


def complaint(path: Path) -> str | None:
    """Say why others may have put there what a path names, in words that name the culprit; None where they cannot have.

    What is not there yet is nobody's. A sticky folder, such as ``/tmp``, is passed: what lies in it is its owner's.
    """
    left = [part for part in Path(os.path.abspath(path)).parts[1:]][::-1]
    place, links = "/", 0
    while True:
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{place}: {error.strerror}"
        if reason := _complaint(place, status):
            return reason
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _LINKS:
                return f"{path}: {os.strerror(errno.ELOOP)}"
            target = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
            left += [part for part in Path(target).parts[1:]][::-1]
            place = "/"
            continue
        if not left:
            return None
        place = os.path.join(place, left.pop())


def check(path: Path, remedy: str) -> None:
    """Raise UsageError, with the remedy, where others may have put there what a path names."""
    if reason := complaint(path):
        raise UsageError(f"{path} is not used, since {reason}: {remedy}")


@contextmanager
def own_folder(path: Path, remedy: str, *, make: bool = False) -> Iterator[int | None]:
    """Give a descriptor of a folder that is this user's alone; None where it is not there, and not to be made.

    Raises UsageError, with the remedy, where it is another's, open to others or a link, or cannot be had.
    """
    try:
        if make:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        check(path, remedy)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if make:
            raise UsageError(f"{path} cannot be made: {remedy}") from None
        yield None
        return
    except OSError as error:
        words = "it is a link or no folder" if error.errno in (errno.ELOOP, errno.ENOTDIR) else f"{error.strerror}"
        raise UsageError(f"{path} is not used, since {words}: {remedy}") from None
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise UsageError(f"{path} is not used, since it belongs to user {status.st_uid}: {remedy}")
        if status.st_mode & 0o077:  # checked after it was opened: the folder is the one that is used
            raise UsageError(f"{path} is not used, since it is open to others: chmod 700 {path}, or {remedy}")
        yield descriptor
    finally:
        os.close(descriptor)


def read_own(folder: int, name: str) -> str | None:
    """Return the text of a file of a folder of one's own; None where it is no plain file of this user's."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        status = os.fstat(descriptor)
        plain = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        return file.read() if plain else None


def write_own(folder: int, name: str, text: str) -> None:
    """Write a new file into a folder of one's own, in the place of one of that name. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=folder), "w", encoding="utf-8") as file:
        file.write(text)


def runtime() -> Path:
    """Return the folder of what lives as long as a run: below ``/run`` for root, else where the user's session has it."""
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path(
            "/run/channover/.kept"
        )  # the dot keeps it apart from the runs that hold this machine as a lab's host
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base):
        return Path(base) / "channover"
    return Path.home() / ".cache" / "channover" / "run"
