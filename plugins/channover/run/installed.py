"""Suites that pip installed: which distribution a file is of, and whether its files are as the distribution has them."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

_DIGITS = 12


def place(path: Path) -> Path | None:
    """Return where an installed file is, below the folder that packages are installed in; None of a file that is in none.

    So ``channover_suites/lacp/test_lag.py`` has that name wherever the environment is.
    """
    for entry in map(Path, filter(None, sys.path)):
        if path.is_relative_to(entry):
            inner = path.relative_to(entry)
            if len(inner.parts) > 1 and _owner(entry, inner.parts[0]) is not None:
                return inner
    return None


def revision(packages: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Return what installed packages are of, and their files that are not as they were installed, each with what it is.

    A revision is a distribution's name and version and a digest of those rows of its ``RECORD`` that are the same
    wherever it is installed: ``channover 0.1.0 RECORD sha256:0f3c51c0a1b2``. It ends in ``-dirty`` where a file differs.
    """
    revisions, changes = [], []
    found = [owner for package in packages if (owner := _of(package)) is not None]
    for one in {owner.metadata["Name"]: owner for owner in found}.values():
        rows = dict(_rows(one))
        text = "".join(f"{file},{digest}\n" for file, digest in sorted(rows.items()))
        name = (
            f"{one.metadata['Name']} {one.version} RECORD sha256:{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
        )
        changed = list(_changes(one, rows))
        revisions.append(f"{name}-dirty" if changed else name)
        changes += changed
    return ", ".join(revisions), tuple(changes)


@cache
def _owner(entry: Path, package: str) -> metadata.Distribution | None:
    """Return the distribution of a package in a folder of ``sys.path``."""
    for one in metadata.distributions(path=[str(entry)]):
        if any(file.parts[0] == package for file in one.files or ()):
            return one
    return None


def _of(package: str) -> metadata.Distribution | None:
    return next((one for entry in map(Path, filter(None, sys.path)) if (one := _owner(entry, package))), None)


def _rows(one: metadata.Distribution) -> Iterator[tuple[str, str]]:
    """Yield the files of packages with their digests; metadata, programs and bytecode are of the environment."""
    for file in one.files or ():
        packaged = len(file.parts) > 1 and file.parts[0] != ".." and not file.parts[0].endswith(".dist-info")
        if packaged and file.hash is not None and file.suffix != ".pyc":
            yield file.as_posix(), f"{file.hash.mode}={file.hash.value}"


def _changes(one: metadata.Distribution, rows: dict[str, str]) -> Iterator[str]:
    for file, wanted in rows.items():
        mode, _, _ = wanted.partition("=")
        try:
            digest = hashlib.new(mode, Path(str(one.locate_file(file))).read_bytes()).digest()
        except FileNotFoundError:
            yield f"{file} (deleted)"
        except (OSError, ValueError):
            yield f"{file} (cannot be read)"
        else:
            if f"{mode}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}" != wanted:
                yield f"{file} (changed)"
    root = Path(str(one.locate_file("")))
    for package in dict.fromkeys(file.partition("/")[0] for file in rows):
        for path in sorted((root / package).rglob("*.py")):
            if (name := path.relative_to(root).as_posix()) not in rows:
                yield f"{name} (not of the distribution)"
