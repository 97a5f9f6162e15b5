"""Labs that a run keeps for a look (``--keep-lab``), and the way into their hosts (``channover shell HOST``)."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from channover.errors import UsageError
from channover.hosts.base import Host
from channover.hosts.namespace import NamespaceHost
from channover.hosts.process import NamespaceProcess
from channover.hosts.remote import RemoteHost
from channover.targets.base import Lab


def _folder() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"channover-{os.getuid()}"


@contextmanager
def offered(lab: Lab) -> Iterator[list[str]]:
    """Offer a lab's hosts to ``channover shell`` for the length of a block; give their names."""
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UsageError(f"{folder} belongs to somebody else: remove it, or set XDG_RUNTIME_DIR")
    file = folder / f"{os.getpid()}.json"
    file.write_text(json.dumps({name: _command(host) for name, host in lab.hosts.items()}))
    try:
        yield list(lab.hosts)
    finally:
        file.unlink(missing_ok=True)


def _command(host: Host) -> list[str]:
    """Return the command that opens a shell on a host."""
    if isinstance(host, RemoteHost):
        login = host.link.login
        words = ["ssh", "-t", "-p", str(login.port)]
        words += ["-i", str(login.key), "-o", "IdentitiesOnly=yes"] if login.key else []
        words += ["-o", f"UserKnownHostsFile={login.known_hosts}"] if login.known_hosts else []
        words += ["-J", f"{login.jump[0]}@{login.jump[1]}:{login.jump[2]}"] if login.jump else []
        shell = f"PS1='{host.name}# ' exec {'sudo -n ' if login.sudo else ''}bash --norc"
        return [*words, f"{login.user}@{login.address}", shell]
    assert isinstance(host, NamespaceHost)
    process = host.spawn("sleep", "infinity")
    assert isinstance(process, NamespaceProcess)
    words = ["nsenter", f"--target={process.outer_pid}", "--net", "--mount", "--pid", "--ipc", "--uts"]
    words += ["--user", "--preserve-credentials"] if os.getuid() else []
    return [*words, "env", f"PS1={host.name}# ", "bash", "--norc"]


def shell(host: str) -> list[str]:
    """Return the command that opens a shell on a host of a lab that is kept. Raises UsageError where there is none."""
    offers = {}
    for file in sorted(_folder().glob("*.json")):
        if re.fullmatch(r"\d+", file.stem) and Path(f"/proc/{file.stem}").exists():
            offers.update(json.loads(file.read_text()))
        else:
            file.unlink(missing_ok=True)
    if not offers:
        raise UsageError("no run keeps its lab: start one with pytest … --keep-lab, and leave it running")
    if host not in offers:
        raise UsageError(f"no lab that is kept has a host '{host}'; there are: {', '.join(offers)}")
    command: list[str] = offers[host]
    return command
