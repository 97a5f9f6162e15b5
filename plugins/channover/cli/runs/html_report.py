"""``channover report``: make the HTML report of a run, again or later."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from channover.errors import UsageError

_WHAT = """\
Make reports/<run>/index.html and report.html of what a run has left: each is one file that opens from the file system and
asks nothing of the network. A run makes them by itself at its end; this makes them again, or for a run that was stopped."""
_CODES = """\
exit codes:
  0  the report is there
  1  the generator cannot be had, or failed
  2  the command line is wrong, or there is no such run

examples:
  channover report
  channover report 20260131T120000Z-0a1b2c
  channover report --set-up"""


def add_parser(subparsers: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = subparsers.add_parser(
        "report",
        help="make the HTML report of a run",
        description=_WHAT,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "wanted", nargs="?", default="latest", metavar="RUN", help="a run's id or folder (default: %(default)s)"
    )
    parser.add_argument(
        "--reports", default="reports", metavar="FOLDER", help="where the runs are (default: %(default)s)"
    )
    parser.add_argument(
        "--set-up",
        action="store_true",
        help="install the generator and make no report; the one thing that needs a network",
    )
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    from channover.report import front_page
    from channover.report.allure import generator
    from channover.report.allure import make as allure_report  # here, since --help needs none of it

    try:
        if arguments.set_up:
            print(f"generator: {generator.install()}")
            return 0
        folder = folder_of(arguments.wanted, Path(arguments.reports))
        print(f"index: {front_page.write(folder)}")
        made = allure_report.make(folder, timeout=600.0)
        front_page.write(folder)  # now with links into it
    except generator.GeneratorMissing as error:
        print(f"channover: report not made: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("channover: report not made: stopped", file=sys.stderr)
        return 130
    for note in made.notes:
        print(note)
    print(f"report: {made.path}")
    return 0


def folder_of(run: str, reports: Path) -> Path:
    """Return the folder of a run that was named by its id or its folder. Raises UsageError."""
    for folder in (reports / run, Path(run)):
        if (folder / "results.json").is_file():
            return folder.resolve()
    raise UsageError(f"there is no run '{run}' in {reports}, nor a folder of that name with a results.json")
