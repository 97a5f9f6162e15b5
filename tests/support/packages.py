"""Packages of somebody else's, installed beside channover for a test: by pip, from the wheel that is built of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ACME = Path(__file__).parent.parent / "data" / "acme_bonds"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def wheel(source: Path, folder: Path) -> Path:
    """Build a package's wheel, without network, by what this environment has to build with."""
    words = ["wheel", "-q", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder), str(source)]
    subprocess.run([*PIP, *words], check=True)
    (found,) = folder.glob("*.whl")
    return found


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of the wheel that many tests install; it goes with this process."""
    return tempfile.TemporaryDirectory()


@cache
def _acme() -> Path:
    return wheel(ACME, Path(_kept().name))


def install(source: Path, folder: Path) -> None:
    """Install a package into a folder."""
    with tempfile.TemporaryDirectory() as built:
        found = _acme() if source == ACME else wheel(source, Path(built))
        words = ["install", "-q", "--no-deps", "--no-index", "--target", str(folder), str(found)]
        subprocess.run([*PIP, *words], check=True)


def declare(folder: Path, name: str, version: str, groups: dict[str, str]) -> None:
    """Say that a package is installed in a folder, as a broken one may be, with its entry points by group."""
    told = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (told / "entry_points.txt").write_text("".join(f"[{group}]\n{entries}\n" for group, entries in groups.items()))
