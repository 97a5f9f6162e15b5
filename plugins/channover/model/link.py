"""What Ethernet framing allows: from a link's rate to the goodput that an application can see.

A frame occupies its bytes on the wire and 24 more: preamble and start delimiter 8, frame check sequence 4, interframe
gap 12 (IEEE 802.3, clauses 3.1.1 and 4.4.2). With a 14-byte header that is 38 bytes around an MTU of payload. Rates
are bit/s, sizes bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from channover.errors import UsageError

ETHERNET_HEADER = 14
"""Destination, source and type: bytes that the kernel counts in a frame (IEEE 802.3, 3.1.1)."""
WIRE_OVERHEAD = 24
"""Preamble and start delimiter 8, frame check sequence 4, interframe gap 12: bytes that the kernel does not count."""
USUAL_MTU = 1500
"""Bytes of the largest packet of Ethernet as it was standardised (IEEE 802.3, 3.2.7)."""
IPV4_HEADER = 20
IPV6_HEADER = 40
VLAN_TAG = 4
"""What a frame of a VLAN bears behind its addresses (IEEE 802.1Q, 9.3)."""
UDP_HEADER = 8
ICMP_HEADER = 8
TCP_HEADER = 20
TCP_TIMESTAMPS = 12
"""Timestamp option, padded (RFC 7323, 3.2)."""
MPTCP_DSS = 24
"""Data Sequence Signal, padded: 4, data ACK 4, data sequence number 8, subflow's 4, length 2, no checksum (RFC 8684, 3.3)."""

OPENVPN_FRAMING = 2
"""The length before each packet on a TCP carrier without cipher, authentication and TLS (openvpn-2.6, socket.h)."""

_UNITS = {"": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def parse_rate(text: str) -> int:
    """Return the rate in bit/s that a text such as ``100mbit`` or ``2.5gbit`` names (the notation of ``tc(8)``).

    Raises UsageError where the text is no rate, or not between 1 Mbit/s and 800 Gbit/s (IEEE 802.3df).
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"'{text}' is not a rate: write a number and a unit, such as 100mbit, 1gbit or 2.5gbit")
    rate = float(match[1]) * _UNITS[match[2]]
    if not 10**6 <= rate <= 8 * 10**11:
        raise UsageError(f"'{text[:40]}' is not a rate that a lab can run: from 1mbit to 800gbit")
    return round(rate)


MTUS = range(1280, 16_001)
"""MTUs (bytes) that a lab can have: from what IPv6 needs (RFC 8200, 5) to what NICs with jumbo frames go to at most."""


def parse_mtu(text: str) -> int:
    """Return the MTU (bytes) that a text names, such as ``9000``. Raises UsageError."""
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) not in MTUS:
        raise UsageError(f"'{text[:40]}' is no MTU that a lab can have: write bytes, from {MTUS[0]} to {MTUS[-1]}")
    return int(text)


@dataclass(frozen=True)
class Link:
    """One Ethernet link: the rate of a cable (bit/s) and the MTU of its NICs (bytes)."""

    rate: int = 100_000_000
    mtu: int = USUAL_MTU
    ipv6: bool = False
    """Whether its packets are of IPv6, whose header is 20 bytes longer."""
    tagged: bool = False
    """Whether its frames bear the tag of a VLAN."""

    @property
    def around(self) -> int:
        """Bytes around a packet on the wire: 38, and 4 more with a VLAN's tag."""
        return ETHERNET_HEADER + WIRE_OVERHEAD + (VLAN_TAG if self.tagged else 0)

    @property
    def ip_header(self) -> int:
        """Bytes of the IP header of each packet."""
        return IPV6_HEADER if self.ipv6 else IPV4_HEADER

    def goodput(self, payload: int, packet: int) -> float:
        """Goodput (bit/s) of back-to-back packets of ``packet`` bytes (IP header included), ``payload`` of them data."""
        return self.rate * payload / (packet + self.around)

    @property
    def tcp_goodput(self) -> float:
        """Goodput (bit/s) of one TCP flow with timestamps: 1448/1538 of the rate at MTU 1500, 1428/1538 over IPv6."""
        return self.goodput(self.mtu - self.ip_header - TCP_HEADER - TCP_TIMESTAMPS, self.mtu)

    @property
    def mptcp_goodput(self) -> float:
        """Goodput (bit/s) that one path adds to an MPTCP connection: 1424/1538 of the rate at MTU 1500.

        It is 1404/1538 over IPv6. The DSS option rides in every segment (RFC 8684, 3.3) beside the timestamps: 24 bytes as
        Linux writes it, with a checksum or padding in its place (``net/mptcp/options.c``).
        """
        payload = self.mtu - self.ip_header - TCP_HEADER - TCP_TIMESTAMPS - MPTCP_DSS
        return self.goodput(payload, self.mtu)

    def tunnelled_tcp_goodput(self, paths: int) -> float:
        """Goodput (bit/s) of a TCP flow within OpenVPN, whose carrier is an MPTCP connection over so many ``paths``.

        The flow's packets have the MTU's size inside too, and each has the tunnel's framing before it.
        """
        inside = self.mtu - self.ip_header - TCP_HEADER - TCP_TIMESTAMPS
        return paths * self.mptcp_goodput * inside / (self.mtu + OPENVPN_FRAMING)

    @property
    def datagram(self) -> int:
        """The payload (bytes) of the usual datagram: 1470 over IPv4 at MTU 1500, as in the article; as near to other MTUs."""
        return self.mtu - self.ip_header - UDP_HEADER - 2

    def udp_goodput(self, datagram: int | None = None) -> float:
        """Goodput (bit/s) of UDP datagrams of ``datagram`` payload bytes: 1470/1536 of the rate for 1470 over IPv4.

        It is the usual datagram where none is given. Raises ValueError where it does not fit the MTU (it would be fragmented).
        """
        datagram = self.datagram if datagram is None else datagram
        packet = datagram + UDP_HEADER + self.ip_header
        if packet > self.mtu:
            raise ValueError(f"a datagram of {datagram} bytes makes a packet of {packet}, above the MTU of {self.mtu}")
        return self.goodput(datagram, packet)

    def counted(self, frame_rate: float) -> float:
        """Wire rate (bit/s) of full-size frames that NIC byte counters show as ``frame_rate`` (bit/s).

        Counters hold the Ethernet header and the packet, not the 24 bytes around them, nor a VLAN's tag.
        """
        return frame_rate * (self.mtu + self.around) / (self.mtu + ETHERNET_HEADER)
