"""OpenSSH on lab hosts: a server of the lab's own, a client that knows its key, and ``ssh -w``, a tunnel within SSH.

Nothing of the hosts' own SSH set-up takes part: keys, known hosts and configuration are made in the host's lab folder,
and the server's key is known to the client before the first connection, so that checking stays on. Sources:
``sshd(8)``, ``sshd_config(5)``, ``ssh_config(5)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from channover.hosts.host import Host, Process
from channover.model.link import USUAL_MTU
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.operations.routing import RouteAdd
from channover.model.plan import Plan
from channover.network.addressing import wait_usable
from channover.network.tunnel import MPTCPIZE, Tunnel, TunnelEnd, absent, wait_gone, wait_up

SSHD = "/usr/sbin/sshd"
PORT = 2222
CIPHER = "aes128-gcm@openssh.com"
"""The cipher that costs the least where the CPU has AES instructions; it also spares a separate MAC."""
ADDRESSES = {4: ("10.91.91.1/30", "10.91.91.2/30"), 6: ("fd00:91::1/124", "fd00:91::2/124")}
"""Addresses within the SSH tunnel, client's and server's: the article's, and IPv6 ones of local use (RFC 4193)."""

WINDOW = 1 << 18
"""The largest window (bytes) that TCP offers inside the tunnel. ``ssh -w`` sends one packet whenever it wakes up (OpenSSH,
``channel_output_poll_input_open`` in channels.c): what gathers in it while its socket is full does not drain. With windows of
3 MB 1,175 packets stood in it, a round trip took 12 s, and 0.5 of 10 Mbit/s were carried."""

_SERVER = """\
AddressFamily {family}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitTunnel yes
Compression yes
PrintMotd no
ClientAliveInterval 10
Ciphers {ciphers}
Subsystem sftp internal-sftp
"""

_CLIENT = """\
Host {name}
  HostName {address}
  Port {port}
  User root
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  HostKeyAlias {name}
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  Ciphers {cipher}
"""


@dataclass(frozen=True)
class SshServer:
    """An sshd on a host, listening on ``port`` (TCP) of every address of a version of IP."""

    host: Host
    port: int
    folder: str
    process: Process
    version: int = 4

    def sessions(self) -> int:
        """Return how many clients it has admitted so far."""
        return self.process.stderr.count("Accepted publickey")


@dataclass(frozen=True)
class SshLogin:
    """How a client host reaches a server: ``ssh -F config name``, and the same for ``sftp`` and ``scp``."""

    client: Host
    server: SshServer
    config: str
    name: str

    @property
    def options(self) -> tuple[str, ...]:
        """Options that ``ssh``, ``sftp`` and ``scp`` alike need before the name."""
        return ("-F", self.config)


def _key(host: Host, path: str) -> str:
    """Make a key pair on a host, once, and return its public half."""
    if host.run("test", "-s", f"{path}.pub", check=False, quiet=True).returncode != 0:
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"channover {host.name}", "-f", path)
    return " ".join(host.read(f"{path}.pub").split()[:2])


@contextmanager
def ssh_server(
    host: Host, port: int = PORT, *, mptcp: bool = True, version: int = 4, timeout: float = 10.0
) -> Iterator[SshServer]:
    """Run an sshd on a host for the length of a block. Raises TestbedError where it does not listen.

    With ``mptcp`` its listening socket is an MPTCP one, and so is every connection that comes as MPTCP.
    """
    folder = f"{host.folder}/sshd-{port}"
    host.run("mkdir", "-p", "-m", "700", folder, "/run/sshd", quiet=True)
    _key(host, f"{folder}/host_key")
    host.write(f"{folder}/authorized_keys", "", 0o600)
    ciphers = f"{CIPHER},aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr"
    values = {"port": port, "folder": folder, "ciphers": ciphers, "family": "inet6" if version == 6 else "inet"}
    host.write(f"{folder}/sshd_config", _SERVER.format(**values))
    prefix = MPTCPIZE if mptcp else ()
    process = host.spawn(*prefix, SSHD, "-D", "-e", "-f", f"{folder}/sshd_config")
    try:
        process.wait_for(r"Server listening on \S+ port", timeout)
        yield SshServer(host, port, folder, process, version)
    finally:
        process.stop()


def ssh_login(client: Host, server: SshServer, address: str, *, cipher: str = CIPHER) -> SshLogin:
    """Let a client host in as root: its key is authorised, the server's is known. Raises TestbedError.

    ``address`` is the one address of the server that the client will name.
    """
    name = f"{server.host.name}-{server.port}"
    folder = f"{client.folder}/ssh-{name}"
    client.run("mkdir", "-p", "-m", "700", folder, quiet=True)
    public = _key(client, f"{folder}/key")
    known = server.host.read(f"{server.folder}/authorized_keys")
    if public not in known:
        server.host.write(f"{server.folder}/authorized_keys", f"{known}{public}\n", 0o600)
    identity = " ".join(server.host.read(f"{server.folder}/host_key.pub").split()[:2])
    client.write(f"{folder}/known_hosts", f"{name} {identity}\n", 0o600)
    config = _CLIENT.format(name=name, address=address, port=server.port, folder=folder, cipher=cipher)
    client.write(f"{folder}/config", config)
    return SshLogin(client, server, f"{folder}/config", name)


@contextmanager
def ssh_tunnel(
    login: SshLogin,
    *,
    compression: bool = False,
    mptcp: bool = True,
    number: int = 0,
    addresses: tuple[str, str] | None = None,
    mtu: int = USUAL_MTU,
    timeout: float = 15.0,
) -> Iterator[Tunnel]:
    """Hold ``ssh -w`` open for the length of a block: device ``tun{number}`` at both ends, addressed and up.

    ``addresses`` are the client's and the server's, in prefix notation, else those of the server's family; ``mtu`` is bytes.
    Raises TestbedError where a device is there before, or does not appear within ``timeout`` seconds.
    """
    client, server = login.client, login.server.host
    size = None if mtu == USUAL_MTU else mtu
    device, inside = f"tun{number}", addresses or ADDRESSES[login.server.version]
    for host in (client, server):
        absent(host, device)
    process = client.spawn(
        *(MPTCPIZE if mptcp else ()),
        *("ssh", *login.options, "-N", "-T", "-w", f"{number}:{number}"),
        *("-o", f"Compression={'yes' if compression else 'no'}"),
        *("-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=10"),
        login.name,
    )
    try:
        holders = (process, login.server.process)
        for host, address, peer in zip((client, server), inside, inside[::-1], strict=True):
            wait_up(host, device, holders, timeout)
            steps = (
                LinkSet(device, up=True, mtu=size),
                AddressAdd(device, address),
                RouteAdd(str(ip_network(ip_interface(peer).ip)), device, window=WINDOW),
            )
            host.apply(Plan(f"address of {device}", steps))
            wait_usable(host, ip_interface(address), device)
        near, far = map(ip_interface, inside)
        yield Tunnel(
            "ssh",
            TunnelEnd(client, device, near, process),
            TunnelEnd(server, device, far, login.server.process),
            login.server.port,
        )
    finally:
        process.stop()
        if login.server.process.poll() is None:
            wait_gone(server, device, 3.0)
