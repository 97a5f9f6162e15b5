"""Faults of micro-VMs, whose kernels are their own: the kernel's bonding driver, and its own qdiscs."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.bench import Bench, require
from tests.faults.fault import Evidence, Fault, When, caught, noted, unfit


def _shell(script: str, shows: str, look: str, ends: str = "right") -> Callable[[Bench], Evidence]:
    """Run a script on hosts, with DEV for the second NIC's device; ``shows`` must then be in what ``look`` prints."""

    def do(bench: Bench) -> Evidence:
        told = []
        for name in ends.split():
            host = getattr(bench, name)
            for words, wanted in ((script, ""), (look, shows)):
                said = host.run("sh", "-ec", words.replace("DEV", bench.device("b"))).stdout
                require(wanted in said, f"{name}: {words}: {' '.join(said.split())}")
            told.append(f"{name}: {' '.join(said.split())}")
        return "; ".join(told)[:400]

    return do


_POLICY = "/sys/class/net/bond0/bonding/xmit_hash_policy"
FAULTS = (
    Fault(
        "vm-hash-ports",
        "hash",
        "micro-VMs: both ends hash ports where MAC addresses were asked for",
        _shell(f"echo layer3+4 >{_POLICY}", "layer3+4", f"cat {_POLICY}", "left right"),
        When.BONDED,
        {"LAG-1": unfit("not-as-asked", words="layer3\\+4")},
        target="vm",
    ),
    Fault(
        "vm-member-released",
        "LACP configuration",
        "micro-VMs: the second NIC is taken out of one end's bond",
        _shell("ip link set dev DEV nomaster", "mtu", "ip -o link show dev DEV | grep -v master"),
        When.READY,
        {"LAG-1": caught("not-as-asked", "lag-member-missing", words="eth|bond")},
        target="vm",
    ),
    Fault(
        "vm-endpoint-removed",
        "MPTCP signalling",
        "micro-VMs: the client's second endpoint is taken away",
        _shell("ip mptcp endpoint delete id 2", "10.93.93.1", "ip mptcp endpoint show", "left"),
        When.READY,
        {"MP-1": unfit("not-as-asked", words=r"10\.94\.94\.1")},
        target="vm",
    ),
    Fault(
        "vm-loss",
        "loss",
        "micro-VMs: one frame in 100 that the client sends is lost",
        _shell(
            "modprobe sch_netem; for one in eth1 eth2; do tc qdisc replace dev $one root netem loss 1%; done",
            "loss 1%",
            "tc qdisc show",
            "left",
        ),
        When.READY,
        {"LAG-1": noted("retransmissions")},
        target="vm",
    ),
)
