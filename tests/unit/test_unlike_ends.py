"""Ends of LAGs that are unlike: what is asked of each, what a driver cannot do, and where flows go between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from channover.errors import NotAllowed, UsageError
from channover.measure.flow import Flow
from channover.model.link import Link
from channover.model.topology import pair, unstacked
from channover.network import lag as lags
from channover.network.flow_hash import TCP, Conversation
from channover.network.lag import HashPolicy, LacpRate, Lag, LagEnd, Manner
from channover.network.programs.iperf import Load, Transport
from channover.observe.captures import Passing, datagrams_from
from channover.scenarios.diagnosis.lags import hashed
from channover.scenarios.lags.hashed import HashedFlows, Placed


@dataclass
class Plain:
    """A driver of another package, which knows of no passive end and no keys of its members' own."""

    name: str = "acme"
    made: list[tuple[Any, ...]] = field(default_factory=list)

    def create(self, host: Any, *words: Any) -> Any:
        self.made.append((host.name, *words))
        return SimpleNamespace(host=host, device=words[0], members=tuple(words[1]), close=lambda: None)


def host(name: str) -> Any:
    nics = {label: SimpleNamespace(name=label, device=f"eth{number}") for number, label in enumerate("ab", 1)}
    return SimpleNamespace(name=name, nics=nics, nic=nics.__getitem__)


def between(driver: Any, *manners: Manner) -> Any:
    ends = host("left"), host("right")
    return lags.between_hosts(
        driver, *ends, pair().cables, Link(100_000_000), HashPolicy.LAYER2, (manners[0], manners[1])
    )


def test_each_end_is_made_in_its_own_manner() -> None:
    driver = Plain()
    with between(driver, Manner(LacpRate.SLOW), Manner()) as lag:
        assert [end.rate for end in lag.ends] == [LacpRate.SLOW, LacpRate.FAST]
        assert "eth1 timeout" not in lag.states(lag.left)
        assert "eth1 timeout" in lag.states(lag.right)
    assert sorted((name, rate) for name, *_, rate in driver.made) == [("left", LacpRate.SLOW), ("right", LacpRate.FAST)]


def test_a_passive_end_is_to_show_no_activity() -> None:
    handle: Any = SimpleNamespace(members=("eth1",))
    end = LagEnd(handle, HashPolicy.LAYER2, LacpRate.FAST, passive=True)
    lag = Lag(end, end, Link(100_000_000), HashPolicy.LAYER2, LacpRate.FAST)
    assert "eth1 activity" not in lag.states(end)
    assert "eth1 synchronized" in lag.states(end)


def test_a_driver_that_knows_no_passive_end_has_the_test_skipped() -> None:
    with (
        pytest.raises(
            NotAllowed, match="the LAG driver acme has no end whose LACP is passive: --lag-driver openvswitch has"
        ),
        between(Plain(), Manner(), Manner(passive=True)),
    ):
        pass


def test_a_driver_of_one_key_has_the_test_skipped_and_says_where_it_is_had() -> None:
    with between(Plain(), Manner(), Manner()) as lag, pytest.raises(NotAllowed, match="--target vm"):
        lag.right.apart("eth2")


def test_half_of_the_cables_of_a_host_that_is_not_stacked_lead_elsewhere() -> None:
    topology = unstacked()
    assert [len(list(topology.between("left", other))) for other in ("right", "stray")] == [2, 2]
    assert (topology.client, topology.server) == ("left", "right")


def transfers(*loads: Load) -> Any:
    return SimpleNamespace(transfers=[SimpleNamespace(load=load) for load in loads], protocol=Transport.TCP)


def test_the_streams_of_a_flow_are_what_the_hash_sees() -> None:
    run: Any = SimpleNamespace(
        name="tcp", programs=transfers(Load(Transport.TCP, "10.92.0.9", "10.92.0.1", 2, port=5203, first_port=20000))
    )
    assert Flow(run).conversations == [
        Conversation("10.92.0.1", "10.92.0.9", port, 5203, TCP) for port in (20000, 20001)
    ]


def test_without_their_ports_nobody_knows_them() -> None:
    run: Any = SimpleNamespace(name="tcp", programs=transfers(Load(Transport.TCP, "10.92.0.9", "10.92.0.1", 2)))
    with pytest.raises(UsageError, match=r"tcp: give first_port=…"):
        _ = Flow(run).conversations


def test_datagrams_are_told_by_their_source_ports() -> None:
    passing = Passing(host("right"), "udp")
    passing.lines = {
        "a": [
            "IP 10.92.92.1.6000 > 10.92.92.2.5900: UDP, length 200",
            "IP6 fd00:92::1.6001 > fd00:92::2.5900: UDP, length 9",
            "IP 10.92.92.2.6007 > 10.92.92.1.5900: UDP, length 200",
        ],
        "b": ["IP 10.92.92.1.6000 > 10.92.92.2.5900: UDP, length 200", "LACPv1, length 110"],
    }
    assert datagrams_from(passing, "10.92.92.1") == {6000: {"a", "b"}}
    assert datagrams_from(passing, "fd00:92::1") == {6001: {"a"}}


def flows_of(chosen: Sequence[str] | str) -> tuple[Any, list[str], Any]:
    notes: list[Any] = []
    record: Any = SimpleNamespace(notes=notes)
    nothing: Any = None
    end: Any = SimpleNamespace(choices=lambda _: chosen, members=("eth1", "eth2"))
    return HashedFlows(nothing, record, nothing, nothing, nothing), notes, end


def test_how_many_links_the_hash_gives_flows_is_counted() -> None:
    made, notes, end = flows_of(["eth2", "eth2", "eth2"])
    assert made.links(end, []) == 1
    assert notes == []


def test_where_nobody_can_tell_every_link_is_awaited_and_a_note_says_why() -> None:
    made, notes, end = flows_of("west: this build hashes otherwise")
    assert made.links(end, []) == 2
    assert [str(one.text) for one in notes] == ["observed, and not computed: west: this build hashes otherwise"]  # type: ignore[attr-defined]


def test_the_diagnosis_tells_what_the_sender_did_from_what_lies_between() -> None:
    a, b = frozenset("a"), frozenset("b")
    sent = {6000: a, 6001: a, 6002: a | b, 6003: a}
    arrived = {6000: a, 6001: b, 6002: a | b}
    view = hashed(Placed("IPv4 left→right", "left", sent, arrived, {6000: "b", 6001: "a", 6002: "a", 6003: "a"}))
    assert view.elsewhere == ["port 6000 by a, where its hash says b"]
    assert view.astray == ["port 6001 sent by a, arrived by b"]
    assert view.moved == ["port 6002 by a and b"]
