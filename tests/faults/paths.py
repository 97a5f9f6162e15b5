"""Faults of Multipath TCP's paths that are unlike each other: of another family, of another rate, with a box on one of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.operations.kernel import TableAdd
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, EndpointDelete
from channover.model.plan import Plan
from channover.scenarios import labs, middlebox
from channover.scenarios.middlebox import Takes
from tests.faults.bench import Bench, require
from tests.faults.fault import Evidence, Fault, When, fails, unfit
from tests.faults.multipath import changed, endpoints, parameter

SPOILT = "tcp option mptcp subtype 2 tcp option mptcp length 24 counter tcp option @30,176,16 set 0"
DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } counter drop"


def _ipv6_off(bench: Bench) -> Evidence:
    """Switch IPv6 off at the client's second NIC, as somebody else would: its addresses go, and do not come back."""
    return parameter("left", f"net/ipv6/conf/{bench.device('b')}/disable_ipv6", "1")(bench)


def _down_as_it_is_lost(bench: Bench) -> Evidence:
    """Have the client's first NIC be set down: its routes go, and no cable brings it up."""
    bench.ask(bench.left, LinkSet(bench.device("a"), up=False))
    return lambda: require("DOWN" in (told := bench.left.run("ip", "-br", "link").stdout), " ".join(told.split()))


def _another_table(bench: Bench) -> Evidence:
    """Have the client's second IPv6 address looked up in the first NIC's table."""
    bench.left.run("sh", "-c", "ip -6 rule add from fd00:93:1::1 table 101 priority 50")
    found = bench.left.run("sh", "-c", "ip -6 route get fd00:93:1::2 from fd00:93:1::1").stdout
    return require("dev eth1" in found, found)


def _an_ipv4_endpoint_more(bench: Bench) -> Evidence:
    """Have both ends have an IPv4 address more on the second path, with an endpoint."""
    for host, last, flags in ((bench.left, 1, ("subflow", "fullmesh")), (bench.right, 2, ("signal",))):
        address = f"10.201.1.{last}"
        bench.ask(host, AddressAdd(bench.device("b"), f"{address}/24"), EndpointAdd(7, address, flags))
    return f"left: {endpoints(bench.left)}; right: {endpoints(bench.right)}"


def _harmless_box(plan: Callable[[str, Takes], Plan], used: Callable[[], None]) -> Callable[[str, Takes], Plan]:
    """Have a middlebox count what it meets, and take nothing of it."""

    def made(device: str, takes: Takes) -> Plan:
        used()
        found = plan(device, takes)
        (table,) = found
        assert isinstance(table, TableAdd)
        text = table.text
        for _, act in takes.rules:
            text = text.replace(act, "")
        return Plan.of(found.purpose, [replace(table, text=text)])

    return made


def left_out(_: object, used: Callable[[], None]) -> Callable[..., AbstractContextManager[None]]:
    """Have an act for the length of a block be none."""

    def nothing(*_: object, **__: object) -> AbstractContextManager[None]:
        used()
        return nullcontext()

    return nothing


FAULTS = (
    Fault(
        "box-takes-nothing",
        "comparisons",
        "a middlebox that is to take MPTCP's option lets it through",
        None,
        When.IN_PLACE,
        {"MP-8 first": fails("option-intact"), "MP-8 other": fails("option-intact")},
        (),
        ((middlebox, "_plan", _harmless_box),),
    ),
    Fault(
        "checksums-left-out",
        "comparisons",
        "checksums are not switched on where one is to be spoilt",
        None,
        When.IN_PLACE,
        {"MP-8 other, checksum": fails("option-intact", words="no end has its mappings checked")},
        (),
        ((labs.Multipath, "checksums", left_out),),
    ),
    Fault(
        "box-on-both-paths",
        "MPTCP middleboxes",
        "another middlebox, on the first path, takes MPTCP's option out of SYN-ACKs",
        lambda bench: bench.rules(
            "a",
            "  tcp flags & (syn | ack) == syn | ack tcp option mptcp exists counter reset tcp option mptcp",
            ("left",),
        ),
        When.BUILT,
        {"MP-8 other": fails("mptcp-fallback", words="connection fell back to TCP")},
    ),
    Fault(
        "checksums-spoilt",
        "MPTCP middleboxes",
        "a middlebox on cable b spoils the checksums of MPTCP's mappings",
        lambda bench: bench.rules(
            "b",
            "  tcp option mptcp subtype 2 tcp option mptcp length 24 counter tcp option @30,176,16 set 0",
            ("right",),
        ),
        When.BUILT,
        {"MP-7 checksums": fails("mptcp-checksum")},
    ),
    Fault(
        "port-blocked",
        "MPTCP middleboxes",
        "a firewall on both cables lets no TCP but iperf3's ports through",
        lambda bench: _all(*(bench.rules(label, "  tcp dport 10100 counter drop", ("right",)) for label in "ab")),
        When.BUILT,
        {"MP-2 port": fails("join-unanswered")},
    ),
    Fault(
        "limit-left-out",
        "comparisons",
        "the limit of subflows is not set where it is to be below the paths",
        None,
        When.IN_PLACE,
        {"MP-2 limit": fails(words=r"goodput of 2[6-9]\d|subflows at left of 3, expected exactly 2")},
        (),
        ((labs.Multipath, "limited", left_out),),
    ),
    Fault(
        "slow-path-a-backup",
        "unlike paths",
        "the slower path becomes a backup as the traffic begins",
        changed(("left", EndpointChange(2, ("backup",)))),
        When.TRAFFIC,
        {"MP-10": fails("endpoint-backup"), "MP-10 delays": fails("endpoint-backup")},
    ),
    Fault(
        "backup-unflagged",
        "unlike paths",
        "the backup path is a path like any other as the traffic begins",
        changed(("left", EndpointChange(2, ()))),
        When.TRAFFIC,
        {"MP-5": fails("no-backup")},
    ),
    Fault(
        "path-gives-up",
        "MPTCP recovery",
        "the client ends a subflow after two retransmissions",
        parameter("left", "net/ipv4/tcp_retries2", "2"),
        When.READY,
        {"MP-9": fails("gives-up-early"), "MP-5": fails("gives-up-early")},
    ),
    Fault(
        "path-back-down",
        "MPTCP recovery",
        "the client's NIC is down when the cable that was lost is plugged in again",
        _down_as_it_is_lost,
        When.LOST,
        {"MP-9": fails("nic-down"), "MP-5": fails("nic-down")},
    ),
    Fault(
        "slow-path-slower",
        "unlike paths",
        "the slower cable carries half of its rate",
        lambda bench: bench.slow("b", 0.5),
        When.BUILT,
        {"MP-10": unfit("cable-rate")},
    ),
    Fault(
        "slow-path-slower-unproved",
        "comparisons",
        "the slower cable carries half of its rate, and nobody proves it",
        lambda bench: bench.slow("b", 0.5),
        When.BUILT,
        {"MP-10": fails(words=r"share of right\.b of rx bytes")},
        blind=True,
    ),
    Fault(
        "delay-left-out",
        "comparisons",
        "the delay of a path is left out",
        None,
        When.IN_PLACE,
        {"MP-10 delays": fails(words=r"round trip from 10\.94\.94\.1")},
        ("MP-10",),
        ((labs.Multipath, "delayed", left_out),),
    ),
    Fault(
        "ipv6-off-b",
        "families",
        "IPv6 is switched off at the client's second NIC soon after the traffic began",
        _ipv6_off,
        When.MID,
        {"MP-11": fails("ipv6-off")},
        ("MP-11 joined",),
    ),
    Fault(
        "ipv6-rule-elsewhere",
        "families",
        "a rule sends the client's second IPv6 address to the first NIC's table",
        _another_table,
        When.TRAFFIC,
        {"MP-11": fails("route-elsewhere")},
    ),
    Fault(
        "neighbour-discovery-lost",
        "families",
        "a filter on cable b drops ICMPv6's neighbour discovery",
        lambda bench: bench.rules("b", f"  {DISCOVERY}"),
        When.BUILT,
        {"MP-11": fails("neighbour")},
        ("MP-1",),
    ),
    Fault(
        "ipv4-path-not-announced",
        "families",
        "the server does not announce its IPv4 address to a connection of IPv6",
        changed(("right", EndpointDelete(2))),
        When.TRAFFIC,
        {"MP-11 joined": fails("no-endpoint", "no-announcement")},
    ),
    Fault(
        "ipv4-endpoint-more",
        "families",
        "the second path has IPv4 endpoints beside those of IPv6",
        _an_ipv4_endpoint_more,
        When.TRAFFIC,
        {"MP-11 not joined": fails("endpoint-left")},
    ),
)


def _all(*shown: Any) -> Evidence:
    return lambda: "; ".join(one() for one in shown)
