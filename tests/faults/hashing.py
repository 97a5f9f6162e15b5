"""Faults of what spreads flows over a LAG, and of LACP between unlike partners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from channover.hosts.host import until
from tests.faults.bench import BOTH, Bench, Way
from tests.faults.fault import Evidence, Fault, When, caught, fails
from tests.faults.lacp import LACP_FRAMES, configured


def _mixed(bench: Bench) -> Evidence:
    """Have what lies between the ends put every datagram from an odd port onto the other cable, as a switch there would."""
    out = bench.ports("b", "right")[1]
    return bench.rules("a", f'  meta l4proto udp @th,15,1 1 counter fwd to "port{out}"', ("right",))


def _dealt_anew(bench: Bench) -> Evidence:
    """Have the client deal its hash buckets anew once flows run: the first may wait for its turn to be measured."""
    bond = bench.bond(bench.left)
    until(lambda: "udp(src=" in bond.switch.show("dpctl/dump-flows", "-m"), "flows", 60.0, 0.05)
    return configured("other_config:bond-hash-basis=77", ends="left")(bench)


STATE = "@ll,256,8"
"""Where a LACP frame has its sender's state: 18 bytes behind Ethernet's header and those of LACP and its TLV."""


def _altered(field: str, value: str, labels: str = "ab", ways: tuple[Way, ...] = BOTH) -> Callable[[Bench], Evidence]:
    """Have LACP frames name another value of their sender's."""

    def do(bench: Bench) -> Evidence:
        shown = [bench.rules(one, f"  ether type 0x8809 {field} set {value} counter", ways) for one in labels]
        return lambda: "; ".join(one() for one in shown)

    return do


def _one_system(bench: Bench) -> Evidence:
    """Have LACP frames to the client name one system, whoever sent them, as two switches that pretend to be one would."""
    wired = []
    for cable, (near, far) in cast(Any, bench.lab.cabling).ports.items():
        into, out = (far, near) if cable.a.node == bench.left.name else (near, far)
        system = " ".join(f"@ll,{at},16 set 0x0277" for at in (160, 176, 192))
        bench.wire(into, f'  ether type 0x8809 {system} counter\n  fwd to "port{out}"')
        wired.append(f"fault{into}")
    return lambda: bench.met(wired)


FAULTS = (
    Fault(
        "hash-cables-mixed",
        "hash",
        "what lies between both ends puts datagrams from odd ports onto the other cable",
        _mixed,
        When.BUILT,
        {"LAG-9": fails("flows-astray", words="flows that arrived by it")},
        quick=True,
    ),
    Fault(
        "hash-moved-unproved",
        "comparisons",
        "one end deals its hash buckets anew while flows run, and nothing is read back",
        _dealt_anew,
        When.MID,
        {"LAG-9": fails("flows-moved", words="flows that kept to one link|flows sent by the link of their hash")},
        blind=True,
    ),
    Fault(
        "hash-layer2-unproved",
        "comparisons",
        "both ends hash MAC addresses instead of ports, and nothing is read back",
        configured("bond_mode=balance-slb", ends="left right"),
        When.TRAFFIC,
        {"LAG-9": fails("hash-policy", words="flows sent by the link of their hash")},
        blind=True,
    ),
    Fault(
        "hash-layer34-unproved",
        "comparisons",
        "both ends hash ports too where MAC addresses alone were asked for, and nothing is read back",
        configured("bond_mode=balance-tcp", ends="left right"),
        When.READY,
        {"LAG-9 layer2": fails("hash-policy", "flows-moved", words="links taken|kept to one link")},
        blind=True,
    ),
    Fault(
        "lacp-timeout-altered",
        "LACP frames",
        "LACP frames ask for the fast rate, whatever their sender does",
        _altered(STATE, "0x3f", ways=("right",)),
        When.BUILT,
        {"LAG-10 rates": fails("lacp-altered", words="LACP frames to left.a, which asks for them every 30 s")},
        ("LAG-4",),
    ),
    Fault(
        "lacp-answers-lost",
        "LACP frames",
        "cable b loses what the passive end answers",
        lambda bench: bench.rules("b", LACP_FRAMES, ("left",)),
        When.BUILT,
        {"LAG-10": fails("lacp-one-way", "lacp-unheard", words="eth2")},
    ),
    Fault(
        "lacp-active-unasked",
        "LACP configuration",
        "an end that is to be passive is active",
        configured("lacp=active"),
        When.BONDED,
        {"LAG-10 passive": caught("lacp-active", "not-as-asked", words="LACP frames sent|its LACP is active")},
    ),
    Fault(
        "lacp-one-system",
        "LACP frames",
        "the LACP frames of two hosts name one system",
        _one_system,
        When.BUILT,
        {"LAG-10 apart": fails(words="links at work at left of 4, expected exactly 2")},
    ),
)
