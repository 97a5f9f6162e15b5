"""The command ``channover``: what is wanted beside pytest."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from channover import __version__
from channover.errors import ChannoverError, UsageError
from channover.run.defaults import FAMILIES

_DOCTOR = """\
Find out, by trying, what can and cannot be run: each behaviour of the catalogue, each capability that they need, the LAG
driver, and the remedy for each gap. Target netns changes nothing outside namespaces of its own, and vm nothing outside its
machines. For target physical every host is taken, as a run takes it, its test NICs are stripped of addresses and set up,
and each cable is proved; afterwards the hosts put all of it back."""
_DOCTOR_CODES = """\
exit codes:
  0  every behaviour that has a test can be tried here
  1  some cannot, or in part: tests would be skipped, or a host or a cable has to be mended first
  2  the command line is wrong, or the machine could not be probed

example:
  channover doctor --target netns --link-rate 250mbit"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="channover",
        description="Documented behaviours of aggregated links as pytest suites. The suites themselves run with pytest; "
        "this command is for what is wanted beside them.",
        epilog="See 'channover COMMAND --help'. Errors are one line, with exit code 2.",
    )
    parser.add_argument("--version", action="version", version=f"channover {__version__}")
    commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
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
        help="where labs come from: netns, physical or vm (default: %(default)s)",
    )
    doctor.add_argument("--inventory", default=None, metavar="FILE", help="the YAML file that describes physical labs")
    doctor.add_argument("--lab", default=None, metavar="NAME", help="the lab of the inventory (default: its only one)")
    doctor.add_argument(
        "--kernel", default=None, metavar="NAME", help="the kernel of virtual machines: 6.1, 6.12 or a folder"
    )
    doctor.add_argument(
        "--link-rate",
        default=None,
        metavar="RATE",
        help="rate of a lab's cables in tc's notation: 100mbit, 1gbit, … (default: the target's)",
    )
    doctor.add_argument(
        "--mtu", default=None, metavar="BYTES", help="MTU of a lab's cables: 9000 for jumbo frames (default: 1500)"
    )
    doctor.add_argument(
        "--family", default=FAMILIES[0], metavar="VERSION", help="the version of IP of a lab: 4 (default) or 6"
    )
    doctor.add_argument(
        "--lag-driver",
        default="auto",
        metavar="NAME",
        help="what makes LAGs: bonding (the kernel's), openvswitch, or auto: bonding where the kernel has it "
        "(default: %(default)s)",
    )
    _add_own(doctor, words)
    doctor.set_defaults(run=_doctor)
    from channover.cli import inventory as cli_inventory
    from channover.cli import kernel as cli_kernel
    from channover.cli import lab as cli_lab
    from channover.cli import new as cli_new
    from channover.cli import report as cli_report
    from channover.cli.loopcheck import command as cli_loopcheck
    from channover.cli.runs import export as cli_export
    from channover.cli.runs import html_report as cli_html_report
    from channover.cli.runs import over_time as cli_over_time

    cli_html_report.add_parser(commands)
    cli_report.add_parsers(commands)
    cli_over_time.add_compare(commands)
    cli_over_time.add_history(commands)
    cli_export.add_parser(commands)
    cli_inventory.add_parser(commands, cli_lab.reach)
    cli_kernel.add_parser(commands)
    cli_lab.add_parsers(commands)
    cli_new.add_parser(commands)
    cli_loopcheck.add_parser(commands, cli_lab.reach)
    return parser


def _add_own(doctor: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Add the options of the target that is named, where another package has registered it."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--target", default="netns", nargs="?")
    target = early.parse_known_args(words)[0].target
    if words[:1] == ["doctor"] and target is not None:
        from channover.run import own_targets  # here, since it is for few

        for one in own_targets.options_of(target):
            doctor.add_argument(one.name, dest=one.name, default=one.default, metavar=one.metavar, help=one.help)


def _doctor(arguments: argparse.Namespace) -> int:
    from channover.cli import doctor  # here, since --help needs neither pytest nor netlink
    from channover.model import registry
    from channover.run import defaults, own_targets, settings
    from channover.run import target_choice as choices
    from channover.targets.inventory.schema import load
    from channover.targets.labgrid import places

    registry.load()
    target = arguments.target
    own_targets.require(target)
    given = {"--inventory": arguments.inventory, "--lab": arguments.lab, "--kernel": arguments.kernel}
    choices.check_owners(target, given)
    settings.require_driver(arguments.lag_driver)
    lab = None
    if target == "physical":
        if arguments.inventory is None:
            raise UsageError("--target physical needs --inventory FILE: 'channover inventory discover' begins one")
        if arguments.inventory.startswith(places.SCHEME):
            held = places.reserved(places.source(arguments.inventory), 1, print)
            atexit.register(held.release)
            lab = choices.chosen(held.labs, arguments.lab, arguments.inventory)
        else:
            lab = choices.chosen(load(Path(arguments.inventory)).labs, arguments.lab, arguments.inventory)
    own = {one.name: getattr(arguments, one.name) for one in own_targets.options_of(target)}
    place = choices.Place(target, lab, kernel=arguments.kernel or defaults.KERNEL, options=own)
    wanted = settings.Settings(
        place=place,
        link=settings.link_of(arguments.link_rate, place, family=arguments.family, mtu=arguments.mtu),
        lag_driver=arguments.lag_driver,
        duration=None,
        limit=10.0,
        strict=False,
        reports=Path("reports"),
    )
    return doctor.main(wanted, sys.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argparse raises SystemExit for --help and for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser(words).parse_args(words)
    try:
        return int(parsed.run(parsed))
    except ChannoverError as error:
        print(f"channover: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
