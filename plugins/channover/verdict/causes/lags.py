"""Causes in link aggregation: LACP's configuration at both ends, its frames, its members, and what spreads the flows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from channover.verdict.causes.case import Case, LagView, MemberView
from channover.verdict.causes.kind import Found, cause
from channover.verdict.causes.programs import ENDED, SILENT

_STATUS = "`/proc/net/bonding/DEVICE`, or `ovs-appctl lacp/show` and `bond/show`, at both ends"

LONG_DELAY = 500
"""Milliseconds from which on a driver's delay is what a failover takes its time for; channover sets 200 at most."""
_DELAY = re.compile(r"^\s*(Up|Down) ?delay(?: \(ms\))?: (\d+)", re.MULTILINE | re.IGNORECASE)


def _any(case: Case) -> bool:
    return bool(case.lags)


def _pairs(case: Case) -> Iterator[tuple[LagView, LagView]]:
    """Yield each end of each LAG with the end opposite."""
    for at in range(0, len(case.lags) - 1, 2):
        one, other = case.lags[at], case.lags[at + 1]
        yield one, other
        yield other, one


def _end(end: LagView) -> str:
    return f"{end.host}'s {end.device}"


def _shown(end: LagView) -> tuple[str, ...]:
    return tuple(
        f"{end.host} {one.device}: actor {_bits(one.actor)}; partner {one.partner_system or 'none'} {_bits(one.partner)}"
        for one in end.members
    )


def _bits(bits: frozenset[str]) -> str:
    return ", ".join(sorted(bits)) or "nothing"


def _named(members: list[MemberView]) -> str:
    return " and ".join(one.device for one in members)


@cause(
    "lag-mode",
    "One end of the LAG is no LACP bond: another mode, or LACP switched off.",
    shows=_STATUS,
    remedy="`bond mode 802.3ad`, or `ovs-vsctl set port BOND lacp=active`, at both ends",
    applies=_any,
)
def _mode(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if end.refused and not any(words in end.refused for words in (ENDED, SILENT)):
            yield Found(f"{_end(end)} is no LACP bond: {end.refused}", (), "shown")


@cause(
    "lag-member-missing",
    "A NIC is no member of its LAG.",
    shows=_STATUS,
    remedy="`ip link set DEVICE master BOND`, or `ovs-vsctl add-bond-iface`",
    applies=_any,
)
def _member_missing(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if not end.refused and len(end.members) < end.links:
            names = ", ".join(one.device for one in end.members) or "none"
            yield Found(f"{_end(end)} has {len(end.members)} of {end.links} members: {names}", (), "shown")


@cause(
    "lag-member-down",
    "A member of a LAG has no link.",
    shows=_STATUS,
    remedy="`ip link set DEVICE up`, and plug in the cable",
    applies=_any,
)
def _member_down(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        for one in end.members:
            if not one.linked:
                yield Found(f"{_end(end)}: member {one.device} has no link", _shown(end), "shown")


@cause(
    "lag-speed",
    "The members of a LAG differ in speed or duplex: LACP aggregates equal full-duplex links only.",
    shows=_STATUS,
    remedy="`ethtool -s DEVICE speed … duplex full`, the same for all members",
    applies=_any,
)
def _speed(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if "differ in speed" in end.pending or "half duplex" in end.pending:
            yield Found(f"{_end(end)}: {end.pending}", _shown(end), "shown")


@cause(
    "lacp-passive",
    "LACP is passive at an end: where it is so at both, neither begins.",
    shows=_STATUS,
    remedy="make it active: `bond lacp_active on`, or `ovs-vsctl set port BOND lacp=active`",
    applies=_any,
)
def _passive(case: Case) -> Iterator[Found]:
    unasked = [end for end, _ in _pairs(case) if not end.asked_passive]
    quiet = [end for end in unasked if any(one.actor and "activity" not in one.actor for one in end.members)]
    if quiet:
        both = len(quiet) > 1
        named = " and ".join(map(_end, quiet))
        words = f"{named} are both passive: neither begins" if both else f"{named} is passive"
        shown = both or case.about.startswith("states of ports")
        yield Found(words, tuple(line for end in quiet for line in _shown(end)), "shown" if shown else "likely")


@cause(
    "lacp-keys",
    "The members of one end of a LAG have different keys.",
    shows=_STATUS,
    remedy="give all members of that end one key: the same speed and duplex, the same LAG",
    applies=_any,
)
def _keys(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if len({one.actor_key for one in end.members}) > 1:
            keys = ", ".join(f"{one.device} {one.actor_key}" for one in end.members)
            yield Found(f"{_end(end)}: its members have different keys: {keys}", _shown(end), "shown")


@cause(
    "lacp-partners",
    "The members of a LAG lead to different partners: cables that went astray, or switches that are not stacked.",
    shows=_STATUS,
    remedy="check which cable leads where, and that the other end is one system with one key",
    applies=_any,
)
def _partners(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        heard = {one.device: f"{one.partner_system} key {one.partner_key}" for one in end.members if one.heard}
        if len(set(heard.values())) > 1:
            told = ", ".join(f"{device} {partner}" for device, partner in heard.items())
            yield Found(f"{_end(end)}: its members have different partners: {told}", _shown(end), "shown")


@cause(
    "lag-individual",
    "A member of a LAG, or its partner, does not let itself be aggregated.",
    shows=_STATUS,
    remedy="allow aggregation at both ends of that link",
    applies=_any,
)
def _individual(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        single = [
            one
            for one in end.members
            if one.heard and ("aggregation" not in one.actor or "aggregation" not in one.partner)
        ]
        if single:
            yield Found(f"{_end(end)}: {_named(single)} is individual", _shown(end), "shown")


@cause(
    "lacp-one-way",
    "LACP frames get through in one direction only.",
    shows=_STATUS,
    remedy="look for what loses LACP frames that way: a filter of ethertype 0x8809, a cable, a bridge in between",
    applies=_any,
)
def _one_way(case: Case) -> Iterator[Found]:
    for end, other in _pairs(case):
        deaf = [one for one in end.members if not one.heard or "expired" in one.actor]
        hearing = [one for one in other.members if one.heard and "expired" not in one.actor]
        if deaf and len(hearing) == len(other.members) and not end.refused and not other.refused:
            yield Found(
                f"{end.host}'s {_named(deaf)} hears no LACP frames, though {other.host} hears {end.host}'s",
                (*_shown(end), *_shown(other)),
                "shown",
            )


@cause(
    "lacp-unheard",
    "A member of a LAG hears no LACP frames of a partner.",
    shows=_STATUS,
    remedy="look at the other end's LAG, and for what loses LACP frames (ethertype 0x8809): a bridge swallows them",
    applies=_any,
    follows=True,
)
def _unheard(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        deaf = [one for one in end.members if one.linked and (not one.heard or "expired" in one.actor)]
        if deaf:
            yield Found(f"{end.host}'s {_named(deaf)} hears no LACP frames", _shown(end), "likely")


@cause(
    "lacp-rate",
    "An end of a LAG asks for LACP frames at another rate than it was told.",
    shows=_STATUS,
    remedy="`bond lacp_rate fast`, or `ovs-vsctl set port BOND other_config:lacp-time=fast`",
    applies=_any,
)
def _rate(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if end.rate and end.rate != end.asked_rate:
            yield Found(
                f"{_end(end)} asks for LACP frames at the {end.rate} rate, and {end.asked_rate} was asked of it",
                (),
                "shown",
            )


@cause(
    "lag-delay",
    "An end of a LAG takes the loss of a link, or its return, for real only after a delay.",
    shows="`/proc/net/bonding/DEVICE` (Up Delay, Down Delay), or `ovs-appctl bond/show` (updelay, downdelay)",
    remedy="`ip link set BOND type bond downdelay MS updelay MS`, or `ovs-vsctl set port BOND bond_downdelay=MS`",
    applies=_any,
)
def _delay(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        for way, milliseconds in _DELAY.findall(end.text):
            if int(milliseconds) >= LONG_DELAY:
                what = "loss" if way.lower() == "down" else "return"
                yield Found(f"{_end(end)} waits {milliseconds} ms before the {what} of a link counts", (), "shown")


@cause(
    "lag-min-links",
    "A LAG is down, or short of links, for its least number of them.",
    shows="`/sys/class/net/BOND/bonding/min_links`, `/proc/net/bonding/BOND`",
    remedy="`ip link set BOND type bond min_links 0`, or bring up the missing links",
    applies=_any,
)
def _min_links(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        for line in end.text.splitlines():
            name, _, value = line.partition(": ")
            if name.strip() == "Min links" and value.strip().isdecimal() and int(value) > max(end.active_ports, 1):
                yield Found(f"{_end(end)} wants {value.strip()} links and has {end.active_ports}", _shown(end), "shown")


@cause(
    "hash-policy",
    "An end of a LAG spreads flows by another hash than it was told.",
    shows=_STATUS,
    remedy="`ip link set BOND type bond xmit_hash_policy POLICY`, or `ovs-vsctl set port BOND bond_mode=MODE`",
    applies=_any,
)
def _policy(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if end.policy and end.policy != end.asked_policy:
            yield Found(
                f"{_end(end)} spreads flows by {end.policy}, and {end.asked_policy} was asked of it",
                tuple(f"{one.device} carried {one.carried:,} bytes" for one in end.members),
                "shown" if case.several else "likely",
            )


@cause(
    "buckets-not-dealt",
    "A LAG's hash buckets are all on one member: whatever the hash says, one link carries all.",
    shows="`ovs-appctl bridge/dump-flows`",
    remedy="`ovs-appctl bond/migrate`, or `bond-rebalance-interval`",
    applies=_any,
)
def _buckets(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        used = {device: count for device, count in end.buckets.items() if count}
        least = min((end.buckets.get(one.device, 0) for one in end.members), default=0)
        if used and least < 0.25 * max(used.values()) and case.several:
            told = ", ".join(f"{one.device} {end.buckets.get(one.device, 0)}" for one in end.members)
            yield Found(f"{_end(end)}: its hash buckets are on {told}", (), "shown")


@cause(
    "lag-member-lost",
    "A member of a LAG lost its link or its partner for a while, and has it again.",
    shows="how often each member lost its link (`/proc/net/bonding/DEVICE`, `ovs-appctl lacp/show-stats`; `carrier_changes` of "
    "its NIC)",
    remedy="look for what took the link away: a loose plug, a port that is set down, LACP frames that are lost",
    applies=_any,
    follows=True,
)
def _lost(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        linked = [one.device for one in end.members if one.device in end.lost and one.linked and one.used]
        if linked:
            words = "was lost for a while" if len(linked) == 1 else "were lost for a while"
            yield Found(f"{_end(end)}: {' and '.join(linked)} {words} since LACP had converged", _shown(end), "shown")


@cause(
    "lag-member-idle",
    "A member of a LAG has its place and does not carry frames both ways.",
    shows=_STATUS,
    remedy="look at both ends' state bits: which end does not collect or distribute",
    applies=_any,
    follows=True,
)
def _member_idle(case: Case) -> Iterator[Found]:
    for end, _ in _pairs(case):
        if end.pending:
            yield Found(f"{_end(end)} has not converged: {end.pending}", _shown(end), "likely")
