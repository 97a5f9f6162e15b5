"""Whether a host's packet filter refuses a packet, for certain: nftables' rules walked as the kernel walks them.

What is looked at is ``nft -j list ruleset`` (``libnftables-json(5)``) and ``iptables-save`` (``iptables-save(8)``), the
latter read into the words of the former. A match that is not known here (a mark, a user, a limit) may hold or not: a packet
counts as refused only where it is refused either way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Literal

from channover.verdict.loop import iptables

Address = IPv4Address | IPv6Address
Kind = Literal["join", "answer", "data"]
Outcome = Literal["accept", "on", "unsure"]
"""What becomes of a packet that a chain does not stop: taken, left to what follows, or one knows not which."""


@dataclass(frozen=True)
class Packet:
    """A packet of an MPTCP subflow at a hook of a host: its first one (MP_JOIN, RFC 8684, 3.2), the answer, or a later one."""

    source: Address
    destination: Address
    ports: tuple[int, int]
    """TCP's, the source's first."""
    device: str
    """By which it leaves (hook output) or comes (hook input)."""
    kind: Kind = "join"
    hook: Literal["output", "input"] = "output"


@dataclass(frozen=True)
class Stop:
    """Where a packet is refused, and how many that rule has refused so far; None where it has no counter."""

    table: str
    chain: str
    packets: int | None = None

    def __str__(self) -> str:
        met = "" if self.packets is None else f", which has refused {self.packets or 'none'} so far"
        return f"table {self.table}, chain {self.chain}{met}"


@dataclass(frozen=True)
class _Chain:
    name: str
    table: str
    hook: str = ""
    policy: str = "accept"
    rules: list[Sequence[Mapping[str, Any]]] = field(default_factory=list)


@dataclass
class Filters:
    """A host's packet filters."""

    _chains: dict[tuple[str, str], _Chain] = field(default_factory=dict)
    _sets: dict[tuple[str, str], Sequence[Any]] = field(default_factory=dict)
    _counters: dict[tuple[str, str], int] = field(default_factory=dict)

    def add_nft(self, text: str) -> None:
        """Add what ``nft -j list ruleset`` printed. Raises ValueError where it is no such thing."""
        try:
            entries: list[dict[str, Any]] = json.loads(text)["nftables"]
            for entry in entries:
                for kind, one in entry.items():
                    self._add(kind, one)
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"no ruleset in the answer of nft: {text[:100]}") from None

    def _add(self, kind: str, one: Any) -> None:
        table = f"{one['family']} {one['table']}" if kind in ("chain", "rule", "set", "map", "counter") else ""
        if kind == "chain":
            hook, policy = one.get("hook", ""), one.get("policy", "accept")
            self._chains[table, one["name"]] = _Chain(one["name"], table, hook, policy)
        elif kind == "rule":
            self._chains[table, one["chain"]].rules.append(one["expr"])
        elif kind == "set":
            self._sets[table, one["name"]] = one.get("elem", [])
        elif kind == "counter":
            self._counters[table, one["name"]] = int(one["packets"])

    def add_iptables(self, text: str, family: str, program: str) -> None:
        """Add what a program such as ``iptables-save`` (family ``ip``) or ``ip6tables-save`` (``ip6``) printed."""
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = f"{family} {line[1:].strip()} ({program})"
            elif line.startswith(":"):
                name, policy, *_ = line[1:].split()
                hook = name.lower() if name in ("INPUT", "OUTPUT") else ""
                self._chains[table, name] = _Chain(name, table, hook, policy.lower())
            elif "-A " in line:
                name, rule = iptables.rule(line)
                self._chains.setdefault((table, name), _Chain(name, table)).rules.append(rule)

    def refuses(self, packet: Packet) -> Stop | None:
        """Return what refuses a packet for certain, if anything does."""
        family = "ip6" if packet.source.version == 6 else "ip"
        for chain in self._chains.values():
            if chain.hook == packet.hook and chain.table.split()[0] in (family, "inet"):
                found = self._walk(chain, packet, 0)
                if isinstance(found, Stop):
                    return found
                if found == "on" and chain.policy == "drop":
                    return Stop(chain.table, f"{chain.name} (its policy)")
        return None

    def _walk(self, chain: _Chain, packet: Packet, depth: int) -> Stop | Outcome:
        for rule in chain.rules:
            holds = self._holds(chain.table, rule, packet)
            if holds is False:
                continue
            does, target = _does(rule)
            if does == "refuse" and holds:
                return Stop(chain.table, chain.name, self._met(chain.table, rule))
            if does in ("jump", "goto"):
                called = self._chains.get((chain.table, target))
                # A target of iptables that is no chain, such as LOG, lets the packet go on.
                found = "on" if called is None else self._walk(called, packet, depth + 1) if depth < 16 else "unsure"
                if isinstance(found, Stop) and not holds:
                    continue  # refused there, or by what follows, or not at all
                if found != "on" or (does == "goto" and holds):
                    return found if holds else "unsure"
                if does == "goto":
                    return "unsure"
            elif does in ("accept", "return", "unsure"):
                return "unsure" if does == "unsure" or not holds else "on" if does == "return" else "accept"
        return "on"

    def _met(self, table: str, rule: Sequence[Mapping[str, Any]]) -> int | None:
        for part in rule:
            counter = part.get("counter", False)
            if isinstance(counter, str):
                return self._counters.get((table, counter))
            if isinstance(counter, dict) and "packets" in counter:
                return int(counter["packets"])
        return None

    def _holds(self, table: str, rule: Sequence[Mapping[str, Any]], packet: Packet) -> bool | None:
        """Whether a rule's matches hold; None where that is not known."""
        known: list[bool | None] = []
        for part in rule:
            if "match" in part:
                known.append(self._matches(table, part["match"], packet))
            elif "limit" in part or (part.get("xt") or {}).get("type") == "match":
                known.append(None)
        return False if False in known else None if None in known else True

    def _matches(self, table: str, match: Mapping[str, Any], packet: Packet) -> bool | None:
        value = _value(match["left"], packet)
        if value is None or match["op"] not in ("==", "!=", "in"):
            return None
        if (
            value is False
        ):  # of another protocol: nft takes such a packet for none of this rule's, whatever the operator
            return False
        right = match["right"]
        if isinstance(right, str) and right.startswith("@"):
            if (table, right[1:]) not in self._sets:
                return None
            right = {"set": self._sets[table, right[1:]]}
        found = _among(value, right)
        return found if found is None or match["op"] != "!=" else not found


_FIELDS = {"saddr": "source", "daddr": "destination"}


def _value(left: Mapping[str, Any], packet: Packet) -> Any:
    """Return a packet's value of what a match looks at: a set of words, any of which will do.

    False: it has none; None: it is not known.
    """
    if "payload" in left:
        return _payload(left["payload"].get("protocol"), left["payload"].get("field"), packet)
    if "meta" in left:
        key = left["meta"].get("key")
        own, other = ("oifname", "iifname") if packet.hook == "output" else ("iifname", "oifname")
        known: dict[str, Any] = {
            own: {packet.device},
            own.replace("name", ""): {packet.device},
            other: {""},
            "l4proto": {"tcp", 6, "6"},
            "nfproto": {"ipv4" if packet.source.version == 4 else "ipv6"},
            "protocol": {"ip" if packet.source.version == 4 else "ip6"},
        }
        return known.get(key)
    if "ct" in left:
        return {"new" if packet.kind == "join" else "established"} if left["ct"].get("key") == "state" else None
    if "tcp option" in left:
        option = left["tcp option"]
        if option.get("name") != "mptcp":
            return None
        if option.get("field") == "subtype":
            return {2, "dss"} if packet.kind == "data" else {1, "mp-join"}
        return None if "field" in option else {True}
    if "&" in left:
        return _flags(left["&"], packet)
    return None


def _payload(protocol: str, name: str, packet: Packet) -> Any:
    version = {"ip": 4, "ip6": 6}.get(protocol)
    if version is not None:
        if version != packet.source.version:
            return False
        if name in _FIELDS:
            return getattr(packet, _FIELDS[name])
        return {"tcp", 6, "6"} if name in ("protocol", "nexthdr") else None
    if protocol in ("tcp", "th"):
        ports = dict(zip(("sport", "dport"), packet.ports, strict=True))
        return {ports[name]} if name in ports else None
    return False if protocol in ("udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "esp", "ah") else None


_FLAGS = {"join": ("syn",), "answer": ("syn", "ack"), "data": ("ack",)}
"""TCP's flags of each kind of packet."""


def _flags(parts: Sequence[Any], packet: Packet) -> Any:
    """Return TCP's flags of a packet under a mask, as one value."""
    if (parts[0].get("payload") or {}) != {"protocol": "tcp", "field": "flags"}:
        return None
    mask = {parts[1]} if isinstance(parts[1], str) else set(parts[1]) if isinstance(parts[1], list) else None
    return None if mask is None else frozenset(_FLAGS[packet.kind]) & mask


def _among(value: Any, right: Any) -> bool | None:
    """Whether a value is, or lies in, what stands at the right of a match."""
    if isinstance(value, frozenset):  # flags, all of them at once
        words = {right} if isinstance(right, str) else set(right) if isinstance(right, list) else None
        return True if right == 0 and not value else None if words is None else value == words
    members = right.get("set") if isinstance(right, dict) and "set" in right else right
    if isinstance(members, dict) and "elem" in members:
        members = members["elem"].get("val")
    if isinstance(members, list):
        found = [_among(value, one) for one in members]
        return True if True in found else None if None in found else False
    try:
        if isinstance(value, IPv4Address | IPv6Address):
            return _covers(members, value)
        if isinstance(members, dict) and "range" in members:
            low, high = members["range"]
            return any(isinstance(one, int) and low <= one <= high for one in value)
    except (ValueError, TypeError, KeyError):
        return None
    if isinstance(members, dict):
        return None
    return any(one == members or (isinstance(members, str) and fnmatchcase(str(one), members)) for one in value)


def _covers(members: Any, address: Address) -> bool:
    if isinstance(members, dict) and "prefix" in members:
        return address in ip_network(f"{members['prefix']['addr']}/{members['prefix']['len']}", strict=False)
    if isinstance(members, dict):
        low, high = members["range"]
        return int(ip_address(low)) <= int(address) <= int(ip_address(high))
    return address in ip_network(members, strict=False)


def _does(rule: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return what a rule does with a packet that it matches, and the chain that it calls."""
    for part in rule:
        if "drop" in part or "reject" in part:
            return "refuse", ""
        for word in ("accept", "return"):
            if word in part:
                return word, ""
        for word in ("jump", "goto"):
            if word in part:
                return word, part[word]["target"]
        if "vmap" in part or "queue" in part:
            return "unsure", ""
        target = part.get("xt") or {}
        if target.get("type") == "target":
            return iptables.TARGETS.get(target.get("name", ""), "on"), ""
    return "on", ""
