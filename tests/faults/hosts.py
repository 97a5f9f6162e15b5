"""Faults of hosts: addresses, routes, rules, neighbours, filters, sizes; buffers, offloads, processors."""

from __future__ import annotations

import re
from collections.abc import Callable

from channover.hosts.host import Host
from channover.model.operations.devices import AddressDelete, LinkSet
from channover.model.operations.mptcp import EndpointDelete
from channover.model.operations.routing import RuleAdd, RuleDelete
from channover.model.state import State
from tests.faults.bench import Bench, require
from tests.faults.fault import Evidence, Fault, When, caught, fails, noted, unaccused, unfit
from tests.faults.multipath import parameter, table


def ip(host: str, *words: str, shows: str = "", look: str = "") -> Callable[[Bench], Evidence]:
    """Run ``ip`` on a host; ``look`` are the words whose answer must hold the regular expression ``shows``."""

    def do(bench: Bench) -> Evidence:
        machine = getattr(bench, host)
        for line in " ".join(words).split(" ; "):
            machine.run("ip", *line.split())
        found = machine.run("ip", *look.split(), quiet=True).stdout
        return require(re.search(shows, found), f"{host}: ip {look}: {' '.join(found.split())}")

    return do


def _rules(state: State) -> list[RuleDelete]:
    return [RuleDelete(rule.source, rule.table, rule.priority) for rule in state.rules if rule.source != "all"]


def _no_rules_one_address(bench: Bench) -> Evidence:
    """Take all source rules away, and have the server announce nothing: the second subflow leaves by the first NIC."""
    for host in (bench.left, bench.right):
        bench.ask(host, *_rules(host.state()))
    bench.ask(bench.right, *(EndpointDelete(number) for number in bench.right.state().endpoints))
    return require(not _rules(bench.left.state()), f"left: {bench.left.run('ip', 'rule', quiet=True).stdout}")


def _late_rule(bench: Bench) -> Evidence:
    """Have the client's rule for its second address come behind the main table, where it is never asked."""
    (old,) = (rule for rule in _rules(bench.left.state()) if rule.source.startswith("10.94.94.1"))
    bench.ask(bench.left, old, RuleAdd("10.94.94.1", old.table, 40000))
    bench.ask(bench.right, *(EndpointDelete(number) for number in bench.right.state().endpoints))
    return " ".join(bench.left.run("ip", "rule", quiet=True).stdout.split())


def _no_address(bench: Bench) -> Evidence:
    bench.change(bench.left, AddressDelete(bench.device("b"), "10.94.94.1/30"))
    text = bench.left.run("ip", "-o", "address", quiet=True).stdout
    return require("10.94.94.1/" not in text, " ".join(text.split()))


def _mtu(host: str, label: str, size: int) -> Callable[[Bench], Evidence]:
    def do(bench: Bench) -> Evidence:
        machine: Host = getattr(bench, host)
        bench.change(machine, LinkSet(bench.device(label), mtu=size))
        text = machine.run("ip", "-o", "link", "show", "dev", bench.device(label), quiet=True).stdout
        return require(f"mtu {size} " in text, " ".join(text.split()))

    return do


def _offloads(bench: Bench) -> Evidence:
    """Have the client's NICs hand out segments of many frames at once: a wire that counts frames counts one for all."""
    told = []
    for nic in bench.left.nics.values():
        bench.left.run("ethtool", "-K", nic.device, "tx", "on", "tso", "on", "gso", "on")
        found = bench.left.run("ethtool", "-k", nic.device, quiet=True).stdout
        told.append(require("tcp-segmentation-offload: on" in found, f"{nic.device}: tcp-segmentation-offload: on"))
    return "; ".join(told)


def qdisc(host: str, label: str, *words: str) -> Callable[[Bench], Evidence]:
    """Have a NIC's own queue be another; the evidence is that it has sent something."""

    def do(bench: Bench) -> Evidence:
        machine: Host = getattr(bench, host)
        device = bench.device(label)
        machine.run("tc", "qdisc", "replace", "dev", device, "root", *words)

        def shown() -> str:
            text = machine.run("tc", "-s", "qdisc", "show", "dev", device, quiet=True).stdout
            return require(words[0] in text and re.search(r"Sent [1-9]\d{3}", text), " ".join(text.split()))

        return shown

    return do


BUSY = "import time\nwhile True:\n    time.time()\n"


def _busy(bench: Bench) -> Evidence:
    """Have two programs of somebody else's keep two processors busy."""
    running = [bench.panel_spawn("python3", "-S", "-c", BUSY) for _ in range(2)]
    return lambda: require(all(one.poll() is None for one in running), "two programs are busy without a pause")


def _wrong_neighbour(bench: Bench) -> Evidence:
    """Have the client send what is for the server's second NIC to a MAC address that nobody has."""
    device = bench.device("b")
    for far in ("10.94.94.2", "10.93.93.2"):
        bench.left.run("ip", "neigh", "replace", far, "dev", device, "lladdr", "02:00:5e:00:00:99", "nud", "permanent")
    found = bench.left.run("ip", "neigh", "show", "dev", device, quiet=True).stdout
    return require("02:00:5e:00:00:99" in found, " ".join(found.split()))


def _small_window(key: str, host: str, most: int) -> Callable[[Bench], Evidence]:
    return parameter(host, key, f"4096 {min(most, 8192)} {most}")


ADDRESSES = (
    Fault(
        "no-address-b",
        "addresses",
        "the client's second NIC has lost its address",
        _no_address,
        When.TRAFFIC,
        {"MP-1": unfit("not-as-asked", words=r"left: .*10\.94\.94\.1")},
    ),
    Fault(
        "no-source-rules",
        "rules",
        "no rule ties the client's second address to its NIC",
        _no_rules_one_address,
        When.TRAFFIC,
        {
            "MP-1": fails("no-source-rule", words=r"NIC b carried .* no rule `from 10.94.94.1`"),
            "TUN-2": fails("no-source-rule"),
        },
        ("MP-4",),
    ),
    Fault(
        "rule-too-late",
        "rules",
        "the rule for the second address comes behind the main table",
        _late_rule,
        When.READY,
        {"MP-1": caught("route-elsewhere", "no-source-rule", "not-as-asked")},
    ),
    Fault(
        "rule-wrong-table",
        "rules",
        "the rule for the second address leads to the first NIC's table",
        ip(
            "left",
            "rule add from 10.94.94.1 lookup 101 priority 50",
            look="rule",
            shows=r"50:\s+from 10.94.94.1 lookup 101",
        ),
        When.READY,
        {"MP-1": caught("route-elsewhere", "no-source-rule", "not-as-asked")},
    ),
    Fault(
        "route-elsewhere",
        "routes",
        "the second NIC's table sends by the first NIC",
        ip("left", "route replace default dev eth1 table 102", look="route show table 102", shows="dev eth1"),
        When.READY,
        {"MP-1": caught("route-elsewhere", "not-as-asked"), "TUN-5": caught("route-elsewhere", "not-as-asked")},
    ),
    Fault(
        "route-missing",
        "routes",
        "the second NIC's table is empty, and so is what the main one knows of its network",
        ip(
            "left",
            "route flush table 102 ; route del 10.94.94.0/30 dev eth2",
            look="route get 10.93.93.2 from 10.94.94.1",
            shows="dev eth1",
        ),
        When.READY,
        {"MP-1": caught("no-route", "route-elsewhere", "not-as-asked")},
    ),
    Fault(
        "route-blackhole",
        "routes",
        "the second NIC's table is a black hole",
        ip("left", "route replace blackhole default table 102", look="route show table 102", shows="blackhole"),
        When.READY,
        {"MP-1": caught("no-route", "not-as-asked")},
    ),
    Fault(
        "neighbour-wrong",
        "neighbours",
        "the client has a wrong MAC address for the server's second NIC",
        _wrong_neighbour,
        When.READY,
        {"MP-1": caught("neighbour")},
    ),
    Fault(
        "arp-off",
        "neighbours",
        "the server's second NIC answers no ARP",
        ip("right", "link set dev eth2 arp off ; neigh flush all", look="-o link show dev eth2", shows="NOARP"),
        When.READY,
        {"MP-1": caught("neighbour")},
    ),
    Fault(
        "filter-drop",
        "filters",
        "the server drops what comes from the client's second address",
        table("right", "input", "ip saddr 10.94.94.1 counter drop"),
        When.READY,
        {"MP-1": fails("filter", "join-unanswered")},
    ),
    Fault(
        "filter-reset",
        "filters",
        "the server resets what comes from the client's second address",
        table("right", "input", "ip saddr 10.94.94.1 tcp flags syn counter reject with tcp reset"),
        When.READY,
        {"MP-1": fails("filter", "join-refused")},
    ),
    Fault(
        "filter-own-output",
        "filters",
        "the client itself drops what leaves by its second NIC",
        table("left", "output", 'oifname "eth2" counter drop'),
        When.READY,
        {"MP-1": caught("filter")},
        ("MP-4",),
    ),
    Fault(
        "filter-one-in-hundred",
        "filters",
        "the server drops one in 100 of the packets of its second NIC",
        table("right", "input", 'iifname "eth2" numgen random mod 100 0 counter drop'),
        When.READY,
        {"MP-1": noted("retransmissions")},
    ),
    Fault(
        "mtu-1400-b",
        "size",
        "the client's second NIC has an MTU of 1400",
        _mtu("left", "b", 1400),
        When.READY,
        {"MP-1": unfit("not-as-asked", words="MTU of NIC b .* is 1400, and 1500 was asked")},
    ),
    Fault(
        "mtu-1400-built",
        "size",
        "the server's first NIC has an MTU of 1400 from the first traffic on",
        _mtu("right", "a", 1400),
        When.TRAFFIC,
        {"MP-4": unfit("not-as-asked", words="MTU of NIC a .* is 1400, and 1500 was asked")},
    ),
    Fault(
        "extra-address",
        "harmless",
        "the server has an address more, on its loopback device",
        ip("right", "address add 10.250.0.1/32 dev lo", look="address show dev lo", shows="10.250.0.1"),
        When.READY,
        {},
        ("MP-1", "MP-3"),
    ),
    Fault(
        "extra-route",
        "harmless",
        "the client has a route more, to a network that nobody asks for",
        ip("left", "route add blackhole 10.251.0.0/16", look="route", shows="blackhole 10.251"),
        When.READY,
        {},
        ("MP-7", "TUN-2"),
    ),
    Fault(
        "extra-table",
        "harmless",
        "the server counts packets",
        table("right", "input", "counter"),
        When.READY,
        {},
        ("MP-1", "LAG-1"),
    ),
    Fault(
        "neighbours-flushed",
        "harmless",
        "the client forgets its neighbours soon after the traffic began",
        ip("left", "neigh flush all", look="link", shows="eth1"),
        When.MID,
        {},
        ("MP-4",),
    ),
)
MACHINE = (
    Fault(
        "window-16k",
        "buffers",
        "the server's receive buffers are of 16 kB at most",
        _small_window("net/ipv4/tcp_rmem", "right", 16384),
        When.READY,
        {"LAG-1": fails("receive-buffer"), "MP-1": fails("receive-buffer")},
    ),
    Fault(
        "send-buffer-8k",
        "buffers",
        "the client's send buffers are of 8 kB at most",
        _small_window("net/ipv4/tcp_wmem", "left", 8192),
        When.READY,
        {"LAG-1": fails("send-buffer"), "MP-1": fails("send-buffer")},
    ),
    Fault(
        "qdisc-rate",
        "buffers",
        "the client's own queue of its second NIC holds it to 60 Mbit/s",
        qdisc("left", "b", "tbf", "rate", "60mbit", "burst", "16k", "latency", "50ms"),
        When.READY,
        {"MP-1": caught("qdisc", "cable-rate")},
    ),
    Fault(
        "qdisc-short",
        "buffers",
        "the client's own queue of its second NIC holds two frames behind a shaper",
        qdisc("left", "b", "tbf", "rate", "90mbit", "burst", "3100", "limit", "3100"),
        When.TRAFFIC,
        {"MP-1": caught("qdisc", "cable-rate")},
    ),
    Fault(
        "offloads-on",
        "offloads",
        "the client's NICs send segments of many frames",
        _offloads,
        When.READY,
        {"MP-1": caught("offloads", "not-as-asked"), "MP-4": caught("offloads", "not-as-asked")},
    ),
    Fault(
        "busy-machine",
        "processors",
        "two programs of others keep both processors busy",
        _busy,
        When.READY,
        {"LAG-1": unaccused(), "MP-1": unaccused()},
    ),
    Fault(
        "reno",
        "harmless",
        "the client's congestion control is reno",
        parameter("left", "net/ipv4/tcp_congestion_control", "reno"),
        When.READY,
        {},
        ("LAG-1", "MP-4"),
    ),
    Fault(
        "ecn",
        "harmless",
        "both hosts ask for ECN",
        parameter("left", "net/ipv4/tcp_ecn", "1"),
        When.READY,
        {},
        ("LAG-1",),
    ),
    Fault(
        "queue-length",
        "harmless",
        "the client's NIC has a fair queue of its own",
        qdisc("left", "a", "pfifo", "limit", "1000"),
        When.READY,
        {},
        ("MP-1",),
    ),
)
FAULTS = (*ADDRESSES, *MACHINE)
