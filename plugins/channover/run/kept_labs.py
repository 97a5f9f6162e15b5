"""Labs that a run keeps for a look (``--keep-lab``), and the way into their hosts (``channover shell HOST``)."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from channover import ownership
from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host, each
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.netns.process import NamespaceProcess
from channover.hosts.ssh.host import RemoteHost
from channover.model.topology import Port


@dataclass(frozen=True)
class Offer:
    """The way into a host of a lab that is kept: the command that opens a shell there, and what is said before it."""

    command: list[str]
    greeting: list[str]


@contextmanager
def offered(lab: Lab, test: str = "") -> Iterator[list[str]]:
    """Offer a lab's hosts to ``channover shell``, as a ``test`` left them, for the length of a block; give their names.

    Raises UsageError.
    """
    place, file = ownership.runtime(), f"{os.getpid()}.json"
    with ownership.own_folder(place, _remedy(place), make=True) as folder:
        assert folder is not None
        seen = dict(zip(lab.hosts, each(_addresses, list(lab.hosts.values())), strict=True))
        offers = {
            name: asdict(Offer(_command(host), _greeting(lab, name, seen, test))) for name, host in lab.hosts.items()
        }
        ownership.write_own(folder, file, json.dumps(offers))
        try:
            yield list(lab.hosts)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file, dir_fd=folder)
            with contextlib.suppress(OSError):  # another run keeps a lab as well
                place.rmdir()
                if place.parent.name == "channover":
                    place.parent.rmdir()


def _addresses(host: Host) -> dict[str, tuple[str, ...]]:
    """Return a host's addresses by device, its loopback left out; none where it does not answer."""
    with contextlib.suppress(TestbedError):
        links = host.state().links
        return {
            name: tuple(one for one in link.addresses if not one.startswith("fe80:"))  # every device has one of these
            for name, link in links.items()
            if name != "lo"
        }
    return {}


def _greeting(lab: Lab, name: str, seen: Mapping[str, Mapping[str, tuple[str, ...]]], test: str) -> list[str]:
    """Return what a visitor of a host wants to know first: who and where it is, its addresses, what is at its cables' ends."""
    host, topology = lab.hosts[name], lab.topology
    roles = {topology.client: "client", topology.server: "server"}
    who = f"{name} ({roles.get(name) or topology.node(name).role.value})"
    left = f", as {test} left it" if test else ""
    lines = [f"{who} of the lab {topology.name}{left}; process {os.getpid()} keeps it"]

    def shown(node: str, device: str) -> str:
        return " ".join(seen[node].get(device, ())) or "no address"

    far = {near: end for one in topology.cables for near, end in (one.ports, one.ports[::-1])}
    rows = []
    for nic in host.nics.values():
        end = far.get(Port(name, nic.name))
        peer = "" if end is None else f"{end} {shown(end.node, lab.hosts[end.node].nic(end.nic).device)}"
        rows.append((nic.name, nic.device, shown(name, nic.device), f"— {peer}" if peer else "no cable"))
    devices = {nic.device for nic in host.nics.values()}
    rows += [
        ("", one, " ".join(addresses), "") for one, addresses in seen[name].items() if addresses and one not in devices
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines += ["  ".join(["", *map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
    others = [other for other in lab.hosts if other != name]
    return [*lines, *([f"others: channover shell {'|'.join(others)}"] if others else []), "exit leaves; the lab stays"]


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
        shell = (
            f"exec {'sudo ' if login.sudo else ''}env PS1='{host.name} (\\h):\\w# ' bash --norc"  # for any login shell
        )
        return [*words, f"{login.user}@{login.own.name or login.address}", shell]
    assert isinstance(host, NamespaceHost)
    process = host.spawn("sleep", "infinity")
    assert isinstance(process, NamespaceProcess)
    words = ["nsenter", f"--target={process.outer_pid}", "--net", "--mount", "--pid", "--ipc", "--uts"]
    words += ["--user", "--preserve-credentials"] if os.getuid() else []
    return [*words, "unshare", "--uts", "sh", "-c", _NAMED, "sh", host.name]


_NAMED = r"""hostname "$1"; exec env PS1='\h:\w# ' bash --norc"""
"""A shell whose host name is the host's: all hosts of a lab of namespaces have the machine's else (``uts_namespaces(7)``)."""


def shell(host: str) -> Offer:
    """Return the way into a host of a lab that is kept. Raises UsageError where there is none."""
    offers: dict[str, Offer] = {}
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


def _read(folder: int | None, file: str) -> dict[str, Offer]:
    """Return the ways that a run offers; none where its file is not what a run writes."""
    assert folder is not None
    with contextlib.suppress(ValueError):
        found = json.loads(ownership.read_own(folder, file) or "")
        if isinstance(found, dict) and all(_is_offer(one) for one in found.values()):
            return {name: Offer(**one) for name, one in found.items()}
    return {}


def _is_offer(found: object) -> bool:
    if not isinstance(found, dict) or found.keys() != {"command", "greeting"} or not found["command"]:
        return False
    return all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in found.values())
