"""The command ``channover``, within this process."""

from __future__ import annotations

from pathlib import Path

from channover.cli.main import main


def command(*words: str | Path) -> int:
    """Run the command and return its exit code."""
    return main([str(word) for word in words])
