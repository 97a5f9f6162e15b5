"""The command ``channover inventory``: check inventories, print their schema, begin one from a live host."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from channover.errors import TestbedError, UsageError

if TYPE_CHECKING:
    from channover.hosts.host import Host
    from channover.targets.inventory.schema import Inventory, Ssh

    Reach = Callable[[str, Ssh], AbstractContextManager[tuple[Host, str]]]
    """Connects to a host, given its name and how it is reached: the host, and SSH_CONNECTION as its sshd set it."""

_VALIDATE = """\
Check inventories without contacting any host. Each fault is one line: file, line, field, what is wrong and the remedy."""
_VALIDATE_CODES = """\
exit codes:
  0  all are valid
  1  some are not
  2  the command line is wrong

example:
  channover inventory validate inventory/*.yaml"""
_DISCOVER = """\
Read a live host over SSH and print the beginning of an inventory: its NICs with MAC address, driver, speed and carrier, and
the management interface. Nothing is changed on the host."""
_DISCOVER_CODES = """\
exit codes:
  0  the YAML is on standard output
  1  the host could not be reached, or did not answer
  2  the command line is wrong

example:
  channover inventory discover root@192.0.2.11 > inventory/LAB.yaml"""
MOST = 50
"""The most faults of one file that are printed."""


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], reach: Callable[[], Reach] | None = None
) -> None:
    """Add ``inventory`` to a command's parser. ``reach`` returns what connects to a host; without it no ``discover``."""
    parser = subparsers.add_parser("inventory", help="check the file that describes a lab of real hosts, or begin one")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    validate = commands.add_parser(
        "validate",
        help="check inventories; no host is contacted",
        description=_VALIDATE,
        epilog=_VALIDATE_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    validate.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an inventory")
    validate.set_defaults(run=validate_command)
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of inventories, for editors",
        description="Print the JSON Schema (draft 2020-12) of inventories: the content of inventory.schema.json.",
    )
    schema.set_defaults(run=schema_command)
    if reach is not None:
        _add_discover(commands, reach)


def _add_discover(commands: argparse._SubParsersAction[argparse.ArgumentParser], reach: Callable[[], Reach]) -> None:
    discover = commands.add_parser(
        "discover",
        help="print the beginning of an inventory from a live host",
        description=_DISCOVER,
        epilog=_DISCOVER_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    discover.add_argument("host", metavar="[USER@]HOST[:PORT]", help="where SSH connects to; an IPv6 HOST in brackets")
    discover.add_argument("--name", default="left", help="the host's name in the inventory (default: %(default)s)")
    discover.add_argument("--key", default=None, metavar="FILE", help="private key's file")
    discover.add_argument(
        "--known-hosts", default=None, metavar="FILE", help="file with the host keys that are trusted"
    )
    discover.add_argument("--jump", default=None, metavar="USER@HOST:PORT", help="host to go through")
    discover.set_defaults(run=lambda arguments: discover_command(arguments, reach()))


def validate_command(arguments: argparse.Namespace) -> int:
    """Print each file's faults, or what it holds, and return the exit code."""
    from channover.targets.inventory.faults import InventoryError
    from channover.targets.inventory.schema import load  # here, since --help needs no pydantic

    status = 0
    for path in arguments.files:
        try:
            print(f"{path}: valid: {_held(load(path))}")
        except InventoryError as error:
            status = 1
            for fault in error.faults[:MOST]:
                print(fault)
            if len(error.faults) > MOST:
                print(f"{path}: {len(error.faults) - MOST} more faults; correct these first")
    return status


def _held(inventory: Inventory) -> str:
    return ", ".join(
        f"lab {name} ({_number(len(lab.hosts), 'host')}, {_number(len(lab.cables), 'cable')})"
        for name, lab in inventory.labs.items()
    )


def _number(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def schema_text() -> str:
    """Return the JSON Schema of inventories as the text of its file."""
    from channover.targets.inventory.schema import schema

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema_command(_arguments: argparse.Namespace) -> int:
    """Print the JSON Schema and return the exit code."""
    print(schema_text(), end="")
    return 0


def discover_command(arguments: argparse.Namespace, reach: Reach) -> int:
    """Print the beginning of an inventory, read from a live host, and return the exit code. Raises UsageError."""
    from channover.targets.inventory.fields import named
    from channover.targets.inventory.schema import ssh_from
    from channover.targets.physical.discovery import discovered

    ssh = ssh_from(arguments.host, key=arguments.key, known_hosts=arguments.known_hosts, jump=arguments.jump)
    if not named(arguments.name):
        raise UsageError(f"--name: '{arguments.name}' is no name; use up to 32 letters, digits, '_' and '-'")
    try:
        with reach(arguments.name, ssh) as (host, connection):
            text = discovered(
                host,
                ssh.address,
                ssh.user,
                ssh.port,
                connection=connection,
                key=str(ssh.key or ""),
                known_hosts=str(ssh.known_hosts or ""),
                jump=str(ssh.jump or ""),
            )
    except TestbedError as error:
        print(f"channover: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(text, end="")
    return 0
