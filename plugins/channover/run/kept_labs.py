"""Labs that a run keeps for a look (``--keep-lab``), and the way into their hosts (``channover shell HOST``)."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from channover import ownership
from channover.errors import UsageError
from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.netns.process import NamespaceProcess
from channover.hosts.ssh.host import RemoteHost


@contextmanager
def offered(lab: Lab) -> Iterator[list[str]]:
    """Offer a lab's hosts to ``channover shell`` for the length of a block; give their names. Raises UsageError."""
    place, file = ownership.runtime(), f"{os.getpid()}.json"
    with ownership.own_folder(place, _remedy(place), make=True) as folder:
        assert folder is not None
        ownership.write_own(folder, file, json.dumps({name: _command(host) for name, host in lab.hosts.items()}))
        try:
            yield list(lab.hosts)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file, dir_fd=folder)
            with contextlib.suppress(OSError):  # another run keeps a lab as well
                place.rmdir()
                if place.parent.name == "channover":
                    place.parent.rmdir()


def _remedy(place: Path) -> str:
    """Say what helps where the folder of kept labs is not one's own: root's is the same whatever the environment says."""
    more = "" if place.is_relative_to("/run/channover") else ", or set XDG_RUNTIME_DIR to a folder of your own"
    return f"remove it{more}"


def _command(host: Host) -> list[str]:
    """Return the command that opens a shell on a host."""
    if isinstance(host, RemoteHost):
        login = host.link.login
        words = ["ssh", "-t", "-p", str(login.port)]
        words += ["-i", str(login.key), "-o", "IdentitiesOnly=yes"] if login.key else []
        words += ["-o", f"UserKnownHostsFile={login.known_hosts}"] if login.known_hosts else []
        words += ["-J", login.way] if login.jump and not login.jump.own.jumped else []
        shell = f"exec {'sudo ' if login.sudo else ''}env PS1='{host.name}# ' bash --norc"  # for any login shell
        return [*words, f"{login.user}@{login.own.name or login.address}", shell]
    assert isinstance(host, NamespaceHost)
    process = host.spawn("sleep", "infinity")
    assert isinstance(process, NamespaceProcess)
    words = ["nsenter", f"--target={process.outer_pid}", "--net", "--mount", "--pid", "--ipc", "--uts"]
    words += ["--user", "--preserve-credentials"] if os.getuid() else []
    return [*words, "env", f"PS1={host.name}# ", "bash", "--norc"]


def shell(host: str) -> list[str]:
    """Return the command that opens a shell on a host of a lab that is kept. Raises UsageError where there is none."""
    offers: dict[str, list[str]] = {}
    place = ownership.runtime()
    with ownership.own_folder(place, _remedy(place)) as folder:
        for file in sorted(os.listdir(folder)) if folder is not None else ():
            if not re.fullmatch(r"\d+\.json", file):
                continue
            if Path(f"/proc/{file.removesuffix('.json')}").exists():
                offers.update(_read(folder, file))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file, dir_fd=folder)
    if not offers:
        raise UsageError("no run keeps its lab: start one with pytest … --keep-lab, and leave it running")
    if host not in offers:
        raise UsageError(f"no lab that is kept has a host '{host}'; there are: {', '.join(offers)}")
    return offers[host]


def _read(folder: int | None, file: str) -> dict[str, list[str]]:
    """Return the commands that a run offers; none where its file is not what a run writes."""
    assert folder is not None
    with contextlib.suppress(ValueError):
        found = json.loads(ownership.read_own(folder, file) or "")
        if isinstance(found, dict) and all(_is_command(words) for words in found.values()):
            return found
    return {}


def _is_command(words: object) -> bool:
    return isinstance(words, list) and bool(words) and all(isinstance(word, str) for word in words)
