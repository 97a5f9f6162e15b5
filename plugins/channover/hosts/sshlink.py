"""One SSH connection to a host of a lab, over fabric: host keys checked, every failure one line with its remedy.

A host has one connection, and each program on it a channel of that connection (RFC 4254, 5 and 6.5).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import shlex
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from fabric import Config, Connection

from channover.errors import RigError

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

    ``jump`` is user, address and port of a host on the way. Without a key the agent's and the user's own serve; of a key
    with a passphrase the agent has to have been told.
    """

    address: str
    port: int = 22
    user: str = "root"
    key: Path | None = None
    known_hosts: Path | None = None
    jump: tuple[str, str, int] | None = None
    sudo: bool = False

    @property
    def name_of_key(self) -> str:
        """The host as ``known_hosts`` names it (``sshd(8)``)."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as ``ssh-keygen -l`` shows it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _locked(key: Path) -> bool:
    """Say whether a key's file opens with a passphrase only, which is the agent's to know."""
    try:
        paramiko.PKey.from_path(key)
    except (TypeError, paramiko.PasswordRequiredException):  # the former is cryptography's word for it
        return True
    except (paramiko.SSHException, paramiko.UnknownKeyType, UnsupportedAlgorithm, ValueError, OSError):
        return False  # the login will say so
    return False


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Refuse a machine whose key nobody has vouched for."""

    def __init__(self, who: str, login: Login) -> None:
        self._who = who
        self._login = login

    def missing_host_key(self, _client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        login = self._login
        scan = f"ssh-keyscan -p {login.port} {login.address}"
        if login.jump:  # only from there can the host be reached
            user, address, port = login.jump
            scan = f"ssh -p {port} {user}@{address} {scan}"
        raise RigError(
            f"{self._who}: the host key of {hostname} is unknown ({key.get_name()} {fingerprint(key)}); compare it on the "
            f"host's console (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then trust it: "
            f"{scan} >> {login.known_hosts or '~/.ssh/known_hosts'}"
        )


@dataclass
class SshLink:
    """The connection to one host. Safe to use from several threads."""

    host: str
    login: Login
    sock: socket.socket | None = None
    given_up: str = ""
    """Why nothing more is to be asked of the host, once that is so."""
    _connection: Connection | None = field(default=None, repr=False)
    _gateway: Connection | None = field(default=None, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        transport = self._connection.transport if self._connection else None
        return transport is not None and bool(transport.is_active())

    def open(self) -> None:
        """Connect where there is no connection. Raises RigError."""
        if self.given_up:
            raise RigError(self.given_up)
        with self._lock:
            if not self.alive:
                self.close()
                try:
                    self._connection = self._connected()
                except RigError:
                    self.close()  # the jump host may have let us in
                    raise

    def _connected(self) -> Connection:
        login = self.login
        if login.jump is None:
            return self._opened(self.host, login, "ssh.address and ssh.port", "ssh.user and ssh.key")
        user, address, port = login.jump
        gate = replace(login, address=address, port=port, user=user, jump=None)
        self._gateway = self._opened(f"{self.host}'s jump host", gate, "ssh.jump", "ssh.jump and ssh.key")
        return self._opened(self.host, login, "ssh.address and ssh.port", "ssh.user and ssh.key")

    def _opened(self, who: str, login: Login, place: str, access: str) -> Connection:
        """Log in to a host, or to the one on the way; the last two name the inventory's fields for both."""
        where = f"{login.address} port {login.port}"
        connection = self._made(who, login)
        by = ""
        if login.jump:
            connection.gateway = self._gateway
            by = f"{login.jump[0]}@{login.jump[1]}:{login.jump[2]}"
        try:
            connection.open()
            transport = connection.transport
            assert transport is not None
            transport.set_keepalive(KEEPALIVE)
            with contextlib.suppress(OSError, AttributeError):  # a channel through a jump host is no socket
                transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_AFTER * 1000))
            return connection
        except paramiko.BadHostKeyException as error:
            file = f" -f {login.known_hosts}" if login.known_hosts else ""
            raise RigError(
                f"{who}: the host key of {where} has changed: it is {fingerprint(error.key)}, and known is "
                f"{fingerprint(error.expected_key)}. Somebody may stand between. If the host was set up anew: "
                f"ssh-keygen -R '{login.name_of_key}'{file}, then trust its new key"
            ) from None
        except paramiko.AuthenticationException:
            if login.key and _locked(login.key):
                raise RigError(
                    f"{who}: {where} cannot be logged in to: the key {login.key} has a passphrase, and the SSH agent has no "
                    f"key that {login.user} may use there: ssh-add {login.key}, or leave ssh.key out; or see {access}"
                ) from None
            key = f"the key {login.key}" if login.key else "every key of the agent and of ~/.ssh"
            copy = f"ssh-copy-id -o ProxyJump={by}" if by else "ssh-copy-id"
            raise RigError(f"{who}: {login.user}@{where} refuses {key}: {copy}, or see {access}") from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            words = str(error) or type(error).__name__
            remedy = f"is the host up, and are {place} right?"
            if isinstance(error, paramiko.ChannelException) and error.code == _FORBIDDEN:
                remedy = "allow it there (AllowTcpForwarding in sshd_config)"
            raise RigError(f"{who}: cannot reach {where}{by and f' through {by}'}: {words}; {remedy}") from None

    def _made(self, who: str, login: Login) -> Connection:
        options: dict[str, object] = {"look_for_keys": login.key is None, "allow_agent": True}
        if login.key is not None:
            if not login.key.is_file():
                raise RigError(f"{who}: there is no key file {login.key}: see ssh.key in the inventory")
            options |= {"key_filename": str(login.key), "allow_agent": _locked(login.key)}
        if self.sock is not None:
            options["sock"] = self.sock
        connection = Connection(
            login.address,
            user=login.user,
            port=login.port,
            config=Config(lazy=True),
            connect_timeout=CONNECT_TIMEOUT,
            connect_kwargs={**options, "banner_timeout": 3 * CONNECT_TIMEOUT, "auth_timeout": 3 * CONNECT_TIMEOUT},
        )
        client = connection.client
        client.set_log_channel(_LOG)
        client.set_missing_host_key_policy(_Refuse(who, login))
        try:
            client.load_system_host_keys(str(login.known_hosts) if login.known_hosts else None)
        except OSError as error:
            raise RigError(f"{who}: cannot read {login.known_hosts}: {error.strerror}") from None
        return connection

    def channel(self, command: str) -> paramiko.Channel:
        """Start a shell command on a channel of its own. Raises RigError where the connection is gone."""
        self.open()
        assert self._connection is not None
        transport = self._connection.transport
        try:
            assert transport is not None
            channel = transport.open_session(timeout=CONNECT_TIMEOUT)
            channel.exec_command(command)
            return channel
        except paramiko.ChannelException as error:
            raise RigError(
                f"{self.host}: sshd opens no further session ({error}): raise MaxSessions in its sshd_config"
            ) from None
        except (paramiko.SSHException, OSError, EOFError, AssertionError) as error:
            raise RigError(f"{self.host}: the SSH connection is lost: {str(error) or type(error).__name__}") from None

    def ask(self, command: str) -> str:
        """Return what a shell command of the login itself prints: no sudo, the login's own environment. Raises RigError."""
        channel = self.channel(command)
        with contextlib.closing(channel), channel.makefile() as stream:
            return str(stream.read().decode(errors="replace"))

    def give_up(self, reason: str) -> None:
        """Close the connection for good: what waits for the host fails at once, and so does all that is asked later."""
        self.given_up = reason
        transport = self._connection.transport if self._connection else None
        if transport is not None:  # not by close(), which waits for whoever is connecting just now
            transport.close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            for connection in (self._connection, self._gateway):
                with contextlib.suppress(Exception):
                    if connection is not None:
                        connection.close()
        self._connection = self._gateway = None


def command_line(
    argv: tuple[str, ...], environment: Mapping[str, str], sudo: bool, *, announced: bool = True, lease: str = ""
) -> str:
    """Return the shell command that runs a program on a host.

    Its first line of output is ``@PID``, or ``@missing`` where there is no such program. Its exit code is the program's, or
    128 and the number of the signal that ended it (POSIX, 2.8.2). It runs in the environment given and nothing else.

    ``lease`` is a file on the host without which the program is not started, and the first line is ``@lost``: a command
    may arrive late, and find a host that has restored itself. The shell that looks for it bears the run's token already,
    so that the end of the run either takes the file away first, or finds that shell and ends it. It joins the run's
    control group, which the guardian takes away at the end (``cgroups(7)``, version 2).
    """
    guarded = (
        f"[ -e {shlex.quote(lease)} ] || {{ echo @lost; exit 127; }}; "
        "for g in /sys/fs/cgroup /sys/fs/cgroup/unified; do "  # the first is a plain folder where there is the second
        '[ ! -w "$g/cgroup.procs" ] || { g=$g/channover-$CHANNOVER_RUN; '
        '{ { [ -d "$g" ] || mkdir "$g"; } && echo 0 >"$g/cgroup.procs"; } 2>/dev/null; break; }; done; '
    )
    inner = (guarded if lease else "") + (
        'command -v -- "$1" >/dev/null 2>&1 || { echo @missing; exit 127; }; '
        'sh -c \'echo "@$$"; exec "$@"\' sh "$@"; exit $?'
    )
    words = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
    words += ["sh", "-c", inner, "sh", *argv] if announced else list(argv)
    return shlex.join([*(("sudo", "-n", "--") if sudo else ()), *words])
