"""The catalogue of behaviours: id, statement, source, the article's figure, and what a machine must have to show it.

The clauses of IEEE 802.1AX are those of the 2014 edition. "Article" is G. Gorrotxategi, "Warriors of the net: el IP
Channover Multipath TCP" (Irontec, 2016); its stages are 1 LACP, 2 Multipath TCP, 3 full IP over Multipath TCP. Rates
are bit/s.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from channover.errors import UsageError
from channover.model.registry import Register

ARTICLE_RATE = 1e8
"""Of the article's links, bit/s."""


@dataclass(frozen=True)
class Part:
    """A part of the catalogue: its title in reports, and the layer of the OSI model (ISO/IEC 7498-1) that it is about."""

    title: str
    layer: str


PARTS: Register[Part] = Register(
    "part",
    {
        "LAG": Part("Link aggregation (LACP)", "2 data link"),
        "MP": Part("Multipath TCP", "4 transport"),
        "TUN": Part("Full IP over Multipath TCP", "3 network"),
        "APP": Part("Applications over Multipath TCP", "7 application"),
    },
)
"""Parts of the catalogue by what their behaviours' ids begin with."""


@dataclass(frozen=True)
class Behaviour:
    """One documented behaviour of aggregated links: ``Behaviour("ACME-1", statement, source, needs=("lag",))``.

    ``id`` is the name of a part and a number, ``statement`` what is so where the behaviour is there, ``source`` the document
    that says so. ``article`` is the article's figure in bit/s, None where it gives none; ``article_note`` is what it says,
    in words.
    ``article_paths`` is the number of paths that the figure was taken with, where the behaviour's tests differ in it.
    ``epic``, ``feature`` and ``story`` place it in the report's behaviour tree. ``needs`` says what hosts must be able
    to do: ``lag`` (a driver for LAGs) or a name in :mod:`channover.targets.capabilities`. Without ``feature`` the behaviour
    stands under its id in the tree, without ``story`` under its statement.
    """

    id: str
    statement: str
    source: str
    article: float | None = None
    article_note: str = ""
    feature: str = ""
    story: str = ""
    needs: tuple[str, ...] = ()
    article_paths: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "feature", self.feature or self.id)
        object.__setattr__(self, "story", self.story or self.statement)

    def measured_with(self, paths: int, rate: float) -> Behaviour:
        """Return it as a test of so many paths of a rate (bit/s) states it: the article's figure only beside its like.

        The article's links were of 100 Mbit/s.
        """
        alike = rate == ARTICLE_RATE and self.article_paths in (None, paths)
        return self if alike else replace(self, article=None)

    @property
    def part(self) -> Part:
        """The part of the catalogue that the behaviour belongs to, by its id."""
        return PARTS[self.id.partition("-")[0]]

    @property
    def epic(self) -> str:
        """The title of its part."""
        return self.part.title


_PATHS = ("iperf3", "mptcp", "mptcp-iperf3", "policy-routing")
_TUNNELLED = ("iperf3", "mptcp", "mptcpize", "policy-routing", "tun")

_ALL = (
    Behaviour(
        "LAG-1",
        "one TCP flow over a two-link LACP LAG rides one link",
        "IEEE 802.1AX-2014, 6.2.1 and 6.2.4 (Frame Distributor: a conversation keeps to one link); article, stage 1",
        94.3e6,
        "94.3 Mbit/s: iperf, one TCP flow, 60 s",
        "One flow, one link",
        "TCP",
        ("iperf3", "lag"),
    ),
    Behaviour(
        "LAG-2",
        "one UDP flow over a LACP LAG rides one link, offered ten times more",
        "IEEE 802.1AX-2014, 6.2.1 and 6.2.4 (Frame Distributor: a conversation keeps to one link); article, stage 1",
        95.7e6,
        "95.7 Mbit/s received of 1000 offered: iperf, one UDP flow, 10 s",
        "One flow, one link",
        "UDP, overloaded",
        ("iperf3", "lag"),
    ),
    Behaviour(
        "LAG-3",
        "one NIC of a LAG carries a flow, the other only LACP frames",
        "IEEE 802.1AX-2014, 6.2.4 (Frame Distributor) and 6.4 (LACP); article, stage 1",
        None,
        "eth3 all, eth4 only LACP frames",
        "One flow, one link",
        "Bytes per NIC",
        ("iperf3", "tcpdump", "lag"),
    ),
    Behaviour(
        "LAG-4",
        "LACP has converged: one aggregator, two ports, one LAG ID seen from both ends, both collecting and distributing",
        "IEEE 802.1AX-2014, 6.3.5 (keys), 6.3.6 (LAG ID), 6.4.14 (Selection Logic), 6.4.15 (Mux machine); article, stage 1",
        None,
        "bond0 status: aggregator 1, two ports, actor key 9 = partner key 9",
        "Negotiation",
        "Converged state",
        ("lag",),
    ),
    Behaviour(
        "LAG-5",
        "one flow over a LAG keeps one link's rate over a long run: no drift, no second without it, and the other link carries "
        "LACP frames alone",
        "IEEE 802.1AX-2014, 6.2.4 (Frame Distributor); article, stage 1",
        94.2e6,
        "94.2 Mbit/s, flat over 1200 s",
        "One flow, one link",
        "Long run",
        ("iperf3", "tcpdump", "lag"),
    ),
    Behaviour(
        "LAG-6",
        "behind two switches, one file copy by HTTP, FTP or SFTP stays within one link",
        "IEEE 802.1AX-2014, 6.2.4 (Frame Distributor); article, stage 1, first sketch",
        None,
        "never above 100 Mbit/s (stated, not measured)",
        "Behind switches",
        "One file copy",
        ("lag", "http", "ftp", "openssh"),
    ),
    Behaviour(
        "LAG-7",
        "many hosts behind the switches fill the LAG",
        "IEEE 802.1AX-2014, 6.2.1 (load sharing) and 6.2.4 (Frame Distributor); article, stage 1, second sketch",
        200e6,
        "nears 200 Mbit/s in total (stated, not measured)",
        "Behind switches",
        "Many hosts",
        ("iperf3", "lag"),
    ),
    Behaviour(
        "LAG-8",
        "a lost link's flows move to a LAG's other link within the timers of carrier and LACP, and it carries flows again when "
        "it is back, without a loss",
        "IEEE 802.1AX-2014, 6.4.4 (timers), 6.4.12 (Receive machine), 6.4.15 (Mux machine); kernel, networking/bonding "
        "(miimon, downdelay)",
        None,
        "",
        "Failover",
        "A link lost and restored",
        ("python", "tcpdump", "lag"),
    ),
    Behaviour(
        "LAG-9",
        "the transmit hash policy decides: layer2 keeps two hosts on one link (for each version of IP), layer3+4 spreads, "
        "each flow where the hash says",
        "kernel, networking/bonding (xmit_hash_policy); IEEE 802.1AX-2014, 6.2.4 (Frame Distributor)",
        None,
        "",
        "Distribution",
        "Transmit hash policy",
        ("python", "tcpdump", "lag"),
    ),
    Behaviour(
        "LAG-10",
        "unlike partners: a LAG forms where one end is active and not where both are passive, and a member that does not "
        "belong stays out",
        "IEEE 802.1AX-2014, 6.4.1 (LACP_Activity), 6.3.5 (keys) and 6.4.14 (Selection Logic); UNH-IOL, Link Aggregation "
        "interoperability, groups 1 and 2",
        None,
        "",
        "Negotiation",
        "Unlike partners",
        ("python", "tcpdump", "lag"),
    ),
    Behaviour(
        "MP-1",
        "MPTCP over two paths passes one link; over three, nearly three",
        "RFC 8684, 2.2 and 3.2 (subflows), 3.3 (data over all of them); RFC 6182, 2.1 (throughput); article, stage 2",
        279e6,
        "279 Mbit/s: iperf, one TCP connection, three NICs, 10 s",
        "Aggregation",
        "The sum of the paths",
        _PATHS,
        article_paths=3,
    ),
    Behaviour(
        "MP-2",
        "the full mesh of three NICs is nine subflows, fewer where a limit says so; a port that is announced is joined too",
        "RFC 8684, 3.2 (MP_JOIN) and 3.4.1 (ADD_ADDR); ip-mptcp(8), fullmesh; article, stage 2",
        None,
        "9 subflows",
        "Subflows",
        "Full mesh",
        _PATHS,
    ),
    Behaviour(
        "MP-3",
        "an application over MPTCP is unchanged and names one address",
        "RFC 6182, 2.2.1 (application compatibility); mptcpize(8); article, stage 2",
        None,
        "iperf, unchanged, to 10.93.93.2",
        "Subflows",
        "Unchanged application",
        ("mptcp", "mptcpize", "policy-routing", "http"),
    ),
    Behaviour(
        "MP-4",
        "with multipath off on every NIC, an MPTCP connection gets one link",
        "RFC 8684, 3.1 (a connection of one subflow); ip-mptcp(8), endpoint; article, stage 2",
        93.0e6,
        "93.0 Mbit/s: multipath off on every NIC, 10 s",
        "Aggregation",
        "Multipath off",
        _PATHS,
    ),
    Behaviour(
        "MP-5",
        "an MPTCP backup path carries nothing until the others fail",
        "RFC 8684, 2.5, 3.2 (B flag) and 3.3.8 (Subflow Policy); ip-mptcp(8), backup; article, stage 2",
        None,
        "multipath backup",
        "Path control",
        "Backup path",
        (*_PATHS, "python"),
    ),
    Behaviour(
        "MP-6",
        "source rules are what makes the second path carry bytes: without them it joins and stays idle",
        "ip-rule(8); RFC 1122, 3.3.4.2 (multihoming); article, stage 2",
        None,
        "one routing table per NIC and `ip rule add from`",
        "Path control",
        "Source rules",
        _PATHS,
    ),
    Behaviour(
        "MP-7",
        "one MPTCP connection fills all NICs at once, on both hosts, with checksums of its own too",
        "RFC 8684, 3.3 (data over all subflows); article, stage 2",
        None,
        "all three NICs full (bmon)",
        "Aggregation",
        "Bytes per NIC",
        _PATHS,
    ),
    Behaviour(
        "MP-8",
        "a middlebox that strips or spoils MPTCP makes a connection fall back to TCP, or do without its path, and this is said",
        "RFC 8684, 3.7 (Fallback) and 6 (Interactions with Middleboxes)",
        None,
        "",
        "Path control",
        "Fallback",
        (*_PATHS, "nftables"),
    ),
    Behaviour(
        "MP-9",
        "a path lost and restored in mid-transfer: the others carry on, nothing is lost, and it is used again",
        "RFC 8684, 3.3.6 (Reliability and Retransmissions); RFC 6182, 2.1 (resilience); RFC 6298, 5 (retransmission timer)",
        None,
        "",
        "Path control",
        "A path lost and restored",
        (*_PATHS, "python"),
    ),
    Behaviour(
        "MP-10",
        "paths of unlike rates or delays give one connection their sum, each its share",
        "RFC 6182, 2.1 (throughput); RFC 6356, 2 (goals of coupled congestion control)",
        None,
        "",
        "Aggregation",
        "Unequal paths",
        _PATHS,
    ),
    Behaviour(
        "MP-11",
        "MPTCP over IPv6 gives the sum of the paths; an IPv6 connection takes an IPv4 path as well, an IPv4 one no IPv6 path",
        "RFC 8684, 3.2 and 3.4.1 (addresses of either family); kernel, net/mptcp/pm_netlink.c (an IPv4 socket uses no IPv6 "
        "endpoint)",
        None,
        "",
        "Subflows",
        "IPv6 and mixed families",
        (*_PATHS, "ipv6"),
    ),
    Behaviour(
        "TUN-1",
        "`ssh -w` over MPTCP carries any IP; compression's cost is shown",
        "ssh(1), -w; OpenSSH PROTOCOL, 2.3 (tun@openssh.com); article, stage 3, round 1",
        None,
        "a few Mbit/s, bound by CPU",
        "Tunnels",
        "ssh -w",
        (*_TUNNELLED, "openssh", "ping"),
    ),
    Behaviour(
        "TUN-2",
        "OpenVPN over TCP without cipher, over MPTCP, carries any IP, and has every path again when it connects again",
        "openvpn(8), --proto tcp-server, --cipher none; article, stage 3, round 2",
        None,
        "works; poor until the loop is kept out",
        "Tunnels",
        "OpenVPN over TCP",
        (*_TUNNELLED, "openvpn", "ping"),
    ),
    Behaviour(
        "TUN-3",
        "the tunnel loop is detected and named, in every form and by every way into it",
        "RFC 8684, 3.2 and 3.4.1 (any address may start or take a subflow); article, stage 3, round 2",
        None,
        "5 of 9 subflows run through the tunnel's own addresses",
        "The loop",
        "Detection",
        (*_TUNNELLED, "openvpn"),
    ),
    Behaviour(
        "TUN-4",
        "a guard keeps the loop out, and the rate comes back",
        "nft(8), tcp option mptcp and reject; network_namespaces(7); article, stage 3, round 3",
        None,
        "OUTPUT, source 10.96.96.1, TCP port 1200: REJECT",
        "The loop",
        "Guards",
        (*_TUNNELLED, "openvpn", "nftables", "ping"),
    ),
    Behaviour(
        "TUN-5",
        "UDP through the tunnel passes one link",
        "RFC 8684, 3.3 (the carrier's data over all subflows); article, stage 3, round 3",
        156e6,
        "156 Mbit/s received of 302 offered, 47 % lost",
        "Aggregation",
        "UDP",
        (*_TUNNELLED, "openvpn"),
    ),
    Behaviour(
        "TUN-6",
        "UDP through the tunnel to a host beyond its far end passes one link",
        "RFC 1812, 5.2 (forwarding); article, stage 3, round 3",
        156e6,
        "156 Mbit/s, measured to 10.10.0.201 beyond the far end",
        "Aggregation",
        "UDP to a host beyond",
        (*_TUNNELLED, "openvpn", "ping"),
    ),
    Behaviour(
        "TUN-7",
        "TCP, UDP, ICMP and other IP protocols cross the tunnel unchanged",
        "RFC 791, 3.1 (protocol, checksum); RFC 792; article, stage 3",
        None,
        '"full IP"',
        "Tunnels",
        "Any IP protocol",
        (*_TUNNELLED, "openvpn", "openssh", "ping", "python"),
    ),
    Behaviour(
        "APP-1",
        "roaming: a download over MPTCP outlives the path that it comes by, whole and after a measured gap; over TCP it "
        "stands still as long as its path is away",
        "RFC 8684, 3.3.6 (Reliability and Retransmissions); RFC 6182, 2.1 (resilience); article, closing remarks",
        None,
        "3G and WiFi, named as a use",
        "Roaming",
        "A path dies in mid-transfer",
        ("mptcp", "mptcpize", "policy-routing", "http", "python"),
    ),
    Behaviour(
        "APP-2",
        "SIP over TCP and over TLS, over MPTCP, keeps all its calls through the loss of a path, and loses most without MPTCP",
        "RFC 3261, 18 (Transport) and 26.2.1 (TLS); RFC 8684, 3.3.6; article, closing remarks",
        None,
        "promised as the next experiment",
        "Telephony",
        "SIP through the loss of a path",
        ("mptcp", "mptcpize", "policy-routing", "sip", "tls"),
    ),
    Behaviour(
        "APP-3",
        "a stream above one link's rate, live or on demand, plays without a stall over MPTCP and crosses a tunnel by RTP "
        "without loss; without MPTCP it stalls, and comes too late",
        "RFC 8216 (HTTP Live Streaming), 6.3; RFC 3550, A.3 (packets lost); RFC 8684, 3.3; article, a reader's question",
        None,
        "asked by a reader",
        "Streaming",
        "No stall above one link's rate",
        ("mptcp", "mptcpize", "policy-routing", "http", "ffmpeg", "python", "tun", "openvpn"),
    ),
)

CATALOGUE: Register[Behaviour] = Register("behaviour", {entry.id: entry for entry in _ALL})
"""Every behaviour by its id, in the order in which reports show them."""
_PART = re.compile(r"[A-Z][A-Z0-9]*")
_ID = re.compile(r"([A-Z][A-Z0-9]*)-[1-9][0-9]*")


def add_part(name: str, part: Part) -> None:
    """Add a part of another package to the catalogue. Raises UsageError where it cannot be one."""
    if not _PART.fullmatch(name):
        raise UsageError(f"part '{name}': a part is named by capital letters and digits, as in ACME")
    for what in ("title", "layer"):
        _require_text(f"part '{name}'", what, getattr(part, what))
    PARTS.add(name, part)


def add_behaviour(entry: Behaviour) -> None:
    """Add a behaviour of another package to the catalogue. Raises UsageError where it cannot be one.

    What it needs is looked at when a test states it: its capabilities may be registered later.
    """
    if not isinstance(entry, Behaviour):
        raise UsageError(f'behaviour: {entry!r} is none; write Behaviour("ACME-1", statement, source)')
    named = _ID.fullmatch(entry.id) if isinstance(entry.id, str) else None
    if named is None:
        raise UsageError(f"behaviour '{entry.id}': an id is a part, a hyphen and a number, as in ACME-1")
    if named[1] not in PARTS:
        raise UsageError(f"behaviour '{entry.id}': there is no part '{named[1]}'; add it before, with behaviours.part")
    where = f"behaviour '{entry.id}'"
    for what in ("statement", "source", "feature", "story"):
        _require_text(where, what, getattr(entry, what))
    if not isinstance(entry.article_note, str):
        raise UsageError(f"{where}: article_note must be a text, not {entry.article_note!r}")
    if entry.article is not None and not isinstance(entry.article, (int, float)):
        raise UsageError(f"{where}: article must be a rate in bit/s, not {entry.article!r}")
    if not isinstance(entry.needs, tuple) or not all(isinstance(need, str) for need in entry.needs):
        raise UsageError(f'{where}: needs must be a tuple of names, as in ("lag",), not {entry.needs!r}')
    CATALOGUE.add(entry.id, entry)


def _require_text(where: str, what: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {what} must be a text that is not empty, not {value!r}")


def behaviour(identifier: str) -> Behaviour:
    """Return the behaviour of that id. Raises UsageError, naming near ids, where the catalogue has none."""
    found = CATALOGUE.get(identifier)
    if found is not None:
        return found
    near = difflib.get_close_matches(identifier.upper().replace("_", "-"), CATALOGUE, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(CATALOGUE)}"
    raise UsageError(f"no behaviour '{identifier}' in the catalogue: {hint}")
