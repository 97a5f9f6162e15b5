"""OpenVPN point to point over one TCP connection, with neither TLS nor cipher nor authentication: the article's set-up.

Insecure on purpose, for an isolated lab only. ``disable-dco`` keeps the packets in the program, whose TCP socket
``mptcpize`` has turned into an MPTCP one; the kernel's data channel offload knows nothing of that.
Source: ``openvpn(8)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address, ip_interface
from signal import SIGCONT, SIGSTOP, SIGUSR1

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, each, until
from channover.model.inner_network import inner_network
from channover.model.link import USUAL_MTU
from channover.network.addressing import wait_usable
from channover.network.mptcp import MAX_EXTRA_SUBFLOWS
from channover.network.tunnel import MPTCPIZE, Tunnel, TunnelEnd, absent, wait_gone, wait_up
from channover.observe.sockets import subflows

PORT = 1200
DEVICE = "ptp"
ADDRESSES = {4: ("10.96.96.1", "10.96.96.2"), 6: ("fd00:96::1", "fd00:96::2")}
"""Addresses within the OpenVPN tunnel, client's and server's: the article's, and IPv6 ones of local use (RFC 4193)."""
BUFFER = 1 << 20
"""Socket buffers (bytes), a departure from the article: with the kernel's own first window over several subflows the
carrier stands still for seconds after its start (8 to 20 MPTCPRetrans), and nothing that is measured then holds. A host whose
connections begin with as large a receive buffer keeps that one, which grows besides (``tcp_rmem``, ``tcp(7)``)."""
READY = "Initialization Sequence Completed"
_LISTENING = "Listening for incoming TCP connection"
JOINING = 5.0
"""Seconds that the carrier's further subflows may take to join before the server goes on without them."""

_COMMON = """\
dev {device}
dev-type tun
persist-tun
port {port}
{addresses}
keepalive 10 120
cipher none
auth none
sndbuf {buffer}
verb 3
"""


def _configuration(role: str, device: str, port: int, here: str, there: str, options: tuple[str, ...]) -> str:
    if ip_address(here).version == 4:
        addresses = f"ifconfig {here} {there}"
    else:
        addresses = f"ifconfig-ipv6 {here}/{inner_network(here, there).prefixlen} {there}"
    lines = [_COMMON.format(device=device, port=port, addresses=addresses, buffer=BUFFER) + role, *options, ""]
    return "\n".join(lines)


def _options(host: Host) -> tuple[str, ...]:
    """Return the options that this build of OpenVPN needs and older ones do not know. Raises TestbedError from 2.7 on."""
    words = host.run("openvpn", "--version", check=False, quiet=True).stdout.split()
    if len(words) < 2:
        raise TestbedError(f"{host.name}: openvpn does not say its version: install openvpn 2.4 to 2.6")
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in words[1].split(".")[:2])
    if (major, minor) >= (2, 7):
        raise TestbedError(
            f"{host.name}: openvpn {words[1]} has no mode without TLS any more: install 2.6 for this tunnel"
        )
    return ("disable-dco",) if (major, minor) == (2, 6) else ()


def _receive_buffer(host: Host) -> tuple[str, ...]:
    """Return the option for the receive buffer, where this host's connections begin with a smaller one."""
    _, initial, _ = host.read("/proc/sys/net/ipv4/tcp_rmem").split()
    return () if int(initial) >= BUFFER else (f"rcvbuf {BUFFER}",)


def unmet(host: Host) -> str | None:
    """Say why a host's openvpn cannot make this tunnel, if so."""
    try:
        _options(host)
    except TestbedError as error:
        return str(error)
    return None


@contextmanager
def openvpn_tunnel(
    client: Host,
    server: Host,
    remote: str,
    *,
    mptcp: bool = True,
    bound_to: str | None = None,
    port: int = PORT,
    device: str = DEVICE,
    addresses: tuple[str, str] | None = None,
    mtu: int = USUAL_MTU,
    timeout: float = 20.0,
) -> Iterator[Tunnel]:
    """Run OpenVPN at both ends for the length of a block; the client names one address, ``remote``, and pins no source.

    ``addresses`` are the client's and the server's within the tunnel, else those of ``remote``'s family; ``mtu`` is bytes.
    ``bound_to`` is a device that the client binds its socket to (``SO_BINDTODEVICE``, from OpenVPN 2.6 on). Both have said that
    they are ready when the block starts. Raises TestbedError where one of them ends or is not ready within ``timeout`` seconds.
    """
    prefix = MPTCPIZE if mptcp else ()
    bind = f"\nbind-dev {bound_to}" if bound_to else ""
    version = ip_address(remote).version
    options = () if mtu == USUAL_MTU else (f"tun-mtu {mtu}",)
    near, far = addresses or ADDRESSES[version]
    running: list[Process] = []
    held = ExitStack()
    try:
        for host, role, here, there in (
            (server, f"proto tcp{version}-server" + ("" if mptcp else f"\nlocal {remote}"), far, near),
            (client, f"proto tcp{version}-client\nremote {remote}\nnobind\nconnect-retry 1 1{bind}", near, far),
        ):
            absent(host, device)
            path = f"{host.folder}/openvpn-{device}.conf"
            words = (*options, *_receive_buffer(host), *_options(host))
            host.write(path, _configuration(role, device, port, here, there, words))
            process = host.spawn(*prefix, "openvpn", "--config", path)
            running.append(process)
            if host is server:
                process.wait_for(_LISTENING, timeout)
                if mptcp:
                    held.enter_context(_held(process))
        if mptcp:
            _wait_joined(client, server, remote, port)
        held.close()
        network = inner_network(near, far)
        for host, process in ((server, running[0]), (client, running[1])):
            process.wait_for(READY, timeout)
            wait_up(host, device, (process,), timeout)
        at_server, at_client = running
        made = Tunnel(
            "openvpn",
            TunnelEnd(client, device, ip_interface(f"{near}/{network.prefixlen}"), at_client),
            TunnelEnd(server, device, ip_interface(f"{far}/{network.prefixlen}"), at_server),
            port,
        )
        for end in made.ends:
            wait_usable(end.host, end.address, device)
        yield made
    finally:
        held.close()
        for process in reversed(running):
            process.stop()
        for host in (client, server)[2 - len(running) :]:
            wait_gone(host, device, 3.0)


@contextmanager
def _held(process: Process) -> Iterator[None]:
    """Stop a server for the length of a block; its kernel goes on taking connections for it, and their subflows.

    OpenVPN looks once a second whether a client has come, takes it, and closes the socket that listens
    (``socket_listen_accept`` in ``src/openvpn/socket.c``). A JOIN that comes after that is refused, and the kernel does not
    try again: where the client connects just before the look, the carrier stays on one path for good.
    """
    process.signal(SIGSTOP)
    try:
        yield
    finally:
        process.signal(SIGCONT)


def restart(tunnel: Tunnel, remote: str, timeout: float = 30.0) -> None:
    """Have both programs give up the carrier and connect again, as when it was lost; the devices stay (``persist-tun``).

    ``remote`` is the server's address that the client asks for. The further subflows join before the server goes on, as at
    the first time. Raises TestbedError where they are not ready again within ``timeout`` seconds.
    """
    server, client = tunnel.server, tunnel.client
    times = {end.process.pid: end.process.stdout.count(READY) for end in tunnel.ends}
    listened = server.process.stdout.count(_LISTENING)
    client.process.signal(SIGUSR1)
    server.process.signal(SIGUSR1)
    server.process.wait_for(rf"(?s)(?:{_LISTENING}.*){{{listened + 1}}}", timeout)
    with _held(server.process):
        _wait_joined(client.host, server.host, remote, tunnel.port)
    for end in tunnel.ends:
        end.process.wait_for(rf"(?s)(?:{READY}.*){{{times[end.process.pid] + 1}}}", timeout)


def _wait_joined(client: Host, server: Host, remote: str, port: int) -> None:
    """Wait until both ends have each subflow that the endpoints ask for, ``JOINING`` seconds at most.

    What is missing then is for whoever looks at the tunnel to find.
    """
    here, there = each(lambda host: host.state().endpoints.values(), (client, server))
    heard = {remote, *(one.address for one in there if "signal" in one.flags)}
    asked = sum(len(heard) if "fullmesh" in one.flags else 1 for one in here if "subflow" in one.flags)
    wanted = min(max(asked, 1), 1 + MAX_EXTRA_SUBFLOWS)

    def has_joined(host: Host) -> bool:
        found = [one for one in subflows(host) if port in (one.source_port, one.destination_port)]
        return sum(one.mptcp and one.state == "ESTAB" for one in found) >= wanted

    with suppress(TestbedError):
        until(lambda: all(each(has_joined, (client, server))), f"{wanted} subflows of the carrier", JOINING, 0.1)


@contextmanager
def join_listener(tunnel: Tunnel, timeout: float = 10.0) -> Iterator[None]:
    """Keep the server answering JOINs on the carrier's port for the length of a block. Raises TestbedError.

    OpenVPN's point-to-point server stops listening once its client is there, and a JOIN (MP_JOIN, RFC 8684, 3.2) needs a
    listener: later ones stay in SYN-SENT, and the loop stays pending. The article's kernel took JOINs by their token
    alone. Any MPTCP listener on the port takes them for the connection that the token names; this one is iperf3's.
    """
    host, port = tunnel.server.host, tunnel.port
    process = host.spawn(*MPTCPIZE, "iperf3", "-s", f"-{tunnel.network.version}", "-p", str(port), "--forceflush")
    try:
        process.wait_for(r"Server listening", timeout)
        yield
    finally:
        process.stop()
