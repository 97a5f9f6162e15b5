"""The commands ``compare`` and ``history``: what changed over runs, told from noise by how much runs differ."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channover.cli.runs.reading import RUN, folder_of, results_of, say
from channover.errors import UsageError

if TYPE_CHECKING:
    from channover.report.results import Results

_COMPARE = """\
Say what changed between runs, behaviour by behaviour: before and after a kernel, a firmware, a switch. Any number of runs stand
on each side, and each of them counts. Changes are told from noise by how much runs differ from each other; former runs of the
same lab, in the folder where these lie, tell that too."""
_COMPARE_CODES = """\
exit codes:
  0  nothing significant changed
  1  a verdict or a value changed, or a test came or went
  2  the runs cannot be compared

examples:
  channover compare reports/20261123T113540Z-a5797d reports/latest
  channover compare A1 A2 A3 --with B1 B2 B3"""

_HISTORY = """\
Show the values of the last runs of a lab, behaviour by behaviour, with their intervals: what runs before had, what the last
one has, and which values left their level by more than runs differ. Runs are of the same lab where target, lab, rate, family
and MTU are the same."""
_HISTORY_CODES = """\
exit codes:
  0  shown
  1  a value is worse than it was (what --gate-regression ends a run for)
  2  there is no run

examples:
  channover history MP-1 MP-9 --last 50
  channover history --html history.html"""


def add_history(subparsers: Any) -> None:
    """Add ``history`` to a parser's subparsers."""
    command = subparsers.add_parser(
        "history",
        help="show the values of the last runs, and what changed",
        description=_HISTORY,
        epilog=_HISTORY_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("behaviours", nargs="*", metavar="BEHAVIOUR", help="such as MP-1 (default: all)")
    command.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="FOLDER", help="where runs are (default: %(default)s)"
    )
    command.add_argument(
        "--run", dest="until", metavar="RUN", help=f"the last run of these: {RUN} (default: the newest)"
    )
    command.add_argument(
        "--last", type=int, default=20, metavar="N", help="how many runs are looked at (default: %(default)s)"
    )
    command.add_argument("--all", action="store_true", help="show also counts that are the same in all runs")
    command.add_argument("--html", type=Path, metavar="FILE", help="write a page with a picture of each value")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_history)


def _history(arguments: argparse.Namespace) -> int:
    from channover.report.comparison import history as shown
    from channover.report.comparison.past import newest, past
    from channover.report.store import write_whole

    if arguments.last < 2:
        raise UsageError("--last: two runs at least")
    reports = folder_of(arguments.until).resolve().parent if arguments.until else arguments.reports
    last = results_of(arguments.until) if arguments.until else newest(reports)
    if last is None:
        raise UsageError(f"there is no run in {reports}; name another folder with --reports")
    found = shown.history(
        [*past(reports, last.run, arguments.last - 1), last], arguments.behaviours, everything=arguments.all
    )
    if arguments.behaviours and not found.courses:
        raise UsageError(f"run {last.run.id} has no value of {', '.join(arguments.behaviours)}")
    if arguments.html:
        try:
            write_whole(arguments.html, shown.page(found))
        except OSError as error:
            raise UsageError(f"--html {arguments.html}: cannot be written: {error.strerror or error}") from None
    if arguments.json:
        sys.stdout.write(shown.to_json(found))
    else:
        width, colour = terminal()
        say(shown.render(found, width=width, colour=colour), raw=True)
        if arguments.html:
            say(f"page: {arguments.html}")
    return 1 if any(one.regressed for one in found.courses) else 0


def add_compare(subparsers: Any) -> None:
    """Add ``compare`` to a parser's subparsers."""
    command = subparsers.add_parser(
        "compare",
        help="say what changed between runs",
        description=_COMPARE,
        epilog=_COMPARE_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help=f"{RUN}; without --with two: the one before and the one after"
    )
    command.add_argument(
        "--with",
        dest="after",
        nargs="+",
        action="extend",
        metavar="RUN",
        help="the runs after; all others are those before",
    )
    command.add_argument(
        "--former",
        type=Path,
        metavar="FOLDER",
        help="where former runs are, which tell how much runs differ (default: the folder in which the first run's lies)",
    )
    text = (
        "smallest difference that counts, in percent of the scale (default: 1, up to 5 where few runs tell the noise)"
    )
    command.add_argument("--least", type=float, metavar="PERCENT", help=text)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from channover.report.comparison import compare
    from channover.report.comparison import table as comparison

    if arguments.least is not None and not 0 <= arguments.least <= 100:
        raise UsageError("--least: a number of percent from 0 to 100")
    before, after = arguments.runs, arguments.after
    if after is None:
        if len(before) != 2:
            raise UsageError("compare takes two runs, or any number before and after: compare A1 A2 --with B1 B2")
        before, after = before[:1], before[1:]
    ones, others = [[results_of(run) for run in side] for side in (before, after)]
    folder = arguments.former or folder_of(before[0]).resolve().parent
    least = None if arguments.least is None else arguments.least / 100
    found = compare.compare(ones, others, least, _former(folder, ones, others))
    if arguments.json:
        sys.stdout.write(comparison.to_json(found))
    else:
        width, colour = terminal()
        say(comparison.render(found, width=width, colour=colour), raw=True)
    return 1 if found.significant else 0


def _former(folder: Path, before: Sequence[Results], after: Sequence[Results]) -> list[Results]:
    """Return the runs that are older than those compared."""
    from channover.report.comparison.past import past

    runs = [results.run for results in (*before, *after)]
    return past(folder, min(runs, key=lambda run: run.start), without=[run.id for run in runs])


def terminal() -> tuple[int, bool]:
    """Return how wide a table may be, and whether in colour: where there is no terminal, names are not broken."""
    from channover.report.terminal import UNBROKEN

    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return UNBROKEN, False
    return min(shutil.get_terminal_size((100, 24)).columns, 140), not os.environ.get("NO_COLOR")
