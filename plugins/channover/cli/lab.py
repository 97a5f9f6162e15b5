"""The commands that go to a lab's hosts: ``shell``, ``restore``, and what commands need to reach one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channover.errors import TestbedError, UsageError
from channover.text import printable

if TYPE_CHECKING:
    from channover.hosts.host import Host
    from channover.targets.inventory.schema import Ssh

_RESTORE = """\
Have the hosts of an inventory put back what runs that died left changed there. A host does so by itself within seconds of a
run's end; this is for one that could not, or to see that there is nothing to do."""


def add_parsers(subparsers: Any) -> None:
    """Add ``shell`` and ``restore``."""
    shell = subparsers.add_parser(
        "shell",
        help="open a shell on a host of a lab that a run keeps",
        description="Open a shell on a host of the lab that a run started with --keep-lab keeps, as the lab stands.",
    )
    shell.add_argument("host", metavar="HOST", help="the host's name in the topology, such as left")
    shell.set_defaults(run=_shell)
    restore = subparsers.add_parser("restore", help="heal hosts from what they saved", description=_RESTORE)
    restore.add_argument("--inventory", required=True, metavar="FILE", help="the YAML file that describes the labs")
    restore.add_argument("--lab", metavar="NAME", help="one lab of it (default: all)")
    restore.add_argument("--host", metavar="NAME", action="append", help="one host of it; may be given again")
    restore.add_argument("--force", action="store_true", help="end runs that are alive as well")
    restore.set_defaults(run=_restore)


def _shell(arguments: argparse.Namespace) -> int:
    from channover.isolated import environment
    from channover.run import kept_labs as kept

    offer = kept.shell(arguments.host)
    print(*map(printable, offer.greeting), sep="\n", file=sys.stderr, flush=True)
    try:
        os.execvpe(offer.command[0], offer.command, environment())
    except OSError as error:
        raise UsageError(f"cannot run {offer.command[0]}: {error.strerror}") from None


def _restore(arguments: argparse.Namespace) -> int:
    from channover.run.target_choice import chosen
    from channover.targets.inventory.schema import load
    from channover.targets.physical.lease_pool import LeasePool

    labs = load(Path(arguments.inventory)).labs
    if arguments.lab is not None:
        labs = {arguments.lab: chosen(labs, arguments.lab, arguments.inventory)}
    hosts = {name: host for lab in labs.values() for name, host in lab.hosts.items()}
    for name in arguments.host or ():
        if name not in hosts:
            raise UsageError(f"--host: there is no host '{name}'; there are: {', '.join(hosts)}")
    status, leases = 0, LeasePool()
    for lab in labs.values():
        for name, host in lab.hosts.items():
            if arguments.host and name not in arguments.host:
                continue
            try:
                host_lease = leases.at(name, host)
                host_lease.open()
                code, out, error = host_lease.guardian("restore", *(["--force"] if arguments.force else []))
                said = " ".join((out + error).replace("guardian: ", "").split("\n")).strip()
                print(f"{name}: {said or 'restored'}")
                status = status or (1 if code else 0)
            except TestbedError as error:
                print(error)
                status = 1
            finally:
                leases.forget(name)
    return status


def reach(sudo: bool = False) -> Callable[[str, Ssh], AbstractContextManager[tuple[Host, str]]]:
    """Return what connects to a host that is only looked at, for ``inventory discover`` and ``loopcheck``."""
    from channover.hosts.change_policy import ChangePolicy, Management
    from channover.hosts.host import Journal
    from channover.hosts.ssh.connection import SshLink
    from channover.hosts.ssh.host import NOWHERE, RemoteHost
    from channover.hosts.ssh.process import connection_of
    from channover.targets.inventory.schema import HostEntry
    from channover.targets.physical.lease_pool import login_of

    @contextmanager
    def connected(name: str, ssh: Ssh) -> Iterator[tuple[Host, str]]:
        entry = HostEntry.model_construct(ssh=ssh, sudo=sudo, management="", nics={})
        link = SshLink(name, login_of(entry))
        link.open()
        try:
            policy = ChangePolicy(name, frozenset(), frozenset(), Management(""))
            yield RemoteHost(name, {}, link, "", NOWHERE, policy, Journal()), connection_of(link)
        finally:
            link.close()

    return connected
