"""Rules of packet filters that take something from a flow: in the words of ``nft list ruleset`` and ``tc filter show``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TABLE = re.compile(r"table (\S+ \S+) \{")
_CHAIN = re.compile(r"\s+chain (\S+) \{")
_NAMED = re.compile(r"\s+counter (\S+) \{")
_COUNTED = re.compile(r"packets (\d+)")
_DOES = (
    ("strip", re.compile(r"\breset tcp option\b")),
    ("limit", re.compile(r"\blimit rate\b")),
    ("drop", re.compile(r"\bdrop\b")),
    ("reject", re.compile(r"\breject\b")),
    ("mangle", re.compile(r"(?:@\S+|tcp option \S+ \S+|tcp (?:flags|dport|sport|window|sequence|checksum)) set\b")),
)


@dataclass(frozen=True)
class FilterRule:
    """One rule: *does* drop, reject, limit, strip or mangle; packets that it met, None where it has no counter."""

    table: str
    chain: str
    rule: str
    does: str
    packets: int | None = None


def parse_nft(text: str) -> Iterator[FilterRule]:
    """Yield the rules of an nftables ruleset that keep something away, and chains whose policy does."""
    counters = {name: int(found[1]) for name, words in _counters(text) if (found := _COUNTED.search(words))}
    table = chain = ""
    for line in text.splitlines():
        if match := _TABLE.match(line):
            table = match[1]
        elif match := _CHAIN.match(line):
            chain = match[1]
        elif "policy drop" in line:
            yield FilterRule(table, chain, "policy drop", "drop")
        elif not line.strip().startswith(("type ", "set ", "map ", "comment ")):
            for does, words in _DOES:
                if words.search(line):
                    yield FilterRule(table, chain, line.strip(), does, _packets(line, table, counters))
                    break


def _counters(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield named counters with their table, and their words."""
    table = ""
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if match := _TABLE.match(line):
            table = match[1]
        elif match := _NAMED.match(line):
            yield (table, match[1]), following


def _packets(line: str, table: str, counters: dict[tuple[str, str], int]) -> int | None:
    if match := re.search(r'counter name "?([^"\s]+)', line):
        return counters.get((table, match[1]))
    found = _COUNTED.search(line)
    return int(found[1]) if found else None


def parse_tc(device: str, text: str) -> Iterator[FilterRule]:
    """Yield the actions of a device's filters that drop, or hold a rate (``tc-actions(8)``)."""
    rule = ""
    for line in text.splitlines():
        if line.startswith("filter "):
            rule = " ".join(line.split())
        does = "drop" if re.search(r"\baction (?:drop|shot)\b|gact action drop", line) else ""
        does = does or ("limit" if re.search(r"\bpolice 0x", line) else "")
        if does:
            yield FilterRule("tc", device, f"{rule}: {' '.join(line.split())}", does)
