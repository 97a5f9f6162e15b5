"""The commands of :mod:`channover.cli.report` as ``channover`` runs them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from channover.cli import report as cli_report
from channover.errors import UsageError


def command(*words: str | Path) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="channover")
    cli_report.add_parsers(parser.add_subparsers(required=True))
    parsed = parser.parse_args([str(word) for word in words])
    try:
        return int(parsed.run(parsed))
    except UsageError as error:
        print(f"channover: {error}", file=sys.stderr)
        return 2
