"""A host's TCP sockets, MPTCP's subflows among them, and its MPTCP connections, as ``ss(8)`` shows them.

``ss -t`` lists a subflow as the TCP socket that it is, with ``tcp-ulp-mptcp`` among its details; ``ss -M`` lists the
connection above it. The connection's token is the second token of each of its subflows on the same host
(``MPTCP_SUBFLOW_ATTR_TOKEN_LOC`` in ``net/mptcp/diag.c``). Details that an older iproute2 or kernel does not print
are 0 or None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from channover.hosts.host import Host

Pair = tuple[str, str]
"""A source address and a destination."""

TCP_COMMAND = ("ss", "-tainH")
MPTCP_COMMAND = ("ss", "-MianH")
ROUTES_COMMAND = ("ip", "-j", "-force", "-batch", "-")

_HEAD = re.compile(r"([A-Z][A-Z0-9-]*) +(\d+) +(\d+) +(\S+) +(\S+)")
_TOKENS = re.compile(r"\btoken:([0-9a-f]+)\(id:(\d+)\)/([0-9a-f]+)\(id:(\d+)\)")
_FIELD = re.compile(r"(?:^|\s)([a-z_]+):(\S+)")
_CONGESTION = re.compile(r"^\s*([a-z][a-z0-9_-]*)(?= |$)")
_NOT_CONGESTION = frozenset(("ts", "sack", "ecn", "ecnseen", "fastopen", "tcp-ulp-mptcp", "app_limited"))


@dataclass(frozen=True)
class Subflow:
    """One TCP socket. Where ``mptcp`` is set, it is a subflow of an MPTCP connection (or listens for such).

    Addresses are plain: an IPv4-mapped one is given as IPv4, "any" as ``*``, 0.0.0.0 or ``::``. ``device`` is the NIC
    that the socket is bound to. ``bytes_acked`` counts the SYN too (``tcp_bytes_acked`` of RFC 4898 does not).
    """

    source: str
    source_port: int
    destination: str
    destination_port: int
    device: str | None
    state: str
    """As ss prints it: ESTAB, LISTEN, SYN-SENT, …"""
    mptcp: bool = False
    token: str | None = None
    """The connection's token on this host: what ``Connection.token`` says."""
    remote_token: str | None = None
    """The token that a JOIN asked for at the other host; None for the first subflow and where this host was asked."""
    local_id: int = 0
    remote_id: int = 0
    flags: str = ""
    """ss's letters: M m J j capable or join, seen by the remote and local side; B b backup; e fully established."""
    bytes_acked: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    bytes_retransmitted: int = 0
    retransmissions: int = 0
    """Segments sent again so far."""
    congestion_control: str | None = None
    cwnd: int = 0
    """Congestion window (segments)."""
    rtt: float = 0.0
    """Smoothed round trip (seconds)."""
    rtt_min: float = 0.0
    """The shortest round trip that it saw (seconds), its handshake's included (``tcpi_min_rtt``); 0 where none is told."""
    backoff: int = 0
    """Time-outs of it in a row, without an answer (``icsk_backoff``)."""
    unsent: int = 0
    """Bytes that wait in the socket."""
    receive_queue: int = 0
    send_queue: int = 0
    busy: float = 0.0
    """Seconds in which there was something to send (``tcpi_busy_time``)."""
    receiver_limited: float = 0.0
    """Seconds of these in which the receiver's window kept it back (``tcpi_rwnd_limited``)."""
    buffer_limited: float = 0.0
    """Seconds of these in which its own send buffer did (``tcpi_sndbuf_limited``)."""

    @property
    def pair(self) -> tuple[str, int, str, int]:
        """Both ends: what no other socket of this host has at the same time."""
        return self.source, self.source_port, self.destination, self.destination_port

    @property
    def listening(self) -> bool:
        """Whether it waits for connections."""
        return self.state == "LISTEN"

    @property
    def join(self) -> bool:
        """Whether it is an additional subflow (MP_JOIN, RFC 8684, 3.2)."""
        return "J" in self.flags or "j" in self.flags

    @property
    def backup(self) -> bool:
        """Whether either side asked for it to be used only when the others fail (RFC 8684, 3.3.8)."""
        return "B" in self.flags or "b" in self.flags

    def __str__(self) -> str:
        device = f"%{self.device}" if self.device else ""
        return (
            f"{_shown(self.source)}{device}:{self.source_port} → "
            f"{_shown(self.destination)}:{self.destination_port} {self.state}"
        )


@dataclass(frozen=True)
class Connection:
    """One MPTCP connection, or a socket that listens for such."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    state: str
    token: str | None = None
    fallback: bool = False
    """It has become a plain TCP connection (RFC 8684, 3.7)."""
    extra_subflows: int = 0
    """Subflows besides the first (``mptcpi_subflows``)."""
    subflows_max: int = 0
    add_addr_signal: int = 0
    add_addr_accepted: int = 0
    bytes_sent: int = 0
    """Bytes of the connection, kernel 6.5 and iproute2 6.5 onwards; 0 before."""
    bytes_received: int = 0
    receive_queue: int = 0
    send_queue: int = 0


def parse_tcp(text: str) -> tuple[Subflow, ...]:
    """Return the TCP sockets that ``ss -tainH`` printed. Raises ValueError where a line is no socket."""
    found = []
    for (state, receive, send, local, peer), detail in _records(text):
        source, device, source_port = _endpoint(local)
        destination, _, destination_port = _endpoint(peer)
        fields = dict(_FIELD.findall(detail))
        tokens = _TOKENS.search(detail)
        algorithm = _CONGESTION.match(_without_options(detail))
        found.append(
            Subflow(
                source,
                source_port,
                destination,
                destination_port,
                device,
                state,
                mptcp="tcp-ulp-mptcp" in detail,
                token=_token(tokens[3]) if tokens else None,
                remote_token=_token(tokens[1]) if tokens else None,
                local_id=int(tokens[4]) if tokens else 0,
                remote_id=int(tokens[2]) if tokens else 0,
                flags=fields.get("flags", ""),
                bytes_acked=int(fields.get("bytes_acked", 0)),
                bytes_received=int(fields.get("bytes_received", 0)),
                bytes_sent=int(fields.get("bytes_sent", 0)),
                bytes_retransmitted=int(fields.get("bytes_retrans", 0)),
                retransmissions=int(fields.get("retrans", "0/0").rpartition("/")[2]),
                congestion_control=algorithm[1] if algorithm else None,
                cwnd=int(fields.get("cwnd", 0)),
                rtt=float(fields.get("rtt", "0/0").partition("/")[0]) / 1000,
                rtt_min=float(fields.get("minrtt", 0)) / 1000,
                backoff=int(fields.get("backoff", 0)),
                unsent=int(fields.get("notsent", 0)),
                receive_queue=int(receive),
                send_queue=int(send),
                busy=_seconds(fields.get("busy", "")),
                receiver_limited=_seconds(fields.get("rwnd_limited", "")),
                buffer_limited=_seconds(fields.get("sndbuf_limited", "")),
            )
        )
    return tuple(found)


def parse_mptcp(text: str) -> tuple[Connection, ...]:
    """Return the MPTCP connections that ``ss -MianH`` printed. Raises ValueError where a line is no socket."""
    found = []
    for (state, receive, send, local, peer), detail in _records(text):
        source, _, source_port = _endpoint(local)
        destination, _, destination_port = _endpoint(peer)
        fields = dict(_FIELD.findall(detail))
        found.append(
            Connection(
                source,
                source_port,
                destination,
                destination_port,
                state,
                token=_token(fields["token"]) if "token" in fields else None,
                fallback="fallback" in detail.split(),
                extra_subflows=int(fields.get("subflows", 0)),
                subflows_max=int(fields.get("subflows_max", 0)),
                add_addr_signal=int(fields.get("add_addr_signal", 0)),
                add_addr_accepted=int(fields.get("add_addr_accepted", 0)),
                bytes_sent=int(fields.get("bytes_sent", 0)),
                bytes_received=int(fields.get("bytes_received", 0)),
                receive_queue=int(receive),
                send_queue=int(send),
            )
        )
    return tuple(found)


def subflows(host: Host) -> tuple[Subflow, ...]:
    """Return the host's TCP sockets, all states. Raises TestbedError."""
    return parse_tcp(host.run(*TCP_COMMAND, quiet=True).stdout)


def connections(host: Host) -> tuple[Connection, ...]:
    """Return the host's MPTCP connections, all states. Raises TestbedError."""
    return parse_mptcp(host.run(*MPTCP_COMMAND, quiet=True).stdout)


def route_questions(pairs: Iterable[Pair]) -> str:
    """Return the input of ``ROUTES_COMMAND`` that asks by which device packets leave (``ip-route(8)``, get)."""
    return "".join(f"route get {target} from {source}\n" for source, target in sorted(set(pairs)))


def parse_routes(text: str) -> dict[Pair, str]:
    """Return the device by which packets of each pair leave; one that the host has no way for is left out."""
    found = {}
    for line in text.splitlines():
        try:
            (entry,) = json.loads(line)
            found[str(entry["from"]), str(entry["dst"])] = str(entry["dev"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def departures(host: Host, flows: Iterable[Subflow]) -> dict[Pair, str]:
    """Return the device by which a host's sockets send, each by its addresses. Raises TestbedError."""
    pairs = {(one.source, one.destination) for one in flows if not one.listening}
    asked = host.run(*ROUTES_COMMAND, input=route_questions(pairs), check=False, quiet=True) if pairs else None
    return parse_routes(asked.stdout) if asked else {}


def _records(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each socket: its five columns, and the details on the line below it."""
    head: tuple[str, ...] | None = None
    for line in text.splitlines():
        if line[:1] in ("\t", " ") or not line:
            if head is not None:
                yield head, line.strip()
                head = None
            continue
        if head is not None:
            yield head, ""
        match = _HEAD.match(line)
        if match is None:
            raise ValueError(f"no socket in the answer of ss: {line[:200]!r}")
        head = match.groups()
    if head is not None:
        yield head, ""


def _endpoint(text: str) -> tuple[str, str | None, int]:
    """Return address, bound device and port of ``10.0.0.1%eth1:5201``, ``[::ffff:10.0.0.1]:5201``, ``*:*``."""
    address, _, port = text.rpartition(":")
    device = None
    if "%" in address:
        address, _, device = address.partition("%")
        device = device.rstrip("]")  # [fe80::1%eth1] as well as [fe80::1]%eth1
    address = address.strip("[]")
    if address.lower().startswith("::ffff:") and "." in address:
        address = address[7:]
    return address, device or None, 0 if port == "*" else int(port)


def _seconds(text: str) -> float:
    """Return a time as ``ss`` prints it, such as ``1234ms(12.3%)``, in seconds; 0 where there is none."""
    match = re.match(r"(\d+)ms", text)
    return int(match[1]) / 1000 if match else 0.0


def _token(text: str) -> str | None:
    """Return a token as ``ss -M`` prints it; zero is none."""
    return f"{int(text, 16):x}" if int(text, 16) else None


def _without_options(detail: str) -> str:
    """Return the details without the option words that ss prints before the name of the congestion control."""
    words = detail.split(" ")
    while words and words[0] in _NOT_CONGESTION:
        words.pop(0)
    return " ".join(words)


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
