"""Faults of Multipath TCP: its signalling, limits, flags, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from channover.hosts.host import Host
from channover.model.operations.devices import AddressAdd
from channover.model.operations.kernel import SysctlSet, TableAdd
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, EndpointDelete, LimitsSet
from channover.model.operations.operation import Operation
from channover.scenarios import labs
from tests.faults import lacp
from tests.faults.bench import Bench, NotInForce, require
from tests.faults.fault import Evidence, Fault, When, caught, fails, unfit

PAIR = "10.94.94"
"""The network of the second cable."""


def endpoints(host: Host) -> str:
    """Return a host's endpoints and limits in words."""
    return "; ".join(
        " ".join(host.run("ip", "mptcp", what, "show", quiet=True).stdout.split()) for what in ("endpoint", "limits")
    )


def changed(*changes: tuple[str, Operation], asked: bool = True) -> Callable[[Bench], Evidence]:
    """Have hosts changed, each named with the change; the evidence is their path manager's state.

    ``asked`` has the change be the test's own wish: a lab that was asked for wrongly, and is as it was asked for.
    """

    def do(bench: Bench) -> Evidence:
        for name, operation in changes:
            (bench.ask if asked else bench.change)(getattr(bench, name), operation)
        return "; ".join(f"{name}: {endpoints(getattr(bench, name))}" for name in ("left", "right"))

    return do


def no_endpoints(bench: Bench) -> Evidence:
    """Take all endpoints away from both hosts."""
    for host in (bench.left, bench.right):
        bench.ask(host, *(EndpointDelete(number) for number in host.state().endpoints))
    return require(not bench.left.state().endpoints, f"left: endpoints {endpoints(bench.left)}")


def parameter(host: str, key: str, value: str, *, asked: bool = False) -> Callable[[Bench], Evidence]:
    """Have a host's parameter be another; ``asked`` has that be the test's own wish."""

    def do(bench: Bench) -> Evidence:
        machine = getattr(bench, host)
        (bench.ask if asked else bench.change)(machine, SysctlSet(key, value))
        found = machine.read(f"/proc/sys/{key}").split()
        return require(found == value.split(), f"{host}: {key} = {' '.join(found)}")

    return do


def table(
    host: str, hook: str, rules: str, priority: str = "filter", name: str = "somebodys"
) -> Callable[[Bench], Evidence]:
    """Have a host's packets pass a table of nftables; the evidence is that a rule of it met some."""

    def do(bench: Bench) -> Evidence:
        machine = getattr(bench, host)
        body = "\n".join(f"    {line.strip()}" for line in rules.strip().splitlines())
        text = f"  chain c {{\n    type filter hook {hook} priority {priority};\n{body}\n  }}"
        bench.change(machine, TableAdd(name, text))

        def shown() -> str:
            listed = machine.run("nft", "list", "table", "inet", name, quiet=True).stdout
            met = [
                line.strip() for line in listed.splitlines() if "counter packets " in line and "packets 0 " not in line
            ]
            return require(met, "; ".join(met) or " ".join(listed.split()))

        return shown

    return do


STRIP = "tcp option mptcp exists counter reset tcp option mptcp"


def _nine_on_one_path(bench: Bench) -> Evidence:
    """Have three addresses on the first NIC of each host be the mesh: nine subflows, all by one cable."""
    rate = bench.rate("a", 3.0)
    for host, last, flags in ((bench.left, 1, ("subflow", "fullmesh")), (bench.right, 2, ("signal",))):
        extra = [f"10.201.{number}.{last}" for number in (1, 2)]
        device = bench.device("a")
        bench.ask(host, *(EndpointDelete(number) for number in host.state().endpoints if number != 1))
        bench.ask(host, *(AddressAdd(device, f"{address}/24") for address in extra))
        bench.ask(host, *(EndpointAdd(number, address, flags) for number, address in enumerate(extra, start=2)))
    return lambda: f"{rate()}; left: {endpoints(bench.left)}"


_IN_TURNS = """
while :; do
    for slow in 1 2; do
        tc qdisc replace dev eth$slow root tbf rate 1mbit burst 16k latency 100ms
        tc qdisc del dev eth$((3 - slow)) root
        sleep 0.4
    done
done
"""


def _full_in_turns(bench: Bench) -> Evidence:
    """Have one NIC at a time carry what its cable takes, and the other next to nothing."""
    for label in "ab":
        bench.rate(label, 2.0)
    process = bench.left.spawn("sh", "-c", _IN_TURNS)
    return lambda: require(process.poll() is None, "one NIC at a time is held to 1 Mbit/s")


@contextmanager
def _nothing(*_: object, **__: object) -> Iterator[None]:
    yield


def _left_out(_: Any, used: Callable[[], None]) -> Callable[..., Any]:
    def left_out(*_: object, **__: object) -> Any:
        used()
        return _nothing()

    return left_out


FAULTS = (
    Fault(
        "no-endpoints",
        "MPTCP signalling",
        "neither host has an MPTCP endpoint",
        no_endpoints,
        When.TRAFFIC,
        {
            "MP-1": fails("no-endpoint", words=r"left has no MPTCP endpoint 10.94.94.1"),
            "MP-3": fails("no-endpoint", words=r"HTTP goodput of [89]\d.* expected at least 150"),
            "MP-7": fails("no-endpoint", words=r"left has no MPTCP endpoint 10.94.94.1"),
            "TUN-2": fails("no-endpoint"),
        },
        ("MP-4",),
    ),
    Fault(
        "no-endpoint-b",
        "MPTCP signalling",
        "the client has no endpoint on its second NIC",
        changed(("left", EndpointDelete(2)), asked=False),
        When.READY,
        {"MP-1": unfit("not-as-asked", words=r"left: .*endpoint.*10\.94\.94\.1")},
        quick=True,
    ),
    Fault(
        "endpoint-removed-mid",
        "MPTCP signalling",
        "the client's second endpoint is taken away soon after the traffic began",
        changed(("left", EndpointDelete(2))),
        When.MID,
        {"MP-1": fails("no-endpoint")},
    ),
    Fault(
        "endpoint-backup",
        "MPTCP flags",
        "the client's second NIC is a backup path",
        changed(("left", EndpointChange(2, ("backup", "fullmesh")))),
        When.READY,
        {"MP-1": caught("endpoint-backup"), "TUN-2": caught("endpoint-backup")},
    ),
    Fault(
        "endpoint-backup-unasked",
        "MPTCP flags",
        "somebody else makes the client's second NIC a backup path",
        changed(("left", EndpointChange(2, ("backup", "fullmesh"))), asked=False),
        When.READY,
        {"MP-1": unfit("not-as-asked", words=r"left: .*backup")},
    ),
    Fault(
        "limits-unasked",
        "MPTCP limits",
        "somebody else sets the limits of the server back to the kernel's own",
        changed(("right", LimitsSet(2, 0)), asked=False),
        When.READY,
        {"MP-2": unfit("not-as-asked", words=r"right: .*limit")},
    ),
    Fault(
        "endpoint-backup-late",
        "MPTCP flags",
        "the client's second NIC becomes a backup path as the traffic begins",
        changed(("left", EndpointChange(2, ("backup", "fullmesh")))),
        When.TRAFFIC,
        {"MP-1": fails("endpoint-backup")},
        quick=True,
    ),
    Fault(
        "endpoint-signal-only",
        "MPTCP flags",
        "the client announces its second address instead of connecting from it",
        changed(("left", EndpointDelete(2)), ("left", EndpointAdd(2, f"{PAIR}.1", ("signal",)))),
        When.READY,
        {"MP-1": caught("endpoint-flags")},
    ),
    Fault(
        "limits-client-0",
        "MPTCP limits",
        "the client opens no extra subflow",
        changed(("left", LimitsSet(0, 8))),
        When.READY,
        {"MP-1": caught("subflow-limit")},
    ),
    Fault(
        "limits-server-0",
        "MPTCP limits",
        "the server accepts no extra subflow",
        changed(("right", LimitsSet(0, 8))),
        When.READY,
        {"MP-1": caught("subflow-limit"), "MP-2": caught("subflow-limit")},
    ),
    Fault(
        "limits-seven",
        "MPTCP limits",
        "seven extra subflows are allowed, of eight",
        changed(("left", LimitsSet(7, 8))),
        When.TRAFFIC,
        {"MP-2": fails("subflow-limit", words=r"subflows at left of 8, expected")},
        ("MP-1 three",),
    ),
    Fault(
        "limits-no-announcement",
        "MPTCP limits",
        "the client accepts no announced address",
        changed(("left", LimitsSet(8, 0))),
        When.TRAFFIC,
        {"MP-2": fails("address-limit")},
        ("MP-1 three",),
    ),
    Fault(
        "server-announces-one-less",
        "MPTCP signalling",
        "the server does not announce its third address",
        changed(("right", EndpointDelete(3))),
        When.TRAFFIC,
        {"MP-2": fails("no-endpoint", "endpoint-not-announced", "no-announcement")},
        ("MP-1 three",),
    ),
    Fault(
        "nine-on-one-path",
        "comparisons",
        "the mesh is of three addresses on one NIC, whose cable is three times as fast",
        _nine_on_one_path,
        When.TRAFFIC,
        {
            "MP-2": fails(
                words=r"address pairs of the mesh at left of 1, expected .*no subflow from 10.93.93.1 to 10.94.94.2"
            )
        },
        blind=True,
    ),
    Fault(
        "full-in-turns",
        "comparisons",
        "one NIC at a time is full, and the other next to idle",
        _full_in_turns,
        When.TRAFFIC,
        {"MP-7": fails(words=r"lesser rx rate of right's NICs of \d.* expected 93 Mbit/s to")},
        blind=True,
    ),
    Fault(
        "middlebox",
        "MPTCP middleboxes",
        "a middlebox takes MPTCP's option out of what the client sends",
        table("left", "output", STRIP, "mangle"),
        When.TRAFFIC,
        {
            "MP-1": fails("mptcp-fallback", "filter-strips-option", words=r"fell back to TCP"),
            "TUN-2": fails("mptcp-fallback", "filter-strips-option"),
        },
    ),
    Fault(
        "middlebox-wire-a",
        "MPTCP middleboxes",
        "cable a takes MPTCP's option out of SYNs towards the server",
        lambda bench: bench.rules(
            "a", "  tcp flags & syn == syn tcp option mptcp exists counter reset tcp option mptcp", ("right",)
        ),
        When.BUILT,
        {"MP-1": fails("mptcp-fallback", "filter-strips-option")},
    ),
    Fault(
        "middlebox-fast",
        "comparisons",
        "a middlebox takes MPTCP out, and the cables are twice as fast",
        lambda bench: _both(
            bench.rate("a", 2.0), bench.rate("b", 2.0), table("left", "output", STRIP, "mangle")(bench)
        ),
        When.TRAFFIC,
        {"MP-3": caught("mptcp-fallback", "filter-strips-option", words=r"fell back to TCP")},
        blind=True,
    ),
    Fault(
        "middlebox-joins",
        "MPTCP middleboxes",
        "a firewall on cable b drops the SYNs of joins",
        lambda bench: bench.rules("b", "  tcp flags & syn == syn tcp option mptcp subtype 1 counter drop"),
        When.BUILT,
        {
            "MP-1": fails("join-unanswered", "no-join"),
            "TUN-5": fails("join-unanswered", "no-join"),
            "APP-3 RTP": fails("join-unanswered", "no-join"),
            "MP-5": fails(words=r"goodput fault: path lost.* expected at least 83"),
            "MP-5 flag": fails(words=r"goodput no backup.* expected at least 175"),
            "MP-5 removed": fails(words=r"goodput address removed.* expected at least 83"),
            "MP-10": fails("join-unanswered", "no-join"),
            "MP-9": fails(words=r"goodput before.* expected at least 175"),
        },
    ),
    Fault(
        "middlebox-announcements",
        "MPTCP middleboxes",
        "a middlebox drops what announces addresses",
        lambda bench: _any(
            *(bench.rules(label, "  tcp option mptcp subtype 3 counter drop", ("left",)) for label in "abc")
        ),
        When.BUILT,
        {"MP-2": fails("no-announcement")},
    ),
    Fault(
        "middlebox-data",
        "MPTCP middleboxes",
        "a middlebox takes MPTCP's option out of all but SYNs",
        table(
            "left", "output", "tcp flags & syn == 0 tcp option mptcp exists counter reset tcp option mptcp", "mangle"
        ),
        When.TRAFFIC,
        {"MP-1": fails("mptcp-fallback", "filter-strips-option", "join-unanswered")},
    ),
    Fault(
        "mptcp-off-server",
        "MPTCP signalling",
        "MPTCP is off at the server",
        parameter("right", "net/mptcp/enabled", "0"),
        When.READY,
        {"MP-1": unfit("not-as-asked", words="net/mptcp/enabled")},
    ),
    Fault(
        "multipath-stays-on",
        "MPTCP signalling",
        "no endpoint is taken away where multipath is to be off",
        None,
        When.IN_PLACE,
        {"MP-4": caught("endpoint-left", words=r"goodput of 1\d\d.* expected 91|endpoint")},
        (),
        ((labs.Multipath, "off", _left_out),),
    ),
    Fault(
        "rules-stay",
        "rules",
        "the source rules stay where they are to be taken away",
        None,
        When.IN_PLACE,
        {"MP-6": caught("rule-left", words=r"goodput of 1\d\d.*all subflows leave by one NIC|rule")},
        (),
        ((labs.Multipath, "without_source_rules", _left_out),),
    ),
    Fault(
        "loud-chatter",
        "strangers",
        "the client's NICs send 80 kB a second beside the traffic",
        lacp.chatter(1000, 0.012),
        When.TRAFFIC,
        {
            "MP-6": caught(
                "cable-foreign", words=r"tx bytes of idle left.b of .* expected at most .*no data|somebody else"
            )
        },
    ),
    Fault(
        "checksums",
        "harmless",
        "MPTCP's own checksums are on at the client",
        parameter("left", "net/mptcp/checksum_enabled", "1"),
        When.READY,
        {},
        ("MP-7",),
    ),
    Fault(
        "stale-count",
        "harmless",
        "a subflow counts as stale after five time-outs instead of four",
        parameter("left", "net/mptcp/stale_loss_cnt", "5"),
        When.READY,
        {},
        ("MP-1",),
    ),
    Fault(
        "initial-address-joins",
        "harmless",
        "the server tells clients not to join its first address",
        parameter("right", "net/mptcp/allow_join_initial_addr_port", "0"),
        When.READY,
        {},
        ("MP-1",),
    ),
)


def _any(*shown: Callable[[], str]) -> Evidence:
    """Return what shows that one of several is in force: an address is announced by one path, not by each."""

    def told() -> str:
        found = []
        for one in shown:
            with suppress(NotInForce):
                found.append(one())
        return require(found, "; ".join(found) or "none of them met anything")

    return told


def _both(*shown: Any) -> Evidence:
    return lambda: "; ".join(one if isinstance(one, str) else one() for one in shown)
