"""A host as the diagnosis sees it: what it showed when the traffic ended, and what it told when it was asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from channover.hosts.host import Host
from channover.model.state import ENDPOINT_FLAGS, Endpoint, State
from channover.observe.filters import FilterRule, parse_nft, parse_tc
from channover.observe.inquiry import Inquiry
from channover.observe.nics import NicSeries
from channover.observe.sockets import parse_tcp
from channover.scenarios.middlebox import TABLE
from channover.verdict.causes.case import FilterView, HostView, NeighbourView, NicView, QdiscView

OWN_TABLE = re.compile(r"\S+ channover")
"""Tables of the run's own: the guards of a tunnel, and what guards a real host. They are there on purpose."""
_REFUSING = re.compile(r"^(?:\d+:\s.*)?\b(blackhole|unreachable|prohibit|throw)\b.*$", re.MULTILINE)
_QDISC = re.compile(r"^qdisc (\S+) \S+ dev (\S+) (.*)$")
_ENDPOINT = re.compile(r"^(?P<address>\S+)(?: port (?P<port>\d+))? id (?P<id>\d+)(?P<rest>.*)$", re.MULTILINE)
_DROPPED = re.compile(r"dropped (\d+)")


@dataclass(frozen=True)
class Seen:
    """What is known of a host. ``planned`` are the lab's addresses by NIC, empty where it gave none."""

    host: Host
    sections: Mapping[str, str]
    inquiry: Inquiry = field(default_factory=Inquiry)
    series: NicSeries | None = None
    counted: Mapping[str, int] = field(default_factory=dict)
    planned: Mapping[str, str] = field(default_factory=dict)
    carriers: Callable[[State], Mapping[str, int]] = lambda _: {}
    """Returns how often the carrier of each NIC changed, of the host's state now."""


def view(seen: Seen) -> HostView:
    """Return a host as causes are told from it. Raises TestbedError where it does not answer."""
    host, sections = seen.host, seen.sections
    state = host.state()
    if "endpoints" in sections:  # those that the traffic had: what a test changes for a block is as before after it
        state = replace(state, endpoints=endpoints(sections["endpoints"]))
    sockets = parse_tcp(sections.get("sockets", ""))
    sources: dict[str, int] = {}
    for one in sockets:
        if one.mptcp and one.state == "ESTAB":
            sources[one.source] = sources.get(one.source, 0) + 1
    nics, flaps = [], seen.carriers(state)
    for nic in host.nics.values():
        link = state.links.get(nic.device)
        actual = link.addresses[0].replace("/", " ").split()[0] if link and link.addresses else ""
        moved = seen.series.delta(nic.device) if seen.series and nic.device in seen.series.devices else None
        nics.append(
            NicView(
                nic.name,
                nic.device,
                moved.total_bytes if moved else 0,
                seen.planned.get(nic.name, actual),
                moved.tx_bytes if moved else 0,
                moved.rx_bytes if moved else 0,
                moved.tx_drops + moved.rx_drops + moved.tx_errors + moved.rx_errors if moved else 0,
                link.mac if link else "",
                link.mtu if link else 0,
                flaps.get(nic.name, 0),
            )
        )
    refusing = sections.get("routes", ""), sections.get("rules", "")
    return HostView(
        host.name,
        nics,
        state,
        sources,
        sockets,
        seen.counted,
        seen.inquiry.sysctls,
        list(qdiscs(sections.get("qdiscs", ""))),
        [_filter(one) for one in _filters(seen) if not OWN_TABLE.match(one.table)],
        [
            NeighbourView(one.get("dst", ""), one.get("dev", ""), one.get("lladdr", ""), " ".join(one.get("state", ())))
            for one in seen.inquiry.neighbours
        ],
        [match[0].strip() for text in refusing for match in _REFUSING.finditer(text)],
        seen.inquiry.features,
        f"table inet {TABLE} " in sections.get("ruleset", ""),
    )


def endpoints(text: str) -> dict[int, Endpoint]:
    """Return MPTCP's endpoints by their ids, in the words of ``ip mptcp endpoint show``."""
    found = [Endpoint(*_endpoint(match)) for match in _ENDPOINT.finditer(text)]
    return {one.id: one for one in found}


def _endpoint(match: re.Match[str]) -> tuple[int, str, tuple[str, ...], str | None, int | None]:
    words, _, device = match["rest"].partition("dev ")
    flags = tuple(flag for flag in ENDPOINT_FLAGS if flag in words.split())
    return (
        int(match["id"]),
        match["address"],
        flags,
        device.strip() or None,
        int(match["port"]) if match["port"] else None,
    )


def _filters(seen: Seen) -> Iterator[FilterRule]:
    yield from parse_nft(seen.sections.get("ruleset", ""))
    for device, text in seen.inquiry.filters.items():
        yield from parse_tc(device, text)


def _filter(one: FilterRule) -> FilterView:
    return FilterView(one.table, one.chain, one.rule, one.does, one.packets)


def qdiscs(text: str) -> Iterator[QdiscView]:
    """Yield the queueing disciplines in the words of ``tc -s qdisc show``."""
    lines: Sequence[str] = text.splitlines()
    for number, line in enumerate(lines):
        if match := _QDISC.match(line):
            dropped = _DROPPED.search(" ".join(lines[number + 1 : number + 3]))
            yield QdiscView(match[2], match[1], f"{match[1]} {match[3]}".strip(), int(dropped[1]) if dropped else 0)
