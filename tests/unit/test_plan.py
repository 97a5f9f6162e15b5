"""Plans as data: what a person would type, and what undoes them, on a model of a host."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channover.model.operations.devices import AddressAdd, AddressDelete, LinkAdd, LinkDelete, LinkSet
from channover.model.operations.kernel import SysctlSet, TableAdd, TableDelete
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, EndpointDelete, LimitsSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import (
    ProhibitAdd,
    ProhibitDelete,
    RouteAdd,
    RouteDelete,
    RuleAdd,
    RuleDelete,
)
from channover.model.plan import Plan
from channover.model.state import Endpoint, Limits, LinkState, Route, Rule, State

OPERATIONS: list[tuple[Operation, str]] = [
    (LinkAdd("br0", "bridge"), "ip link add name br0 type bridge"),
    (
        LinkAdd("bond0", "bond", (("mode", "802.3ad"), ("miimon", 100))),
        "ip link add name bond0 type bond mode 802.3ad miimon 100",
    ),
    (LinkDelete("br0"), "ip link delete dev br0"),
    (LinkSet("eth1", up=True), "ip link set dev eth1 up"),
    (LinkSet("eth1", up=False), "ip link set dev eth1 down"),
    (LinkSet("eth1", master="bond0"), "ip link set dev eth1 master bond0"),
    (LinkSet("eth1", master=""), "ip link set dev eth1 nomaster"),
    (LinkSet("eth1", up=True, mtu=1400, master="br0"), "ip link set dev eth1 mtu 1400 master br0 up"),
    (AddressAdd("eth1", "10.93.93.1/30"), "ip address add 10.93.93.1/30 dev eth1"),
    (AddressAdd("eth1", "fd00:93::1/64"), "ip address add fd00:93::1/64 dev eth1 nodad"),
    (AddressDelete("eth1", "10.93.93.1/30"), "ip address delete 10.93.93.1/30 dev eth1"),
    (RouteAdd("10.9.0.0/16", "eth1", via="10.93.93.2"), "ip route add 10.9.0.0/16 via 10.93.93.2 dev eth1"),
    (RouteAdd("default", "eth1", table=101), "ip route add default dev eth1 table 101"),
    (RouteAdd("10.9.0.1/32", "eth1", quick_ack=True), "ip route add 10.9.0.1/32 dev eth1 quickack 1"),
    (RouteAdd("::/0", "eth1", "fd00:93::2", 101), "ip route add ::/0 via fd00:93::2 dev eth1 table 101"),
    (RouteDelete("default", "eth1", table=101), "ip route delete default dev eth1 table 101"),
    (RuleAdd("10.93.93.1", 101, 102), "ip rule add from 10.93.93.1 table 101 priority 102"),
    (RuleAdd("fd00:93::1", 101, 102), "ip -6 rule add from fd00:93::1 table 101 priority 102"),
    (RuleDelete("fd00:93::1", 101, 102), "ip -6 rule delete from fd00:93::1 table 101 priority 102"),
    (RuleDelete("10.93.93.1", 101, 102), "ip rule delete from 10.93.93.1 table 101 priority 102"),
    (ProhibitAdd(5, "tun0", 50), "ip rule add fwmark 5 oif tun0 prohibit priority 50"),
    (ProhibitAdd(5, "tun0", 50, 6), "ip -6 rule add fwmark 5 oif tun0 prohibit priority 50"),
    (ProhibitDelete(5, "tun0", 50), "ip rule delete fwmark 5 oif tun0 prohibit priority 50"),
    (SysctlSet("net/mptcp/enabled", "1"), "printf %s 1 > /proc/sys/net/mptcp/enabled"),
    (SysctlSet("net/x", "4096 87380 6291456"), "printf %s '4096 87380 6291456' > /proc/sys/net/x"),
    (LimitsSet(8, 4), "ip mptcp limits set subflows 8 add_addr_accepted 4"),
    (EndpointAdd(1, "10.93.93.1", ("subflow", "fullmesh")), "ip mptcp endpoint add 10.93.93.1 id 1 subflow fullmesh"),
    (EndpointAdd(2, "10.94.94.1", ("signal",), "eth2"), "ip mptcp endpoint add 10.94.94.1 id 2 dev eth2 signal"),
    (
        EndpointAdd(3, "10.93.93.1", ("signal",), port=4433),
        "ip mptcp endpoint add 10.93.93.1 id 3 port 4433 signal",
    ),
    (EndpointAdd(4, "10.93.93.1", ()), "ip mptcp endpoint add 10.93.93.1 id 4"),
    (AddressDelete("eth1", "10.5.0.1 peer 10.5.0.2/32"), "ip address delete 10.5.0.1 peer 10.5.0.2/32 dev eth1"),
    (RuleAdd("10.93.93.1", "uplink", 7), "ip rule add from 10.93.93.1 table uplink priority 7"),
    (EndpointDelete(1), "ip mptcp endpoint delete id 1"),
    (EndpointChange(1, ("backup",)), "ip mptcp endpoint change id 1 backup nofullmesh"),
    (EndpointChange(1, ("backup", "fullmesh")), "ip mptcp endpoint change id 1 backup fullmesh"),
    (TableAdd("guard", "chain c {}"), "nft -f - <<'END'\ntable inet guard {\nchain c {}\n}\nEND"),
    (TableDelete("guard"), "nft delete table inet guard"),
]

BEFORE = State(
    links={
        "eth1": LinkState("eth1", True, 1500, "", ("10.93.93.1/30",)),
        "eth2": LinkState("eth2", False, 9000, "bond0", ()),
        "eth3": LinkState("eth3", True, 1500, "", ("10.5.0.1 peer 10.5.0.2/32", "10.5.0.9/32")),
        "bond0": LinkState("bond0", True, 1500, "", ()),
    },
    rules=(Rule(101, "10.93.93.1", 101), Rule(200, "10.93.93.1", "uplink")),
    routes=(Route("default", "eth1", None, 101), Route("10.9.0.0/16", "eth1", "10.93.93.2", 254)),
    endpoints={
        1: Endpoint(1, "10.93.93.1", ("subflow",), "eth1"),
        3: Endpoint(3, "10.93.93.1", ("signal",), None, 4433),
        4: Endpoint(4, "", ("subflow",), "eth1"),  # of no address that the host tells
        5: Endpoint(5, "10.93.93.1", ("implicit",), None),  # the kernel's
    },
    limits=Limits(2, 0),
    sysctls={"net/mptcp/enabled": "0"},
)


@pytest.mark.parametrize(("operation", "command"), OPERATIONS, ids=lambda value: str(value).split("(")[0].split()[0])
def test_an_operation_is_what_a_person_would_type(operation: Operation, command: str) -> None:
    assert operation.command == command
    assert isinstance(operation, Operation)


@pytest.mark.parametrize(
    ("operation", "undo"),
    [
        (LinkAdd("br0", "bridge"), [LinkDelete("br0")]),
        (LinkSet("eth1", up=True, mtu=1500, master=""), []),
        (LinkSet("eth2", up=True, mtu=1400, master=""), [LinkSet("eth2", up=False, mtu=9000, master="bond0")]),
        (LinkSet("eth2", mtu=1400), [LinkSet("eth2", mtu=9000)]),
        (
            LinkSet("eth1", up=False),
            [
                LinkSet("eth1", up=True),
                RouteAdd("default", "eth1", table=101),
                RouteAdd("10.9.0.0/16", "eth1", via="10.93.93.2"),
            ],
        ),
        (AddressAdd("eth1", "10.94.94.1/30"), [AddressDelete("eth1", "10.94.94.1/30")]),
        (AddressDelete("eth2", "10.93.93.1/30"), []),
        (RouteAdd("10.8.0.0/16", "eth1"), [RouteDelete("10.8.0.0/16", "eth1")]),
        (RouteAdd("default", "eth1", table=101), []),
        (RouteDelete("default", "eth1", table=101), [RouteAdd("default", "eth1", table=101)]),
        (RouteDelete("10.8.0.0/16", "eth1"), []),
        (RuleAdd("10.94.94.1", 102, 102), [RuleDelete("10.94.94.1", 102, 102)]),
        (RuleAdd("10.93.93.1", 101, 101), []),
        (RuleDelete("10.93.93.1", 101, 101), [RuleAdd("10.93.93.1", 101, 101)]),
        (RuleDelete("10.94.94.1", 102, 102), []),
        (ProhibitAdd(5, "tun0", 50), [ProhibitDelete(5, "tun0", 50)]),
        (SysctlSet("net/mptcp/enabled", "1"), [SysctlSet("net/mptcp/enabled", "0")]),
        (SysctlSet("net/mptcp/enabled", "0"), []),
        (LimitsSet(8, 8), [LimitsSet(2, 0)]),
        (LimitsSet(2, 0), []),
        (EndpointAdd(2, "10.94.94.1", ("subflow",)), [EndpointDelete(2)]),
        (EndpointDelete(1), [EndpointAdd(1, "10.93.93.1", ("subflow",), "eth1")]),
        (EndpointDelete(9), []),
        (EndpointDelete(3), [EndpointAdd(3, "10.93.93.1", ("signal",), port=4433)]),
        (EndpointDelete(4), []),
        (EndpointDelete(5), []),
        (RuleDelete("10.93.93.1", "uplink", 200), [RuleAdd("10.93.93.1", "uplink", 200)]),
        (AddressDelete("eth3", "10.5.0.1 peer 10.5.0.2/32"), [AddressAdd("eth3", "10.5.0.1 peer 10.5.0.2/32")]),
        (EndpointChange(1, ("backup", "fullmesh")), [EndpointChange(1, ())]),
        (EndpointChange(1, ()), []),
        (EndpointChange(9, ("backup",)), []),
        (TableAdd("guard", ""), [TableDelete("guard")]),
    ],
    ids=lambda value: value.command.split(" dev ")[0] if isinstance(value, Operation) else "",
)
def test_an_inverse_restores_what_was_there_and_no_default(operation: Operation, undo: list[Operation]) -> None:
    assert list(operation.inverse(BEFORE)) == undo


def test_an_address_that_goes_comes_back() -> None:
    undo = AddressDelete("eth1", "10.93.93.1/30").inverse(BEFORE)
    assert undo[0] == AddressAdd("eth1", "10.93.93.1/30")


def test_devices_of_the_plan_itself_go_as_a_whole() -> None:
    plan = Plan("a bridge", (LinkAdd("br0", "bridge"), LinkSet("br0", up=True), AddressAdd("br0", "10.1.0.1/24")))
    assert plan.inverse(BEFORE).operations[-1] == LinkDelete("br0")
    assert not any(isinstance(step, LinkSet) for step in plan.inverse(BEFORE))


def test_the_last_change_is_undone_first() -> None:
    plan = Plan.of("two", [RuleAdd("10.94.94.1", 102, 102), AddressAdd("eth2", "10.94.94.1/30")])
    undo = plan.inverse(BEFORE)
    assert undo.purpose == "undo: two"
    assert list(undo) == [AddressDelete("eth2", "10.94.94.1/30"), RuleDelete("10.94.94.1", 102, 102)]


def test_plans_add_up_and_name_their_sysctls() -> None:
    both = Plan("a", (SysctlSet("x/y", "1"),)) + Plan("b", (LimitsSet(8, 8), SysctlSet("z", "2")))
    assert both.purpose == "a; b"
    assert both.sysctl_keys == ("x/y", "z")
    assert len(both.operations) == 3
    assert Plan("nothing").inverse(BEFORE).operations == ()


def test_a_script_stops_at_the_first_refused_change() -> None:
    script = Plan("x", (SysctlSet("net/no/such/parameter", "a 'quoted' value; $HOME"), LimitsSet(1, 1))).script
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "net/no/such/parameter" in done.stderr
    assert "mptcp" not in done.stderr


@settings(max_examples=30)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_a_value_survives_the_shell(value: str) -> None:
    command = SysctlSet("x", value).command.removesuffix("> /proc/sys/x")
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout == value.encode()


def test_a_script_is_valid_shell_whatever_it_holds() -> None:
    script = Plan("all", tuple(operation for operation, _ in OPERATIONS)).script
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Refused(Exception):
    """The model's kernel refused an operation."""


def refuse_unless(condition: object) -> None:
    if not condition:
        raise Refused


def kernel(state: State, operation: Operation) -> State:
    """What a kernel makes of an operation: the new state, or a refusal. Routes go with their device, as they do there."""
    links, endpoints = dict(state.links), dict(state.endpoints)
    match operation:
        case LinkSet(device, up, mtu, _):
            refuse_unless(device in links)
            link = links[device]
            links[device] = replace(link, up=link.up if up is None else up, mtu=mtu or link.mtu)
            routes = state.routes if links[device].up else tuple(r for r in state.routes if r.device != device)
            return replace(state, links=links, routes=routes)
        case AddressAdd(device, address):
            refuse_unless(device in links and address not in links[device].addresses)
            links[device] = replace(links[device], addresses=tuple(sorted({*links[device].addresses, address})))
            return replace(state, links=links)
        case AddressDelete(device, address):
            refuse_unless(device in links and address in links[device].addresses)
            rest = tuple(a for a in links[device].addresses if a != address)
            links[device] = replace(links[device], addresses=rest)
            routes = state.routes if rest else tuple(r for r in state.routes if r.device != device)
            return replace(state, links=links, routes=routes)
        case RouteAdd(destination, device, via, table):
            refuse_unless(device in links and links[device].up)
            refuse_unless(not any((r.destination, r.table) == (destination, table) for r in state.routes))
            return replace(state, routes=ordered(*state.routes, Route(destination, device, via, table)))
        case RouteDelete(destination, device, via, table):
            refuse_unless(Route(destination, device, via, table) in state.routes)
            return replace(state, routes=tuple(r for r in state.routes if r != Route(destination, device, via, table)))
        case RuleAdd(source, table, priority):
            refuse_unless(Rule(priority, source, table) not in state.rules)
            return replace(state, rules=tuple(sorted((*state.rules, Rule(priority, source, table)), key=str)))
        case RuleDelete(source, table, priority):
            refuse_unless(Rule(priority, source, table) in state.rules)
            return replace(state, rules=tuple(r for r in state.rules if r != Rule(priority, source, table)))
        case SysctlSet(key, value):
            return replace(state, sysctls={**state.sysctls, key: value})
        case LimitsSet(subflows, accepted):
            return replace(state, limits=Limits(subflows, accepted))
        case EndpointAdd(number, address, flags, device):
            refuse_unless(number not in endpoints)
            endpoints[number] = Endpoint(number, address, flags, device)
            return replace(state, endpoints=endpoints)
        case EndpointChange(number, flags):
            refuse_unless(number in endpoints and not ("signal" in endpoints[number].flags and "fullmesh" in flags))
            kept = {*endpoints[number].flags} - {"backup", "fullmesh"} | {*flags}
            words = ("signal", "subflow", "backup", "fullmesh")
            endpoints[number] = replace(endpoints[number], flags=tuple(word for word in words if word in kept))
            return replace(state, endpoints=endpoints)
        case EndpointDelete(number):
            refuse_unless(number in endpoints)
            del endpoints[number]
            return replace(state, endpoints=endpoints)
    raise NotImplementedError(operation)


def ordered(*routes: Route) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=lambda route: (route.table, route.destination)))


DEVICES = st.sampled_from(["eth1", "eth2"])
ADDRESSES = st.sampled_from(["10.93.93.1/30", "10.94.94.1/30"])
TABLES = st.sampled_from([101, 254])
CHANGES: st.SearchStrategy[Operation] = st.one_of(
    st.builds(LinkSet, DEVICES, st.sampled_from([True, False]), st.sampled_from([None, 1400, 1500])),
    st.builds(AddressAdd, DEVICES, ADDRESSES),
    st.builds(AddressDelete, DEVICES, ADDRESSES),
    st.builds(RouteAdd, st.sampled_from(["default", "10.9.0.0/16"]), DEVICES, st.none(), TABLES),
    st.builds(RouteDelete, st.sampled_from(["default", "10.9.0.0/16"]), DEVICES, st.none(), TABLES),
    st.builds(RuleAdd, st.just("10.93.93.1"), TABLES, st.sampled_from([101, 102])),
    st.builds(RuleDelete, st.just("10.93.93.1"), TABLES, st.sampled_from([101, 102])),
    st.builds(SysctlSet, st.just("net/mptcp/enabled"), st.sampled_from(["0", "1"])),
    st.builds(LimitsSet, st.integers(0, 8), st.integers(0, 8)),
    st.builds(EndpointAdd, st.integers(1, 2), st.just("10.93.93.1"), st.sampled_from([("subflow",), ("signal",)])),
    st.builds(EndpointDelete, st.integers(1, 2)),
    st.builds(EndpointChange, st.integers(1, 2), st.sampled_from([(), ("backup",), ("backup", "fullmesh")])),
)
EMPTY = State(
    links={device: LinkState(device, True, 1500, "", ()) for device in ("eth1", "eth2")},
    limits=Limits(2, 0),
    sysctls={"net/mptcp/enabled": "1"},
)


def accepted(state: State, wanted: list[Operation]) -> tuple[State, list[Operation]]:
    """Perform what the model's kernel does not refuse."""
    done = []
    for operation in wanted:
        try:
            state = kernel(state, operation)
        except Refused:
            continue
        done.append(operation)
    return state, done


@given(st.lists(CHANGES, max_size=12), st.lists(CHANGES, max_size=12))
def test_the_inverse_of_any_plan_leads_back(history: list[Operation], wanted: list[Operation]) -> None:
    """Whatever was there, whatever a plan does and takes back: no step of its inverse is refused, and all is as before."""
    before, _ = accepted(EMPTY, history)
    after, done = accepted(before, wanted)
    for step in Plan.of("any", done).inverse(before):
        after = kernel(after, step)
    assert after == before
