"""What a switch is asked with: a community (SNMP v2c) or a user (v3, RFC 3414), from a file or the environment.

The file has the form that net-snmp's programs read (``snmp.conf(5)``): ``defCommunity``, ``defSecurityName`` and so on.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from channover.errors import UsageError

PREFIX = "CHANNOVER_SNMP_"
FIELDS = {
    "defCommunity": "COMMUNITY",
    "defSecurityName": "USER",
    "defAuthType": "AUTH_TYPE",
    "defAuthPassphrase": "AUTH",
    "defPrivType": "PRIV_TYPE",
    "defPrivPassphrase": "PRIV",
    "defPassphrase": "PASSPHRASE",
}
"""Directives of the file, and the variables that stand for them where there is none."""
AUTH = ("MD5", "SHA", "SHA-224", "SHA-256", "SHA-384", "SHA-512")
PRIV = ("DES", "AES", "AES-192", "AES-256")
LIMIT = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """A community, or a v3 user with passphrases; ``source`` says where they are from. Only that is ever shown."""

    source: str
    community: str = field(default="", repr=False)
    user: str = ""
    auth: str = field(default="", repr=False)
    auth_type: str = "SHA"
    priv: str = field(default="", repr=False)
    priv_type: str = "AES"

    @property
    def version(self) -> str:
        """The version of SNMP that they are for."""
        return "v3" if self.user else "v2c"


def credentials(file: Path | None) -> Credentials:
    """Return what a file, or without one the environment, says. Raises UsageError: no word of a secret is repeated."""
    if file is None:
        values = {name: os.environ.get(PREFIX + variable, "") for name, variable in FIELDS.items()}
        source = "the environment"
        ways = f"{PREFIX}COMMUNITY (v2c) or {PREFIX}USER, {PREFIX}AUTH and {PREFIX}PRIV (v3)"
        missing = f"set {ways}, or name a file in snmp.config"
    else:
        values, source = _read(file), str(file)
        missing = "it needs defCommunity (v2c) or defSecurityName and defAuthPassphrase (v3), as in snmp.conf(5)"
    return _of(values, source, missing)


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as stream:
            text = stream.read(LIMIT).decode(errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; see snmp.config in the inventory") from None
    known = {name.lower(): name for name in FIELDS}
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            raise UsageError(f"{file}:{number}: a quotation mark is left open") from None
        if len(words) > 1 and words[0].lower() in known:
            found[known[words[0].lower()]] = words[1]
    return found


def _of(values: Mapping[str, str], source: str, missing: str) -> Credentials:
    def one(name: str, default: str = "") -> str:
        return values.get(name) or default

    user = one("defSecurityName")
    if not user:
        if not one("defCommunity"):
            raise UsageError(f"there is no community and no user for SNMP in {source}: {missing}")
        return Credentials(source, community=one("defCommunity"))
    auth_type, priv_type = one("defAuthType", "SHA").upper(), one("defPrivType", "AES").upper()
    for kind, known, option in ((auth_type, AUTH, "defAuthType"), (priv_type, PRIV, "defPrivType")):
        if kind not in known:
            raise UsageError(f"{source}: {option} is none of {', '.join(known)}")
    auth = one("defAuthPassphrase", one("defPassphrase"))
    priv = one("defPrivPassphrase", one("defPassphrase"))
    if priv and not auth:
        raise UsageError(f"{source}: SNMP v3 has no privacy without authentication: give defAuthPassphrase too")
    if any(0 < len(each) < 8 for each in (auth, priv)):
        raise UsageError(f"{source}: a passphrase of SNMP v3 has at least 8 characters (RFC 3414, 11.2)")
    return Credentials(source, user=user, auth=auth, auth_type=auth_type, priv=priv, priv_type=priv_type)
