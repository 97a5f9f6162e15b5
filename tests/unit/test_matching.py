"""How topologies lie on labs of real hosts."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.hosts.host import Nic
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.state import Limits, State
from channover.model.topology import (
    Cable,
    Node,
    Port,
    Role,
    Topology,
    gateway,
    pair,
    parallel,
    trio,
    two_switches,
    unequal,
)
from channover.pytest_plugin.allure.page_facts import lab_facts
from channover.run.settings import Settings, link_of
from channover.run.target_choice import Place
from channover.targets.dry_run import DryCabling, DryHost
from channover.targets.inventory.schema import Inventory, LabEntry
from channover.targets.physical.placement import Fit, fit

FAST, SLOW = 1_000_000_000, 100_000_000

Wires = Iterable[tuple[str, str, int]]


def lab(wires: Wires, switches: tuple[str, ...] = (), unmanaged: tuple[str, ...] = (), idle: str = "") -> LabEntry:
    """Return the lab with these cables, each two ends HOST.NIC and a rate; ``idle`` names NICs without a cable."""
    wires = list(wires)
    nics: dict[str, list[str]] = {}
    for end in [end for a, b, _ in wires for end in (a, b)] + idle.split():
        host, _, nic = end.partition(".")
        nics.setdefault(host, []).append(nic)
    data = {
        "hosts": {
            name: {
                "ssh": {"address": f"{name}.example"},
                "management": "eth0",
                "role": "switch" if name in switches else "host",
                "nics": {nic: f"eth{number}" for number, nic in enumerate(labels, start=1)},
            }
            for name, labels in nics.items()
            if name not in unmanaged
        },
        "switches": {name: {"ports": nics[name]} for name in unmanaged},
        "cables": [{"ends": (a, b), "rate": rate} for a, b, rate in wires],
    }
    return Inventory.model_validate({"labs": {"bench": data}}).labs["bench"]


def straight(one: str, other: str, nics: str, rate: int = SLOW) -> list[tuple[str, str, int]]:
    return [(f"{one}.{nic}", f"{other}.{nic}", rate) for nic in nics]


def switched(left: int, right: int) -> LabEntry:
    """Return a lab of two bridging hosts with so many hosts behind each, called unlike the topology's."""
    wires = [("s1.t1", "s2.t1", SLOW), ("s1.t2", "s2.t2", SLOW)]
    for switch, number in (("s1", left), ("s2", right)):
        wires += [(f"{switch}.d{each}", f"box-{switch}-{each}.eth", FAST) for each in range(number)]
    return lab(wires, switches=("s1", "s2"))


def holds(found: Fit | str, topology: Topology, entry: LabEntry) -> Fit:
    """Check a fit against what it must be, whatever the search did, and return it."""
    assert isinstance(found, Fit), found
    assert list(found.nodes) == [node.name for node in topology.nodes]
    assert len(set(found.nodes.values())) == len(found.nodes)
    assert len(set(found.nics.values())) == len(found.nics) == sum(len(node.nics) for node in topology.nodes)
    for node in topology.nodes:
        assert entry.hosts[found.nodes[node.name]].role == node.role
    for port, real in found.nics.items():
        assert real.node == found.nodes[port.node]
        assert real.nic in entry.hosts[real.node].nics
    real_rates = {frozenset(cable.ports): cable.rate for cable in entry.cables}
    rates: dict[float, set[int]] = {}
    for cable in topology.cables:
        rates.setdefault(cable.speedup, set()).add(real_rates[frozenset(found.nics[port] for port in cable.ports)])
    assert all(len(of_one) == 1 for of_one in rates.values())
    in_order = [min(rates[speedup]) for speedup in sorted(rates)]
    assert in_order == sorted(in_order)
    assert found.rate == min(rates.get(1.0, {found.rate}))
    assert {speedup: {rate} for speedup, rate in found.rates.items()} == rates
    return found


def test_equal_names_come_first_however_the_file_orders_them() -> None:
    wires = straight("right", "left", "cba") + straight("alpha", "omega", "ab")
    entry = lab(wires)
    found = holds(fit(pair(), entry), pair(), entry)
    assert found.nodes == {"left": "left", "right": "right"}
    assert all(port == real for port, real in found.nics.items())
    assert found.rate == SLOW


def test_other_names_and_crossed_cables_will_do() -> None:
    entry = lab([("h1.x", "h2.y", FAST), ("h2.x", "h1.y", FAST)])
    found = holds(fit(pair(), entry), pair(), entry)
    assert found.nodes == {"left": "h1", "right": "h2"}
    assert found.rate == FAST


def test_a_host_is_kept_for_the_node_of_its_name() -> None:
    entry = lab(straight("right", "h1", "ab"))
    assert holds(fit(pair(), entry), pair(), entry).nodes == {"left": "h1", "right": "right"}


def test_a_cable_with_one_equal_end_comes_before_one_with_none() -> None:
    entry = lab([("left.x", "right.b", SLOW), ("left.b", "right.y", SLOW), ("left.a", "right.a", SLOW)])
    found = holds(fit(parallel(3), entry), parallel(3), entry)
    assert found.nics[Port("left", "a")] == Port("left", "a")
    assert found.nics[Port("right", "b")] == Port("right", "b")


def test_cables_and_nics_that_are_over_are_left_alone() -> None:
    entry = lab([*straight("left", "right", "abc"), ("left.d", "third.a", FAST)], idle="right.free")
    found = holds(fit(pair(), entry), pair(), entry)
    assert {port.nic for port in found.nics.values()} == {"a", "b"}


def test_a_nic_without_a_cable_is_given_one_without() -> None:
    topology = Topology(
        "spare", (Node("left", ("a", "spare")), Node("right", ("a",))), (Cable(Port("left", "a"), Port("right", "a")),)
    )
    entry = lab([("left.a", "right.a", SLOW), ("left.spare", "right.b", SLOW)], idle="left.free")
    assert holds(fit(topology, entry), topology, entry).nics[Port("left", "spare")] == Port("left", "free")


def test_the_gateway_needs_a_third_host_behind_the_second() -> None:
    entry = lab([*straight("one", "two", "ab"), ("one.z", "three.z", FAST)])
    found = holds(fit(gateway(), entry), gateway(), entry)
    assert found.nodes == {"left": "two", "right": "one", "beyond": "three"}
    assert found.nics[Port("right", "out")] == Port("one", "z")


def test_each_test_has_the_link_of_the_cables_that_it_is_laid_on() -> None:
    entry = lab([*straight("left", "right", "ab", FAST), *straight("left", "other", "cd", SLOW)])
    place = Place("physical", entry)
    settings = Settings(place, link_of(None, place), "auto", None, 10.0, False, Path("reports"))
    assert settings.rates == (SLOW, FAST)
    assert settings.link_for(pair()).rate == FAST
    assert settings.link_for(parallel(8)).rate == SLOW  # there is no such lab, and the slowest link is a safe guess


def test_a_test_has_the_mtu_that_all_cables_carry_that_it_is_laid_on() -> None:
    entry = lab([*straight("left", "right", "ab", FAST), *straight("left", "other", "cd", SLOW)])
    sizes = (9000, 4000, 1500, 1500)
    cables = tuple(one.model_copy(update={"mtu": mtu}) for one, mtu in zip(entry.cables, sizes, strict=True))
    place = Place("physical", entry.model_copy(update={"cables": cables}))
    settings = Settings(place, link_of(None, place, family="6"), "auto", None, 10.0, False, Path("reports"))
    assert settings.link == Link(SLOW, 1500, ipv6=True)
    assert settings.link_for(pair()) == Link(FAST, 4000, ipv6=True)
    with pytest.raises(UsageError, match="--mtu: real cables have the MTU that the inventory says"):
        link_of(None, place, mtu="9000")


@pytest.mark.parametrize(
    ("target", "asked", "rate"), [("vm", False, 2_200_000), ("vm", True, FAST), ("netns", False, FAST)]
)
def test_more_micro_vms_than_the_processors_can_be_a_wire_for_have_slower_cables(
    target: str, asked: bool, rate: int
) -> None:
    link = Link(10_000_000 if not asked and target == "vm" else FAST)
    settings = Settings(Place(target), link, "auto", None, 10.0, False, Path("reports"), asked=asked)
    assert settings.link_for(two_switches(1)) == link
    assert settings.link_for(two_switches(8)).rate == rate


def test_cables_are_recorded_at_the_rate_that_the_inventory_says() -> None:
    topology = two_switches(1)
    wires = [*straight("west", "east", "ab"), ("left.a", "west.c", SLOW), ("right.a", "east.c", SLOW)]
    found = holds(fit(topology, entry := lab(wires, switches=("west", "east"))), topology, entry)
    state = State(links={}, limits=Limits(2, 0))
    hosts = {
        node.name: DryHost(node.name, {nic: Nic(nic, nic) for nic in node.nics}, [], state) for node in topology.nodes
    }
    made = Lab(topology, hosts, Link(found.rate), DryCabling([]), rates=found.rates)
    assert {cable.speedup for cable in topology.cables} != {1.0}
    assert {cable.rate for cable in lab_facts(made)[1]} == {SLOW}
    assert {cable.rate for cable in lab_facts(replace(made, rates={}))[1]} == {SLOW, 10 * SLOW}


def test_cables_of_one_speedup_have_one_rate() -> None:
    mixed = lab([("left.a", "right.a", SLOW), ("left.b", "right.b", FAST)])
    assert fit(pair(), mixed) == (
        "no pair of hosts in lab bench has 2 cables of one rate between them; the topology pair needs them"
    )
    entry = lab([("left.a", "right.a", SLOW), ("left.b", "right.b", FAST), ("left.c", "right.c", FAST)])
    assert holds(fit(pair(), entry), pair(), entry).rate == FAST


@pytest.mark.parametrize(("behind", "fits"), [(SLOW // 10, False), (SLOW, True), (2 * SLOW, True), (100 * SLOW, True)])
def test_a_faster_cable_is_never_slower(behind: int, fits: bool) -> None:
    entry = lab([*straight("left", "right", "ab"), ("right.out", "beyond.a", behind)])
    found = fit(gateway(), entry)
    assert isinstance(found, Fit) == fits, found


@pytest.mark.parametrize(("other", "fits"), [(SLOW // 5, True), (SLOW, False)])
def test_a_slower_cable_is_slower(other: int, fits: bool) -> None:
    """Paths at one rate are no unequal paths, whatever is found of them."""
    entry = lab([("left.a", "right.a", SLOW), ("left.b", "right.b", other)])
    found = fit(unequal(0.2), entry)
    assert isinstance(found, Fit) == fits, found
    if not fits:
        assert "needs: left–right 1 cable, left–right 1 cable slower, " in str(found)


def test_roles_must_agree() -> None:
    wires = [("w.a", "e.a", SLOW), ("w.b", "e.b", SLOW), ("w.p", "x.a", FAST), ("e.p", "y.a", FAST)]
    assert isinstance(fit(two_switches(1), lab(wires, switches=("w", "e"))), Fit)
    assert fit(two_switches(1), lab(wires)) == (
        "lab bench has switches: 0, and the topology two-switches-1 needs 2; mark hosts that bridge with 'role: switch', "
        "or name two 'switches' with a LAG between them and hosts behind"
    )
    assert fit(pair(), lab(straight("w", "e", "ab"), switches=("w",))) == (
        "lab bench has hosts: 1, and the topology pair needs 2; add hosts to the inventory, or choose another lab"
    )


def test_too_few_cables_are_named() -> None:
    assert fit(trio(), lab(straight("left", "right", "ab"))) == (
        "no pair of hosts in lab bench has 3 cables between them; the topology trio needs them"
    )


def test_cables_that_are_not_together_are_named() -> None:
    entry = lab([*straight("one", "two", "ab"), ("three.a", "four.a", FAST)])
    assert fit(gateway(), entry) == (
        "the hosts of lab bench are not cabled as the topology gateway needs: left–right 2 cables, right–beyond 1 cable no "
        "slower, those of a kind at one rate; cable them so, and name the cables in the inventory"
    )


def test_a_switch_that_is_not_logged_in_to_is_no_cable() -> None:
    wires = [("left.a", "box.p1", SLOW), ("right.a", "box.p2", SLOW), ("left.b", "right.b", SLOW)]
    reason = fit(pair(), lab(wires, unmanaged=("box",)))
    assert isinstance(reason, str)
    assert "2 cables between them" in reason


def test_sixteen_hosts_behind_two_switches_are_placed_at_once() -> None:
    start = time.process_time()
    entry = switched(8, 8)
    holds(fit(two_switches(8), entry), two_switches(8), entry)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(("left", "right"), [(7, 9), (15, 7), (8, 7)])
def test_one_host_too_few_on_a_side_is_seen_at_once(left: int, right: int) -> None:
    start = time.process_time()
    assert isinstance(fit(two_switches(8), switched(left, right)), str)
    assert time.process_time() - start < 2.0


def test_the_same_question_has_the_same_answer() -> None:
    assert fit(two_switches(4), switched(6, 5)) == fit(two_switches(4), switched(6, 5))


@pytest.mark.parametrize("seed", range(40))
def test_a_topology_hidden_among_other_cables_is_found(seed: int) -> None:
    """Names say nothing, NICs are crossed, and cables to and between other hosts lie around."""
    chance = random.Random(seed)
    topology = chance.choice([pair(), trio(), gateway(), two_switches(2), two_switches(8)])
    names = [f"h{number}" for number in range(len(topology.nodes) + 4)]
    chance.shuffle(names)
    host = {node.name: name for node, name in zip(topology.nodes, names, strict=False)}
    count: dict[str, int] = {}

    def end(name: str) -> str:
        count[name] = count.get(name, 0) + 1
        return f"{name}.n{count[name]}"

    wires = [
        (end(host[cable.a.node]), end(host[cable.b.node]), FAST if cable.speedup > 1 else SLOW)
        for cable in topology.cables
    ]
    for _ in range(12):
        a, b = chance.sample(names, 2)
        wires.append((end(a), end(b), chance.choice([SLOW, FAST])))
    chance.shuffle(wires)
    spare = " ".join(f"{name}.idle" for name in names)
    switches = tuple(host[node.name] for node in topology.nodes if node.role is Role.SWITCH)
    entry = lab(wires, switches=switches, idle=spare)
    start = time.process_time()
    holds(fit(topology, entry), topology, entry)
    assert time.process_time() - start < 5.0


def possible(topology: Topology, entry: LabEntry) -> bool:
    """Say whether a topology of speedups 1 and 10 lies on a lab, by trying every way."""
    for chosen in permutations(entry.hosts, len(topology.nodes)):
        host = dict(zip([node.name for node in topology.nodes], chosen, strict=True))
        fits = all(
            entry.hosts[host[node.name]].role == node.role and len(entry.hosts[host[node.name]].nics) >= len(node.nics)
            for node in topology.nodes
        )
        for slow, fast in ((SLOW, SLOW), (SLOW, FAST), (FAST, FAST)) if fits else ():
            need = Counter(
                (frozenset({host[cable.a.node], host[cable.b.node]}), fast if cable.speedup > 1 else slow)
                for cable in topology.cables
            )
            if need <= Counter((frozenset(port.node for port in cable.ports), cable.rate) for cable in entry.cables):
                return True
    return False


def test_there_is_a_fit_just_where_trying_everything_finds_one() -> None:
    outcomes = Counter[bool]()
    for seed in range(300):
        chance = random.Random(seed)
        names = chance.sample(["left", "right", "beyond", "x", "y"], chance.choice([3, 4, 5]))
        count: Counter[str] = Counter()
        wires = []
        for _ in range(chance.choice([4, 6, 8])):
            ends = chance.sample(names, 2)
            count.update(ends)
            a, b = (f"{name}.n{count[name]}" for name in ends)
            wires.append((a, b, chance.choice([SLOW, FAST])))
        idle = " ".join(f"{name}.idle" for name in names)
        entry = lab(wires, switches=chance.choice([(), (), tuple(names[:1]), tuple(names[:2])]), idle=idle)
        for topology in (pair(), trio(), gateway(), two_switches(1)):
            found = fit(topology, entry)
            outcomes[possible(topology, entry)] += 1
            assert isinstance(found, Fit) == possible(topology, entry), (seed, topology.name, found)
            if isinstance(found, Fit):
                holds(found, topology, entry)
    assert min(outcomes.values()) > 100
