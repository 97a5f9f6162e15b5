"""What was asked of a lab is read back before traffic: real changes by other programs are named, and a test's own are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import Host, Journal, finished, until
from channover.hosts.lab import Lab
from channover.hosts.netns.process import NamespaceProcess
from channover.hosts.readback import read_back
from channover.measure.record import Record
from channover.model.link import Link
from channover.model.operations.kernel import TableAdd
from channover.model.plan import Plan
from channover.model.topology import pair, two_switches
from channover.network import openvpn
from channover.network.lag import HashPolicy, Lag
from channover.network.openvswitch import OpenVSwitchDriver, OvsBond
from channover.network.tunnel import Devices
from channover.scenarios.bonds import Bonds
from channover.scenarios.labs import Multipath, configure
from channover.targets import capabilities
from channover.targets.netns import NetnsTarget, Panel

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def target() -> Iterator[NetnsTarget]:
    made = NetnsTarget()
    if reason := made.unmet(pair()):
        pytest.skip(reason)
    yield made
    made.close()


@pytest.fixture
def multipath(target: NetnsTarget) -> Iterator[Multipath]:
    with target.lab(pair(), Link(), Journal()) as lab:
        yield configure(lab)


@dataclass
class Bonded:
    """A lab whose cables are a LAG."""

    lab: Lab
    lag: Lag

    def configure(self, *words: str) -> None:
        """Change the right end behind its driver's back."""
        handle = self.lag.right.handle
        assert isinstance(handle, OvsBond)
        handle.switch.configure("set", "Port", handle.port, *words)


@pytest.fixture
def bonded(target: NetnsTarget) -> Iterator[Bonded]:
    with target.lab(pair(), Link(), Journal()) as lab:
        _, missing = capabilities.lag_driver(lab.left, "openvswitch")
        if missing:
            pytest.skip(missing)
        bonds = Bonds(lab, OpenVSwitchDriver, Record(None, lab.journal))
        try:
            yield Bonded(lab, bonds.of_topology())
        finally:
            bonds.close()


def by_hand(*argv: str) -> Callable[[Host], None]:
    def change(host: Host) -> None:
        host.run(*argv)

    return change


FAULTS: Mapping[str, tuple[Callable[[Host], None], str]] = {
    "mtu": (
        by_hand("ip", "link", "set", "eth2", "mtu", "1400"),
        "the MTU of NIC b (eth2) is 1400, and 1500 was asked for",
    ),
    "down": (by_hand("ip", "link", "set", "eth2", "down"), "NIC b (eth2) is down, and up was asked for"),
    "rule": (
        by_hand("ip", "rule", "delete", "priority", "102"),
        "the rule 'from 10.94.94.2 table 102' is gone, and was asked for",
    ),
    "route": (
        by_hand("ip", "route", "replace", "default", "dev", "eth1", "table", "102"),
        "the route 'default dev eth2 table 102' is gone, and was asked for",
    ),
    "address": (
        by_hand("ip", "address", "delete", "10.94.94.2/30", "dev", "eth2"),
        "the address 10.94.94.2/30 of NIC b (eth2) is gone, and was asked for",
    ),
    "endpoint": (
        by_hand("ip", "mptcp", "endpoint", "delete", "id", "2"),
        "MPTCP endpoint 2 (10.94.94.2) is gone, and was asked for",
    ),
    "flags": (
        by_hand("ip", "mptcp", "endpoint", "change", "id", "2", "backup"),
        "MPTCP endpoint 2 is 10.94.94.2 backup signal, and 10.94.94.2 signal was asked for",
    ),
    "limits": (by_hand("ip", "mptcp", "limits", "set", "subflows", "1"), "MPTCP's limits are 1 subflows"),
    "sysctl": (
        lambda host: host.write("/proc/sys/net/mptcp/enabled", "0"),
        "net/mptcp/enabled is 0, and 1 was asked for",
    ),
    "filter": (
        lambda host: host.write("/proc/sys/net/ipv4/conf/all/rp_filter", "1"),
        "net/ipv4/conf/all/rp_filter is 1, and 2 was asked for",
    ),
    "offload": (
        lambda host: host.lab.call("offloads", host.name, "eth2", ("gso",), True),  # type: ignore[attr-defined]
        "gso of NIC b (eth2) is on, and off was asked for",
    ),
}
"""What another program does to a host, and what is to be said of it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_what_another_program_changed_is_named(multipath: Multipath, fault: str) -> None:
    assert read_back(multipath.lab).unmet == ()
    done, words = FAULTS[fault]
    done(multipath.right.host)
    found = read_back(multipath.lab).unmet
    assert any(one.startswith(f"right: {words}") for one in found), found
    assert all(one.startswith("right: ") for one in found)


def test_what_a_test_changes_by_its_verbs_is_asked_for(multipath: Multipath) -> None:
    lab, left = multipath.lab, multipath.left.host
    for context in (multipath.without_source_rules, lambda: multipath.off(["b"]), multipath.one_server_address):
        with context():
            assert read_back(lab).unmet == ()
        assert read_back(lab).unmet == ()
    (cable, *_) = lab.topology.cables
    lab.cabling.cut(cable)
    assert read_back(lab).unmet == ()
    lab.cabling.restore(cable)
    with left.applied(Plan("a guard", (TableAdd("guard", "chain c { }"),))):
        assert read_back(lab).unmet == ()
        left.run("nft", "delete", "table", "inet", "guard")
        assert read_back(lab).unmet == ("left: the packet filter's table guard is gone, and was asked for",)
        left.run("nft", "add", "table", "inet", "guard")
    assert read_back(lab).unmet == ()


def test_a_setting_that_comes_back_while_a_test_keeps_it_away_is_named(multipath: Multipath) -> None:
    with multipath.without_source_rules():
        multipath.left.host.run("ip", "rule", "add", "from", "10.94.94.1", "table", "102", "priority", "102")
        words = "left: the rule 'from 10.94.94.1 table 102' is there, and was to be gone"
        assert read_back(multipath.lab).unmet == (words,)
        multipath.left.host.run("ip", "rule", "delete", "priority", "102")


def test_what_another_program_adds_is_no_error_and_is_told(multipath: Multipath) -> None:
    lab, left = multipath.lab, multipath.left.host
    assert read_back(lab).unasked == ()
    left.run("ip", "rule", "add", "from", "10.94.94.1", "table", "101", "priority", "50")
    left.run("ip", "route", "add", "10.94.94.2", "dev", "eth1")
    left.run("tc", "qdisc", "add", "dev", "eth2", "root", "tbf", "rate", "90mbit", "burst", "16k", "latency", "50ms")
    found = read_back(lab)
    assert found.unmet == ()
    assert found.unasked == (
        "left has a rule 'from 10.94.94.1 table 101' of priority 50",
        "left has a route '10.94.94.2 dev eth1'",
        "left has a queue tbf at NIC b (eth2)",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("qdisc", "change", "dev", "port101", "root", "tbf"),
            "it is shaped to 90 Mbit/s, and 100 Mbit/s was asked for",
        ),
        (
            ("qdisc", "replace", "dev", "port101", "root", "pfifo"),
            "its queue is pfifo, and a shaper of 100 Mbit/s",
        ),
        (("qdisc", "delete", "dev", "port101", "root"), "its queue is noqueue, and a shaper of 100 Mbit/s"),
    ],
)
def test_a_cable_that_is_shaped_otherwise_is_named(multipath: Multipath, words: tuple[str, ...], said: str) -> None:
    panel = multipath.lab.cabling
    assert isinstance(panel, Panel)
    more = ("rate", "90mbit", "burst", "16k", "latency", "50ms") if "change" in words else ()
    finished("panel", NamespaceProcess(panel.process, None, ("tc", *words, *more), {}), 10.0, check=True)
    (found,) = read_back(multipath.lab).unmet
    assert found.startswith("the cable left.a–right.a, towards left.a: ") and said in found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("other_config:lacp-time=slow",), "its LACP rate is slow, and fast was asked for"),
        (("bond_mode=balance-tcp",), "its hash is layer3+4, and layer2 was asked for"),
        (("bond_mode=active-backup",), "its mode is active-backup, and layer2 was asked for"),
        (("other_config:bond-hash-basis=9",), "its bond-hash-basis is 9, and not set was asked for"),
        (("other_config:lacp-fallback-ab=true",), "its lacp-fallback-ab is true, and not set was asked for"),
        (("lacp=off",), "LACP is off"),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_a_lag_that_is_not_as_it_was_asked_for_is_named_and_is_no_time_out(
    bonded: Bonded, words: tuple[str, ...], said: str
) -> None:
    assert read_back(bonded.lab).unmet == ()
    bonded.configure(*words)
    (found,) = read_back(bonded.lab).unmet
    assert found.startswith("right: ") and said in found
    began = time.monotonic()
    with pytest.raises(TestbedError, match=re.escape(said)):
        bonded.lag.wait_converged(30.0)
    assert time.monotonic() - began < 5.0


def test_members_and_the_mtu_of_a_lag_are_compared(bonded: Bonded) -> None:
    end = bonded.lag.right
    end.host.run("ip", "link", "set", "bond0", "mtu", "1400")
    assert read_back(bonded.lab).unmet == ("right: the LAG bond0: its MTU is 1400, and 1500 was asked for",)
    end.host.run("ip", "link", "set", "bond0", "mtu", "1500")
    handle = end.handle
    assert isinstance(handle, OvsBond)
    handle.switch.configure(
        "--id=@one", "get", "Interface", "eth2", "--", "remove", "Port", handle.port, "interfaces", "@one"
    )
    assert "right: the LAG bond0: it has 1 of its 2 members" in read_back(bonded.lab).unmet


def test_a_switch_s_lag_is_read_back_as_well(target: NetnsTarget) -> None:
    with target.lab(two_switches(2), Link(), Journal()) as lab:
        _, missing = capabilities.lag_driver(lab.left, "openvswitch")
        if missing:
            pytest.skip(missing)
        bonds = Bonds(lab, OpenVSwitchDriver, Record(None, lab.journal))
        try:
            lag = bonds.of_topology(HashPolicy.LAYER34)
            assert (read_back(lab).unmet, read_back(lab).unasked) == ((), ())
            Bonded(lab, lag).configure("bond_mode=balance-slb")
            assert read_back(lab).unmet == ("east: the LAG bond0: its hash is layer2, and layer3+4 was asked for",)
        finally:
            bonds.close()
        assert read_back(lab).unmet == ()


def test_a_link_that_was_lost_and_is_back_is_told(bonded: Bonded) -> None:
    lag, (_, cable) = bonded.lag, bonded.lab.topology.cables
    lag.wait_converged()
    assert [end.lost() for end in lag.ends] == [(), ()]
    bonded.lab.cabling.cut(cable)
    until(lambda: len(lag.left.status().working) == 1, "the loss of a link", 5.0)
    bonded.lab.cabling.restore(cable)
    until(lambda: all(len(end.status().working) == 2 for end in lag.ends), "the link again", 10.0)
    assert [end.lost() for end in lag.ends] == [("eth2",), ("eth2",)]
    lag.wait_converged()
    assert [end.lost() for end in lag.ends] == [(), ()]


def test_a_partner_that_was_lost_while_the_carrier_stayed_is_told(bonded: Bonded) -> None:
    lag, (_, cable) = bonded.lag, bonded.lab.topology.cables
    lag.wait_converged()
    bonded.lab.cabling.mute(cable, cable.a)
    until(lambda: lag.right.lost(), "the loss of a partner", 10.0, 0.2)
    bonded.lab.cabling.restore(cable)
    assert (lag.left.lost(), lag.right.lost()) == ((), ("eth2",))


def test_the_mtu_and_the_address_of_a_tunnel_s_device_are_compared(multipath: Multipath) -> None:
    left, right = multipath.left.host, multipath.right.host
    if reason := openvpn.unmet(left):
        pytest.skip(reason)
    with openvpn.openvpn_tunnel(left, right, str(multipath.right.address.ip)) as tunnel:
        multipath.lab.asked.append(Devices.of(tunnel))
        assert read_back(multipath.lab).unmet == ()
        assert read_back(multipath.lab).unasked == ()
        right.run("ip", "link", "set", tunnel.server.device, "mtu", "1300")
        assert read_back(multipath.lab).unmet == (
            "right: the MTU of the tunnel's ptp is 1300, and it came up with 1500",
        )
        right.run("ip", "link", "set", tunnel.server.device, "mtu", "1500")
        left.run("ip", "address", "flush", "dev", tunnel.client.device)
        assert read_back(multipath.lab).unmet == ("left: the tunnel's ptp has lost its address 10.96.96.1",)
    assert read_back(multipath.lab).unmet == ()


SUITE = """\
import pytest

from channover.testing import at_least, behaviour


@pytest.fixture
def broken(multipath):
    multipath.right.host.run("ip", "rule", "delete", "priority", "102")
    return multipath


@behaviour("MP-1")
def test_a_flow(broken, mptcp):
    assert mptcp(broken.left, broken.right).goodput == at_least(1)


@behaviour("MP-3")
def test_a_copy(broken, copies):
    from channover.testing import FileProtocol

    assert copies(FileProtocol.HTTP, broken.left, broken.right).goodput == at_least(1)


@behaviour("LAG-1")
def test_a_change_in_between(multipath, tcp):
    flow = tcp(multipath.left, multipath.right)
    (_, cable), panel = multipath.lab.topology.cables, multipath.lab.cabling
    for up in (False, True):
        panel.process.call("port", panel.ports[cable][0], up)
    multipath.left.host.run("ip", "mptcp", "limits", "set", "subflows", "1")
    assert flow.goodput == at_least(1)


@behaviour("MP-6")
def test_a_change_that_breaks_it(multipath, mptcp):
    flow = mptcp(multipath.left, multipath.right)
    multipath.left.host.run("ip", "rule", "delete", "priority", "102")
    assert flow.goodput == at_least(3 * multipath.link.rate)


@behaviour("LAG-2")
def test_mtus_that_a_test_asked_for(multipath, tcp):
    from channover.model.operations.devices import LinkSet
    from channover.model.plan import Plan

    with multipath.left.host.applied(Plan("a small MTU", (LinkSet("eth1", mtu=1400),))):
        assert tcp(multipath.left, multipath.right).goodput == at_least(1)
"""


def test_whatever_is_measured_begins_with_it_and_the_error_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text(SUITE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "--reports",
        str(tmp_path / "reports"),
        str(tmp_path),
    ]
    done = subprocess.run([*command, "--no-report"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    results = json.loads((tmp_path / "reports" / "latest" / "results.json").read_text())
    words = "not as it was asked for: right: the rule 'from 10.94.94.2 table 102' is gone, and was asked for"
    by_id = {one["behaviour"]: one for one in results["tests"]}
    for behaviour in ("MP-1", "MP-3"):
        assert (by_id[behaviour]["outcome"], by_id[behaviour]["reason"]) == ("error", words), done.stdout[-3000:]
    assert by_id["LAG-1"]["outcome"] == by_id["LAG-2"]["outcome"] == "passed", done.stdout[-3000:]
    assert by_id["MP-6"]["outcome"] == "error", done.stdout[-3000:]
    assert by_id["MP-6"]["reason"] == words.replace("right", "left").replace("94.2", "94.1")
    seen = {note["id"]: note["text"] for note in by_id["LAG-1"]["notes"]}
    assert seen["changed"].startswith("changed while tcp left→right ran: left: MPTCP's limits are 1 subflows")
    assert seen["carrier"].startswith("tcp left→right: the carrier of left's NIC b changed ")
    assert {"id": "mtu", "figures": {"one": 1400.0, "other": 1500.0}} in [
        {key: note[key] for key in ("id", "figures")} for note in by_id["LAG-2"]["notes"]
    ]
    assert "LAG-1 passed, but:" in done.stdout and "LAG-2 passed, but:" in done.stdout
