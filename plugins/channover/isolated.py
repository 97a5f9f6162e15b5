"""Programs that channover starts on this machine: none of them looks for its parts where somebody else may write.

``python -c`` and ``python -m`` put the current folder first on the module path, and PATH may name folders relative to it: a
file of that folder would be run in the place of what is meant, as root where channover is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = str(Path(__file__).parents[1])
"""The folder that holds this package: a child runs the very code that its parent does."""


def python(module: str, *arguments: str, function: str = "main") -> list[str]:
    """Return the command that calls a function of a module in a Python of its own, in isolated mode (``python -I``).

    It finds the standard library, this package, and the site-packages folders of this process, in that order: neither
    PYTHONPATH nor the current folder counts.
    """
    sites = [path for path in sys.path if os.path.isabs(path) and path.endswith("-packages")]
    start = (
        "import sys; sites = [path for path in sys.path if path.endswith('-packages')]; "
        f"sys.path = [path for path in sys.path if path not in sites] + {[_ROOT]!r} + sites + {sites!r}; "
        f"from {module} import {function}; sys.exit({function}())"
    )
    return [sys.executable, "-I", "-c", start, *arguments]


def search_path(*more: str) -> str:
    """Return PATH without what is relative to the current folder, and with these folders after it."""
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*(path for path in known if os.path.isabs(path)), *more])


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment for a program: with :func:`search_path` as its PATH, and with these values."""
    return {**os.environ, "PATH": search_path(), **more}
