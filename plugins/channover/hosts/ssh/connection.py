"""One SSH connection to a host of a lab, over fabric: host keys checked, every failure one line with its remedy.

A host has one connection, and each program on it a channel of that connection (RFC 4254, 5 and 6.5).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import shlex
import socket
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import paramiko
from fabric import Config, Connection

from channover.errors import TestbedError
from channover.hosts.ssh.keys import KeyFault, Keys
from channover.hosts.ssh.known_hosts import USUAL, Known, known
from channover.hosts.ssh.own_settings import OwnSettings
from channover.hosts.ssh.wire import Wire

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for a host to answer."""
DEAD_AFTER = 10.0
"""Seconds without an acknowledgement after which a connection counts as dead (``TCP_USER_TIMEOUT``, ``tcp(7)``)."""
KEEPALIVE = 3
"""Seconds between two messages on an idle connection, so that a dead one is noticed."""
_LOG = "channover.ssh"
"""Paramiko's logger of these connections, kept still: it logs tracebacks of what is told here as one line."""
logging.getLogger(_LOG).setLevel(logging.CRITICAL)
_FORBIDDEN = 1
"""Why a jump host opens no connection onwards: it may not (RFC 4254, 5.1)."""


@dataclass(frozen=True)
class Login:
    """How to log in to a host.

    ``jump`` is how to log in to the host before it on the way. Without a key the agent's and the user's own serve; of a key
    with a passphrase the agent has to have been told.
    """

    address: str
    port: int = 22
    user: str = "root"
    key: Path | None = None
    known_hosts: Path | None = None
    jump: Login | None = None
    sudo: bool = False
    own: OwnSettings = field(default_factory=OwnSettings)

    @property
    def name_of_key(self) -> str:
        """The host as ``known_hosts`` names it (``sshd(8)``)."""
        return self.own.key_alias or (self.address if self.port == 22 else f"[{self.address}]:{self.port}")

    @property
    def where(self) -> str:
        """Address and port, and which name of the user's configuration led there."""
        return f"{self.address} port {self.port}" + (f" ('{self.own.name}' in ~/.ssh/config)" if self.own.name else "")

    @property
    def known_file(self) -> Path | str:
        """The file that a host key goes to when it is trusted."""
        return self.known_hosts or next(iter(self.own.known_hosts), USUAL[0])

    @property
    def way(self) -> str:
        """The hosts before it, as ``ssh -J`` takes them."""
        jump = self.jump
        if jump is None:
            return ""
        one = f"{jump.user}@{jump.address}:{jump.port}"
        return f"{jump.way},{one}" if jump.jump else one


def fingerprint(key: bytes) -> str:
    """Return a public key's fingerprint as ``ssh-keygen -l`` shows it."""
    digest = hashlib.sha256(key).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class _Vouched(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Refuse a machine unless somebody has vouched for its key: asked for each key, since paramiko is told of none."""

    def __init__(self, who: str, login: Login, known: Known) -> None:
        self._who = who
        self._login = login
        self._known = known

    def missing_host_key(self, _client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        login, known = self._login, self._known
        if known.vouches(key.asbytes()):
            return
        file = login.known_file
        shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
        if key.asbytes() in known.revoked:
            raise TestbedError(
                f"{self._who}: the host key of {hostname} is revoked in {file} ({shown}): whoever has it is not to be "
                "trusted; give the host a new key (ssh-keygen -A), then trust that"
            )
        for kind, expected in known.keys:
            if kind == key.get_name():
                option = f" -f {login.known_hosts}" if login.known_hosts else ""
                raise TestbedError(
                    f"{self._who}: the host key of {login.address} port {login.port} has changed: it is "
                    f"{fingerprint(key.asbytes())}, and known is {fingerprint(expected)}. Somebody may stand between. If the "
                    f"host was set up anew: ssh-keygen -R '{login.name_of_key}'{option}, then trust its new key"
                )
        scan = f"ssh-keyscan -p {login.port} {login.address}"
        if login.jump:  # only from there can the host be reached
            jump = login.jump
            before = f"-J {jump.way} " if jump.jump else ""
            scan = f"ssh {before}-p {jump.port} {jump.user}@{jump.address} {scan}"
        vouched = (
            f"; a certificate authority in {file} vouches for it, which is not read here" if known.authority else ""
        )
        raise TestbedError(
            f"{self._who}: the host key of {hostname} is unknown ({shown}){vouched}; compare it on the "
            f"host's console (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then trust it: {scan} >> {file}"
        )


@dataclass
class SshLink:
    """The connection to one host. Safe to use from several threads."""

    host: str
    login: Login
    sock: socket.socket | None = None
    patience: float = 1.0
    """By what ``CONNECT_TIMEOUT`` is multiplied: the host may be a slow one, and many connect at once."""
    given_up: str = ""
    """Why nothing more is to be asked of the host, once that is so."""
    _connection: Connection | None = field(default=None, repr=False)
    _gates: list[Connection] = field(default_factory=list, repr=False)
    """The connections to the hosts on the way, the nearest first."""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def _timeout(self) -> float:
        return CONNECT_TIMEOUT * self.patience

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        transport = self._connection.transport if self._connection else None
        return transport is not None and bool(transport.is_active())

    def open(self) -> None:
        """Connect where there is no connection. Raises TestbedError."""
        if self.given_up:
            raise TestbedError(self.given_up)
        with self._lock:
            if not self.alive:
                self.close()
                try:
                    self._connection = self._connected()
                except TestbedError:
                    self.close()  # the jump host may have let us in
                    raise

    def _connected(self) -> Connection:
        return self._through(self.host, self.login, "ssh.address and ssh.port", "ssh.user and ssh.key")

    def _through(self, who: str, login: Login, place: str, access: str) -> Connection:
        """Log in to a host, after those on the way; the last two name the fields for both."""
        gate = None
        if login.jump:
            field = "ProxyJump in ~/.ssh/config" if login.jump.own.jumped else "ssh.jump"
            gate = self._through(f"{self.host}'s jump host", login.jump, field, f"{field} and ssh.key")
            self._gates.append(gate)
        return self._opened(who, login, place, access, gate)

    def _opened(self, who: str, login: Login, place: str, access: str, gate: Connection | None) -> Connection:
        where = login.where
        try:
            keys = Keys(login.user, login.key, login.own)
        except KeyFault as fault:
            raise TestbedError(f"{who}: {fault}; see ssh.key in the inventory") from None
        connection = self._made(who, login, keys)
        connection.gateway = gate
        by = login.way
        try:
            connection.open()
            transport = connection.transport
            assert transport is not None
            transport.set_keepalive(KEEPALIVE)
            with contextlib.suppress(OSError, AttributeError):  # a channel through a jump host is no socket
                transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_AFTER * 1000))
            return connection
        except TestbedError:
            connection.client.close()
            raise
        except paramiko.AuthenticationException:
            connection.client.close()
            if keys.own.agents:
                raise TestbedError(
                    f"{who}: {where} cannot be logged in to: the key {login.key} {keys.own.agents}, and the SSH agent has no "
                    f"key that {login.user} may use there: ssh-add {login.key}, or leave ssh.key out; or see {access}"
                ) from None
            if not keys.tried:
                raise TestbedError(
                    f"{who}: there is no key to log in to {where} with, neither an SSH agent's nor in ~/.ssh: ssh-add one, "
                    f"make one (ssh-keygen -t ed25519) and ssh-copy-id it, or see {access}"
                ) from None
            key = f"the key {login.key}" if login.key else f"every key of the agent and of {keys.named}"
            copy = f"ssh-copy-id -o ProxyJump={by}" if by else "ssh-copy-id"
            raise TestbedError(f"{who}: {login.user}@{where} refuses {key}: {copy}, or see {access}") from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            wire = connection.client.get_transport()
            connection.client.close()
            words, remedy = _unreached(error, wire, place, access, self._timeout)
            through = by or (login.own.command and f"'{login.own.command}' (ProxyCommand)")
            raise TestbedError(
                f"{who}: cannot reach {where}{through and f' through {through}'}: {words}; {remedy}"
            ) from None

    def _made(self, who: str, login: Login, keys: Keys) -> Connection:
        try:
            name, port = (login.own.key_alias, 22) if login.own.key_alias else (login.address, login.port)
            trusted = known(name, port, login.known_hosts, login.own.known_hosts)
        except OSError as error:
            raise TestbedError(
                f"{who}: cannot read {login.known_hosts}: {error.strerror}; see ssh.known_hosts"
            ) from None
        options: dict[str, object] = {
            "auth_strategy": keys,
            "transport_factory": partial(Wire, kinds=trusted.kinds),
            "banner_timeout": 3 * self._timeout,
            "auth_timeout": 3 * self._timeout,
        }
        if self.sock is not None:
            options["sock"] = self.sock
        elif login.own.command:
            shell = os.environ.get("SHELL") or "/bin/sh"
            options["sock"] = paramiko.ProxyCommand(shlex.join((shell, "-c", f"exec {login.own.command}")))
        connection = Connection(
            login.address,
            user=login.user,
            port=login.port,
            config=Config(lazy=True),
            connect_timeout=self._timeout,
            connect_kwargs=options,
        )
        client = connection.client
        client.set_log_channel(_LOG)
        client.set_missing_host_key_policy(_Vouched(who, login, trusted))
        return connection

    def channel(self, command: str) -> paramiko.Channel:
        """Start a shell command on a channel of its own. Raises TestbedError where the connection is gone."""
        self.open()
        assert self._connection is not None
        transport = self._connection.transport
        try:
            assert transport is not None
            channel = transport.open_session(timeout=self._timeout)
            if self.login.own.forwards_agent:
                paramiko.agent.AgentRequestHandler(channel)
            channel.exec_command(command)
            return channel
        except paramiko.ChannelException as error:
            raise TestbedError(
                f"{self.host}: sshd opens no further session ({error}): raise MaxSessions in its sshd_config"
            ) from None
        except (paramiko.SSHException, OSError, EOFError, AssertionError) as error:
            raise TestbedError(
                f"{self.host}: the SSH connection is lost: {str(error) or type(error).__name__}"
            ) from None

    def give_up(self, reason: str) -> None:
        """Close the connection for good: what waits for the host fails at once, and so does all that is asked later."""
        self.given_up = reason
        transport = self._connection.transport if self._connection else None
        if transport is not None:  # not by close(), which waits for whoever is connecting just now
            transport.close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            for connection in (self._connection, *reversed(self._gates)):
                with contextlib.suppress(Exception):
                    if connection is not None:
                        connection.close()
            self._connection = None
            self._gates.clear()


def _unreached(error: Exception, wire: object, place: str, access: str, timeout: float) -> tuple[str, str]:
    """Return why there is no connection, and the remedy; ``place`` and ``access`` name the inventory's fields for both."""
    words = str(error) or type(error).__name__
    remedy = f"is the host up, and are {place} right?"
    if isinstance(error, paramiko.ChannelException) and error.code == _FORBIDDEN:
        return words, "allow it there (AllowTcpForwarding in sshd_config)"
    if not isinstance(wire, Wire):
        return words, remedy
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return wire.disagreement() or (f"{words}: it speaks an SSH of before 2006", "bring its SSH server up to date")
    if wire.initial_kex_done:
        return words, f"see sshd's log there (journalctl -u ssh), and {access}"
    if wire.slow:
        what = (
            "agrees on no keys" if wire.spoke else f"says '{wire.words}', and no SSH," if wire.words else "says nothing"
        )
        return f"it {what} within {timeout:g} s", remedy
    if not wire.spoke and wire.words:
        return f"it says '{wire.words}', and no SSH", f"where this is another server's: {remedy}"
    if not wire.spoke and not wire.heard:
        return "it ends the connection without a word", f"see MaxStartups in its sshd_config, its firewall; or {remedy}"
    if wire.spoke and not isinstance(error, TimeoutError):
        return (
            f"it speaks SSH, and ends the connection before any key is agreed on ({words})",
            "see sshd's log there (journalctl -u ssh): it may have no host key for its HostKeyAlgorithms (ssh-keygen -A)",
        )
    return words, remedy
