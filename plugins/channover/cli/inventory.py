"""The command ``channover inventory``: check inventories, print their schema, begin one from a live host."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
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
Read live hosts over SSH and print the beginning of an inventory: their NICs with MAC address, driver, speed and carrier, the
management interface, and the cables that are seen: by NICs that are up and free, small frames are sent that no switch forwards,
and those of the other hosts and the LLDP of switches are listened for. Nothing is changed on the hosts."""
_DISCOVER_CODES = """\
exit codes:
  0  the YAML is on standard output
  1  the host could not be reached, or did not answer
  2  the command line is wrong

example:
  channover inventory discover root@192.0.2.11 root@192.0.2.12 > inventory/LAB.yaml"""
LISTEN = 31.0
"""Seconds to listen for LLDP: switches send it every 30 s as a rule (IEEE 802.1AB-2016, 9.2.5.7)."""
MOST = 50
"""The most faults of one file that are printed."""


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], reach: Callable[[bool], Reach] | None = None
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


def _add_discover(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], reach: Callable[[bool], Reach]
) -> None:
    discover = commands.add_parser(
        "discover",
        help="print the beginning of an inventory from live hosts",
        description=_DISCOVER,
        epilog=_DISCOVER_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    discover.add_argument(
        "host", nargs="+", metavar="[USER@]HOST[:PORT]", help="where SSH connects to; an IPv6 HOST in brackets"
    )
    discover.add_argument(
        "--name", action="append", help="a host's name in the inventory, given once a host (default: left, right, …)"
    )
    discover.add_argument("--sudo", action="store_true", help="become root there by sudo: only root may listen by NICs")
    discover.add_argument(
        "--listen",
        type=float,
        default=LISTEN,
        metavar="SECONDS",
        help="how long to listen for LLDP and for the other hosts at most; 0: not at all (default: %(default)s)",
    )
    discover.add_argument("--key", default=None, metavar="FILE", help="private key's file")
    discover.add_argument(
        "--known-hosts", default=None, metavar="FILE", help="file with the host keys that are trusted"
    )
    discover.add_argument("--jump", default=None, metavar="USER@HOST:PORT", help="host to go through")
    discover.set_defaults(run=lambda arguments: discover_command(arguments, reach(arguments.sudo)))


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
    """Print the beginning of an inventory, read from live hosts, and return the exit code. Raises UsageError."""
    from channover.targets.inventory.schema import ssh_from
    from channover.targets.physical.discovery import Found, Login, document, read
    from channover.targets.physical.neighbours.hearing import hear

    options = {"key": arguments.key, "known_hosts": arguments.known_hosts, "jump": arguments.jump}
    logins = [ssh_from(host, **options) for host in arguments.host]
    try:
        with ExitStack() as stack:
            found: list[Found] = []
            live: dict[str, tuple[Host, Sequence[str]]] = {}
            for name, ssh in zip(_names(arguments), logins, strict=True):
                host, connection = stack.enter_context(reach(name, ssh))
                given = Login(
                    ssh.address, ssh.user, ssh.port, str(ssh.key or ""), str(ssh.known_hosts or ""), str(ssh.jump or "")
                )
                found.append(read(host, given, connection))
                live[found[-1].label] = host, found[-1].listening
            if not arguments.listen:
                live = {name: (host, ()) for name, (host, _) in live.items()}
            elif any(devices for _, devices in live.values()):
                print(f"channover: listening by NICs for {arguments.listen:g} s at most", file=sys.stderr)
            text = document(found, hear(live, arguments.listen))
    except TestbedError as error:
        print(f"channover: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(text, end="")
    return 0


def _names(arguments: argparse.Namespace) -> list[str]:
    """Return a name for each host: those that were given, then those of topologies. Raises UsageError."""
    from channover.targets.inventory.fields import named

    given = list(arguments.name or ())
    for name in given:
        if not named(name):
            raise UsageError(f"--name: '{name}' is no name; use up to 32 letters, digits, '_' and '-'")
    if len(given) > len(arguments.host) or len(set(given)) < len(given):
        raise UsageError("--name: give one for each host, and each another one")
    usual = ("left", "right", "beyond", *(f"host{number}" for number in range(4, 4 + len(arguments.host))))
    rest = (name for name in usual if name not in given)
    return [*given, *(next(rest) for _ in arguments.host[len(given) :])]
