"""Copies of one file by HTTP, FTP and SFTP, with the servers and clients that people use: nginx, vsftpd, OpenSSH, curl.

Each server runs on a host with a configuration of its own in the lab's folder, in the foreground, and ends with the
block. The file is sparse: zeros that take no memory and no disk, and no compression is offered. Copies go to
``/dev/null``. Sources: RFC 9110, RFC 959, draft-ietf-secsh-filexfer-02; ``vsftpd.conf(5)``, ``sftp(1)``, ``curl(1)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host, Process, until
from channover.network.ssh_tunnel import SshServer, ssh_login, ssh_server
from channover.network.tunnel import MPTCPIZE
from channover.observe.sockets import subflows
from channover.text import authority


class FileProtocol(Enum):
    """How a file is copied."""

    HTTP = "http"
    FTP = "ftp"
    SFTP = "sftp"


PORTS = {FileProtocol.HTTP: 8080, FileProtocol.FTP: 2121, FileProtocol.SFTP: 2022}
"""TCP ports of the servers: above 1023, so that they are free on a host with servers of its own."""

ANY = {4: "0.0.0.0", 6: "::"}
"""Every address of a host, by the version of IP."""
FILE = "copy.bin"

_NGINX = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    server {{
        listen {authority};
        root {folder}/files;
    }}
}}
"""
"""One process without a master: it changes no user, so it runs as root of a user namespace too.

``tcp_nopush`` stays off: over MPTCP a corked header waits 0.2 s before the file follows.
"""

_VSFTPD = """\
{listen}=YES
background=NO
{listen_address}={address}
listen_port={port}
run_as_launching_user=YES
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
write_enable=NO
anon_root={folder}/files
anon_world_readable_only=NO
ftp_username=root
nopriv_user=root
secure_chroot_dir={folder}/temporary
connect_from_port_20=NO
pasv_enable=YES
use_sendfile=YES
session_support=NO
xferlog_enable=NO
"""
"""Anonymous and read-only. It keeps its user and gives up chroot: the host is the lab's, and so is the file."""

_CURL_FORMAT = r"channover %{time_pretransfer} %{time_total} %{size_download}\n"


@dataclass(frozen=True)
class FileServer:
    """A server on a host, with one file of ``size`` bytes. ``address`` is what clients connect to."""

    host: Host
    protocol: FileProtocol
    address: str
    port: int
    path: str
    size: int
    process: Process
    mptcp: bool = False
    ssh: SshServer | None = None
    settings: str = ""
    """What the program was told besides its command line."""

    @property
    def url(self) -> str:
        """The file as a client names it."""
        path = self.path if self.protocol is FileProtocol.SFTP else f"/{FILE}"
        return f"{self.protocol.value}://{authority(self.address, self.port)}{path}"


@dataclass(frozen=True)
class Copy:
    """A copy that has ended: bytes, and seconds from the request for the file to its last byte.

    ``setup`` is what came before: connection, and login where there is one (seconds).
    """

    protocol: FileProtocol
    size: int
    seconds: float
    setup: float

    @property
    def goodput(self) -> float:
        """Bytes of the file in bit/s, set-up left out."""
        return self.size * 8 / self.seconds


@dataclass(frozen=True)
class Copying:
    """A copy under way."""

    client: Host
    server: FileServer
    process: Process
    command: tuple[str, ...]
    """The client's own command line."""

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.process.poll() is None

    def wait(self, timeout: float) -> Copy:
        """Wait for its end. Raises TestbedError where it fails, is incomplete, or takes over ``timeout`` (seconds)."""
        try:
            code = self.process.wait(timeout)
        except TestbedError:
            self.process.stop(1.0)
            raise
        result = self._sftp() if self.server.protocol is FileProtocol.SFTP else self._curl()
        if code != 0 or result is None or result.size != self.server.size:
            words = self.process.stderr.strip()[-400:] or f"{result.size if result else 0} bytes arrived"
            raise TestbedError(f"{self.client.name}: the copy of {self.server.url} failed with code {code}: {words}")
        return result

    def abandon(self) -> None:
        """End it where it still runs, whatever state it is in."""
        with suppress(TestbedError):
            self.process.stop(1.0)

    def _curl(self) -> Copy | None:
        found = re.search(r"^channover (\S+) (\S+) (\d+)", self.process.stdout, re.MULTILINE)
        if found is None:
            return None
        setup, total = float(found[1]), float(found[2])
        return Copy(self.server.protocol, int(found[3]), max(total - setup, 1e-6), setup)

    def _sftp(self) -> Copy | None:
        times = [int(found) / 1e9 for found in re.findall(r"^(\d{18,20})$", self.process.stdout, re.MULTILINE)]
        if len(times) != 3:
            return None
        begun, start, end = times
        return Copy(FileProtocol.SFTP, self.server.size, max(end - start, 1e-6), start - begun)


@contextmanager
def serve(
    host: Host,
    protocol: FileProtocol,
    address: str,
    size: int,
    *,
    port: int | None = None,
    mptcp: bool = False,
    timeout: float = 10.0,
) -> Iterator[FileServer]:
    """Serve a file of ``size`` bytes for the length of a block. Raises TestbedError where the server does not start.

    With ``mptcp`` the unchanged server runs under ``mptcpize`` and listens on every address, as
    additional subflows arrive at the others. FTP has no such choice (UsageError): vsftpd wants SO_OOBINLINE, which an
    MPTCP socket refuses (``net/mptcp/sockopt.c``), and it listens for data on its control connection's address only.
    """
    if mptcp and protocol is FileProtocol.FTP:
        raise UsageError("vsftpd cannot serve over MPTCP, whose sockets refuse SO_OOBINLINE: take http or sftp")
    port, version = port or PORTS[protocol], ip_address(address).version
    folder = f"{host.folder}/{protocol.value}-{port}"
    host.run("mkdir", "-p", f"{folder}/files", f"{folder}/temporary", quiet=True)
    path = f"{folder}/files/{FILE}"
    host.sparse(path, size)
    if protocol is FileProtocol.SFTP:
        with ssh_server(host, port, mptcp=mptcp, version=version, timeout=timeout) as ssh:
            yield FileServer(host, protocol, address, port, path, size, ssh.process, mptcp, ssh)
        return
    template = _NGINX if protocol is FileProtocol.HTTP else _VSFTPD
    config = f"{folder}/server.conf"
    settings = template.format(
        folder=folder,
        address=address,
        port=port,
        authority=authority(ANY[version] if mptcp else address, port),
        listen="listen_ipv6" if version == 6 else "listen",
        listen_address="listen_address6" if version == 6 else "listen_address",
    )
    host.write(config, settings, 0o600)
    command = ("vsftpd", config)
    if protocol is FileProtocol.HTTP:
        known = host.run("nginx", "-h", check=False, quiet=True)
        early = ("-e", "stderr") if " -e " in known.stdout + known.stderr else ()  # 1.18 has no such option
        command = ("nginx", *early, "-p", folder, "-c", config)
    process = host.spawn(*(MPTCPIZE if mptcp else ()), *command)
    try:
        wait_listening(host, process, port, timeout)
        yield FileServer(host, protocol, address, port, path, size, process, mptcp, settings=settings)
    finally:
        process.stop()


def start_copy(client: Host, server: FileServer, *, mptcp: bool | None = None) -> Copying:
    """Begin to copy the server's file to a client host. Raises TestbedError.

    ``mptcp`` makes the unchanged client speak MPTCP; without it the client does what the server does.
    """
    prefix = MPTCPIZE if (server.mptcp if mptcp is None else mptcp) else ()
    if server.ssh is None:
        command = ("curl", "-q", "-sS", "--noproxy", "*", "--fail", "-o", "/dev/null", "-w", _CURL_FORMAT, server.url)
        return Copying(client, server, client.spawn(*prefix, *command), command)
    login = ssh_login(client, server.ssh, server.address)
    batch = f"{client.folder}/sftp-{server.host.name}-{server.port}.batch"
    client.write(batch, f"!date +%s%N\nget {server.path} /dev/null\n!date +%s%N\n")
    sftp = ("sftp", *login.options, "-o", "Compression=no", "-b", batch, login.name)
    process = client.spawn("sh", "-c", 'date +%s%N; exec "$@"', "sh", *prefix, *sftp)
    return Copying(client, server, process, sftp)


def copy(client: Host, server: FileServer, timeout: float = 60.0, *, mptcp: bool | None = None) -> Copy:
    """Copy the server's file to a client host, to the end. Raises TestbedError; ``timeout`` is seconds."""
    return start_copy(client, server, mptcp=mptcp).wait(timeout)


def wait_listening(host: Host, process: Process, port: int, timeout: float) -> None:
    """Wait until a program listens on a TCP port of its host. Raises TestbedError where it ends first, or never does."""

    def ready() -> bool:
        return process.poll() is not None or any(one.listening and one.source_port == port for one in subflows(host))

    until(ready, f"{process.argv[0]} on {host.name} to listen on port {port}", timeout)
    if process.poll() is not None:
        words = (process.stderr or process.stdout).strip()[-400:]
        raise TestbedError(f"{host.name}: {process.argv[0]} ended with code {process.poll()}: {words}")
