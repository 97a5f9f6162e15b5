"""Rules as ``iptables-save`` prints them (``iptables-save(8)``), in the words of nftables' JSON (``libnftables-json(5)``)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

TARGETS = {"REJECT": "refuse", "DROP": "refuse", "ACCEPT": "accept", "RETURN": "return", "NFQUEUE": "unsure"}
"""What the targets of iptables that end a chain do with a packet."""


def rule(line: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the chain and the rule of a line of ``iptables-save``, in nftables' words."""
    words = shlex.split(line)
    found: list[dict[str, Any]] = []
    if words[0].startswith("["):
        found.append({"counter": {"packets": int(words.pop(0).strip("[]").partition(":")[0])}})
    chain, rest = words[1], iter(words[2:])
    op = "=="
    for word in rest:
        if word == "!":
            op = "!="
            continue
        found += _option(word, op, rest)
        op = "=="
    return chain, found


def _option(word: str, op: str, rest: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield what one option of a rule is in nftables' words; takes its value from ``rest``."""
    if word in ("-s", "-d"):
        value = next(rest)
        network = ip_network(value, strict=False)
        left = {"protocol": "ip6" if network.version == 6 else "ip", "field": "saddr" if word == "-s" else "daddr"}
        prefix = {"addr": str(network.network_address), "len": network.prefixlen}
        yield {"match": {"op": op, "left": {"payload": left}, "right": {"prefix": prefix}}}
    elif word in ("-o", "-i"):
        name = next(rest)
        key = "oifname" if word == "-o" else "iifname"
        yield {
            "match": {"op": op, "left": {"meta": {"key": key}}, "right": f"{name[:-1]}*" if name[-1:] == "+" else name}
        }
    elif word == "-p":
        yield {"match": {"op": op, "left": {"meta": {"key": "l4proto"}}, "right": next(rest)}}
    elif word in ("--sport", "--dport", "--sports", "--dports"):
        ports = [_port(one) for one in next(rest).split(",")]
        left = {"protocol": "tcp", "field": word[2:7]}
        yield {"match": {"op": op, "left": {"payload": left}, "right": {"set": ports}}}
    elif word == "--tcp-flags":
        mask, wanted = (next(rest).lower().split(",") for _ in range(2))
        flags: dict[str, Any] = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, mask]}
        yield {"match": {"op": op, "left": flags, "right": wanted}}
    elif word == "--tcp-option" and next(rest) == _MPTCP:
        yield {"match": {"op": op, "left": {"tcp option": {"name": "mptcp"}}, "right": True}}
    elif word in ("-j", "-g"):
        target = next(rest)
        own = {"goto" if word == "-g" else "jump": {"target": target}}
        yield {"xt": {"type": "target", "name": target}} if target in TARGETS else own
    elif word == "-m":
        if next(rest) not in _SPELT_OUT:
            yield {"xt": {"type": "match"}}
    elif word.startswith("-") and word not in _NO_MATCH:
        yield {"xt": {"type": "match"}}


_MPTCP = "30"
"""The kind of MPTCP's TCP option (RFC 8684, 3)."""
_SPELT_OUT = ("tcp", "comment", "multiport")
"""Matches whose options are read one by one."""
_NO_MATCH = ("--reject-with", "--comment")


def _port(text: str) -> Any:
    low, colon, high = text.partition(":")
    return {"range": [int(low or 0), int(high or 65535)]} if colon else int(low)
