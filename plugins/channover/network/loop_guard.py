"""Guards: nftables tables that keep a tunnel's carrier out of the tunnel.

Three are told. *source* is the article's: output, source = the tunnel's own address, destination port = the carrier's,
reject. It leaves the way towards the far end's tunnel address open, and a loop that is there already goes on: an ICMP
error does not end an established subflow. *device* knows what leaves by the tunnel's device, and nothing else. *both*
resets whatever of the carrier would go into the tunnel, leave with a tunnel address, or head for one; it ends a loop that
is there. A guard that was never hit looks just like one that works: :func:`hits` reads its counters. Sources: ``nft(8)``;
MPTCP's TCP option kind 30, RFC 8684, 3.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.model.inner_network import Inner
from channover.model.operations.kernel import TableAdd
from channover.model.operations.routing import ProhibitAdd
from channover.model.plan import Plan
from channover.network.tunnel import Tunnel

SOURCE = "channover_guard_source"
BOTH = "channover_guard_both"
DEVICE = "channover_guard_device"
MARKED = "channover_guard_mark"
MARK, MARKS_FIRST = 0x10, 90
"""What :func:`mark_guard` marks the carrier with, and its rule's priority: before those of the NICs."""


@dataclass(frozen=True)
class Guard:
    """A guard for one host: its table's name, the rules' counters, and the plan that loads it."""

    name: str
    counters: tuple[str, ...]
    plan: Plan


@dataclass(frozen=True)
class Hits:
    """What a guard has met so far: packets by counter."""

    packets: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """All packets that it rejected."""
        return sum(count for _, count in self.packets)

    def __bool__(self) -> bool:
        return self.total > 0

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.packets)


def source_guard(tunnel: Tunnel, host: Host) -> Guard:
    """Return the article's guard for one end: it rejects the carrier's packets *from* the tunnel's own address only."""
    own = tunnel.end(host).address.ip
    rules = {"by_source": [f"{'ip' if own.version == 4 else 'ip6'} saddr {own} tcp dport {tunnel.port}"]}
    return _guard(SOURCE, f"keep the carrier from leaving with {own} (the article's guard)", rules, "reject")


def device_guard(tunnel: Tunnel, host: Host, *, option: bool = True) -> Guard:
    """Return the guard that knows the tunnel's device alone: of what leaves by it, it resets the carrier.

    What leaves by a NIC with the tunnel's own address it does not see.
    """
    inner = tunnel.inner(host)
    rules = _both_rules(inner, tunnel.end(host) is tunnel.server, option)
    return _guard(
        DEVICE,
        f"keep the carrier from leaving by {inner.device}",
        {"by_device": rules["by_device"]},
        "reject with tcp reset",
    )


def mark_guard(tunnel: Tunnel, host: Host) -> Guard:
    """Return a guard that does not help: it marks the carrier, and a policy rule prohibits the mark by the tunnel's device.

    The rule's device is the one that a socket is bound to, and a packet has its mark only once it has been routed.
    """
    text = f"""\
  counter by_mark {{ }}
  chain output {{
    type route hook output priority mangle; policy accept;
    tcp dport {tunnel.port} meta mark set {MARK} counter name by_mark
  }}"""
    end = tunnel.end(host)
    prohibited = ProhibitAdd(MARK, end.device, MARKS_FIRST, end.address.version)
    plan = Plan(f"mark the carrier, and prohibit the mark by {end.device}", (TableAdd(MARKED, text), prohibited))
    return Guard(MARKED, ("by_mark",), plan)


def both_guard(tunnel: Tunnel, host: Host, *, option: bool = True) -> Guard:
    """Return the guard that closes both sides at one end: source, destination, and the tunnel's device.

    ``option`` says that nft and kernel can match MPTCP's option (:func:`matches_mptcp`): then no MPTCP connection at all
    enters the tunnel, an application's neither. Without it the carrier's port must do. It resets: an ICMP error does
    not end a subflow that is established already, a reset does, and the kernel resends its data on the others.
    """
    inner = tunnel.inner(host)
    rules = _both_rules(inner, tunnel.end(host) is tunnel.server, option)
    return _guard(BOTH, f"keep the carrier out of {inner.device}, on both sides", rules, "reject with tcp reset")


def both_ruleset(inner: Inner, *, serving: bool, option: bool) -> str:
    """Return the guard of :func:`both_guard` as ``nft -f`` takes it, for an end of which no more is known than this.

    ``serving`` says that the host is the server of the carrier's connection.
    """
    return _table(BOTH, _both_rules(inner, serving, option), "reject with tcp reset").ruleset


def _both_rules(inner: Inner, serving: bool, option: bool) -> dict[str, list[str]]:
    match = "tcp option mptcp exists" if option else f"tcp {'sport' if serving else 'dport'} {inner.port}"
    sides = {"by_source": "saddr", "by_destination": "daddr"}
    rules = {
        name: [f"{'ip' if network.version == 4 else 'ip6'} {side} {network} {match}" for network in inner.networks]
        for name, side in sides.items()
        if inner.networks
    }
    return {**rules, "by_device": [f'oifname "{inner.device}" {match}']}


def _guard(name: str, purpose: str, rules: dict[str, list[str]], verdict: str) -> Guard:
    return Guard(name, tuple(rules), Plan(purpose, (_table(name, rules, verdict),)))


def _table(name: str, rules: dict[str, list[str]], verdict: str) -> TableAdd:
    counters = [f"  counter {counter} {{ }}" for counter in rules]
    chain = [f"    {match} counter name {counter} {verdict}" for counter, matches in rules.items() for match in matches]
    # A reset that a rule here makes leaves by this very chain, towards the socket that it is to end.
    head = [
        "  chain output {",
        "    type filter hook output priority filter; policy accept;",
        "    tcp flags & rst == rst accept",
    ]
    return TableAdd(name, "\n".join([*counters, *head, *chain, "  }"]))


MATCHES_MPTCP = TableAdd(
    "channover_probe", "chain c { type filter hook output priority 0; tcp option mptcp exists counter; }"
)
"""What nft and kernel take where they can match MPTCP's option; never loaded."""


def matches_mptcp(host: Host) -> bool:
    """Whether nft and kernel of a host can match on MPTCP's TCP option (nftables 1.0.2, Linux 5.16).

    The kernel is asked as well: ``nft --check`` prepares the rule there and then drops it.
    """
    done = host.run("nft", "--check", "-f", "-", input=MATCHES_MPTCP.ruleset, check=False, quiet=True)
    return done.returncode == 0


def hits(host: Host, guard: Guard) -> Hits:
    """Return the packets that each counter of a loaded guard has met. Raises TestbedError where its table is not loaded."""
    found = host.run("nft", "-j", "list", "table", "inet", guard.name, check=False, quiet=True)
    if found.returncode != 0:
        raise TestbedError(f"{host.name}: the guard {guard.name} is not loaded: {found.stderr.strip()[-200:]}")
    counters = {
        entry["counter"]["name"]: int(entry["counter"]["packets"])
        for entry in json.loads(found.stdout)["nftables"]
        if "counter" in entry
    }
    missing = [name for name in guard.counters if name not in counters]
    if missing:
        raise TestbedError(
            f"{host.name}: the guard {guard.name} has no counter {', '.join(missing)}: somebody replaced it"
        )
    return Hits(tuple((name, counters[name]) for name in guard.counters))
