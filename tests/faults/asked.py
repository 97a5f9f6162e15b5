"""Faults of labs that are as somebody asked for, wrongly, and of segments that are altered on their way: each cause by itself.

Nothing read back and no proof of the cables finds them: what is asked of the lab after a verdict has to.
"""

from __future__ import annotations

from collections.abc import Callable

from channover.hosts.host import Host
from channover.model.operations.devices import AddressAdd, AddressDelete
from channover.model.operations.mptcp import EndpointAdd, EndpointDelete
from tests.faults.bench import Bench
from tests.faults.fault import Evidence, Fault, When, caught, fails
from tests.faults.multipath import PAIR, changed, parameter

PAYLOAD = "@th,640,16 set 0x5a5a"
"""Two bytes behind TCP's longest header of 60 bytes, and 20 further on: data, in a segment that is full."""
REWRITTEN = "@ih,160,16 set 0x5a5a"
"""Two bytes of what TCP carries, and its checksum with them (``nft_payload_l4csum_update`` of ``nft_payload.c``)."""


def _addressed(host: str, *operations: AddressAdd | AddressDelete) -> Callable[[Bench], Evidence]:
    """Have a host's addresses be others, as if the test had asked for it."""

    def do(bench: Bench) -> Evidence:
        machine: Host = getattr(bench, host)
        bench.ask(machine, *operations)
        return " ".join(machine.run("ip", "-o", "-4", "address", quiet=True).stdout.split())

    return do


def _narrow(bench: Bench) -> Evidence:
    """Have both cables take 25 ms each way, and the server's windows not be scaled."""
    lines = [bench.line(label, "25") for label in "ab"]
    shown = parameter("right", "net/ipv4/tcp_window_scaling", "0", asked=True)(bench)
    return lambda: "; ".join([str(shown), *(one() for one in lines)])


FAULTS = (
    Fault(
        "endpoint-strange-address",
        "MPTCP signalling",
        "the client's second endpoint has an address that the client has not",
        changed(("left", EndpointDelete(2)), ("left", EndpointAdd(2, f"{PAIR}.77", ("subflow", "fullmesh")))),
        When.TRAFFIC,
        {"MP-1": fails("endpoint-wrong-address"), "MP-7": fails("endpoint-wrong-address")},
    ),
    Fault(
        "endpoint-other-device",
        "MPTCP signalling",
        "the client's second endpoint is bound to its first NIC",
        changed(("left", EndpointDelete(2)), ("left", EndpointAdd(2, f"{PAIR}.1", ("subflow", "fullmesh"), "eth1"))),
        When.TRAFFIC,
        {"MP-1": fails("endpoint-wrong-device")},
    ),
    Fault(
        "endpoint-no-mesh",
        "MPTCP flags",
        "one of the client's three endpoints is not for the full mesh",
        changed(("left", EndpointDelete(3)), ("left", EndpointAdd(3, "10.10.0.1", ("subflow",)))),
        When.TRAFFIC,
        {"MP-2": fails("endpoint-not-fullmesh")},
    ),
    Fault(
        "join-acks-lost",
        "MPTCP middleboxes",
        "a firewall on cable b drops the third ACK of joins",
        lambda bench: bench.rules(
            "b", "  tcp flags & (syn | ack) == ack tcp option mptcp subtype 1 counter drop", ("right",)
        ),
        When.BUILT,
        {"MP-1": fails("join-ack-lost")},
    ),
    Fault(
        "data-rewritten",
        "MPTCP middleboxes",
        "cable a rewrites two bytes of one in 500 full segments, and mends their checksums",
        lambda bench: bench.rules(
            "a", f"  meta l4proto tcp meta length > 1400 numgen random mod 500 0 counter {REWRITTEN}", ("right",)
        ),
        When.TRAFFIC,
        {"MP-5 removed": fails("stream-spoilt", words="arrived whole of 0"), "MP-9": fails("stream-spoilt")},
    ),
    Fault(
        "data-damaged",
        "MPTCP middleboxes",
        "cable b damages every other full segment, and leaves checksums as they are",
        lambda bench: bench.rules(
            "b", f"  meta l4proto tcp meta length > 1400 numgen random mod 2 0 counter {PAYLOAD}", ("right",)
        ),
        When.TRAFFIC,
        {"MP-1": fails("bad-checksums"), "MP-10": fails("bad-checksums")},
    ),
    Fault(
        "address-asked-away",
        "addresses",
        "the client's second NIC has not the address that a path begins at, as the test asked",
        _addressed("left", AddressDelete("eth2", f"{PAIR}.1/30")),
        When.TRAFFIC,
        {"MP-1": fails("address-missing"), "TUN-5": fails("address-missing")},
    ),
    Fault(
        "address-twice",
        "addresses",
        "the server has the client's second address too",
        _addressed("right", AddressAdd("lo", f"{PAIR}.1/32")),
        When.TRAFFIC,
        {"MP-1": fails("address-duplicate")},
    ),
    Fault(
        "rp-filter-strict",
        "routes",
        "the server drops what comes in by another NIC than it would answer by",
        parameter("right", "net/ipv4/conf/all/rp_filter", "1", asked=True),
        When.READY,
        {"MP-6": fails("rp-filter")},
        ("MP-1",),
    ),
    Fault(
        "no-window-scaling",
        "buffers",
        "the server offers windows of 64 kB at most, on paths of 50 ms there and back",
        _narrow,
        When.BUILT,
        {"LAG-1": caught("tcp-setting", "cable-delay")},
        blind=True,
    ),
)
