"""A middlebox on a path that does not know Multipath TCP: it takes the option out of segments, or spoils a checksum.

It is a table of nftables at both ends of the path, where packets leave: what the wire carries is what a box on it would let
through, and no host between them is needed. Sources: RFC 8684, 6 (what middleboxes were seen to do); M. Honda and others, "Is
it Still Possible to Extend TCP?" (IMC 2011); ``nft(8)``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.hosts.lab import CableEnd
from channover.model.operations.kernel import TableAdd
from channover.model.plan import Plan

TABLE = "channover_middlebox"
_STRIP = "reset tcp option mptcp"
_SYN, _SYN_ACK, _ELSE = "tcp flags & (syn | ack) == syn", "tcp flags & (syn | ack) == syn | ack", "tcp flags & syn == 0"
_SPOIL = "tcp option @30,176,16 set 0"
"""The two bytes behind 22 of a DSS option with a mapping, which are its checksum (RFC 8684, 3.3; ``net/mptcp/options.c``)."""


class Takes(Enum):
    """What a middlebox takes: a title, the ends (0 connects, 1 listens) at which it does, the segments, and how."""

    SYN = ("option of SYNs", (0,), f"{_SYN} tcp option mptcp exists", _STRIP)
    SYN_ACK = ("option of SYN-ACKs", (1,), f"{_SYN_ACK} tcp option mptcp exists", _STRIP)
    DATA = ("option behind SYNs", (0, 1), f"{_ELSE} tcp option mptcp exists", _STRIP)
    CHECKSUM = ("checksum", (0,), f"{_ELSE} tcp option mptcp subtype 2", _SPOIL)

    def __init__(self, title: str, ends: tuple[int, ...], match: str, act: str) -> None:
        self.title, self.ends, self.match, self.act = title, ends, match, act


@dataclass(frozen=True)
class Middlebox:
    """A middlebox that stands on a path: what it takes, and the hosts at which it does."""

    takes: Takes
    hosts: tuple[Host, ...] = field(repr=False)

    @property
    def met(self) -> int:
        """How many segments it has met so far. Raises TestbedError where somebody took it away."""
        return sum(map(_met, self.hosts))


def _met(host: Host) -> int:
    found = host.run("nft", "-j", "list", "table", "inet", TABLE, check=False, quiet=True)
    if found.returncode != 0:
        raise TestbedError(f"{host.name}: the middlebox is not there any more: {found.stderr.strip()[-200:]}")
    return sum(int(one["counter"]["packets"]) for one in json.loads(found.stdout)["nftables"] if "counter" in one)


@contextmanager
def standing(ends: Sequence[CableEnd], takes: Takes) -> Iterator[Middlebox]:
    """Have a middlebox stand between a client's device and a server's for the length of a block. Raises TestbedError."""
    chosen = [ends[number] for number in takes.ends]
    with ExitStack() as stack:
        for host, device in chosen:
            stack.enter_context(host.applied(_plan(device, takes)))
        yield Middlebox(takes, tuple(host for host, _ in chosen))


def _plan(device: str, takes: Takes) -> Plan:
    rule = f'oifname "{device}" {takes.match} counter name met {takes.act}'
    chain = f"  chain c {{\n    type filter hook output priority mangle; policy accept;\n    {rule}\n  }}"
    table = TableAdd(TABLE, f"  counter met {{ }}\n{chain}")
    return Plan.of(f"a middlebox at {device} takes: {takes.title}", [table])
