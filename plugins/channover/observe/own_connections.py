"""Which of a host's connections are a measured flow's own, and whether those are MPTCP still.

Other programs' sockets count in the host's counters as well. A flow's are known by the TCP port of its server, which is on
one end or the other of each of its sockets. Source: ``net/mptcp/diag.c``, RFC 8684, 3.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from channover.observe.sockets import Subflow, parse_mptcp, parse_tcp


@dataclass(frozen=True)
class Own:
    """One connection at one host: its established TCP sockets, one or several, and whether the kernel lets it be MPTCP."""

    subflows: tuple[Subflow, ...]
    fallback: bool

    @property
    def moved(self) -> int:
        """Bytes that it has sent and received."""
        return sum(one.bytes_sent + one.bytes_received for one in self.subflows)

    @property
    def fell_back(self) -> str:
        """Say that it is MPTCP no more, or never was; or nothing."""
        first = self.subflows[0]
        if not first.mptcp:
            return f"{first} is a plain TCP socket"
        return f"{first} is a fallback" if self.fallback else ""


def own_connections(sections: Mapping[str, str], port: int, most: int) -> list[Own]:
    """Return the ``most`` connections of a port that moved most bytes, as a host's evidence tells.

    iperf3 has one more than it has streams: that one controls the others, and carries no data.
    """
    fallen = {one.token for one in parse_mptcp(sections.get("connections", "")) if one.fallback}
    found: dict[object, list[Subflow]] = {}
    for one in parse_tcp(sections.get("sockets", "")):
        if one.state == "ESTAB" and port in (one.source_port, one.destination_port):
            found.setdefault(one.token or one.pair, []).append(one)
    made = [Own(tuple(each), token in fallen) for token, each in found.items()]
    return sorted(made, key=lambda one: -one.moved)[:most]
