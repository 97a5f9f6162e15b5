"""Notes: what a statement survives, and a reader wants to know all the same. The test "passed, but …"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """One thing that was seen beside a verdict and does not touch it.

    ``id`` names its kind for programs (``retransmissions``), ``text`` is one line for people, with its figures. ``figures``
    are the same as numbers, by name, in bit/s, bytes, seconds, or as plain numbers and shares (0 to 1); one that is not
    finite is left out.
    """

    id: str
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(self.text.split()))
        finite = {name: float(value) for name, value in self.figures.items() if math.isfinite(value)}
        object.__setattr__(self, "figures", finite)


def once(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Return notes in their order, each text of a kind once: two flows of a test may see the same."""
    return tuple({(note.id, note.text): note for note in notes}.values())


# ------------------------------------------------------------------------------------------------------------- the rules

SHARE = 0.001
"""The share of segments sent again, of frames dropped, of datagrams out of order, from which a reader wants to know."""
UNEQUAL = 0.02
"""By how much of the faster one a path may be slower before a reader wants to know."""
FEWEST = 10
"""Fewer segments, frames or datagrams than this are no share of anything: a connection begins and ends with some."""


def retransmissions(what: str, counted: Mapping[str, tuple[int, int]]) -> Iterator[Note]:
    """Yield that segments were sent again during ``what``: TCP and MPTCP get there, but something lost or delayed them.

    ``counted`` are the segments that each host sent again, and all that it sent.
    """
    again, sent = (sum(numbers) for numbers in zip(*counted.values(), strict=True)) if counted else (0, 0)
    if sent and again >= FEWEST and again / sent > SHARE:
        worst = max(counted, key=lambda host: counted[host][0])
        among = f", of them {counted[worst][0]:,} by {worst}" if len(counted) > 1 else f" by {worst}"
        text = f"{what}: {again / sent:.2%} of the segments were sent again ({again:,} of {sent:,}{among})"
        yield Note("retransmissions", text, {"share": again / sent, "again": again, "sent": sent})


def unequal_paths(what: str, host: str, rates: Mapping[str, float]) -> Iterator[Note]:
    """Yield that the NICs of a host, all of them full, do not carry the same: ``rates`` (bit/s) by their labels."""
    if len(rates) < 2:
        return
    slow, fast = min(rates, key=lambda name: rates[name]), max(rates, key=lambda name: rates[name])
    if rates[slow] < (1 - UNEQUAL) * rates[fast]:
        text = f"{what}: {host}'s NIC {slow} carries {rates[slow] / 1e6:.1f} Mbit/s, and NIC {fast} {rates[fast] / 1e6:.1f}"
        yield Note("unequal-paths", text, {slow: rates[slow], fast: rates[fast]})


def dropped(what: str, host: str, nic: str, counted: Mapping[str, tuple[int, int]]) -> Iterator[Note]:
    """Yield what a NIC ``counted``, each with the frames that it is a part of: drops, of which few are no news, and errors."""
    for name, (number, frames) in counted.items():
        if number and ("error" in name or (number >= FEWEST and number > SHARE * frames)):
            text = f"{what}: {host}'s NIC {nic} counted {number:,} {name.replace('_', ' ')} beside {frames:,} frames"
            yield Note("drops", text, {name: number, "frames": frames})


def reordered(what: str, host: str, number: int, of: int) -> Iterator[Note]:
    """Yield that datagrams of one flow reached a host out of their order, which one link never does."""
    if of and number >= FEWEST and number > SHARE * of:
        text = f"{what}: {number / of:.2%} of the datagrams ({number:,} of {of:,}) reached {host} out of order"
        yield Note("reordering", text, {"share": number / of, "out_of_order": number})


def flapped(what: str, host: str, nic: str, changes: int) -> Note:
    """Return that a NIC's carrier came or went so often while ``what`` ran, though nobody pulled its cable."""
    return Note("carrier", f"{what}: the carrier of {host}'s NIC {nic} changed {changes} times", {"changes": changes})


def unlike_mtus(where: str, mtus: tuple[int, int]) -> Iterator[Note]:
    """Yield that both ends of a cable or a tunnel have MTUs (bytes) of their own."""
    if mtus[0] != mtus[1]:
        text = f"the ends of {where} have MTUs of {mtus[0]} and {mtus[1]} bytes"
        yield Note("mtu", text, {"one": mtus[0], "other": mtus[1]})
