"""The command ``channover``: what is wanted beside pytest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from channover import __version__
from channover.errors import UsageError

_DOCTOR = """\
Find out, by trying, what this machine can and cannot run: each behaviour of the catalogue, each capability that they
need, the LAG driver, and the remedy for each gap. It changes nothing outside namespaces of its own."""
_DOCTOR_CODES = """\
exit codes:
  0  every behaviour can be tried here
  1  some cannot: their tests would be skipped
  2  the command line is wrong, or the machine could not be probed

example:
  channover doctor --target netns --link-rate 1gbit"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="channover",
        description="Documented behaviours of aggregated links as pytest suites. The suites themselves run with pytest; "
        "this command is for what is wanted beside them.",
        epilog="See 'channover COMMAND --help'. Errors are one line, with exit code 2.",
    )
    parser.add_argument("--version", action="version", version=f"channover {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    doctor = commands.add_parser(
        "doctor",
        help="say what this machine can and cannot run, and how to fill the gaps",
        description=_DOCTOR,
        epilog=_DOCTOR_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument(
        "--target",
        default="netns",
        metavar="NAME",
        help="where labs come from: netns, network namespaces of this machine (default: %(default)s)",
    )
    doctor.add_argument(
        "--link-rate",
        default="100mbit",
        metavar="RATE",
        help="rate of a lab's cables in tc's notation: 100mbit, 1gbit, … (default: %(default)s)",
    )
    doctor.add_argument(
        "--lag-driver",
        default="auto",
        metavar="NAME",
        help="what makes LAGs: bonding (the kernel's), openvswitch, or auto: bonding where the kernel has it "
        "(default: %(default)s)",
    )
    doctor.set_defaults(run=_doctor)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    from channover import doctor, settings  # here, since --help needs neither pytest nor netlink
    from channover.wire import Link, parse_rate

    if arguments.target not in settings.TARGETS:
        raise UsageError(f"--target: there is no target '{arguments.target}'; there is: {', '.join(settings.TARGETS)}")
    if arguments.lag_driver not in settings.LAG_DRIVERS:
        known = ", ".join(settings.LAG_DRIVERS)
        raise UsageError(f"--lag-driver: there is no driver '{arguments.lag_driver}'; there are: {known}")
    try:
        link = Link(parse_rate(arguments.link_rate))
    except UsageError as error:
        raise UsageError(f"--link-rate: {error}") from None
    wanted = settings.Settings(
        target=arguments.target,
        link=link,
        lag_driver=arguments.lag_driver,
        duration=None,
        limit=10.0,
        strict=False,
        reports=Path("reports"),
    )
    return doctor.main(wanted, sys.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argparse raises SystemExit for --help and for a wrong command line."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except UsageError as error:
        print(f"channover: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
