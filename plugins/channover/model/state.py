"""A host's network state as far as plans change it, read with one command and parsed here.

``QUERY`` is the input of ``ip -j -d -s -s -N -force -batch -``: one round trip. Its answer is one JSON document a line,
except MPTCP's limits, which iproute2 (6.1 and 6.15 alike) prints as text. ``-N`` has tables, scopes, protocols and types
printed as numbers, since a host may name its tables (``/etc/iproute2/rt_tables``). A batch has the rules of one family only:
those of IPv6 come from a second call, behind a mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

QUERY = "address show\nrule show\nroute show table all\nmptcp endpoint show\nmptcp limits show\n"
OF_IPV6 = "@rules of IPv6"
"""What stands between the answer to ``QUERY`` and the rules of IPv6."""
SCRIPT = f"ip -j -d -s -s -N -force -batch -; echo '{OF_IPV6}'; ip -6 -j -N rule show"
COMMAND = ("sh", "-c", SCRIPT)

_SCOPE_LINK = "253"
_UNICAST = "1"
_BY_KERNEL = "2"
"""Numbers of ``linux/rtnetlink.h``: ``RT_SCOPE_LINK``, ``RTN_UNICAST``, ``RTPROT_KERNEL``."""
_RULE_WORDS = {"priority", "src", "srclen", "table", "protocol"}
"""What a rule by source consists of: one with anything else (a mark, an input device, ``not``) is another kind of rule."""
ENDPOINT_FLAGS = {"signal": 1, "subflow": 2, "backup": 4, "fullmesh": 8, "implicit": 16, "laminar": 32}
"""Bits of an MPTCP endpoint's flags (``MPTCP_PM_ADDR_FLAG_*``, ``linux/mptcp_pm.h``)."""


@dataclass(frozen=True)
class LinkState:
    """One device: administrative state, MTU (bytes), master, and its addresses in prefix notation.

    An address with a peer names it as ``ip-address(8)`` does: ``10.5.0.1 peer 10.5.0.2/32``. ``options`` are those of its
    kind, a bond's for one, by the names that ``ip -d link`` shows; ``carrier_changes`` counts how often its carrier came or
    went.
    """

    device: str
    up: bool
    mtu: int
    master: str
    addresses: tuple[str, ...]
    mac: str = ""
    kind: str = ""
    carrier: bool = field(default=True, compare=False)
    carrier_changes: int = field(default=0, compare=False)
    index: int = field(default=0, compare=False)
    qdisc: str = field(default="", compare=False)
    options: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Route:
    """One unicast route that somebody configured (routes that the kernel derives from addresses are left out).

    ``table`` is a name only where the host does not tell the number.
    """

    destination: str
    device: str
    via: str | None
    table: int | str


@dataclass(frozen=True)
class Rule:
    """One policy rule by source, ``all`` or ``::/0`` being any of IPv4's or IPv6's.

    ``table`` is a name only where the host does not tell the number.
    """

    priority: int
    source: str
    table: int | str

    @property
    def of_any(self) -> bool:
        """Whether it is of any source of its family."""
        return self.source in ("all", "::/0")


@dataclass(frozen=True)
class Endpoint:
    """One MPTCP endpoint. ``address`` is empty where the host does not tell it, ``port`` that of an endpoint which has one."""

    id: int
    address: str
    flags: tuple[str, ...]
    device: str | None
    port: int | None = None


@dataclass(frozen=True)
class Limits:
    """The MPTCP path manager's limits."""

    subflows: int
    add_addr_accepted: int


@dataclass(frozen=True)
class State:
    """What was there before a change."""

    links: Mapping[str, LinkState] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    routes: tuple[Route, ...] = ()
    endpoints: Mapping[int, Endpoint] = field(default_factory=dict)
    limits: Limits | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)

    def routes_lost_with(self, device: str) -> tuple[Route, ...]:
        """Return the routes that the kernel drops when the device goes down, and does not bring back."""
        return tuple(route for route in self.routes if route.device == device)

    def with_link(self, link: LinkState) -> State:
        """Return the state with this device in place of its former self."""
        return replace(self, links={**self.links, link.device: link})

    def without_link(self, device: str) -> State:
        """Return the state without a device, its routes included."""
        rest = {name: link for name, link in self.links.items() if name != device}
        return replace(self, links=rest).without_routes(self.routes_lost_with(device))

    def without_routes(self, routes: tuple[Route, ...]) -> State:
        """Return the state without these routes."""
        return replace(self, routes=tuple(route for route in self.routes if route not in routes))

    @classmethod
    def parse(cls, text: str, sysctls: Mapping[str, str] | None = None) -> State:
        """Return the state that the answer to ``QUERY`` describes. Raises ValueError where it is no such answer."""
        answer, _, of_ipv6 = text.partition(OF_IPV6)
        lines = [line for line in answer.splitlines() if line.strip()]
        try:
            documents = [json.loads(line) for line in lines if line.lstrip().startswith(("[", "{"))]
            more = json.loads(of_ipv6) if of_ipv6.strip() else []  # nothing where the kernel has no IPv6
            addresses, rules, routes = documents[:3]
            endpoints = documents[3] if len(documents) > 3 and isinstance(documents[3], list) else []
            return cls(
                links={entry["ifname"]: _link(entry) for entry in addresses if entry},
                rules=(*_rules(rules, "all"), *_rules(more, "::/0")),
                routes=tuple(
                    _route(entry)
                    for entry in routes
                    if entry.get("type") == _UNICAST and entry.get("protocol") != _BY_KERNEL and "dev" in entry
                ),
                endpoints={entry["id"]: _endpoint(entry) for entry in endpoints},
                limits=_limits(lines[-1]) if lines else None,
                sysctls=dict(sysctls or {}),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no answer of '{SCRIPT}': {text[:200]!r}") from error


def _link(entry: Mapping[str, Any]) -> LinkState:
    return LinkState(
        device=entry["ifname"],
        up="UP" in entry["flags"],
        mtu=entry["mtu"],
        master=entry.get("master", ""),
        addresses=tuple(
            _prefix(address)
            for address in entry.get("addr_info", [])
            if "local" in address and address.get("scope") != _SCOPE_LINK
        ),
        mac=entry.get("address", ""),
        kind=entry.get("linkinfo", {}).get("info_kind", ""),
        carrier="LOWER_UP" in entry["flags"],
        carrier_changes=entry.get("stats64", {}).get("tx", {}).get("carrier_changes", 0),
        index=entry.get("ifindex", 0),
        qdisc=entry.get("qdisc", ""),
        options={
            name: str(value)
            for name, value in entry.get("linkinfo", {}).get("info_data", {}).items()
            if isinstance(value, (str, int))
        },
    )


def _prefix(entry: Mapping[str, Any]) -> str:
    peer = f" peer {entry['address']}" if "address" in entry else ""
    return f"{entry['local']}{peer}/{entry['prefixlen']}"


_NAMED = {"default": 253, "main": 254, "local": 255}
"""Tables that have a name on every host: ``RT_TABLE_*`` of ``linux/rtnetlink.h``."""


def _table(told: int | str) -> int | str:
    text = str(told)
    return int(text) if text.isdecimal() else _NAMED.get(text, text)


def _rules(entries: Iterable[Mapping[str, Any]], everything: str) -> Iterator[Rule]:
    """Yield the rules by source of a family, whose word for any source is ``everything``."""
    for entry in entries:
        if "table" in entry and entry.keys() <= _RULE_WORDS:
            yield _rule(entry, everything)


def _rule(entry: Mapping[str, Any], everything: str) -> Rule:
    source = entry.get("src", "all")
    if source == "all":
        source = everything
    if "srclen" in entry:
        source = f"{source}/{entry['srclen']}"
    return Rule(entry["priority"], source, _table(entry["table"]))


def _route(entry: Mapping[str, Any]) -> Route:
    return Route(entry["dst"], entry["dev"], entry.get("gateway"), _table(entry.get("table", 254)))


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    flags = tuple(flag for flag in ENDPOINT_FLAGS if entry.get(flag) or flag in entry.get("flags", ()))
    return Endpoint(entry["id"], entry.get("address", ""), flags, entry.get("dev"), entry.get("port"))


def _limits(line: str) -> Limits | None:
    if line.lstrip().startswith(("{", "[")):
        document = json.loads(line)
        found = document[0] if isinstance(document, list) and document else document
        if not isinstance(found, dict) or "subflows" not in found:
            return None
        return Limits(found["subflows"], found["add_addr_accepted"])
    match = re.search(r"add_addr_accepted (\d+) subflows (\d+)", line)
    return Limits(int(match[2]), int(match[1])) if match else None
