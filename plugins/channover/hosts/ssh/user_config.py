"""How a host is logged in to, where the user's own SSH configuration says what the inventory leaves out (``ssh_config(5)``).

``ssh -G`` is asked, so that all of it counts as it does for ``ssh``: ``Include``, ``Match``, patterns, the system's own file.
Whether a host key is trusted is decided here all the same: one that is unknown is refused, whatever the configuration says.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from channover import isolated
from channover.errors import TestbedError
from channover.hosts.ssh.connection import Login
from channover.hosts.ssh.own_settings import OwnSettings

FILE = "~/.ssh/config"
DEFAULT_USER = "root"
"""Who logs in where neither the inventory nor the configuration says so: labs are for root."""
TIMEOUT = 20.0
"""Seconds that reading the configuration may take: a ``Match exec`` in it runs a program."""
_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^]]+\]|[^:/@]+)(?::(?P<port>[0-9]+))?/?")
_PATHS = re.compile(r"[ \t]+(?=[/~%$])")
_TOKEN = re.compile(r"%(.)|\$\{(\w+)\}")


@dataclass(frozen=True)
class Hop:
    """A host on the way, as far as it is named."""

    address: str
    port: int | None = None
    user: str | None = None


def completed(
    address: str,
    port: int | None = None,
    user: str | None = None,
    *,
    key: Path | None = None,
    known_hosts: Path | None = None,
    jump: Hop | None = None,
    sudo: bool = False,
) -> Login:
    """Return how to log in to a host; what is None here is taken from the user's configuration.

    ``address`` may be a name that only that configuration knows. Hosts on the way, of ``jump`` or of ``ProxyJump``, are
    looked up as well. Raises TestbedError where the configuration cannot be read, or leads in a circle.
    """
    given = Login(address, key=key, known_hosts=known_hosts)
    found = _login(Hop(address, port, user), given, (jump,) if jump else None, ())
    return replace(found, sudo=sudo)


def _login(
    host: Hop, given: Login, way: tuple[Hop, ...] | None, passed: tuple[str, ...], *, jumped: bool = False
) -> Login:
    """Return how to log in to a host; ``way`` is the hosts before it, None where the configuration is to say.

    ``jumped`` says whether the host is one on the way that the configuration names.
    """
    if host.address in passed:
        raise TestbedError(f"ProxyJump in {FILE} leads in a circle: {' by way of '.join((*passed, host.address))}")
    said = _said(host)

    def one(option: str, default: str = "") -> str:
        value = said.get(option, [default])[0]
        return default if value == "none" and option != "identityagent" else value

    login = replace(
        given,
        address=one("hostname", host.address),
        port=host.port or int(one("port", "22")),
        user=host.user or one("user", DEFAULT_USER),
    )
    hops = _hops(one("proxyjump")) if way is None else way
    jump = None
    if hops:
        before = hops[:-1] or None
        jump = _login(hops[-1], given, before, (*passed, host.address), jumped=jumped or way is None)

    def path(text: str) -> Path:
        return Path(_expanded(text, host, login)).expanduser()

    agent = one("identityagent")
    own = OwnSettings(
        jumped=jumped,
        name=host.address if host.address.lower() != login.address.lower() else "",
        identities=tuple(path(each) for each in said.get("identityfile", ()) if each != "none"),
        identities_only=one("identitiesonly") == "yes",
        agent=_expanded(agent, host, login) if agent != "none" else agent,
        forwards_agent=one("forwardagent", "no") != "no" and not jumped,
        known_hosts=tuple(
            path(each)
            for option in ("userknownhostsfile", "globalknownhostsfile")
            for each in _PATHS.split(one(option))
            if each
        ),
        key_alias=one("hostkeyalias"),
        command=_expanded(one("proxycommand"), host, login) if jump is None else "",
    )
    return replace(login, jump=jump, own=own if said else OwnSettings())


def _hops(text: str) -> tuple[Hop, ...]:
    """Return the hosts that ProxyJump names, the first to go through first."""
    found = []
    for word in filter(None, (each.strip() for each in text.split(","))):
        match = _HOP.fullmatch(word)
        if match is None:
            raise TestbedError(f"ProxyJump in {FILE} names '{word}', which is no [USER@]HOST[:PORT]")
        found.append(Hop(match["host"].strip("[]"), int(match["port"]) if match["port"] else None, match["user"]))
    return tuple(found)


def _said(host: Hop) -> dict[str, list[str]]:
    """Return what ``ssh -G`` says of a host, by option. Raises TestbedError."""
    file, program = Path(FILE).expanduser(), shutil.which("ssh", path=isolated.search_path())
    try:
        theirs = file.stat().st_uid not in (0, os.getuid())  # ssh refuses such a file
    except OSError:
        theirs = True
    if program is None:
        if theirs:
            return {}
        raise TestbedError(f"{FILE} cannot be read without OpenSSH's own client: install openssh-client")
    folder = file.parent
    lines = [
        *([] if theirs else [f'Include "{file}"']),
        "Include /etc/ssh/ssh_config",
        "Host *",  # what follows counts where nobody has said it before
        f"User {DEFAULT_USER}",
        f'UserKnownHostsFile "{folder}/known_hosts" "{folder}/known_hosts2"',
    ]
    options = [*(("-p", str(host.port)) if host.port else ()), *(("-l", host.user) if host.user else ())]
    with open(os.memfd_create("ssh_config"), "w+") as text:  # ssh may read it twice, and keeps no other descriptor open
        text.write("\n".join(lines) + "\n")
        text.flush()
        command = [program, "-G", "-F", "/dev/stdin", *options, "--", host.address]
        try:
            done = subprocess.run(
                command, stdin=text, capture_output=True, env=isolated.environment(), timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise TestbedError(f"{FILE} was not read within {TIMEOUT:g} s: see its 'Match exec'") from None
    if done.returncode != 0:
        words = [line for line in done.stderr.decode(errors="replace").splitlines() if "terminal" not in line]
        raise TestbedError(f"{FILE} cannot be read: {'; '.join(words)[:300] or f'ssh ended with {done.returncode}'}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        option, _, value = line.partition(" ")
        found.setdefault(option.lower(), []).append(value)
    return found


def _expanded(text: str, host: Hop, login: Login) -> str:
    """Return a value with its tokens and variables replaced (``ssh_config(5)``, TOKENS)."""
    local = socket.gethostname()
    tokens = {
        "%": "%",
        "d": str(Path("~").expanduser()),
        "h": login.address,
        "i": str(os.getuid()),
        "k": host.address,
        "l": local,
        "L": local.partition(".")[0],
        "n": host.address,
        "p": str(login.port),
        "r": login.user,
        "u": getpass.getuser() if "%u" in text else "",
    }
    return _TOKEN.sub(lambda match: tokens.get(match[1], match[0]) if match[1] else os.environ.get(match[2], ""), text)
