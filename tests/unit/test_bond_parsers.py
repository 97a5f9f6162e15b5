"""What LAG drivers print, and what is made of it; and the plans of the kernel's bonding driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from channover.model.operations.devices import LinkDelete, LinkSet
from channover.model.operations.routing import RouteAdd
from channover.model.plan import Plan
from channover.model.state import LinkState, Route, State
from channover.network.bonding import Bond, host_plan, switch_plan
from channover.network.lag import HashPolicy, LacpRate, LagEnd
from channover.network.openvswitch import OpenVSwitchDriver
from channover.observe.lags.bond import LagStatus, MemberStatus, PortInfo, lag_id, working_state
from channover.observe.lags.bond_parsers import parse_ovs, parse_placement, parse_proc_bonding, state_bits
from channover.scenarios.bonds import of_lag

DATA = Path(__file__).parents[1] / "data" / "bond"


UNTOLD = "the driver does not tell LACP's state: old kernel, or no CAP_NET_ADMIN"


def text(name: str) -> str:
    """Return a file's content without the line that says where it is from."""
    origin, _, rest = (DATA / f"{name}.txt").read_text().partition("\n")
    assert origin.startswith("#")
    return rest


def kernel(name: str) -> LagStatus:
    return parse_proc_bonding(text(f"kernel-{name}"))


def ovs(name: str, *dead: str) -> LagStatus:
    return parse_ovs(text(f"ovs-{name}.lacp-show"), text(f"ovs-{name}.bond-show"), dead)


def test_the_articles_bond_is_read_as_the_article_reads_it() -> None:
    status = kernel("6.1-article")
    assert (status.driver, status.policy, status.lacp_rate) == ("bonding", "layer2", "slow")
    assert (status.aggregator, status.ports, status.aggregators) == (1, 2, frozenset({1}))
    assert status.actor_key == status.partner_key == 9
    assert status.partner_mac == "52:54:00:92:92:02"
    assert [member.device for member in status.members] == ["eth3", "eth4"]
    assert all(member.mii_up and member.note == "100 Mbps, full" for member in status.members)
    assert all(member.collecting and member.distributing and member.synchronized for member in status.members)
    assert status.unconverged() is None


def test_a_bond_of_a_newer_kernel_is_read_too() -> None:
    status = kernel("6.12-fast")
    assert (status.policy, status.lacp_rate) == ("layer3+4", "fast")
    assert "timeout" in status.member("eth1").actor.state
    assert status.unconverged() is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("6.12-alone", "eth1 has heard of no partner"),
        (
            "6.1-split",
            "the members have 2 partners: eth1 52:54:00:92:92:02, eth2 52:54:00:92:92:22, "
            "and are in 2 aggregators: eth1 1, eth2 2",
        ),
        ("6.12-cut", "eth1 has no link"),
        ("6.12-unprivileged", UNTOLD),
    ],
)
def test_a_bond_that_has_not_converged_says_why(name: str, reason: str) -> None:
    assert kernel(name).unconverged() == reason


@pytest.mark.parametrize("half", ["actor", "partner", "actor.*partner"])
def test_a_kernel_that_shows_no_lacp_frames_tells_nothing_of_partners(half: str) -> None:
    shown = re.sub(rf"details {half} lacp pdu:\n( .*\n)*", "", text("kernel-6.1-article"), flags=re.DOTALL)
    assert parse_proc_bonding(shown).unconverged() == UNTOLD


def changed(*pairs: tuple[str, str]) -> LagStatus:
    """The article's bond with words of its second member exchanged."""
    head, mark, last = text("kernel-6.1-article").rpartition("Slave Interface: ")
    for old, new in pairs:
        assert re.search(old, last), last
        last = re.sub(old, new, last)
    return parse_proc_bonding(head + mark + last)


FAR = ("mac address: 52:54:00:92:92:02", "mac address: 52:54:00:92:92:22")


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        # Of the switch that it is cabled to wrongly, the bond has made a second aggregator and does not use it.
        (
            [FAR, ("Aggregator ID: 1", "Aggregator ID: 2"), ("port state: 61", "port state: 5")],
            "the members have 2 partners: eth3 52:54:00:92:92:02, eth4 52:54:00:92:92:22, "
            "and are in 2 aggregators: eth3 1, eth4 2",
        ),
        ([FAR], "the members have 2 partners: eth3 52:54:00:92:92:02, eth4 52:54:00:92:92:22"),
        ([FAR, ("MII Status: up", "MII Status: down")], "eth4 has no link"),
        ([FAR, ("mac address: 52:54:00:92:92:22", "mac address: 00:00:00:00:00:00")], "eth4 has heard of no partner"),
        ([("Speed: 100 Mbps", "Speed: 10 Mbps"), ("port key: 9", "port key: 5"), ("Aggregator ID: 1", "Aggregator ID: 2")],
         "the members differ in speed: eth3 100 Mbps, full; eth4 10 Mbps, full"),
        ([("Duplex: full", "Duplex: half"), ("Aggregator ID: 1", "Aggregator ID: 2")],
         "eth4 runs at half duplex: LACP aggregates full duplex links only"),
        ([("oper key: 9", "oper key: 17"), ("Aggregator ID: 1", "Aggregator ID: 2")],
         "the members are in 2 aggregators: eth3 1, eth4 2"),
        ([("port state: 61", "port state: 57"), ("Aggregator ID: 1", "Aggregator ID: 2")],
         "eth4 is individual: the actor does not let it be aggregated"),
        ([("Aggregator ID: 1", "Aggregator ID: N/A")], "eth4 is in no aggregator"),
        (
            [("Partner Churn State: none", "Partner Churn State: churned"), (r"(?s)(partner lacp.*state:) 61", r"\1 5")],
            "eth4: the partner is not synchronized or collecting or distributing (churned: not synchronized for a minute)",
        ),
    ],
)  # fmt: skip
def test_the_cause_comes_before_what_follows_from_it(pairs: list[tuple[str, str]], reason: str) -> None:
    assert changed(*pairs).unconverged() == reason


def test_a_passive_end_without_a_partner_says_so() -> None:
    passive = replace(MEMBERS[0], actor=replace(GOOD, state=frozenset({"aggregation", "defaulted"})))
    assert replace(STATUS, members=(passive,)).unconverged() == (
        "eth1 has heard of no partner, and sends nothing by itself: LACP is passive here, and has to be active at one end"
    )


def test_open_vswitch_with_two_partners_names_them() -> None:
    first, mark, last = text("ovs-converged.lacp-show").rpartition("member: ")
    shown = first + mark + re.sub("partner sys_id: ..", "partner sys_id: 0e", last.replace("attached", "detached"))
    words = str(parse_ovs(shown, text("ovs-converged.bond-show")).unconverged())
    assert re.fullmatch(r"the members have 2 partners: eth1 ..:.*, eth2 0e:[^,]*", words), words


def test_open_vswitch_that_negotiates_in_vain_has_no_partner() -> None:
    alone = text("ovs-alone.bond-show").replace("negotiated", "configured")
    shown = (
        text("ovs-alone.lacp-show").replace("expired attached", "defaulted detached").replace(" expired", " defaulted")
    )
    assert parse_ovs(shown, alone).unconverged() == "eth1 has heard of no partner"


def test_open_vswitch_without_lacp_is_told_from_lacp_that_fails() -> None:
    with pytest.raises(ValueError, match=r"LACP is off on the bond: .*lacp=active"):
        parse_ovs("", text("ovs-alone.bond-show").replace("negotiated", "off"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not a file of the bonding driver"),
        ("Bonding Mode: fault-tolerance (active-backup)\n", "fault-tolerance"),
    ],
)
def test_what_is_no_lacp_bond_is_refused(content: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_proc_bonding(content)


def test_state_bits_are_named_from_the_lowest() -> None:
    assert state_bits(0x3D) == {"activity", "aggregation", "synchronized", "collecting", "distributing"}
    assert state_bits(0xC2) == {"timeout", "defaulted", "expired"}


def test_open_vswitch_converged() -> None:
    status = ovs("converged")
    assert (status.driver, status.policy, status.lacp_rate) == ("openvswitch", "layer3+4", "fast")
    assert (status.aggregator, status.ports, status.aggregators) == (1, 2, frozenset({1}))
    assert status.actor_key == status.partner_key == 1
    assert status.partner_mac == status.member("eth2").partner.system
    assert [member.device for member in status.members] == ["eth1", "eth2"]
    assert status.unconverged() is None


def test_open_vswitch_without_a_partner() -> None:
    status = ovs("alone")
    assert (status.policy, status.lacp_rate) == ("layer2", "slow")
    assert status.unconverged() == "eth1 has heard of no partner"


def test_open_vswitch_tells_a_lost_carrier_from_a_lost_partner() -> None:
    assert ovs("cut", "eth1").unconverged() == "eth1 has no link"
    lost = ovs("lost")
    assert lost.unconverged() == f"eth1 has lost its partner {lost.partner_mac}: its LACP frames have stopped"


def test_what_is_no_answer_about_lacp_is_refused() -> None:
    with pytest.raises(ValueError, match="lacp/show"):
        parse_ovs("", "")


GOOD = PortInfo("52:54:00:00:00:02", 9, state_bits(0x3F))
MEMBERS = (MemberStatus("eth1", True, 1, GOOD, GOOD), MemberStatus("eth2", True, 1, GOOD, GOOD))
STATUS = LagStatus("bonding", "layer2", "fast", 1, 2, 9, 9, GOOD.system, MEMBERS)


def second(member: MemberStatus) -> LagStatus:
    return replace(STATUS, members=(MEMBERS[0], member))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (STATUS, None),
        (replace(STATUS, members=()), "the LAG has no member"),
        (replace(STATUS, ports=1), "aggregator 1 has 1 of 2 ports"),
        (replace(STATUS, aggregator=None), "no aggregator is active"),
        (second(replace(MEMBERS[1], aggregator=None)), "eth2 is in no aggregator"),
        (
            second(replace(MEMBERS[1], actor=replace(GOOD, key=17))),
            "the members differ in actor key: eth1 9, eth2 17",
        ),
        (
            second(replace(MEMBERS[1], partner=replace(GOOD, key=17))),
            "the members differ in partner key: eth1 9, eth2 17",
        ),
        (
            second(replace(MEMBERS[1], actor=replace(GOOD, state=state_bits(0x0F)))),
            "eth2: the actor is not collecting or distributing",
        ),
        (
            second(replace(MEMBERS[1], partner=replace(GOOD, state=state_bits(0x1F)))),
            "eth2: the partner is not distributing",
        ),
        (
            second(replace(MEMBERS[1], enabled=False, note="disabled")),
            "eth2 is not used by the driver: disabled",
        ),
    ],
)
def test_each_way_not_to_converge_has_its_words(status: LagStatus, reason: str | None) -> None:
    assert status.unconverged() == reason


def test_unequal_keys_are_no_obstacle() -> None:
    assert replace(STATUS, partner_key=32).unconverged() is None


def ends(name: str) -> tuple[LagStatus, LagStatus]:
    """One end of a LAG as its driver told it, and the other end as it would: actor and partner the other way round."""
    one = kernel(name.removeprefix("kernel-")) if name.startswith("kernel") else ovs(name.removeprefix("ovs-"))
    turned = tuple(replace(each, actor=each.partner, partner=each.actor) for each in one.members)
    return one, replace(one, members=turned)


@pytest.mark.parametrize("name", ["kernel-6.1-article", "kernel-6.12-fast", "ovs-converged"])
def test_both_ends_of_a_lag_see_one_lag_id_and_every_state_bit(name: str) -> None:
    one, other = ends(name)
    (seen,) = one.lag_ids
    assert one.lag_ids == other.lag_ids == {lag_id(one.own, other.own)}
    assert str(one.own) in seen and str(other.own) in seen and one.own.priority in (65534, 65535)
    devices = [member.device for member in one.members]
    assert one.states == {f"{device} {bit}" for device in devices for bit in working_state(one.lacp_rate == "fast")}
    assert one.working == tuple(devices)


@pytest.mark.parametrize("name", ["kernel-6.1-article", "ovs-converged"])
def test_keys_are_each_ends_own_and_a_lag_id_tells_them(name: str) -> None:
    """A correct LAG of unlike ends: their keys are different numbers (IEEE 802.1AX-2014, 6.3.5)."""

    def keyed(status: LagStatus, actor: int, partner: int) -> LagStatus:
        members = (
            replace(each, actor=replace(each.actor, key=actor), partner=replace(each.partner, key=partner))
            for each in status.members
        )
        return replace(status, actor_key=actor, partner_key=partner, members=tuple(members))

    one, other = ends(name)
    one, other = keyed(one, 9, 33), keyed(other, 33, 9)
    assert one.unconverged() is other.unconverged() is None
    assert one.lag_ids == other.lag_ids == {lag_id(one.own, other.own)}
    stale = keyed(one, 9, 32)
    assert stale.lag_ids != {lag_id(stale.own, other.own)}, "a partner's key that is not the one which it has"


def test_members_that_lead_to_two_partners_have_two_lag_ids() -> None:
    assert len(second(replace(MEMBERS[1], partner=replace(GOOD, system="52:54:00:00:00:03"))).lag_ids) == 2
    assert len(kernel("6.1-split").lag_ids) == 2


@pytest.mark.parametrize("lost", ["activity", "timeout", "aggregation", "synchronized", "collecting", "distributing"])
def test_a_bit_that_lacks_and_one_too_many_are_told(lost: str) -> None:
    assert STATUS.states == {f"eth{number} {bit}" for number in (1, 2) for bit in working_state(fast=True)}
    status = second(replace(MEMBERS[1], actor=replace(GOOD, state=GOOD.state - {lost} | {"expired"})))
    assert STATUS.states - status.states == {f"eth2 {lost}"}
    assert status.states - STATUS.states == {"eth2 expired"}
    assert status.working == (("eth1",) if lost in ("collecting", "distributing") else ("eth1", "eth2"))


def test_every_hash_bucket_has_its_member() -> None:
    placement = parse_placement(text("ovs-converged.dump-flows"), ["eth1", "eth2"])
    assert sorted(placement) == list(range(256))
    assert set(placement.values()) == {"eth1", "eth2"}
    assert (placement[0x9E], placement[0xE9]) == ("eth1", "eth2")


def nics(mtu: int = 1500) -> State:
    links = {
        "eth1": LinkState("eth1", True, mtu, "", ("10.93.93.1/30",)),
        "eth2": LinkState("eth2", False, mtu, "", ()),
    }
    return State(links=links, routes=(Route("default", "eth1", "10.93.93.2", 254),))


def test_the_plan_of_a_bond_is_what_the_article_configures() -> None:
    plan = host_plan("bond0", ["eth1", "eth2"], "10.92.92.1/30", HashPolicy.LAYER2, LacpRate.SLOW, nics())
    assert [operation.command for operation in plan] == [
        "ip link add name bond0 type bond mode 802.3ad miimon 100 updelay 200 downdelay 200 lacp_rate slow "
        "xmit_hash_policy layer2",
        "ip link set dev eth1 down",
        "ip link set dev eth1 master bond0",
        "ip link set dev eth1 up",
        "ip link set dev eth2 down",
        "ip link set dev eth2 master bond0",
        "ip link set dev eth2 up",
        "ip link set dev bond0 up",
        "ip address add 10.92.92.1/30 dev bond0",
    ]


def test_the_inverse_of_a_bond_gives_the_nics_back() -> None:
    before = nics()
    plan = host_plan("bond0", ["eth1", "eth2"], "10.92.92.1/30", HashPolicy.LAYER34, LacpRate.FAST, before)
    undo = list(plan.inverse(before))
    for device, up in (("eth1", True), ("eth2", False)):
        steps = [step for step in undo if isinstance(step, LinkSet) and step.device == device]
        assert [step.master for step in steps if step.master is not None] == [""]
        assert [step.up for step in steps if step.up is not None][-1] is up
    assert undo.index(RouteAdd("default", "eth1", "10.93.93.2")) > undo.index(LinkSet("eth1", up=True))
    assert undo[-1] == LinkDelete("bond0")


def test_a_bond_takes_the_mtu_of_its_members() -> None:
    plan = host_plan("bond0", ["eth1", "eth2"], None, HashPolicy.LAYER2, LacpRate.FAST, nics(9000))
    assert plan.operations[1] == LinkSet("bond0", mtu=9000)


def test_the_plan_of_a_switch_bridges_the_bond_with_its_ports() -> None:
    plan = switch_plan("bond0", ["eth1", "eth2"], ["eth3"], HashPolicy.LAYER34, LacpRate.FAST, nics())
    commands = [operation.command for operation in plan]
    assert commands[0] == "ip link add name br0 type bridge"
    assert commands[-5:] == [
        "ip link set dev bond0 master br0",
        "ip link set dev bond0 up",
        "ip link set dev eth3 master br0",
        "ip link set dev eth3 up",
        "ip link set dev br0 up",
    ]
    undone = list(plan.inverse(nics()))
    assert undone[-2:] == [LinkDelete("bond0"), LinkDelete("br0")]


def test_open_vswitch_knows_which_policies_it_has() -> None:
    assert OpenVSwitchDriver().policies == {HashPolicy.LAYER2, HashPolicy.LAYER34}


@dataclass
class Told:
    """An end of a LAG that says what it is told to say."""

    said: LagStatus
    name: str = "left"
    device: str = "bond0"

    @property
    def host(self) -> Told:
        return self

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(member.device for member in self.said.members)

    def status(self) -> LagStatus:
        return self.said


def lag_end(said: LagStatus, policy: HashPolicy, rate: LacpRate, address: IPv4Interface | None = None) -> LagEnd:
    return LagEnd(Told(said), policy, rate, address)  # type: ignore[arg-type]


def test_an_end_that_is_not_as_it_was_asked_for_is_told_for_any_driver() -> None:
    fast = kernel("6.12-fast")
    assert list(lag_end(fast, HashPolicy.LAYER34, LacpRate.FAST).unmet()) == []
    assert list(lag_end(fast, HashPolicy.LAYER2, LacpRate.SLOW).unmet()) == [
        "left: the LAG bond0: its hash is layer3+4, and layer2 was asked for",
        "left: the LAG bond0: its LACP rate is fast, and slow was asked for",
    ]
    untold = replace(fast, policy="", lacp_rate="", members=fast.members[:1])
    end = lag_end(fast, HashPolicy.LAYER2, LacpRate.SLOW)
    end.handle.said = untold  # type: ignore[attr-defined]
    assert list(end.unmet()) == []


def test_what_a_reader_wants_to_know_of_a_lag() -> None:
    fast, article = kernel("6.12-fast"), kernel("6.1-article")
    address = IPv4Interface("10.92.92.1/30")

    def kinds(
        said: LagStatus, policy: HashPolicy, rate: LacpRate, speeds: dict[str, int], where: Any = address
    ) -> list[str]:
        return [note.id for note in of_lag(lag_end(said, policy, rate, where), said, speeds)]

    assert kinds(fast, HashPolicy.LAYER34, LacpRate.FAST, {"eth1": 10**8, "eth2": 10**8}) == []
    assert kinds(fast, HashPolicy.LAYER34, LacpRate.SLOW, {}) == ["slow-lacp"]
    assert kinds(article, HashPolicy.LAYER2, LacpRate.FAST, {}) == ["slow-lacp"], "the partner asks for slow frames"
    assert kinds(fast, HashPolicy.LAYER34, LacpRate.FAST, {"eth1": 10**8, "eth2": 10**9}) == ["unlike-speeds"]
    assert kinds(replace(fast, policy=""), HashPolicy.LAYER34, LacpRate.FAST, {}) == ["hash"]
    switch = replace(fast, driver="openvswitch", policy="layer2")
    assert kinds(switch, HashPolicy.LAYER2, LacpRate.FAST, {}) == []
    assert kinds(switch, HashPolicy.LAYER2, LacpRate.FAST, {}, None) == ["hash"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "802.3ad", "min_links": "0", "ad_select": "stable"}, []),
        ({"min_links": "2"}, ["its min_links is 2, and 0 was asked for"]),
        ({"ad_select": "bandwidth"}, ["its ad_select is bandwidth, and stable was asked for"]),
        ({"ad_lacp_active": "off"}, ["its ad_lacp_active is off, and on was asked for"]),
    ],
)
def test_options_of_a_bond_that_were_left_at_their_defaults_are_read_back(
    options: dict[str, str], said: list[str]
) -> None:
    undo = Plan("none")
    bond = Bond(Told(kernel("6.12-fast")), "bond0", ("eth1", "eth2"), undo)  # type: ignore[arg-type]
    now = State(links={"bond0": LinkState("bond0", True, 1500, "", (), options=options)})
    assert list(bond.unmet(now)) == said
    assert list(bond.unmet(State())) == []
