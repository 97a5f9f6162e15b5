"""``channover kernel``: fetch and list the kernels that micro-VMs boot (``pytest --target=vm --kernel``)."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_FETCH = """\
Fetch a kernel for micro-VMs: Debian's package, unpacked into the cache. Nothing is installed and apt's configuration
stays as it is. What is there already is not fetched again."""
_CODES = """\
exit codes:
  0  the kernel is there
  2  it could not be had: one line says why

example:
  channover kernel fetch 6.1 6.12"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``kernel`` with its own commands."""
    kernel = commands.add_parser(
        "kernel",
        help="fetch and list kernels for micro-VMs",
        description="Kernels for micro-VMs (pytest --target=vm): fetch them from Debian's packages, list what is there.",
    )
    actions = kernel.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(kernel))
    fetch = actions.add_parser(
        "fetch",
        help="fetch kernels into the cache",
        description=_FETCH,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fetch.add_argument("versions", nargs="+", metavar="VERSION", help="6.1 or 6.12")
    fetch.add_argument("--mirror", default="", metavar="URL", help="a Debian archive (default: the one that apt uses)")
    fetch.add_argument("--again", action="store_true", help="fetch even what is there, for the newest package")
    fetch.set_defaults(run=_fetch)
    listed = actions.add_parser(
        "list", help="list the kernels of the cache", description="List the kernels of the cache."
    )
    listed.set_defaults(run=_list)


def _fetch(arguments: argparse.Namespace) -> int:
    from channover.hosts.vm import kernel_packages

    for version in arguments.versions:
        made = kernel_packages.fetch(
            version,
            lambda words: print(f"kernel: {words}", file=sys.stderr),
            mirror=arguments.mirror,
            again=arguments.again,
        )
        print(f"{made.name}: {made.package} in {made.image.parent.parent}")
    return 0


def _list(_: argparse.Namespace) -> int:
    from channover.hosts.vm import kernel_images as kernels

    for version in kernels.SUITES:
        found = kernels.find(version)
        if isinstance(found, str):
            print(f"{version}: not here; 'channover kernel fetch {version}' fetches it")
        else:
            print(f"{version}: {found.package} in {found.image.parent.parent}")
    return 0
