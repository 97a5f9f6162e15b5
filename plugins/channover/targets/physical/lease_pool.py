"""The leases that a run holds of hosts of an inventory, taken several at a time, side by side."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from channover.errors import TestbedError
from channover.hosts.guardian.lease import TTL, HostLease
from channover.hosts.ssh.connection import Login, SshLink
from channover.hosts.ssh.user_config import Hop, completed
from channover.targets.inventory.schema import HostEntry

_Thing = TypeVar("_Thing")


def login_of(host: HostEntry) -> Login:
    """Return how to log in to a host of an inventory, where it or the user's own configuration says. Raises TestbedError."""
    ssh = host.ssh
    return completed(
        str(ssh.address),
        ssh.port,
        ssh.user,
        key=Path(ssh.key) if ssh.key else None,
        known_hosts=Path(ssh.known_hosts) if ssh.known_hosts else None,
        jump=Hop(ssh.jump.address, ssh.jump.port, ssh.jump.user) if ssh.jump else None,
        sudo=host.sudo,
    )


def whoever() -> str:
    """Return who runs this, where: it stands in the lease."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


@dataclass
class LeasePool:
    """Hosts that this run is connected to, or holds."""

    lease_wait: float = 0.0
    ttl: int = TTL
    """Seconds without a sign of life after which a host restores itself."""
    say: Callable[[str], None] = lambda _: None
    """Told, in a line, what somebody who waits or wonders should know."""
    patience: float = 1.0
    """By what the times are multiplied that programs on hosts may take."""
    run_id: str = field(default_factory=lambda: f"run-{secrets.token_hex(6)}")
    connect: Callable[[str, HostEntry], SshLink] = field(default=lambda name, host: SshLink(name, login_of(host)))
    nics_down: bool = True
    """Whether the inventory allows to set test NICs down."""
    shared: bool = True
    """Whether other runs may want the same hosts."""
    interrupted: bool = False
    """Whether the run was ended by Ctrl-C: what is left behind then is no test's fault."""
    _leases: dict[str, HostLease] = field(default_factory=dict)

    def at(self, name: str, host: HostEntry) -> HostLease:
        """Return the lease of a host, taken or not; made when first asked for."""
        if name not in self._leases:
            link = self.connect(name, host)
            link.patience = self.patience
            self._leases[name] = HostLease(
                name,
                link,
                self.run_id,
                whoever(),
                dict(host.nics),
                host.management,
                self.ttl,
                self.nics_down,
                self.say,
                self.patience,
            )
        return self._leases[name]

    def open(self, hosts: Mapping[str, HostEntry]) -> dict[str, HostLease]:
        """Connect to hosts, all at once, and read what is to be known of them. Raises TestbedError."""
        found = {name: self.at(name, host) for name, host in hosts.items()}
        each(found.values(), HostLease.open)
        return found

    def take(self, hosts: Mapping[str, HostEntry]) -> dict[str, HostLease]:
        """Take hosts. Raises TestbedError, Taken.

        Those that others want as well are taken one by one in the order of their names: of runs that come at once, two
        never wait for each other, and one that has come to a host has all before it, so that not all of them fail.
        """
        found = self.open(hosts)
        fresh = [found[name] for name in sorted(found) if not found[name].held]
        if not self.shared:
            each(fresh, HostLease.take)
            return found
        for host_lease in fresh:
            host_lease.take(self.lease_wait)
        return found

    def forget(self, name: str) -> None:
        """Give up a host that has died, without asking it."""
        host_lease = self._leases.pop(name, None)
        if host_lease is not None:
            host_lease.held = False
            with contextlib.suppress(TestbedError):
                host_lease.end()

    def end(self) -> list[str]:
        """Release every host; return what is to be said about it. Raises nothing: all are tried."""
        words: list[str] = []

        def release(host_lease: HostLease) -> None:
            try:
                words.extend(f"{host_lease.name}: restored {change}" for change in host_lease.end())
            except TestbedError as error:
                words.append(str(error))

        each(list(self._leases.values()), release)
        self._leases.clear()
        return words


def each(things: Iterable[_Thing], work: Callable[[_Thing], object]) -> None:
    """Do something with each of several things side by side. Raises the first error, when all have been tried."""
    todo = list(things)
    if not todo:
        return
    with ThreadPoolExecutor(len(todo)) as pool:
        done = [pool.submit(work, thing) for thing in todo]
        wait(done)  # in the block, so that Ctrl-C does not leave work behind
    for one in done:
        one.result()
