"""The revision of what is run, as git knows it, and the files that are not as that revision has them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from channover.isolated import environment


def revision(root: Path, loaded: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the revision and the files beside it, each with what it is; without git, or outside of it, nothing.

    ``loaded`` are the Python files of the run, relative to ``root``: one that git does not track, ignored or not, makes
    the revision dirty as a changed one does.
    """
    name = (_git(root, "describe", "--always", "--abbrev=12") or "").strip()
    if not name:
        return "", ()
    status = _git(
        root, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--no-renames", "-z"
    )
    listed = _git(root, "ls-files", "--recurse-submodules", "-z")
    if status is None or listed is None:
        return "", ()
    tracked = set(listed.split("\0"))
    changes = [f"{line[3:]} ({'deleted' if 'D' in line[:2] else 'changed'})" for line in status.split("\0") if line]
    changes += [f"{file} (untracked)" for file in sorted(loaded) if file not in tracked]
    return f"{name}-dirty" if changes else name, tuple(changes)


def _git(root: Path, *words: str) -> str | None:
    """Return what git says; None where it refuses, is missing or takes too long."""
    # What only looks must not refresh git's index, nor run what the settings of a repository name.
    harmless = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(
            ["git", *harmless, "-C", str(root), *words],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=10,
            check=False,
            env=environment(),
        )
        return done.stdout if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        return None
