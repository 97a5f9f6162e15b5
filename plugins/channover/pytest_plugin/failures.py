"""What a failure shows on the terminal: the user's own frames, and the last commands of each host."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import _pytest
import pluggy
import pytest

import channover
from channover.errors import ChannoverError
from channover.pytest_plugin.stash import RECORD, masker

LAST = 5
"""Commands of each host that a failure shows; the report has all."""
WIDTH = 120
"""Characters of one that are shown."""
_OWN = Path(channover.__file__).parent
_BETWEEN = (Path(_pytest.__file__).parent, Path(pluggy.__file__).parent)
"""What calls a test and channover: nobody looks for a failure there."""


def hide_own_frames(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Hide channover's frames behind a test's own, and of what comes from channover alone all but the last.

    pytest's ``--full-trace`` shows them.
    """
    if call.excinfo is None or RECORD not in item.stash or item.config.getoption("fulltrace", False):
        return
    if isinstance(call.excinfo.value, pytest.fail.Exception) and not call.excinfo.value.pytrace:
        return  # it is shown as its words alone, to which pytest would add that all of its frames are hidden
    if (shown := _shortened(call.excinfo.tb)) is not None:
        call.excinfo.traceback = type(call.excinfo.traceback)(shown)
    for error in _chain(call.excinfo.value):
        error.__traceback__ = _shortened(error.__traceback__)


def tell_in_words(call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Have an error that channover raises, and no frame of the user's led to, told by its words alone."""
    if call.excinfo is None or not report.failed or not isinstance(call.excinfo.value, ChannoverError):
        return
    if len(call.excinfo.traceback) == 1 and _is_own(Path(call.excinfo.traceback[0].path)):
        report.longrepr = call.excinfo.getrepr(style="value")


def add_commands(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add a section with the last commands of each host to the report of a phase that did not pass."""
    record = item.stash.get(RECORD, None)
    if record is None or not report.failed:
        return
    for host in dict.fromkeys(one.host for one in record.journal.steps):
        steps = [one for one in record.journal.steps if one.host == host][-LAST:]
        text = "\n".join(f"{_line(one.title)}  ({one.duration:.2f} s)" for one in steps)
        report.sections.append((f"{host}: last commands", masker(item.config).text(text)))


def show_inconclusive(terminalreporter: Any) -> None:
    """Show what was not settled as failures are shown: pytest shows only these and errors."""
    if reports := terminalreporter.stats.get("inconclusive"):
        terminalreporter.section("INCONCLUSIVE", sep="=", yellow=True)
        for report in reports:
            terminalreporter.section(str(report.head_line or report.nodeid), sep="_", yellow=True)
            report.toterminal(terminalreporter._tw)


def _line(command: str) -> str:
    """Return a command as one line; of a script its beginning."""
    line = " ".join(command.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _is_own(path: Path) -> bool:
    return path.is_relative_to(_OWN)


def _users(path: Path) -> bool:
    """Say whether a file is neither channover's nor pytest's nor Python's."""
    if any(path.is_relative_to(place) for place in (_OWN, *_BETWEEN)):
        return False
    return not path.is_relative_to(sysconfig.get_path("stdlib")) or "site-packages" in path.parts


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that led to one, which pytest shows before it."""
    seen = {id(error)}
    following = error.__cause__ or error.__context__
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _shortened(found: TracebackType | None) -> TracebackType | None:
    """Return a traceback without channover's frames; where nobody else had a part in it, its last frame alone."""
    entries: list[TracebackType] = []
    while found is not None:
        entries.append(found)
        found = found.tb_next
    files = [Path(one.tb_frame.f_code.co_filename) for one in entries]
    if any(map(_users, files)):
        entries = [one for one, file in zip(entries, files, strict=True) if not file.is_relative_to(_OWN)]
    else:
        entries = entries[-1:]
    made: TracebackType | None = None
    for one in reversed(entries):
        made = TracebackType(made, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return made
