"""What iperf3 prints: a receiver's slices as it measures them, and a client's report at its end."""

from __future__ import annotations

import contextlib
import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

SLICE = 0.1
"""Length of one of the receiver's slices, in seconds: the shortest that iperf3 offers."""
_SLICE = re.compile(
    r"^\[\s*(?P<id>\d+|SUM)\]\s+(?P<start>[\d.]+)-(?P<end>[\d.]+)\s+sec\s+(?P<moved>[\d.]+) (?P<prefix>[KMGT]?)Bytes"
    r"\s+(?P<rate>[\d.]+) Kbits/sec"
    r"(?:\s+(?P<jitter>[\d.]+) ms\s+(?P<lost>-?\d+)/(?P<total>\d+)[^r]*)?\s*(?P<role>receiver|sender)?\s*$"
)


@dataclass(frozen=True)
class Slice:
    """What the receiver got in one slice: times in seconds since its start, rate in bit/s, bytes moved, datagrams of UDP.

    iperf3 prints times to 10 ms and bytes to three digits: the rate is what it knows best.
    """

    start: float
    end: float
    rate: float
    moved: float
    lost: int = 0
    total: int = 0
    jitter: float = 0.0


def parse_slices(text: str, streams: int = 1, before: Sequence[Slice] = ()) -> list[Slice]:
    """Return the slices that a server's output (``-i 0.1 -f k``) holds; the closing summary is none of them.

    ``before`` are those of the output that came before this text, whole lines of it; they come first in what is returned.
    """
    wanted = "SUM" if streams > 1 else None
    found = list(before)
    for line in text.splitlines():
        match = _SLICE.match(line)
        if match is None or match["role"] or (wanted and match["id"] != wanted):
            continue
        start, end = float(match["start"]), float(match["end"])
        if found and start <= found[-1].start:  # at the end iperf3 repeats its last slice
            continue
        found.append(
            Slice(
                start,
                end,
                float(match["rate"]) * 1e3,
                float(match["moved"]) * 1024 ** " KMGT".index(match["prefix"] or " "),
                int(match["lost"] or 0),
                int(match["total"] or 0),
                float(match["jitter"] or 0) / 1e3,
            )
        )
    return found


def even_rates(slices: Sequence[Slice]) -> list[float]:
    """Return the rates (bit/s) in equally long slices, of SLICE seconds.

    A receiver that had to wait for a processor has a long slice with little in it, then a short one with all that had
    come meanwhile: their mean, as they stand, would be above the wire's rate.
    """
    if all(SLICE / 2 < one.end - one.start < SLICE * 2 for one in slices):
        return [one.rate for one in slices]
    ends = [0.0, *(one.end for one in slices)]
    moved = [0.0, *accumulate(one.moved for one in slices)]

    def until(moment: float) -> float:
        after = bisect_right(ends, moment)
        if after == len(ends):
            return moved[-1]
        part = (moment - ends[after - 1]) / (ends[after] - ends[after - 1])
        return moved[after - 1] + part * (moved[after] - moved[after - 1])

    whole = int(ends[-1] / SLICE + 0.01)
    sums = [0.0, *(until(one * SLICE) for one in range(1, whole + 1))]
    return [8 * (late - early) / SLICE for early, late in pairwise(sums)]


def read_report(text: str) -> tuple[dict[str, Any] | None, str]:
    """Return the report (JSON) in what iperf3's client printed, None where none is whole, and the words around it.

    iperf3 puts words before it (a warning) or behind it (``iperf3: error - unable to send control message: …``).
    """
    for start in re.finditer(r"^\{", text, re.MULTILINE):
        with contextlib.suppress(json.JSONDecodeError):
            found, end = json.JSONDecoder().raw_decode(text, start.start())
            return found, " ".join((text[: start.start()] + " " + text[end:]).split())
    return None, " ".join(text.split())
