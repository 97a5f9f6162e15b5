"""The private keys that a login is tried with: a key's file, an SSH agent's, the user's own.

What a file holds is told from the file, so that one that is of no use here is named with the remedy before a host is asked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import io
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from channover.hosts.ssh.own_settings import OwnSettings

USUAL = ("id_ed25519", "id_ecdsa", "id_rsa")
"""The user's own keys, in ~/.ssh."""
LIMIT = 256 * 1024
"""The most bytes that are read of a key's file."""
NEW = "make one with 'ssh-keygen -t ed25519'"


class KeyFault(Exception):
    """A key's file that cannot serve: what is wrong with it, and the remedy."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"the key {path} {what}")


@dataclass(frozen=True)
class KeyFile:
    """A private key's file: its keys (with its certificate, then without), or why an agent has to have it."""

    keys: tuple[paramiko.PKey, ...] = ()
    agents: str = ""
    """Such as ``has a passphrase``: only an SSH agent can use it."""


@dataclass
class Keys:
    """What a login is tried with, in order; paramiko asks it to log in (``auth_strategy`` of ``SSHClient.connect``)."""

    user: str
    file: Path | None
    settings: OwnSettings = field(default_factory=OwnSettings)
    own: KeyFile = field(init=False)
    tried: int = 0

    def __post_init__(self) -> None:
        self.own = opened(self.file) if self.file else KeyFile()

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in with the first key that the host accepts. Raises SSHException."""
        with contextlib.closing(_Agent(self.settings.agent)) as agent:
            for key in self._all(agent):
                self.tried += 1
                try:
                    more = transport.auth_publickey(self.user, key)
                except paramiko.BadAuthenticationType as error:
                    allowed = ", ".join(error.allowed_types)
                    raise paramiko.SSHException(f"it takes no keys, but {allowed}") from None
                except (paramiko.AuthenticationException, ValueError):  # the latter of a key that cannot sign
                    if not transport.is_active() and self.tried > 1:
                        raise paramiko.SSHException(
                            f"it ended the connection after {self.tried} keys (MaxAuthTries): name the one in ssh.key"
                        ) from None
                    continue
                if not more:
                    return
                raise paramiko.SSHException(f"it takes the key, and wants {' or '.join(more)} besides")
        raise paramiko.AuthenticationException

    @property
    def named(self) -> str:
        """Where keys come from beside the agent, in words."""
        usual = {Path("~/.ssh").expanduser() / name for name in USUAL}
        named = [str(each) for each in self.settings.identities if each.exists() and each not in usual]
        return ", ".join(named) or "~/.ssh"

    def _all(self, agent: _Agent) -> Iterator[paramiko.PKey]:
        """Yield keys in the order of ``ssh``: those of the agent that are named, its others, those of files."""
        yield from self.own.keys
        if self.file is not None and not self.own.agents:
            return
        files = () if self.file else self.settings.identities or [Path("~/.ssh").expanduser() / name for name in USUAL]
        named = {blob: path for path in files if (blob := _public(path))}
        held = agent.keys()
        chosen = [key for key in held if key.asbytes() in named]
        yield from chosen
        if not self.settings.identities_only or self.file:
            yield from (key for key in held if key not in chosen)
        shown = {named[key.asbytes()] for key in chosen}
        for path in files:
            if path not in shown:
                with contextlib.suppress(KeyFault, OSError):
                    yield from opened(path).keys


class _Agent:
    """The user's SSH agent, or none; ``place`` is what ``IdentityAgent`` says (``ssh_config(5)``)."""

    def __init__(self, place: str = "") -> None:
        self._agent: paramiko.agent.AgentSSH | None = None
        path = os.environ.get(place.removeprefix("$")) if place.startswith("$") else place
        if place == "none":
            return
        with contextlib.suppress(paramiko.SSHException, OSError):
            if path in ("", None, "SSH_AUTH_SOCK"):
                self._agent = paramiko.Agent()
                return
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(os.path.expanduser(str(path)))
            self._agent = paramiko.agent.AgentSSH()
            self._agent._connect(connection)

    def keys(self) -> tuple[paramiko.PKey, ...]:
        return tuple(self._agent.get_keys()) if self._agent else ()

    def close(self) -> None:
        if self._agent:
            self._agent._close()


def _public(path: Path) -> bytes:
    """Return the public key that stands beside a private key's file, or in the file itself; nothing where there is none."""
    for place in (path, Path(f"{path}.pub")):
        with contextlib.suppress(OSError, ValueError, binascii.Error):
            with place.open("rb") as stream:
                match = re.match(rb"(?:ssh-|ecdsa-|sk-)\S+ (\S+)", stream.read(LIMIT))
            if match:
                return base64.b64decode(match[1])
    return b""


def opened(path: Path) -> KeyFile:
    """Return what a private key's file holds. Raises KeyFault."""
    try:
        if path.is_dir():
            raise KeyFault(path, "is a folder; name the private key's file in it")
        if not path.is_file():
            raise KeyFault(
                path, "is not there; correct its path" if not path.exists() else "is no file; name a private key's"
            )
        with path.open("rb") as stream:
            data = stream.read(LIMIT)
    except OSError as error:
        raise KeyFault(
            path, f"cannot be read ({error.strerror}); see its permissions: chmod 600, and whose it is"
        ) from None
    _known_otherwise(data, path)
    kind, locked = _openssh(data)
    if kind == "ssh-dss" or b"BEGIN DSA PRIVATE KEY" in data:
        raise KeyFault(path, f"is a DSA key, which SSH servers refuse and nothing here can use; {NEW}")
    if kind.startswith("sk-"):
        return KeyFile(agents="needs its security key")
    if locked or b"ENCRYPTED" in data:
        return KeyFile(agents="has a passphrase")
    found = _loaded(path, data)
    if found is None:
        return KeyFile(agents="has a passphrase")
    certified = _certified(found, path)
    return KeyFile((certified, found) if certified else (found,))


_CLASSES: tuple[tuple[type[object], type[paramiko.PKey]], ...] = (
    (rsa.RSAPrivateKey, paramiko.RSAKey),
    (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
)


def _loaded(path: Path, data: bytes) -> paramiko.PKey | None:
    """Return the key that a file holds in OpenSSH's form, PEM or PKCS#8; None where it takes a passphrase. Raises KeyFault."""
    try:
        try:
            found: Any = serialization.load_ssh_private_key(data, None)
        except ValueError:
            found = serialization.load_pem_private_key(data, None)
        kind = next((ours for theirs, ours in _CLASSES if isinstance(found, theirs)), None)
        if kind is None:
            name = type(found).__name__.strip("_").removesuffix("PrivateKey")
            raise KeyFault(path, f"holds a key of a kind ({name}) that cannot be used here; {NEW}")
        form = serialization.PrivateFormat.OpenSSH  # the one form that paramiko reads of every kind
        text = found.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        return kind.from_private_key(io.StringIO(text))
    except TypeError:  # cryptography's word for it
        return None
    except (paramiko.SSHException, UnsupportedAlgorithm, ValueError):
        raise KeyFault(
            path,
            f"holds no private key that can be read: it is cut off, or of another form; see 'ssh-keygen -yf {path}'",
        ) from None


def _certified(key: paramiko.PKey, path: Path) -> paramiko.PKey | None:
    """Return a key with the certificate that stands beside it (``ssh(1)``, -i), or None where there is none of use."""
    beside = Path(f"{path}-cert.pub")
    if not beside.is_file():
        return None
    found = copy.copy(key)
    try:
        found.load_certificate(str(beside))
    except (paramiko.SSHException, ValueError, IndexError, OSError):
        return None
    return found


def _known_otherwise(data: bytes, path: Path) -> None:
    """Raise KeyFault where a file is known to be something else than a private key."""
    if not data.strip():
        raise KeyFault(path, f"is empty; name a private key's file, or {NEW}")
    start = data.lstrip()[:200]
    if start.startswith(b"PuTTY-User-Key-File"):
        raise KeyFault(
            path, f"is PuTTY's; convert it: puttygen {path} -O private-openssh -o {path.with_suffix('')}.key"
        )
    if b"BEGIN CERTIFICATE" in start:
        raise KeyFault(path, "is an X.509 certificate; name the private key's file")
    if re.match(rb"\S+-cert-v01@openssh\.com ", start):
        raise KeyFault(path, "is a certificate; name the private key's file: it is found beside that, as KEY-cert.pub")
    if re.match(rb"(ssh-|ecdsa-|sk-)\S+ |-+ ?BEGIN (SSH2 |RSA )?PUBLIC KEY", start):
        raise KeyFault(path, "is a public key; name the private key's file, as a rule the one without .pub")
    if b"-----BEGIN" not in data:
        form = "is in DER" if data.startswith(b"\x30") else "is in no form that SSH knows"
        raise KeyFault(path, f"{form}; convert it: openssl pkey -inform DER -in {path} -out {path.with_suffix('.pem')}")


def _openssh(data: bytes) -> tuple[str, bool]:
    """Return the kind of a key in OpenSSH's own form, and whether it has a passphrase (``PROTOCOL.key``); or nothing."""
    match = re.search(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.+?)-----END", data, re.DOTALL)
    with contextlib.suppress(binascii.Error, ValueError, IndexError):
        magic, rest = b"openssh-key-v1\0", base64.b64decode(b"".join(match[1].split()) if match else b"")
        if rest.startswith(magic):
            cipher, rest = _string(rest.removeprefix(magic))
            for _ in range(2):  # how a passphrase becomes a key
                _, rest = _string(rest)
            public, _ = _string(rest[4:])
            return _string(public)[0].decode("latin-1"), cipher != b"none"
    return "", False


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Return a string of a given length (RFC 4251, 5), and what follows it."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]
