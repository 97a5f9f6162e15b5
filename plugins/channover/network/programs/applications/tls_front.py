"""TLS before a program that speaks TCP alone: stunnel at both ends, with a certificate of the lab's own (RFC 8446).

The client's end checks the server's certificate by the address that it asks for. Both ends listen on the loopback device
towards their programs. Sources: ``stunnel(8)``, ``openssl-req(1)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from channover.hosts.host import Host, Process
from channover.network.programs.file_servers import ANY, wait_listening
from channover.network.tunnel import MPTCPIZE

_COMMON = """\
foreground = yes
pid =
syslog = no
debug = info
sslVersionMin = TLSv1.2
"""
_SERVER = """\
[front]
accept = {any}:{port}
connect = 127.0.0.1:{inner}
cert = {folder}/front.pem
key = {folder}/front.key
"""
_CLIENT = """\
client = yes
[front]
accept = 127.0.0.1:{inner}
connect = {address}:{port}
CAfile = {folder}/front.pem
verifyChain = yes
checkIP = {address}
"""
_SESSION = re.compile(r"\b(TLSv1\.\d) ciphersuite: (\S+)")


@dataclass(frozen=True)
class TlsFront:
    """Both ends of a front that stand: what comes to ``inner`` (TCP port of the client's loopback) leaves at the server's."""

    client: Process
    server: Process
    inner: int

    @property
    def sessions(self) -> list[str]:
        """The protocol and cipher suite of each session that the client's end has made."""
        return [f"{match[1]} {match[2]}" for match in _SESSION.finditer(self.client.stderr)]


@contextmanager
def tls_front(
    client: Host, server: Host, address: str, port: int, ports: tuple[int, int], *, mptcp: bool, timeout: float = 10.0
) -> Iterator[TlsFront]:
    """Have TLS between two hosts, to ``port`` of the server's address, for the length of a block. Raises TestbedError.

    ``ports`` are those of the loopback: where the client's program connects, and where the server's listens.
    """
    subject = ["-subj", f"/CN={server.name}", "-addext", f"subjectAltName=IP:{address}", "-days", "2", "-nodes"]
    files = ["-keyout", f"{server.folder}/front.key", "-out", f"{server.folder}/front.pem"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    server.run("openssl", "req", "-x509", *key, *subject, *files)
    client.write(f"{client.folder}/front.pem", server.read(f"{server.folder}/front.pem"))
    ends = (
        (
            server,
            _SERVER.format(any=ANY[ip_address(address).version], port=port, inner=ports[1], folder=server.folder),
            port,
        ),
        (client, _CLIENT.format(port=port, inner=ports[0], folder=client.folder, address=address), ports[0]),
    )
    with ExitStack() as stack:
        started = []
        for host, settings, listened in ends:
            path = f"{host.folder}/front.conf"
            host.write(path, _COMMON + settings, 0o600)
            started.append(host.spawn(*(MPTCPIZE if mptcp else ()), "stunnel", path))
            stack.callback(started[-1].stop, 1.0)
            wait_listening(host, started[-1], listened, timeout)
        yield TlsFront(started[1], started[0], ports[0])
