"""The command ``channover export``: results for dashboards and spreadsheets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channover.cli.runs.reading import RUN, results_of
from channover.errors import UsageError

if TYPE_CHECKING:
    from channover.report.results import Results

_WHAT = """\
Write the results of runs as other programs take them, to standard output or a file. csv and json have a row for each measured
value; openmetrics is for Prometheus, VictoriaMetrics and what Grafana draws from these, each sample at the time at which its
run ended."""
_CODES = """\
exit codes:
  0  written
  2  there is no such run, or the file cannot be written

examples:
  channover export reports/latest --format csv --output lab.csv
  channover export reports/2026* --format openmetrics --output channover.om
  promtool tsdb create-blocks-from openmetrics channover.om /var/lib/prometheus"""
FORMATS = ("openmetrics", "csv", "json")


def add_parser(subparsers: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = subparsers.add_parser(
        "export",
        help="write results for dashboards and spreadsheets",
        description=_WHAT,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reported", nargs="+", metavar="RUN", help=RUN)
    parser.add_argument("--format", choices=FORMATS, required=True, help="what is written: openmetrics, csv or json")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to (default: standard output)")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    found = {
        results.run.id: results for results in map(results_of, arguments.reported)
    }  # each once: latest is one of them
    text = _writer(arguments.format)(list(found.values()))
    if arguments.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8"))
        return 0
    from channover.report.store import write_whole

    try:
        write_whole(arguments.output, text)
    except OSError as error:
        raise UsageError(f"--output {arguments.output}: cannot be written: {error.strerror or error}") from None
    return 0


def _writer(name: str) -> Callable[[Sequence[Results]], str]:
    from channover.report.interchange import openmetrics, rows

    return {"openmetrics": openmetrics.to_openmetrics, "csv": rows.to_csv, "json": rows.to_json}[name]
