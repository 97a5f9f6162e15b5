"""What the hashes of LAG drivers make of flows, against what the drivers themselves made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channover.network import flow_hash
from channover.network.bonding import Bond
from channover.network.flow_hash import Conversation
from channover.network.lag import HashPolicy, LagEnd
from channover.network.openvswitch import OvsBond
from channover.observe.lags.bond_parsers import parse_hashes, parse_proc_bonding

DATA = Path(__file__).parents[1] / "data" / "bond"
V4 = ("10.92.92.1", "10.92.92.2")
V6 = ("fd00:92::1", "fd00:92::2")
OVS = {
    V4: {40000: 0xAFDDCDD6, 40001: 0x3753C3E0, 40002: 0x2C1AA8E8, 40003: 0xAAA4037B, 40004: 0x42B724F9},
    V6: {40000: 0x23669D18, 40001: 0xB758A708, 40002: 0xC4CFF28E, 40003: 0x55B30C9B, 40004: 0x36F6671B},
}
"""The dp_hash that Open vSwitch 3.1.0 (Debian 12, amd64) gave UDP to port 5900 from these ports; its basis was 0."""


def conversation(pair: tuple[str, str], port: int, **more: Any) -> Conversation:
    return Conversation(*pair, port, 5900, **more)


@pytest.mark.parametrize("pair", [V4, V6], ids=["IPv4", "IPv6"])
def test_the_hash_of_open_vswitch_is_what_its_datapath_showed(pair: tuple[str, str]) -> None:
    assert {port: flow_hash.dp_hash(conversation(pair, port)) for port in OVS[pair]} == OVS[pair]


def test_the_datapaths_flows_are_read_with_their_hashes() -> None:
    shown = parse_hashes((DATA / "ovs-converged.dpctl-flows.txt").read_text())
    for pair, hashes in OVS.items():
        assert {(source, target) for source, _, target, _ in shown} == {V4, V6}
        assert {key[1]: value for key, value in shown.items() if key[0] == pair[0] and key[1] in hashes} == hashes


@pytest.mark.parametrize(("basis", "port"), [(1, 40000), (7, 40001)])
def test_another_basis_deals_the_flows_anew(basis: int, port: int) -> None:
    flow = conversation(V4, port)
    assert flow_hash.dp_hash(flow, basis) != flow_hash.dp_hash(flow)


MACS: dict[str, Any] = {"source_mac": "52:54:00:92:92:11", "target_mac": "52:54:00:92:92:22"}


def test_layer2_tells_ipv4_from_ipv6_and_no_ports() -> None:
    hashes = {flow_hash.layer2(conversation(V4, port, **MACS)) for port in range(6000, 6064)}
    assert hashes == {0x11 ^ 0x22 ^ 0x0800}
    assert flow_hash.layer2(conversation(V6, 6000, **MACS)) == 0x11 ^ 0x22 ^ 0x86DD


def test_layer23_tells_addresses_and_no_ports() -> None:
    # 10.92.92.1 and .2 differ in their last byte, which comes last in memory: 3 << 24, folded by 16 and by 8.
    value = (0x11 ^ 0x22 ^ 0x0800) ^ 3 << 24
    value ^= value >> 16
    value ^= value >> 8
    assert {flow_hash.layer23(conversation(V4, port, **MACS)) for port in (6000, 6001, 7123)} == {value}
    assert flow_hash.layer23(conversation((V4[0], "10.92.92.3"), 6000, **MACS)) != value


def test_layer34_leaves_out_the_lowest_bit_and_knows_no_mac_addresses() -> None:
    flow = conversation(V4, 6000)
    # Ports 6000 and 5900 as they stand in the header, 17 70 17 0c, read as a little-endian word.
    value = 0x0C177017 ^ 3 << 24
    value ^= value >> 16
    value ^= value >> 8
    assert flow_hash.layer34(flow) == value >> 1
    assert flow_hash.layer34(replace(flow, **MACS)) == value >> 1


def test_layer2_without_mac_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        flow_hash.layer2(conversation(V4, 6000))


class Kernel:
    """A host that only shows what its bonding driver says."""

    name = "left"

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, _: str) -> str:
        return self.text


def bond(policy: HashPolicy, text: str) -> Bond:
    host: Any = Kernel(text)
    undo: Any = None
    return Bond(host, "bond0", ("eth1", "eth2"), undo, policy)


def text(name: str) -> str:
    return (DATA / f"{name}.txt").read_text().partition("\n")[2]


def test_the_kernels_ports_take_flows_in_the_order_in_which_it_lists_them() -> None:
    converged = text("kernel-6.12-fast")
    ports = [member.device for member in parse_proc_bonding(converged).members]
    flows = [conversation(V4, port) for port in range(6000, 6064)]
    chosen = bond(HashPolicy.LAYER34, converged).choices(flows)
    assert chosen == [ports[flow_hash.layer34(flow) % 2] for flow in flows]
    assert set(chosen) == set(ports)


def test_a_member_that_is_in_another_aggregator_takes_no_flow() -> None:
    flows = [conversation(V4, port) for port in range(6000, 6064)]
    assert set(bond(HashPolicy.LAYER34, text("kernel-6.1-split")).choices(flows)) == {"eth1"}


class Daemon:
    """A switch daemon that answers what was captured of one."""

    def show(self, command: str, *_: str) -> str:
        return text(
            {"dpctl/dump-flows": "ovs-converged.dpctl-flows", "bridge/dump-flows": "ovs-converged.dump-flows"}[command]
        )


def ovs(policy: HashPolicy, deals: int = 0) -> OvsBond:
    host: Any = Kernel("")
    daemon: Any = Daemon()
    undo: Any = None
    return OvsBond(host, "bond0", ("eth1", "eth2"), daemon, "bond0", "bond0-lag", policy, undo, {}, deals)


def test_open_vswitch_has_each_flow_on_its_buckets_member() -> None:
    chosen = ovs(HashPolicy.LAYER34).choices([conversation(V4, port) for port in OVS[V4]])
    buckets = ovs(HashPolicy.LAYER34).placement()
    assert chosen == [buckets[value & 0xFF] for value in OVS[V4].values()]


def test_a_build_that_hashes_otherwise_is_told_by_the_flows_that_run() -> None:
    # Of another basis, as it were: what is computed is not what the datapath showed.
    told = ovs(HashPolicy.LAYER34, 1).choices([conversation(V4, 40000)])
    assert isinstance(told, str)
    assert told.startswith(
        "left: this build of Open vSwitch hashes otherwise than Debian's of amd64: 0xafddcdd6 of a flow"
    )


def test_what_balance_slb_chooses_is_told_by_nobody() -> None:
    told = ovs(HashPolicy.LAYER2).choices([conversation(V4, 40000)])
    assert told == "left: Open vSwitch does not tell which member balance-slb has given a MAC address"


def test_a_driver_of_another_package_need_not_tell() -> None:
    class Silent:
        host = Kernel("")

    handle: Any = Silent()
    rate: Any = None
    told = LagEnd(handle, HashPolicy.LAYER34, rate).choices([])
    assert told == "left: the driver of its LAG does not tell by which member a flow leaves"
