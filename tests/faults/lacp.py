"""Faults of link aggregation: LACP's configuration, its timers, its frames, and what chooses a flow's link."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from channover.hosts.lab import Lab
from channover.model.topology import Cable
from channover.network.lag import LacpRate
from channover.network.openvswitch import OpenVSwitchDriver
from tests.faults.bench import Bench, require
from tests.faults.fault import Evidence, Fault, When, caught, fails, unfit

LACP_FRAMES = "  ether type 0x8809 counter drop"


def _unheard(bench: Bench) -> Evidence:
    """Have both cables lose LACP frames, whichever of them the flow takes."""
    shown = [bench.rules(one, LACP_FRAMES) for one in "ab"]
    return lambda: "; ".join(one() for one in shown)


def configured(*words: str, ends: str = "right", unset: tuple[str, ...] = ()) -> Callable[[Bench], Evidence]:
    """Have ends of the LAG configured otherwise, in the words of ``ovs-vsctl set Port``; it is read back at once."""

    def do(bench: Bench) -> Evidence:
        told = []
        for name in ends.split():
            bond = bench.bond(getattr(bench, name))
            bond.switch.configure("set", "Port", bond.port, *words)
            for key in unset:
                bond.switch.configure("remove", "Port", bond.port, "other_config", key)
            told.append(f"{name}: {' '.join(_column(bond, word) for word in words)}")
        return "; ".join(told)

    return do


def _column(bond: Any, word: str) -> str:
    column = word.partition("=")[0]
    wanted = word.partition("=")[2]
    found = (
        bond.switch.host.run(
            "ovs-vsctl", f"--db=unix:{bond.switch.folder}/db.sock", "get", "Port", bond.port, column, quiet=True
        )
        .stdout.strip()
        .strip('"')
    )
    return require(found == wanted, f"{column}={found}")


def _interface(label: str, *words: str) -> Callable[[Bench], Evidence]:
    def do(bench: Bench) -> Evidence:
        bond = bench.bond(bench.right)
        bond.switch.configure("set", "Interface", bench.device(label), *words)
        return lambda: str(bond.switch.show("lacp/show", bond.port)).strip()

    return do


def _forged(bench: Bench, pause: float = 0.02, label: str = "b") -> Evidence:
    """Have a third system send LACP frames towards the server by a cable, as a switch that is not stacked would."""
    _, out = bench.ports(label, "right")
    process = bench.panel_script("lacp_stranger.py", f"port{out}", f"{pause:g}")

    def shown() -> str:
        process.signal(10)
        return str(process.wait_for(r"sent [1-9]\d* frames", 5.0)[0])

    return shown


def _other_system(bench: Bench) -> Evidence:
    """Have LACP frames of cable b name another system as their sender, both ways: the far end of a second switch."""
    # Actor's system address: bytes 20 to 25 of the frame, behind Ethernet's header, subtype, version and the TLV's head.
    return bench.rules("b", "  ether type 0x8809 @ll,192,16 set 0x7777 counter")


def _down(bench: Bench) -> Evidence:
    bench.right.run("ip", "link", "set", "dev", bench.device("b"), "down")
    text = bench.right.run("ip", "-o", "link", "show", "dev", bench.device("b"), quiet=True).stdout
    return require("state DOWN" in text, " ".join(text.split()))


def _one_bucket(bench: Bench) -> Evidence:
    """Have both switches keep to one member: the other is up, in the LAG, and carries no flow."""
    for host in (bench.left, bench.right):
        bond = bench.bond(host)
        bond.switch.configure("set", "Port", bond.port, "bond_mode=active-backup")
    bond = bench.bond(bench.right)
    return lambda: require(
        "active-backup" in (text := str(bond.switch.show("bond/show", bond.port))), " ".join(text.split())
    )


def _chatter(bench: Bench, size: int = 40, pause: float = 0.05) -> Evidence:
    """Send frames that are no LACP, of so many bytes and so often (seconds), out of every NIC, below the LAG."""
    script = (
        "import socket,time,sys\n"
        "s=[socket.socket(socket.AF_PACKET,socket.SOCK_RAW) for _ in sys.argv[1:]]\n"
        "[one.bind((name,0)) for one,name in zip(s,sys.argv[1:])]\n"
        "while True:\n"
        "    [one.send(b'\\xff'*6+b'\\x02'*6+b'\\x88\\xb5'+b'x'*%d) for one in s]; time.sleep(%g)\n"
    )
    devices = [nic.device for nic in bench.left.nics.values()]
    process = bench.left.spawn("python3", "-c", script % (size, pause), *devices)
    return lambda: require(
        process.poll() is None, f"frames of {size} bytes every {pause:g} s, out of {', '.join(devices)}"
    )


def _flap(bench: Bench) -> Evidence:
    """Pull each cable for a moment, one after the other, and plug it in again."""
    for cable in bench.cables:
        with bench.lab.lost(cable):
            time.sleep(0.3)
        time.sleep(1.5)
    return lambda: "; ".join(
        f"{host.name} {device}: its carrier changed {link.carrier_changes} times"
        for host in (bench.left, bench.right)
        for device, link in host.state().links.items()
        if require(link.carrier_changes is not None, "carrier changes are told") and device in ("eth1", "eth2")
    )


def _all_lost(lost: Callable[..., Any], used: Callable[[], None]) -> Callable[..., Any]:
    @contextmanager
    def every(lab: Lab, cable: Cable, **how: Any) -> Iterator[None]:  # noqa: ARG001
        used()
        with ExitStack() as stack:
            for one in lab.topology.cables:
                stack.enter_context(lost(lab, one, **how))
            yield

    return every


_SLOWER = """
rate=${1%%.*}
for step in $(seq 40); do
    for device in eth1 eth2; do
        tc qdisc replace dev $device root tbf rate $((rate * (400 - step) / 400)) burst 16k latency 50ms overhead 24
    done
    sleep 0.5
done
sleep 60
"""


def _slower(bench: Bench) -> Evidence:
    """Have the client's NICs carry a little less every half second."""
    process = bench.left.spawn("sh", "-c", _SLOWER, "slower", str(bench.lab.link.rate))
    return lambda: require(
        process.poll() is None and "tbf" in (text := bench.left.run("tc", "qdisc", "show", quiet=True).stdout),
        " ".join(text.split()),
    )


def chatter(size: int, pause: float) -> Callable[[Bench], Evidence]:
    """Return what sends such frames out of every NIC of the client."""
    return partial(_chatter, size=size, pause=pause)


def _slow(create: Callable[..., Any], used: Callable[[], None]) -> Callable[..., Any]:
    """Have a driver ask its partner for a LACP frame every 30 s, whatever it was told."""

    def made(driver: Any, *words: Any) -> Any:
        used()
        return create(driver, *words[:5], LacpRate.SLOW)

    return made


FAULTS = (
    Fault(
        "lacp-slow",
        "LACP timers",
        "both ends ask for a LACP frame every 30 s instead of every second",
        None,
        When.IN_PLACE,
        {"LAG-4": unfit("not-as-asked", words=r"left: the LAG bond0: its LACP rate is slow, and fast was asked")},
        (),
        ((OpenVSwitchDriver, "create", _slow),),
        quick=True,
    ),
    Fault(
        "lacp-slow-unproved",
        "comparisons",
        "both ends ask for a LACP frame every 30 s, and nothing is read back",
        None,
        When.IN_PLACE,
        {"LAG-4": fails(words=r"states of ports at left.*missing: eth1 timeout, eth2 timeout")},
        (),
        ((OpenVSwitchDriver, "create", _slow),),
        blind=True,
    ),
    Fault(
        "lacp-slow-one-end",
        "LACP timers",
        "one end asks for LACP frames every 30 s",
        configured("other_config:lacp-time=slow"),
        When.BONDED,
        {
            "LAG-4": unfit("not-as-asked", words=r"right: the LAG bond0: its LACP rate is slow, and fast was asked"),
            "LAG-1": unfit("not-as-asked", words=r"right: the LAG bond0: its LACP rate is slow, and fast was asked"),
        },
    ),
    Fault(
        "link-flaps-late",
        "long run",
        "each cable in turn loses its carrier for a moment, five seconds into the traffic",
        _flap,
        When.LATE,
        {"LAG-5": fails("lag-member-lost", words=r"expected")},
    ),
    Fault(
        "lacp-frames-lost-late",
        "long run",
        "cable b loses LACP frames, both ways, from five seconds into the traffic on",
        lambda bench: bench.rules("b", LACP_FRAMES),
        When.LATE,
        {"LAG-5": fails("lacp-unheard", words=r"expected")},
    ),
    Fault(
        "nic-slows-late",
        "long run",
        "the client's NICs slow down little by little, five seconds into the traffic",
        _slower,
        When.LATE,
        {"LAG-5": caught("qdisc", "cable-rate", words=r"carries [\d.]+ of 100|expected")},
    ),
    Fault(
        "lacp-off-later",
        "failover",
        "LACP is switched off at the sender as the link is lost: nobody there hears that the partner is gone",
        configured("lacp=off", ends="left"),
        When.LOST,
        {"LAG-8 silent": caught("not-as-asked", "lag-mode", words=r"LACP is off")},
    ),
    Fault(
        "lag-down-delay",
        "failover",
        "the sender's switch waits 2 s before a lost link counts",
        configured("bond_downdelay=2000", ends="left"),
        When.MID,
        {
            "LAG-8": fails("lag-delay", words=r"outage, the lost link's flows of .*expected at most 0\.2 s"),
            "LAG-8 silent": fails("lag-delay", words=r"outage, the lost link's flows of .*expected 1\.8 s to 3\.2 s"),
        },
        ("LAG-1",),
    ),
    Fault(
        "lag-no-link-left",
        "failover",
        "whenever one cable is lost the other is lost with it",
        None,
        When.IN_PLACE,
        {
            "LAG-8 needed": fails(
                "lag-member-lost", words=r"outage, the other link's flows of .*expected at most 0\.2 s"
            )
        },
        (),
        ((Lab, "lost", _all_lost),),
    ),
    Fault(
        "lag-up-delay",
        "failover",
        "the receiver's switch waits half a minute before it uses a link that is back",
        configured("bond_updelay=30000"),
        When.MID,
        {
            "LAG-8": fails("lag-delay", words=r"link at work again after of .*expected at most"),
            "LAG-8 silent": fails("lag-delay", words=r"link at work again after of .*expected at most"),
            "LAG-8 one way": fails("lag-delay", words=r"link at work again after of .*expected at most"),
        },
        ("LAG-1",),
    ),
    Fault(
        "lacp-passive-one-end",
        "LACP configuration",
        "LACP is passive at one end",
        configured("lacp=passive"),
        When.BONDED,
        {
            "LAG-4": caught("lacp-passive", "not-as-asked", words="activity|passive"),
            "LAG-1": caught("not-as-asked", words="passive"),
        },
    ),
    Fault(
        "lacp-passive",
        "LACP configuration",
        "LACP is passive at both ends: none begins",
        configured("lacp=passive", ends="left right"),
        When.BONDED,
        {
            "LAG-4": caught("lacp-passive", "not-as-asked", words="passive"),
            "LAG-1": caught("lacp-passive", "not-as-asked", words="passive"),
        },
    ),
    Fault(
        "lacp-off",
        "LACP configuration",
        "one end's bond is static: it speaks no LACP",
        configured("lacp=off"),
        When.BONDED,
        {
            "LAG-4": caught("lacp-unheard", "lag-mode", "not-as-asked", words="LACP|lacp"),
            "LAG-1": caught("lacp-unheard", "lag-mode", "not-as-asked"),
        },
    ),
    Fault(
        "lacp-keys",
        "LACP configuration",
        "the members of one end have different keys",
        _interface("b", "other_config:lacp-aggregation-key=7"),
        When.BONDED,
        {"LAG-4": caught("lacp-keys", "not-as-asked", words="key")},
    ),
    Fault(
        "lacp-frames-lost",
        "LACP frames",
        "cable b loses LACP frames, both ways",
        lambda bench: bench.rules("b", LACP_FRAMES),
        When.BUILT,
        {
            "LAG-4": caught("lacp-unheard", words="eth2 has heard of no partner"),
            "LAG-1": caught("lacp-unheard", words="partner"),
        },
    ),
    Fault(
        "lacp-frames-lost-later",
        "LACP frames",
        "both cables lose LACP frames from the first traffic on",
        _unheard,
        When.TRAFFIC,
        {"LAG-3": caught("lacp-unheard", words="LACP frames|partner")},
    ),
    Fault(
        "lacp-two-partners",
        "LACP frames",
        "LACP frames of cable b name another system: two switches that are not stacked",
        _other_system,
        When.BUILT,
        {"LAG-4": caught("lacp-partners", words="2 partners")},
    ),
    Fault(
        "lacp-forged",
        "LACP frames",
        "a third system sends LACP frames on cable b",
        _forged,
        When.BUILT,
        {"LAG-4": caught("lacp-partners", "cable-foreign", words="partner|nobody|cable b")},
    ),
    Fault(
        "member-down",
        "LACP configuration",
        "a member is set down at one end",
        _down,
        When.READY,
        {
            "LAG-1": caught("nic-down", "not-as-asked", words="links at work|eth2|NIC b"),
            "LAG-7": caught("nic-down", "not-as-asked"),
        },
    ),
    Fault(
        "hash-layer2",
        "hash",
        "both switches hash MAC addresses instead of ports",
        configured("bond_mode=balance-slb", ends="left right"),
        When.BONDED,
        {"LAG-6 HTTP": caught("hash-policy", "not-as-asked"), "LAG-6 SFTP": caught("hash-policy", "not-as-asked")},
        ("LAG-1",),
    ),
    Fault(
        "hash-one-end-later",
        "hash",
        "one switch hashes MAC addresses from the first traffic on",
        configured("bond_mode=balance-slb", ends="left"),
        When.TRAFFIC,
        {"LAG-7": caught("hash-policy", "not-as-asked")},
    ),
    Fault(
        "hash-one-member",
        "hash",
        "both switches keep to one member",
        _one_bucket,
        When.READY,
        {"LAG-7": caught("lag-mode", "hash-policy", "lag-member-idle", "not-as-asked")},
    ),
    Fault(
        "hash-more",
        "hash",
        "a LAG that was asked for layer2 hashes ports too",
        configured("bond_mode=balance-tcp", ends="left right"),
        When.BONDED,
        {"LAG-1": unfit("not-as-asked", words="layer3\\+4, and layer2 was asked")},
    ),
    Fault(
        "chatter",
        "strangers",
        "the client says more than LACP on its idle NIC",
        chatter(40, 0.05),
        When.TRAFFIC,
        {
            "LAG-3": caught(
                "cable-foreign", words=r"(data of idle left.* of \d+, expected exactly 0|somebody else).*0x88b5"
            )
        },
    ),
    Fault(
        "lacp-port-priority",
        "harmless",
        "a member's LACP port priority differs",
        _interface("b", "other_config:lacp-port-priority=100"),
        When.BONDED,
        {},
        ("LAG-4", "LAG-3"),
    ),
    Fault(
        "lacp-rebalance",
        "hash",
        "the switches may move flows to other links, once an hour",
        configured("other_config:bond-rebalance-interval=3600000", ends="left right"),
        When.BONDED,
        {"LAG-2": unfit("not-as-asked", words="bond-rebalance-interval is 3600000, and 0 was asked")},
    ),
)
