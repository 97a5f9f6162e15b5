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
_OPTION, _STRIP = "tcp option mptcp exists", "reset tcp option mptcp"
_SYN, _SYN_ACK, _ELSE = "tcp flags & (syn | ack) == syn", "tcp flags & (syn | ack) == syn | ack", "tcp flags & syn == 0"
_CHECKSUMS = {(0, 24): 22, (2, 24): 22, (2, 28): 26}
"""Where an option has its checksum (byte), by its subtype and length: MP_CAPABLE with data, DSS with an acknowledgement of 4
and of 8 bytes (RFC 8684, 3.1 and 3.3; ``net/mptcp/options.c``). Without a checksum each is two bytes shorter."""


class Takes(Enum):
    """What a middlebox takes: a title, the ends (0 connects, 1 listens) at which it does, and of which segments how."""

    SYN = ("option of SYNs", (0,), ((f"{_SYN} {_OPTION}", _STRIP),))
    SYN_ACK = ("option of SYN-ACKs", (1,), ((f"{_SYN_ACK} {_OPTION}", _STRIP),))
    DATA = ("option behind SYNs", (0, 1), ((f"{_ELSE} {_OPTION}", _STRIP),))
    CHECKSUM = (
        "checksum",
        (0,),
        tuple(
            (
                f"{_ELSE} tcp option mptcp subtype {kind} tcp option mptcp length {length}",
                f"tcp option @30,{at * 8},16 set 0",
            )
            for (kind, length), at in _CHECKSUMS.items()
        ),
    )

    def __init__(self, title: str, ends: tuple[int, ...], rules: tuple[tuple[str, str], ...]) -> None:
        self.title, self.ends, self.rules = title, ends, rules


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
    rules = "".join(f'    oifname "{device}" {match} counter name met {act}\n' for match, act in takes.rules)
    chain = f"  chain c {{\n    type filter hook output priority mangle; policy accept;\n{rules}  }}"
    table = TableAdd(TABLE, f"  counter met {{ }}\n{chain}")
    return Plan.of(f"a middlebox at {device} takes: {takes.title}", [table])
