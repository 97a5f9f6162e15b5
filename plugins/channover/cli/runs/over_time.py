"""The command ``channover compare``: what changed between runs, told from noise by how much runs differ."""

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
