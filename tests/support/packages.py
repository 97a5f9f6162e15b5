"""Packages of somebody else's, installed beside channover for a test: a folder on the path, as pip would have filled it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ACME = Path(__file__).parent.parent / "data" / "acme_bonds"


def install(source: Path, folder: Path) -> None:
    """Install a package by its pyproject.toml: no network, no build."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    module = project["name"].replace("-", "_")
    shutil.copytree(source / module, folder / module, ignore=shutil.ignore_patterns("__pycache__"))
    groups = {
        group: "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project.get("entry-points", {}).items()
    }
    declare(folder, project["name"], project["version"], groups)


def declare(folder: Path, name: str, version: str, groups: dict[str, str]) -> None:
    """Say that a package is installed in a folder, with its entry points by group."""
    told = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (told / "entry_points.txt").write_text("".join(f"[{group}]\n{entries}\n" for group, entries in groups.items()))
