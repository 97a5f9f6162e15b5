"""Signatures by SSH keys: ``ssh-keygen -Y`` (ssh-keygen(1); OpenSSH PROTOCOL.sshsig)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from channover import isolated
from channover.errors import UsageError

NAMESPACE = "channover-signoff"
"""A signature of another namespace, such as one of a commit, is none of a bundle."""

TIMEOUT = 60.0
"""Seconds that checking a signature may take: it asks nobody."""


@dataclass(frozen=True)
class Key:
    """A public key: its kind, such as ``ssh-ed25519``, and its blob."""

    kind: str
    blob: bytes

    @property
    def text(self) -> str:
        """The key as a line of a ``.pub`` file, without a comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def fingerprint(self) -> str:
        """Its fingerprint, such as ``SHA256:…``."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii").rstrip("=")


def public_key(key: Path) -> tuple[Key, str]:
    """Return the public half of a key file, and its comment. Raises UsageError in one line."""
    if key.exists() and not key.is_file():  # reading a pipe would wait for whoever writes
        raise UsageError(f"--key {key}: no regular file")
    listed = _keygen(["-l", "-f", str(key)], f"--key {key}")
    beside = key if key.suffix == ".pub" else key.with_name(key.name + ".pub")
    text = beside.read_text("utf-8", "replace") if beside.is_file() else ""
    if not text:
        text = _keygen(["-y", "-f", str(key)], f"--key {key}")  # asks for the passphrase, where there is one
    found, comment = parse(text)
    if found is None or found.fingerprint not in listed:
        raise UsageError(f"--key {key}: {beside} is not its public key; remove or renew it")
    return found, comment


def parse(line: str) -> tuple[Key | None, str]:
    """Return the key of a ``.pub`` file's line, or None, and its comment."""
    words = line.split(maxsplit=2)
    try:
        return Key(words[0], base64.b64decode(words[1], validate=True)), words[2].strip() if len(words) > 2 else ""
    except (IndexError, binascii.Error, ValueError):
        return None, ""


def sign(data: bytes, key: Path) -> bytes:
    """Return an armoured signature. Raises UsageError; ssh-keygen asks for a passphrase on the terminal."""
    with _kept(data) as file:
        _keygen(["-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(file)], f"--key {key}")
        return file.with_name(f"{file.name}.sig").read_bytes()


def signer_of(signature: bytes) -> Key | None:
    """Return the key that an armoured signature says it was made with, or None where it is no signature."""
    lines = signature.decode("ascii", "replace").split("\n")
    if lines[:1] != ["-----BEGIN SSH SIGNATURE-----"] or "-----END SSH SIGNATURE-----" not in lines:
        return None
    try:
        blob = base64.b64decode("".join(lines[1 : lines.index("-----END SSH SIGNATURE-----")]), validate=True)
        (length,) = struct.unpack_from(">L", blob, 10)
        key = blob[14 : 14 + length]
        (name,) = struct.unpack_from(">L", key)
        return Key(key[4 : 4 + name].decode("ascii"), key) if blob.startswith(b"SSHSIG") else None
    except (binascii.Error, ValueError, struct.error):
        return None


def check(data: bytes, signature: bytes) -> str | None:
    """Say why a signature is not that of its own key over the data, or None. It says nothing about whose key it is."""
    with _kept(signature) as file:
        done = _run(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(file)], data)
    return None if done.returncode == 0 else _last(done)


def principal(data: bytes, signature: bytes, allowed: Path) -> tuple[str | None, str]:
    """Return who signed, by a file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS), or None and why not."""
    if not allowed.is_file():
        raise UsageError(f"--allowed-signers {allowed}: there is no such file")
    with _kept(signature) as file:
        found = _run(["-Y", "find-principals", "-s", str(file), "-f", str(allowed)], data)
        names = found.stdout.decode("utf-8", "replace").splitlines()
        if found.returncode != 0 or not names:
            return None, f"its key is not in {allowed}"
        done = found
        for name in names:
            done = _run(["-Y", "verify", "-f", str(allowed), "-I", name, "-n", NAMESPACE, "-s", str(file)], data)
            if done.returncode == 0:
                return name, ""
        return None, _last(done)


@contextmanager
def _kept(data: bytes) -> Iterator[Path]:
    """Keep data in a file for as long as the block lasts. Raises UsageError where there is no room for it."""
    try:
        with tempfile.TemporaryDirectory(prefix="channover-sign-") as folder:
            file = Path(folder) / "data"
            file.write_bytes(data)
            yield file
    except OSError as error:
        raise UsageError(f"{error.filename or tempfile.gettempdir()}: {error.strerror or error}") from None


def _keygen(arguments: list[str], what: str) -> str:
    done = _run(arguments, None)
    if done.returncode != 0:
        raise UsageError(f"{what}: {_last(done)}")
    return done.stdout.decode("utf-8", "replace")


def _run(arguments: list[str], data: bytes | None) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen", path=isolated.search_path())
    if program is None:
        raise UsageError("there is no ssh-keygen here: install the package openssh-client (OpenSSH 8.2 or later)")
    environment = isolated.environment(LC_ALL="C.UTF-8")
    patience = None if data is None else TIMEOUT  # whoever signs may be asked for a passphrase
    try:
        return subprocess.run(
            [program, *arguments], input=data or b"", capture_output=True, env=environment, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{program} took longer than {TIMEOUT:g} s to check a signature") from None
    except OSError as error:
        raise UsageError(f"{program}: {error.strerror or error}") from None


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and not line.startswith("@")]
    return said[-1] if said else f"ssh-keygen ended with code {done.returncode}"
