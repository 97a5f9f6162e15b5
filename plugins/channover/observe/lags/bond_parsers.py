"""What is read of a link aggregation group: ``/proc/net/bonding``, and what Open vSwitch shows.

Sources: the kernel's ``drivers/net/bonding/bond_procfs.c``; ``lacp/show`` and ``bond/show`` of ``ovs-appctl`` (Open vSwitch,
``lib/lacp.c`` and ``ofproto/bond.c``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from channover.observe.lags.bond import NO_MAC, STATE_BITS, LagStatus, MemberStatus, PortInfo


def state_bits(value: int) -> frozenset[str]:
    """Return the names of the bits that are set in a port state as ``/proc/net/bonding`` prints it (a number)."""
    return frozenset(name for number, name in enumerate(STATE_BITS) if value >> number & 1)


def _fields(text: str) -> dict[str, str]:
    """Return ``key: value`` lines; of a key that comes twice, the first."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.strip().partition(": ")
        if colon:
            found.setdefault(key, value.strip())
    return found


def _number(fields: Mapping[str, str], key: str) -> int:
    match = re.match(r"\d+", fields.get(key, ""))
    return int(match[0]) if match else 0


def parse_proc_bonding(text: str) -> LagStatus:
    """Return what ``/proc/net/bonding/<device>`` says of an 802.3ad bond.

    Raises ValueError where the text is no such file, or the bond's mode another. Keys, partner and port states are
    shown to CAP_NET_ADMIN only, and not by old kernels (``bond_info_show_slave``): without them no bond is known to have
    converged.
    """
    head, *slaves = re.split(r"^Slave Interface: ", text, flags=re.MULTILINE)
    fields = _fields(head)
    if "Bonding Mode" not in fields:
        raise ValueError(f"not a file of the bonding driver: {text[:80]!r}")
    if "802.3ad" not in fields["Bonding Mode"]:
        raise ValueError(f"the bond's mode is {fields['Bonding Mode']}, not IEEE 802.3ad")
    return LagStatus(
        driver="bonding",
        policy=fields.get("Transmit Hash Policy", "").split(" ")[0],
        lacp_rate=fields.get("LACP rate", ""),
        aggregator=_number(fields, "Aggregator ID") or None,
        ports=_number(fields, "Number of ports"),
        actor_key=_number(fields, "Actor Key"),
        partner_key=_number(fields, "Partner Key"),
        partner_mac=fields.get("Partner Mac Address", NO_MAC),
        members=tuple(_slave(slave) for slave in slaves),
        text=text,
    )


def _slave(text: str) -> MemberStatus:
    device, _, rest = text.partition("\n")
    own, _, pdus = rest.partition("details actor lacp pdu:")
    actor, _, partner = pdus.partition("details partner lacp pdu:")
    fields = _fields(own)
    return MemberStatus(
        device=device.strip(),
        mii_up=fields.get("MII Status") == "up",
        aggregator=_number(fields, "Aggregator ID") or None,
        actor=_pdu(_fields(actor), "port key"),
        partner=_pdu(_fields(partner), "oper key"),
        note=", ".join(fields[key] for key in ("Speed", "Duplex") if key in fields),
        told=bool(actor.strip() and partner.strip()),
        losses=sum(_number(fields, key) for key in _LOSSES),
        churned=frozenset(end for end in ("actor", "partner") if fields.get(f"{end.title()} Churn State") == "churned"),
    )


_LOSSES = ("Link Failure Count", "Actor Churned Count", "Partner Churned Count")
"""What the bonding driver counts of each member that is a loss of its link or of its partner."""


def _pdu(fields: Mapping[str, str], key: str) -> PortInfo:
    return PortInfo(
        fields.get("system mac address", NO_MAC),
        _number(fields, key),
        state_bits(_number(fields, "port state")),
        _number(fields, "system priority"),
    )


OVS_POLICIES = {"balance-tcp": "layer3+4", "balance-slb": "layer2"}
"""Bond modes of Open vSwitch and the bonding driver's policy that each comes nearest to."""


def parse_ovs(lacp_show: str, bond_show: str, dead: Collection[str] = ()) -> LagStatus:
    """Return what ``ovs-appctl lacp/show`` and ``bond/show`` say of one bond with LACP.

    Raises ValueError where the texts are none of those. Open vSwitch has one aggregator a bond and gives it no number:
    a member that is ``attached`` is in number 1. It does not tell a lost carrier from a lost partner either: ``dead`` are
    the members without a carrier.
    """
    head, *members = re.split(r"^(?:member|slave): ", lacp_show, flags=re.MULTILINE)
    fields = _fields(head)
    if _fields(bond_show).get("lacp_status") == "off":
        raise ValueError("LACP is off on the bond: 'ovs-vsctl set port BOND lacp=active' turns it on")
    if "aggregation key" not in fields:
        raise ValueError(f"no answer of lacp/show about a bond with LACP: {lacp_show[:80]!r}")
    enabled = dict(_bond_members(bond_show))
    found = tuple(_ovs_member(member, enabled, dead) for member in members)
    attached = [member for member in found if member.aggregator is not None]
    lead = attached[0] if attached else None
    mode = _fields(bond_show).get("bond_mode", "")
    return LagStatus(
        driver="openvswitch",
        policy=OVS_POLICIES.get(mode, mode),
        lacp_rate=fields.get("lacp_time", ""),
        aggregator=1 if lead else None,
        ports=len(attached),
        actor_key=_number(fields, "aggregation key"),
        partner_key=lead.partner.key if lead else 0,
        partner_mac=lead.partner.system if lead else NO_MAC,
        members=tuple(sorted(found, key=lambda member: member.device)),
        text=f"{lacp_show.rstrip()}\n\n{bond_show.rstrip()}\n",
    )


def parse_losses(show_stats: str) -> Mapping[str, int]:
    """Return how often each member has lost its link or its partner, of what ``lacp/show-stats`` of ``ovs-appctl`` says."""
    found = {}
    for member in re.split(r"^(?:member|slave): ", show_stats, flags=re.MULTILINE)[1:]:
        device, _, rest = member.partition("\n")
        fields = _fields(rest)
        counted = ("Link Expired", "Link Defaulted", "Carrier Status Changed")
        found[device.strip().rstrip(":")] = sum(_number(fields, key) for key in counted)
    return found


def _bond_members(bond_show: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"^(?:member|slave) (\S+): (\w+)", bond_show, flags=re.MULTILINE):
        yield match[1], match[2]


def _ovs_member(text: str, enabled: Mapping[str, str], dead: Collection[str]) -> MemberStatus:
    first, _, rest = text.partition("\n")
    device, _, condition = first.partition(": ")
    words = condition.split()
    fields = _fields(rest)
    return MemberStatus(
        device=device,
        mii_up=device not in dead,
        aggregator=1 if "attached" in words else None,
        actor=_ovs_end(fields, "actor"),
        partner=_ovs_end(fields, "partner"),
        enabled=enabled.get(device) == "enabled",
        note=f"{condition.strip()}, {enabled.get(device, 'no member of the bond')}",
    )


def _ovs_end(fields: Mapping[str, str], end: str) -> PortInfo:
    state: Iterable[str] = fields.get(f"{end} state", "").split()
    return PortInfo(
        fields.get(f"{end} sys_id", NO_MAC),
        _number(fields, f"{end} key"),
        frozenset(state),
        _number(fields, f"{end} sys_priority"),
    )


def parse_placement(flows: str, members: Sequence[str]) -> Mapping[int, str]:
    """Return which member each hash bucket (0 to 255) of a ``balance-tcp`` bond is on, from ``bridge/dump-flows``.

    ``members`` are in the order of their port numbers, from 1. Where LACP has not converged there are no buckets.
    """
    rows = re.finditer(r"dp_hash=(0x[0-9a-f]+|0)/0xff,actions=output:(\d+)", flows)
    return {int(row[1], 16): members[int(row[2]) - 1] for row in rows if 1 <= int(row[2]) <= len(members)}


_HASHED = re.compile(
    r"dp_hash\((0x[0-9a-f]+)/0xff\).*?ipv[46]\(src=([^/,]+)[^,]*,dst=([^/,]+)"
    r".*?(?:tcp|udp)\(src=(\d+)[^,]*,dst=(\d+)"
)


def parse_hashes(flows: str) -> Mapping[tuple[str, int, str, int], int]:
    """Return the hash of each TCP and UDP flow of a ``balance-tcp`` bond that ``dpctl/dump-flows -m`` shows.

    A flow is told by source, source port, destination and its port. Of flows in one bucket only the first one is shown.
    """
    rows = filter(None, map(_HASHED.search, flows.splitlines()))
    return {(row[2], int(row[4]), row[3], int(row[5])): int(row[1], 16) for row in rows}
