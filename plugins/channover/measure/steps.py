"""Steps that a test names itself: chapters of its page in the report, and of a failure's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class _Shown:
    """How a step is shown as it happens; the glue says how."""

    scope: Callable[[str], AbstractContextManager[object]] = nullcontext


def show_by(scope: Callable[[str], AbstractContextManager[object]]) -> None:
    """Have each step of this process wrapped into a context, so that a report can show what happens in it as a chapter."""
    _Shown.scope = scope


@contextmanager
def step(title: str) -> Iterator[None]:
    """Name a part of a test: what fails in the block is told with ``in step: title`` (Python 3.11 and later)."""
    with _Shown.scope(title):
        try:
            yield
        except Exception as error:
            if hasattr(error, "add_note"):
                error.add_note(f"in step: {title}")
            raise
