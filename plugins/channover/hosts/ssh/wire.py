"""What passes between two SSH programs before there is a connection: the first words, and the algorithms (RFC 4253).

Both are lost in paramiko's own errors, and both are what somebody who cannot log in has to know.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import paramiko

MOST = 64 * 1024
"""Bytes that a server may say before it names its protocol."""
FIELDS = (
    ("key exchange", "KexAlgorithms", "kex_algo_list", "kex"),
    ("host key algorithm", "HostKeyAlgorithms", "server_key_algo_list", "key_types"),
    ("cipher", "Ciphers", "server_encrypt_algo_list", "ciphers"),
    ("MAC", "MACs", "server_mac_algo_list", "digests"),
    ("compression", "Compression", "server_compress_algo_list", "compression"),
)
"""What is agreed on, the option of sshd_config(5) that lists it, and paramiko's names for both lists."""


class Wire(paramiko.Transport):  # type: ignore[misc]
    """A transport that keeps what the server says before it speaks SSH, and which algorithms it offers.

    ``kinds`` are the kinds of host key that are known of the server: they are asked for first, or a server with several keys
    would show one that nobody has vouched for (as ``order_hostkeyalgs()`` in OpenSSH's sshconnect2.c).
    """

    def __init__(self, sock: object, kinds: Sequence[str] = (), **options: object) -> None:
        super().__init__(sock, **options)
        self.heard = b""
        self.slow = False
        """Whether the time was over before the two had agreed."""
        self.offers: dict[str, list[str]] = {}
        security = self.get_security_options()
        first = [each for kind in kinds for each in _RSA.get(kind, (kind,)) if each in security.key_types]
        security.key_types = list(dict.fromkeys((*first, *security.key_types)))

    def _check_banner(self) -> None:
        packetizer: Any = self.packetizer
        read, end = packetizer._read_timeout, time.monotonic() + self.banner_timeout

        def heard(timeout: float) -> bytes:
            left = end - time.monotonic()
            if len(self.heard) > MOST or left <= 0:
                raise paramiko.SSHException("it says no end of words that are not SSH")
            data: bytes = read(min(timeout, left))
            self.heard += data
            return data

        packetizer._read_timeout = heard
        try:
            super()._check_banner()
        finally:
            packetizer._read_timeout = read

    def start_client(self, event: threading.Event | None = None, timeout: float | None = None) -> None:
        """Agree with the server on all that it takes. Raises SSHException."""
        super().start_client(event, timeout)
        self.slow = not self.initial_kex_done

    def _really_parse_kex_init(self, m: paramiko.Message, ignore_first_byte: bool = False) -> dict[str, Any]:
        parsed: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte)
        if not ignore_first_byte:  # else it is our own
            self.offers = {name: list(value) for name, value in parsed.items() if isinstance(value, list)}
        return parsed

    @property
    def words(self) -> str:
        """What the server said beside SSH, on one line."""
        before = re.split(r"^SSH-", self.heard[:4096].decode(errors="replace"), maxsplit=1, flags=re.MULTILINE)[0]
        text = "".join(sign if sign.isprintable() else "?" for sign in " ".join(before.split()))
        return text if len(text) <= 200 else f"{text[:199]}…"

    @property
    def spoke(self) -> bool:
        """Whether the server has named a version of SSH."""
        return re.search(rb"^SSH-", self.heard, re.MULTILINE) is not None

    def disagreement(self) -> tuple[str, str] | None:
        """Return what the two have no algorithm in common of, in words, and the remedy."""
        security = self.get_security_options()
        for what, option, theirs, ours in FIELDS:
            offered = [each for each in self.offers.get(theirs, ()) if not _SIGNS.match(each)]
            known = list(getattr(security, ours))
            if self.offers and not set(offered) & set(known):
                return (
                    f"no {what} in common: it offers {', '.join(offered) or 'none'}, and here there is {', '.join(known)}",
                    f"add one of these to {option} in its sshd_config"
                    + (" ('ssh-keygen -A' makes host keys)" if ours == "key_types" else ""),
                )
        return None


_RSA = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""One kind of key, three algorithms (RFC 8332)."""
_SIGNS = re.compile(r"ext-info-|kex-strict-")
"""What stands among the key exchanges and is none (RFC 8308)."""
