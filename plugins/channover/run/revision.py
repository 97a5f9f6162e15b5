"""The revision of what is run, as git or pip knows it, and the files that are not as that revision has them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from channover.isolated import environment
from channover.run import installed

UNRECORDED = "others of no recorded revision"


def revision(
    root: Path, loaded: Sequence[str], packages: Sequence[str] = (), *, own: bool = True
) -> tuple[str, tuple[str, ...]]:
    """Return the revision and the files beside it, each with what it is; where nobody knows it, nothing.

    ``loaded`` are the Python files of the run, relative to ``root``; ``packages`` are the installed ones that its tests
    stand in; ``own``: there are tests of no installed package too. Installed suites are outside of git, and whatever
    was loaded from ``root`` for them alone is beside their revision.
    """
    if not packages:
        return _of_git(root, loaded)
    name, changes = installed.revision(packages)
    if not own:
        beside = tuple(f"{file} (beside the distribution)" for file in sorted(loaded))
        return f"{name}-dirty" if beside and not changes else name, (*changes, *beside)
    mine, changed = _of_git(root, loaded)
    return f"{mine or UNRECORDED}, {name}", (*changed, *changes)


def _of_git(root: Path, loaded: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the revision as git knows it; without git, or outside of it, nothing.

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
