"""The kernel's network counters of one host, and what MPTCP's counters say about fallbacks to TCP.

Read from ``/proc/net/netstat`` and ``/proc/net/snmp``, which belong to the reader's network namespace. Names are those
of ``nstat(8)``: section and counter in one word, such as ``MPTcpExtMPJoinSynRx`` (``net/mptcp/mib.c``). A kernel
leaves out what it does not know, so a counter that is absent reads as 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from channover.hosts.host import Host

FILES = ("/proc/net/netstat", "/proc/net/snmp")

FALLBACKS: Mapping[str, str] = {
    "MPCapableFallbackACK": "the client's third ACK carried no MP_CAPABLE",
    "MPCapableFallbackSYNACK": "the SYN+ACK carried no MP_CAPABLE: the server, or a middlebox, does not speak MPTCP",
    "MPCapableSYNTXDrop": "the SYN with MP_CAPABLE was lost again and again, so plain TCP was tried",
    "MPCapableSYNTXDisabled": "MPTCP was not tried: SYNs with MP_CAPABLE had been swallowed before",
    "MPCapableDataFallback": "data arrived without any MPTCP option at the start of the connection",
    "MPFallbackTokenInit": "the kernel could not make a token for the connection",
    "Blackhole": "a path was found to swallow SYNs with MP_CAPABLE",
    "DSSCorruptionFallback": "a DSS mapping was corrupt on a connection with one subflow",
    "DssFallback": "data arrived without a DSS mapping",
    "InfiniteMapTx": "this host announced an infinite mapping",
    "InfiniteMapRx": "the other host announced an infinite mapping",
    "MD5SigFallback": "TCP MD5 signatures leave no room for MPTCP's options",
    "SimultConnectFallback": "both hosts connected at once",
}
"""Counters of a fallback to TCP (RFC 8684, 3.7; ``net/mptcp/mib.h``) in words."""

REFUSALS: Mapping[str, str] = {
    "DataCsumErr": "a DSS checksum was wrong: something between the hosts rewrites the data",
    "DSSCorruptionReset": "a subflow was reset for a corrupt DSS mapping",
    "DSSNotMatching": "a new DSS mapping did not match the one before it",
    "DSSNoMatchTCP": "a DSS mapping did not fit TCP's sequence numbers",
    "MPJoinNoTokenFound": "a JOIN named a connection that this host does not have",
    "MPJoinSynAckHMacFailure": "the other host's JOIN answer failed its authentication",
    "MPJoinAckHMacFailure": "a JOIN failed its authentication",
    "MPJoinRejected": "a JOIN was refused: the limit of subflows is reached, or the address is not allowed",
    "MPJoinSynTxCreatSkErr": "a JOIN could not be made: no socket",
    "MPJoinSynTxBindErr": "a JOIN could not be made: its source address or NIC cannot be bound",
    "MPJoinSynTxConnectErr": "a JOIN could not be made: no route, or a firewall",
    "AddAddrDrop": "an announced address was not used: the limit of accepted addresses is reached",
    "MPFailRx": "the other host reported a failed checksum (MP_FAIL)",
    "FallbackFailed": "a fallback to TCP was due and no longer possible",
    "SubflowStale": "a subflow stood still and was left aside",
}
"""Counters of subflows that were refused or lost while the connection lived on, in words."""


@dataclass(frozen=True)
class Counters(Mapping[str, int]):
    """Counters by nstat's names. An unknown one is 0; ``a - b`` is what happened between b and a."""

    values_by_name: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.values_by_name.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def __contains__(self, name: object) -> bool:
        """Whether this kernel has such a counter."""
        return name in self.values_by_name

    def __sub__(self, before: Counters) -> Counters:
        return Counters({name: value - before[name] for name, value in self.values_by_name.items()})

    def changed(self, prefix: str = "") -> dict[str, int]:
        """Return the counters that are not 0 and whose names begin so (``MPTcpExt``: MPTCP's)."""
        return {name: value for name, value in self.values_by_name.items() if value and name.startswith(prefix)}


def parse_netstat(text: str) -> Counters:
    """Return the counters of ``/proc/net/netstat`` or ``/proc/net/snmp``, or both one after the other.

    Each section is two lines: names, then numbers. A pair that does not fit (a torn read) raises ValueError.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    found: dict[str, int] = {}
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        section, *keys = names.split()
        same, *values = numbers.split()
        if section != same or not section.endswith(":") or len(keys) != len(values):
            raise ValueError(f"no counters: {names[:80]!r} is not followed by as many numbers")
        found.update((section[:-1] + key, int(value)) for key, value in zip(keys, values, strict=True))
    if len(lines) % 2:
        raise ValueError(f"no counters: {lines[-1][:80]!r} has no numbers")
    return Counters(found)


def parse_nstat(text: str) -> Counters:
    """Return the counters in lines of a name and a number, as ``nstat`` prints them. Raises ValueError."""
    return Counters({name: int(value) for name, value in (line.split()[:2] for line in text.splitlines() if line)})


def counters(host: Host) -> Counters:
    """Read the host's counters now. Raises TestbedError."""
    return parse_netstat(host.run("cat", *FILES, quiet=True).stdout)


def fallback_reasons(before: Counters, after: Counters) -> tuple[str, ...]:
    """Say why connections of this host fell back to TCP between two readings: a phrase and its counter each."""
    return _said(FALLBACKS, before, after)


def refusal_reasons(before: Counters, after: Counters) -> tuple[str, ...]:
    """Say which subflows were refused or lost between two readings, and why: a phrase each, with the counter's name."""
    return _said(REFUSALS, before, after)


def _said(catalogue: Mapping[str, str], before: Counters, after: Counters) -> tuple[str, ...]:
    happened = after - before
    return tuple(
        f"{words} (MPTcpExt{name} {count:+d})"
        for name, words in catalogue.items()
        if (count := happened[f"MPTcpExt{name}"]) > 0
    )
