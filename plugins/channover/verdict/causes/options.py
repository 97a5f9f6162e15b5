"""What of MPTCP's options did not get through, told by what the kernels at both ends counted."""

from __future__ import annotations

from collections.abc import Mapping


def options_lost(client: Mapping[str, int], server: Mapping[str, int]) -> tuple[str, ...]:
    """Say what of MPTCP was lost between a client and a server, by what both counted (RFC 8684, 3.7 and 6).

    A connection's own option is looked for first: what comes after it is lost with it. A JOIN that was never tried is not lost.
    Where a client's kernel does not count its tries (``MPJoinSynTx``, Linux 6.14), they are what it opened beside connections.
    """

    def at(end: Mapping[str, int], *names: str) -> int:
        return sum(end.get(f"MPTcpExt{name}", 0) for name in names)

    asked = at(client, "MPCapableSYNTX")
    if asked > at(server, "MPCapableSYNRX"):
        return ("MP_CAPABLE of SYNs",)
    if at(client, "MPCapableFallbackSYNACK"):
        return ("MP_CAPABLE of SYN-ACKs",)
    if any(at(end, "DataCsumErr") for end in (client, server)):
        return ("checksums of data",)
    found = []
    if any(at(end, *_BEHIND) for end in (client, server)):
        found.append("MP_CAPABLE or DSS behind SYNs")
    known = "MPTcpExtMPJoinSynTx" in client
    tried = at(client, "MPJoinSynTx") if known else max(client.get("TcpActiveOpens", 0) - asked, 0)
    came = at(server, "MPJoinSynRx")
    if tried > came:
        found.append("MP_JOIN of SYNs")
    elif came > at(client, "MPJoinSynAckRx"):
        found.append("MP_JOIN of SYN-ACKs")
    elif at(client, "MPJoinSynAckRx") > at(server, "MPJoinAckRx"):
        found.append("MP_JOIN or DSS behind SYNs")
    return tuple(found)


_BEHIND = ("MPCapableFallbackACK", "MPCapableDataFallback", "DssFallback", "DSSCorruptionFallback")
"""Counters of a connection that fell back after its SYNs."""
