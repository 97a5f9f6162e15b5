"""Keys that sign."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def new_key(folder: Path, name: str = "id_ed25519", *options: str) -> Path:
    path = folder / name
    words = options or ("-t", "ed25519", "-N", "")
    subprocess.run(["ssh-keygen", "-q", *words, "-C", f"{name}@lab.example", "-f", path], check=True)
    return path


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("keys"), "engineer")
