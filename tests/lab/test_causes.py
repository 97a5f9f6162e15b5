"""Faults done to living labs: the first cause that the lab gives, when it is asked, is the right one.

The cables are slow here: what is told apart is not their rate, and a slow lab leaves the processors to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

import pytest

from channover.hosts.host import Host, Journal
from channover.hosts.lab import Lab
from channover.hosts.netns.process import NamespaceProcess
from channover.measure.flow import Flow
from channover.measure.measurement import Measuring
from channover.measure.record import Record
from channover.measure.traffic import TrafficGenerator
from channover.model.link import Link
from channover.model.topology import Topology, pair, trio
from channover.network.programs.iperf import Transport
from channover.scenarios import labs
from channover.scenarios.diagnosis.asking import Diagnosis
from channover.targets.netns import NetnsTarget
from channover.verdict.expectation import Expectation, at_least, exactly
from channover.verdict.measured import Reading
from channover.verdict.settling import settle
from channover.verdict.statistics import Estimate

RATE = 20_000_000
SHAPER = "tc qdisc replace dev eth2 root tbf rate 8mbit burst 16k latency 50ms"
NOBODY = "02:00:5e:00:00:99"
STRIP = "tcp option mptcp exists counter reset tcp option mptcp"


def nft(host: Host, hook: str, rule: str, priority: str = "filter") -> None:
    text = f"table inet somebodys {{ chain c {{ type filter hook {hook} priority {priority}; {rule}; }}; }}"
    host.run("nft", "-f", "-", input=text)


def on_wire(rule: str, way: str, *numbers: int) -> Callable[[Lab], None]:
    """Have frames of cables pass a rule of nftables in the patch panel, towards the right or the left end."""

    def do(lab: Lab) -> None:
        for number in numbers or range(len(lab.topology.cables)):
            _on_wire(lab, number, way, rule)

    return do


def _on_wire(lab: Lab, number: int, way: str, rule: str) -> None:
    ports = lab.cabling.ports[list(lab.topology.cables)[number]]  # type: ignore[attr-defined]
    into, out = ports if way == "right" else ports[::-1]
    process = lab.cabling.process  # type: ignore[attr-defined]
    for argv, text in (
        (("tc", "qdisc", "del", "dev", f"port{into}", "ingress"), ""),
        (
            ("nft", "-f", "-"),
            f'table netdev w{into} {{ chain w {{ type filter hook ingress device "port{into}" priority 0; {rule}; '
            f'fwd to "port{out}"; }}; }}',
        ),
    ):
        one = NamespaceProcess(process, None, argv, {}, input=text)
        one.close_input()
        assert one.wait(10.0) == 0, one.stderr


def ip(side: str, *lines: str) -> Callable[[Lab], object]:
    return lambda lab: [getattr(lab, side).run("ip", *line.split()) for line in lines]


def sysctl(side: str, value: str, *names: str) -> Callable[[Lab], object]:
    return lambda lab: [getattr(lab, side).write(f"/proc/sys/{name}", value) for name in names]


def both(*faults: Callable[[Lab], object]) -> Callable[[Lab], object]:
    return lambda lab: [fault(lab) for fault in faults]


@dataclass(frozen=True)
class Trial:
    """A fault, the cause that must come first, and what is measured: the topology and the value."""

    name: str
    do: Callable[[Lab], object]
    first: str
    topology: Callable[[], Topology] = pair
    value: Callable[[Flow, Lab], Reading] = field(default=lambda flow, lab: goodput(flow, lab))
    words: str = ""
    transport: Transport = Transport.MPTCP


def missed(name: str, value: float, expected: Expectation, unit: str = "1") -> Reading:
    """Return the comparison that did not hold, as a test's would be; how busy the machine is is no matter here."""
    assert not expected.holds(value), f"the fault changes nothing that is compared: {name} of {value:g}"
    return Reading(name, unit, Estimate(value, 0.0, 1), expected, held=False, settled=True)


def goodput(flow: Flow, lab: Lab, links: float = 1.75) -> Reading:
    assert flow.nics
    return missed("goodput", fmean(flow.run.samples()), at_least(links * lab.link.rate), "bit/s")


def nics(flow: Flow, lab: Lab) -> Reading:
    used = min(len(flow.nics.used(host)) for host in (lab.left, lab.right))
    return missed("NICs used at left", used, exactly(len(lab.topology.cables)))


def one_nic(flow: Flow, lab: Lab) -> Reading:
    return missed("NICs used at left", len(flow.nics.used(lab.left)), exactly(1))


def subflows(flow: Flow, lab: Lab) -> Reading:
    return missed("subflows at left", len(flow.pairs(lab.left)), exactly(len(lab.topology.cables) ** 2))


def mesh(flow: Flow, lab: Lab) -> Reading:
    return missed("address pairs of the mesh at left", len(flow.pairs(lab.left)), exactly(9))


NETS = ("10.93.93", "10.94.94", "10.10.0")
B = "10.94.94.1"
TRIALS = [
    Trial("no endpoint", ip("left", "mptcp endpoint delete id 2"), "no-endpoint", value=nics),
    Trial(
        "endpoint of another address",
        ip("left", "mptcp endpoint delete id 2", "mptcp endpoint add 10.77.0.1 id 2 subflow fullmesh"),
        "endpoint-wrong-address",
    ),
    Trial(
        "endpoint of another device",
        ip("left", "mptcp endpoint delete id 2", f"mptcp endpoint add {B} dev eth1 id 2 subflow fullmesh"),
        "endpoint-wrong-device",
    ),
    Trial("endpoint a backup", ip("left", "mptcp endpoint change id 2 backup fullmesh"), "endpoint-backup"),
    Trial(
        "endpoint signal only",
        ip("left", "mptcp endpoint delete id 2", f"mptcp endpoint add {B} id 2 signal"),
        "endpoint-flags",
        value=nics,
    ),
    Trial("limit 0 at the client", ip("left", "mptcp limits set subflows 0 add_addr_accepted 8"), "subflow-limit"),
    Trial("limit 0 at the server", ip("right", "mptcp limits set subflows 0 add_addr_accepted 8"), "subflow-limit"),
    Trial("limit 7", ip("left", "mptcp limits set subflows 7 add_addr_accepted 8"), "subflow-limit", trio, subflows),
    Trial(
        "no announced address accepted",
        ip("left", "mptcp limits set subflows 8 add_addr_accepted 0"),
        "address-limit",
        trio,
        mesh,
        words="10.94.94.2",
    ),
    Trial("server announces one less", ip("right", "mptcp endpoint delete id 3"), "no-endpoint", trio, mesh),
    Trial(
        "not fullmesh",
        ip("left", "mptcp endpoint delete id 3", "mptcp endpoint add 10.10.0.1 id 3 subflow"),
        "endpoint-not-fullmesh",
        trio,
        mesh,
    ),
    Trial(
        "a filter strips", lambda lab: nft(lab.left, "output", STRIP, "mangle"), "mptcp-fallback", words="packet filter"
    ),
    Trial(
        "the wire strips SYNs",
        on_wire(f"tcp flags & syn == syn {STRIP}", "right"),
        "mptcp-fallback",
        words="no MP_CAPABLE reached right",
    ),
    Trial(
        "the wire strips SYN+ACKs",
        on_wire(f"tcp flags & syn == syn {STRIP}", "left"),
        "mptcp-fallback",
        words="reached left without it",
    ),
    Trial(
        "the wire strips data",
        on_wire(f"tcp flags & syn == 0 {STRIP}", "right", 0),
        "mptcp-fallback",
        words="behind the SYNs",
    ),
    Trial(
        "the wire drops joins",
        on_wire("tcp flags & syn == syn tcp option mptcp subtype 1 counter drop", "right"),
        "join-unanswered",
        words="and 0 reached right",
    ),
    Trial(
        "the wire drops answers to joins",
        on_wire("tcp flags & syn == syn tcp option mptcp subtype 1 counter drop", "left"),
        "join-unanswered",
        words="and 0 answers reached left",
    ),
    Trial(
        "the wire drops announcements",
        on_wire("tcp option mptcp subtype 3 counter drop", "left"),
        "no-announcement",
        trio,
        mesh,
    ),
    Trial(
        "no rule",
        both(ip("left", f"rule del from {B} lookup 102"), ip("right", "mptcp endpoint flush")),
        "no-source-rule",
        words="NIC b carried",
    ),
    Trial("rule to the wrong table", ip("left", f"rule add from {B} lookup 101 priority 50"), "route-elsewhere"),
    Trial(
        "rule too late",
        both(
            ip("left", f"rule del from {B} lookup 102", f"rule add from {B} lookup 102 priority 40000"),
            ip("right", "mptcp endpoint flush"),
        ),
        "route-elsewhere",
    ),
    Trial("route by the other NIC", ip("left", "route replace default dev eth1 table 102"), "route-elsewhere"),
    Trial("route missing", ip("left", "route flush table 102", "route del 10.94.94.0/30 dev eth2"), "no-route"),
    Trial("black hole", ip("left", "route replace blackhole default table 102"), "no-route"),
    Trial("address gone", ip("left", f"address del {B}/30 dev eth2"), "address-missing"),
    Trial("address at two hosts", ip("right", f"address add {B}/32 dev lo"), "address-duplicate"),
    Trial(
        "wrong neighbour",
        ip(
            "left",
            *(f"neigh replace {far} dev eth2 lladdr {NOBODY} nud permanent" for far in ("10.94.94.2", "10.93.93.2")),
        ),
        "neighbour",
    ),
    Trial("no ARP", ip("right", "link set dev eth2 arp off", "neigh flush all"), "neighbour"),
    Trial(
        "strict reverse path",
        sysctl("right", "1", *(f"net/ipv4/conf/{each}/rp_filter" for each in ("all", "eth1", "eth2"))),
        "rp-filter",
        value=subflows,
    ),
    Trial("a filter drops", lambda lab: nft(lab.right, "input", f"ip saddr {B} counter drop"), "filter"),
    Trial("a filter without a counter", lambda lab: nft(lab.left, "output", 'oifname "eth2" drop'), "filter"),
    Trial(
        "a filter limits",
        lambda lab: nft(lab.right, "input", 'iifname "eth2" limit rate over 100/second counter drop'),
        "filter",
    ),
    Trial(
        "MTU",
        ip("left", "link set dev eth2 mtu 1300"),
        "mtu",
        value=lambda flow, lab: goodput(flow, lab, 2.0),  # it costs a flow less than its beginning does
        words="1300",
    ),
    Trial(
        "shaped by the host",
        lambda lab: lab.left.run(*SHAPER.split()),
        "qdisc",
    ),
    Trial("NIC down", ip("left", "link set dev eth2 down"), "nic-down"),
    Trial("cable pulled", lambda lab: lab.cabling.cut(list(lab.topology.cables)[1]), "no-carrier"),
    Trial("small receive buffer", sysctl("right", "4096 4096 8192", "net/ipv4/tcp_rmem"), "receive-buffer"),
    Trial(
        "paths that should be gone",
        lambda _: None,
        "endpoint-left",
        value=one_nic,
    ),
]


@contextmanager
def trial(one: Trial) -> Iterator[tuple[Flow, Lab]]:
    target = NetnsTarget()
    try:
        with target.lab(one.topology(), Link(rate=RATE), Journal()) as lab:
            paths = labs.configure(lab)
            explain = Diagnosis(lab, Record(None, lab.journal)).explain
            measuring = Measuring(lab.link, duration=1.5, limit=1.5, on_this_machine=False, explain=explain)
            one.do(lab)
            flow = TrafficGenerator(one.transport, measuring)(paths.left, paths.right)
            try:
                yield flow, lab
            finally:
                flow.run.abandon()
    finally:
        target.close()


def once_each(trials: Sequence[Trial]) -> Iterator[object]:
    """Yield the trials, all but the first of each cause as slow ones."""
    seen: set[str] = set()
    for one in trials:
        yield pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.first in seen else [])
        seen.add(one.first)


@pytest.mark.lab
@pytest.mark.parametrize("one", list(once_each(TRIALS)))
def test_the_first_cause_is_the_right_one(one: Trial) -> None:
    with trial(one) as (flow, lab):
        found = flow.explain(one.value(flow, lab))
    first = found.causes[0]
    told = "\n".join(found.lines)
    assert first.id == one.first, told
    assert one.words in "\n".join([first.statement, *first.evidence]), told
    assert first.certainty == "shown" or one.first in ("filter", "endpoint-left", "rp-filter", "mtu"), told


@pytest.mark.lab
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (ip("left", "route replace blackhole 10.93.93.2/32"), "no-route"),
        (lambda lab: nft(lab.right, "input", "tcp dport 5201 counter drop"), "filter"),
    ],
    ids=["the client has no way", "the server hears nothing"],
)
def test_that_nothing_arrives_is_a_failure_with_its_cause(fault: Callable[[Lab], object], cause: str) -> None:
    nothing = Trial("nothing arrives", fault, cause)
    with trial(nothing) as (flow, lab):
        known, left = settle(flow.run.measurement, at_least(lab.link.rate))
        assert (known.mean, known.half, left) == (0.0, 0.0, None)
        found = flow.explain(nothing.value(flow, lab))
    assert found.causes[0].id == cause, "\n".join(found.lines)
