"""Faults of tunnels: what they carry, every loop, and every guard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from channover.hosts.host import Host
from channover.model.operations.kernel import TableAdd
from channover.model.operations.mptcp import EndpointAdd, EndpointDelete
from channover.model.plan import Plan
from channover.network.loop_guard import Guard
from channover.network.openvpn import join_listener
from channover.scenarios import tunnels
from channover.scenarios.loop import lab as loops
from channover.scenarios.loop import means as loop_means
from tests.faults.bench import Bench, require
from tests.faults.fault import Evidence, Fault, When, caught, fails, unfit
from tests.faults.hosts import ip
from tests.faults.multipath import parameter, table

LoopLab = loops.LoopLab
Used = Callable[[], None]


def _as_backup(_: Any, used: Used) -> Any:
    """Offer the tunnel's address as a backup path: the subflow is there, and carries nothing."""

    @contextmanager
    def closed(loop: Any) -> Iterator[None]:
        used()
        client = loop.tunnel.client
        endpoint = EndpointAdd(40, str(client.address.ip), ("subflow", "backup"))
        with client.host.applied(Plan("a latent loop", (endpoint,))):
            yield

    return closed


def without_rules(whole: Guard) -> Guard:
    """Return a guard that is a table with counters, and rejects nothing."""
    counters = "\n".join(f"  counter {name} {{ }}" for name in whole.counters)
    return Guard(whole.name, whole.counters, Plan("a guard without rules", (TableAdd(whole.name, counters),)))


def _toothless(make: Any, used: Used) -> Any:
    def made(*words: Any, **named: Any) -> Guard:
        used()
        return without_rules(make(*words, **named))

    return made


def _at_the_client(guarded: Any, used: Used) -> Any:
    """Load the guard of the client, and at the server one without rules."""

    def loaded(loop: Any, guards: Sequence[tuple[Host, Guard]]) -> Any:
        used()
        first, *others = guards
        return guarded(loop, [first, *((host, without_rules(one)) for host, one in others)])

    return loaded


def _other_port(make: Any, used: Used) -> Any:
    """Guard another port than the carrier's: the rules are there, and meet nothing."""

    def made(*words: Any, **named: Any) -> Guard:
        used()
        guard = make(*words, **named)
        (table_add,) = guard.plan.operations
        text = re.sub(r"dport \d+", "dport 9", table_add.text)
        return Guard(guard.name, guard.counters, Plan(guard.plan.purpose, (TableAdd(guard.name, text),)))

    return made


def _joined(add: Any, used: Used) -> Any:
    """Offer the tunnel's address to a server that goes on listening: the subflow does not stay pending."""

    @contextmanager
    def offered(loop: Any, **_: object) -> Iterator[None]:
        used()
        with join_listener(loop.tunnel), add(loop):
            yield

    return offered


def _crashed(rate: Any, used: Used) -> Any:
    """End the tunnel's program at the client before the rate inside the loop is measured: nothing comes out either."""

    def measured(loop: Any, name: str) -> Any:
        if "inside" in name:
            used()
            loop.tunnel.client.process.stop()
        return rate(loop, name)

    return measured


def _no_way_back(bench: Bench) -> Evidence:
    beyond = bench.lab.hosts["beyond"]
    shown = beyond.run("ip", "route", quiet=True).stdout
    beyond.run("ip", "rule", "add", "to", "10.96.0.0/16", "blackhole", "priority", "10")
    return require(
        "blackhole" in beyond.run("ip", "rule", quiet=True).stdout,
        f"beyond: a rule refuses 10.96.0.0/16; {' '.join(shown.split())}",
    )


def _each_tun(host: Host, command: str) -> str:
    """Run ``ip link`` with this command on each tunnel's device of a host; return what it says."""
    named = "ip -o link show type tun | sed -n 's/^[0-9]*: \\([^:]*\\):.*/\\1/p'"
    return host.run("sh", "-c", f"{named} | xargs -r -I{{}} ip -o link {command}", quiet=True).stdout


def _tunnel_down(bench: Bench) -> Evidence:
    """Set the tunnel's device at the server down."""
    _each_tun(bench.right, "set dev {} down")
    text = _each_tun(bench.right, "show dev {}")
    return require(text and ",UP" not in text, " ".join(text.split()) or "no tunnel's device")


def _tun_mtu(bench: Bench) -> Evidence:
    _each_tun(bench.left, "set dev {} mtu 1300")
    text = bench.left.run("ip", "-o", "link", quiet=True).stdout
    return require("mtu 1300" in text, " ".join(text.split())[-300:])


def _other_device(make: Any, used: Used) -> Any:
    """Guard another device than the tunnel's: the rule is there, and meets nothing."""

    def made(*words: Any, **named: Any) -> Guard:
        used()
        guard = make(*words, **named)
        (table_add,) = guard.plan.operations
        text = re.sub(r'oifname "\w+"', 'oifname "tun9"', table_add.text)
        return Guard(guard.name, guard.counters, Plan(guard.plan.purpose, (TableAdd(guard.name, text),)))

    return made


def _on_one_path(restart: Any, used: Used) -> Any:
    """Have the client lose the endpoint of its second path before the tunnel connects again."""

    def connected(tunnel: Any, *words: Any, **named: Any) -> Any:
        used()
        tunnel.client.host.apply(Plan("one path less", (EndpointDelete(2),)))
        return restart(tunnel, *words, **named)

    return connected


def _not_apart(_: Any, used: Used) -> Any:
    """Leave the device where it is."""

    @contextmanager
    def separated(*_: object) -> Iterator[Any]:
        used()
        yield SimpleNamespace(answered=lambda: 3)

    return separated


def _nothing(_: Any, used: Used) -> Any:
    """Do nothing for the length of a block."""

    @contextmanager
    def idle(*_: object) -> Iterator[None]:
        used()
        yield

    return idle


def _no_listener(_: Any, used: Used) -> Any:
    """Have nothing listen on the carrier's port: the server takes no further subflow."""

    @contextmanager
    def listening(_: Any) -> Iterator[None]:
        used()
        yield

    return listening


FAULTS = (
    Fault(
        "guard-device-other",
        "guards",
        "the guard of the device is for another device",
        None,
        When.IN_PLACE,
        {
            "TUN-4 device": fails(
                "guard-never-met", words=r"packets that the guard of left refused of 0, expected at least 1"
            )
        },
        (),
        ((loops, "device_guard", _other_device),),
    ),
    Fault(
        "loop-unanswered",
        "loops",
        "the server takes no subflow, where one is to close the loop",
        None,
        When.IN_PLACE,
        {"TUN-3 own": fails("tunnel-loop", words=r"signs of a loop by source .* of 0, expected at least 1")},
        (),
        ((loop_means, "join_listener", _no_listener),),
    ),
    Fault(
        "guard-not-apart",
        "guards",
        "the device stays in the host's own namespace",
        None,
        When.IN_PLACE,
        {"TUN-4 apart": fails("tunnel-loop", words=r"subflows within the tunnel at left of \d, expected exactly 0")},
        (),
        ((loops, "separated", _not_apart),),
    ),
    Fault(
        "guard-no-limit",
        "guards",
        "the limit of subflows leaves room for the tunnel",
        None,
        When.IN_PLACE,
        {
            "TUN-4 limit": fails(
                "tunnel-loop", words=r"subflows within the tunnel at left and right of \d, expected exactly 0"
            )
        },
        (),
        ((LoopLab, "no_more_subflows_than_paths", _nothing),),
    ),
    Fault(
        "guard-no-backup",
        "guards",
        "nothing offers the tunnel as a backup path",
        None,
        When.IN_PLACE,
        {"TUN-4 backup": fails("loop-not-offered", words=r"signs of a loop by source .* of 0, expected at least 1")},
        (),
        ((LoopLab, "closed_by", _nothing),),
    ),
    Fault(
        "tunnel-again-one-path",
        "tunnels",
        "the tunnel connects again with an endpoint less",
        None,
        When.IN_PLACE,
        {"TUN-2 again": fails("no-endpoint", words="NIC b carried .* no MPTCP endpoint")},
        (),
        ((tunnels, "restart", _on_one_path),),
    ),
    Fault(
        "loop-latent",
        "loops",
        "the tunnel's address is a backup path: the loop is there, and carries nothing",
        None,
        When.IN_PLACE,
        {"TUN-3": fails("loop-latent", words=r"inside the loop of 1\d\d.*waits for what it carries")},
        (),
        ((LoopLab, "close_loop", _as_backup),),
    ),
    Fault(
        "loop-crashed",
        "loops",
        "the tunnel's program ends inside the loop",
        None,
        When.IN_PLACE,
        {"TUN-3": caught("program-ended", words=r"programs that run of 1, expected.*left: .*ended|openvpn")},
        (),
        ((LoopLab, "rate", _crashed),),
    ),
    Fault(
        "loop-joined",
        "loops",
        "the subflow within the tunnel is joined, where it is to stay pending",
        None,
        When.IN_PLACE,
        {"TUN-3 pending": fails("loop-joined", words=r"by pending .* of 0, expected at least 1.*source: subflow")},
        (),
        ((LoopLab, "add_subflow_endpoint", _joined),),
    ),
    Fault(
        "guard-article-toothless",
        "guards",
        "the article's guard has no rule",
        None,
        When.IN_PLACE,
        {
            "TUN-4 article": fails(
                "guard-never-met",
                "guard-not-loaded",
                words=r"packets that the guard of left refused of 0, expected at least 1",
            )
        },
        (),
        ((loops, "source_guard", _toothless),),
    ),
    Fault(
        "guard-article-other-port",
        "guards",
        "the article's guard is for another port",
        None,
        When.IN_PLACE,
        {"TUN-4 article": fails("guard-never-met", "guard-not-loaded", words=r"refused of 0, expected at least 1")},
        (),
        ((loops, "source_guard", _other_port),),
    ),
    Fault(
        "guard-toothless",
        "guards",
        "the guards for both directions have no rule",
        None,
        When.IN_PLACE,
        {
            "TUN-4": fails(
                "guard-never-met",
                "guard-not-loaded",
                words=r"packets that the guard of left refused of 0, expected at least 1",
            )
        },
        (),
        ((loops, "both_guard", _toothless),),
    ),
    Fault(
        "means-toothless",
        "guards",
        "a means that is to close every way into the loop has no rule",
        None,
        When.IN_PLACE,
        {
            "TUN-4 means": fails(
                "guard-never-met", words=r"subflows within the tunnel at left of \d, expected exactly 0"
            )
        },
        (),
        ((loops, "both_guard", _toothless),),
    ),
    Fault(
        "guard-client-only",
        "guards",
        "the guard for both directions is at the client only",
        None,
        When.IN_PLACE,
        {
            "TUN-4": fails(
                "guard-never-met",
                "guard-not-loaded",
                words=r"packets that the guard of right refused of 0, expected at least 1",
            )
        },
        (),
        ((LoopLab, "_guarded", _at_the_client),),
    ),
    Fault(
        "tunnel-udp-lost",
        "tunnels",
        "the server drops three in ten datagrams that come out of the tunnel",
        table("right", "input", 'iifname "ptp" meta l4proto udp numgen random mod 10 < 3 counter drop'),
        When.TRAFFIC,
        {"TUN-5": fails("filter")},
    ),
    Fault(
        "tunnel-echo-lost",
        "tunnels",
        "the server answers no echo request",
        table("right", "input", "icmp type echo-request counter drop"),
        When.READY,
        {
            "TUN-2": fails("filter", words="echo requests answered"),
            "TUN-1": fails("filter", words="echo requests answered"),
            "TUN-7": fails("filter", words="answers, full size, whole of 0"),
        },
    ),
    Fault(
        "tunnel-fragments-lost",
        "tunnels",
        "the server drops fragments that come out of the tunnel",
        table("right", "prerouting", 'iifname "ptp" ip frag-off & 0x1fff != 0 counter drop', "raw"),
        When.READY,
        {"TUN-7": fails("filter", words="a byte above, in fragments of 0")},
    ),
    Fault(
        "tunnel-ipv6-lost",
        "tunnels",
        "the server drops IPv6 that comes out of the tunnel",
        table("right", "input", 'iifname "ptp" meta nfproto ipv6 counter drop'),
        When.READY,
        {"TUN-7": fails("filter", words="answers, IPv6, full size of 0")},
    ),
    Fault(
        "tunnel-no-forwarding",
        "tunnels",
        "the server forwards nothing",
        parameter("right", "net/ipv4/ip_forward", "0"),
        When.TRAFFIC,
        {"TUN-6": caught("not-as-asked", "tunnel-route-missing")},
        ("TUN-5",),
    ),
    Fault(
        "tunnel-no-way-back",
        "tunnels",
        "the host beyond has no way back into the tunnel",
        _no_way_back,
        When.TRAFFIC,
        {
            "TUN-6": fails("tunnel-route-missing", "no-route", "path-silent"),
            "TUN-6 default": fails("tunnel-route-missing", "no-route", "path-silent"),
        },
    ),
    Fault(
        "tunnel-device-down",
        "tunnels",
        "the tunnel's device at the server is down",
        _tunnel_down,
        When.TRAFFIC,
        {"TUN-5": caught("tunnel-down")},
    ),
    Fault(
        "tunnel-mtu",
        "tunnels",
        "the tunnel's device at the client has an MTU of 1300",
        _tun_mtu,
        When.TRAFFIC,
        {"TUN-5": unfit("not-as-asked", words="MTU of the tunnel's")},
    ),
    Fault(
        "tunnel-table",
        "harmless",
        "the server counts what comes out of the tunnel",
        table("right", "input", 'iifname != "lo" counter'),
        When.TRAFFIC,
        {},
        ("TUN-5",),
    ),
    Fault(
        "tunnel-idle-device",
        "harmless",
        "the client has another tunnel device, that nobody uses",
        ip("left", "tuntap add dev tun7 mode tun", look="link", shows="tun7"),
        When.READY,
        {},
        ("TUN-2", "TUN-3"),
    ),
)
