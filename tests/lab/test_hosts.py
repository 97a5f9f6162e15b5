"""Hosts that are namespaces: programs, files, and plans whose inverses lead back."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import fields, replace
from itertools import count

import pytest

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host, Journal, until
from channover.hosts.lab import Lab
from channover.hosts.netns.process import NamespaceProcess
from channover.hosts.netns.steering import mask
from channover.hosts.netns.supervisor import PRIORITY
from channover.model.link import Link
from channover.model.operations import devices, kernel, mptcp, routing
from channover.model.operations.devices import AddressAdd, AddressDelete, LinkAdd, LinkDelete, LinkSet
from channover.model.operations.kernel import SysctlSet, TableAdd, TableDelete
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, EndpointDelete, LimitsSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import ProhibitAdd, ProhibitDelete, RouteAdd, RouteDelete, RuleAdd, RuleDelete
from channover.model.plan import Plan
from channover.model.state import COMMAND, QUERY, State
from channover.model.topology import gateway, pair
from channover.targets.netns import NetnsTarget

pytestmark = pytest.mark.lab


def one_line(error: TestbedError) -> str:
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)
    return str(error)


def test_a_program_s_words_and_code(two_hosts: Lab) -> None:
    done = two_hosts.left.run("sh", "-c", "cat; echo out; echo err >&2; exit 3", input="in\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("in\nout\n", "err\n", 3)


def test_a_program_that_fails_says_how(two_hosts: Lab) -> None:
    with pytest.raises(TestbedError) as raised:
        two_hosts.left.run("sh", "-c", "echo no way >&2; exit 3")
    assert one_line(raised.value) == "left: 'sh -c 'echo no way >&2; exit 3'' ended with code 3: no way"


def test_a_program_that_is_killed_says_so(two_hosts: Lab) -> None:
    assert two_hosts.left.run("sh", "-c", "kill -9 $$", check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("start", ["run", "spawn"])
def test_a_missing_program_is_named_with_the_remedy(two_hosts: Lab, start: str) -> None:
    with pytest.raises(TestbedError) as raised:
        getattr(two_hosts.left, start)("no-such-program", "--option")
    assert one_line(raised.value) == (
        "left: cannot run 'no-such-program': No such file or directory; 'channover doctor' names the package"
    )


def test_a_program_that_takes_too_long_is_ended(two_hosts: Lab) -> None:
    with pytest.raises(TestbedError) as raised:
        two_hosts.left.run("sleep", "3600", timeout=0.2)
    assert one_line(raised.value) == "left: 'sleep 3600' did not end within 0.2 s"
    assert "3600" not in two_hosts.left.run("ps", "-eo", "args", check=False).stdout


def test_a_lot_of_output_and_input(two_hosts: Lab) -> None:
    text = "0123456789abcdef" * 40_000
    done = two_hosts.left.run("tr", "a-f", "A-F", input=text)
    assert done.stdout == text.upper()


def test_programs_inherit_nothing_of_the_user_s(two_hosts: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANNOVER_SECRET", "x")
    found = dict(line.split("=", 1) for line in two_hosts.left.run("env").stdout.splitlines())
    assert "CHANNOVER_SECRET" not in found
    assert (found["LC_ALL"], found["HOME"]) == ("C", "/run/home")
    process = two_hosts.left.spawn("sh", "-c", 'echo "$GREETING"', environment={"GREETING": "hello"})
    process.wait(5)
    assert process.lines == ["hello"]


def test_a_reader_that_gets_no_processor_loses_nothing(two_hosts: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    read = NamespaceProcess._read

    def late(process: NamespaceProcess) -> None:
        time.sleep(2)
        read(process)

    monkeypatch.setattr(NamespaceProcess, "_read", late)
    assert two_hosts.left.run("echo", "all").stdout == "all\n"


def test_programs_go_before_the_machine_s_other_work(two_hosts: Lab) -> None:
    if os.geteuid() != 0:
        pytest.skip("a nice value below 0 takes CAP_SYS_NICE: run as root")
    shown = two_hosts.left.run("sh", "-c", "cat /proc/self/stat; cat /proc/self/autogroup 2>/dev/null || :").stdout
    stat, _, group = shown.partition("\n")
    assert int(stat.rpartition(") ")[2].split()[16]) == PRIORITY
    assert not group or group.split()[1:] == ["nice", str(PRIORITY)], "its session counts, not the program"


def test_a_process_is_waited_for_by_what_it_says(two_hosts: Lab) -> None:
    process = two_hosts.left.spawn("sh", "-c", "echo ready port=17; read never")
    assert process.wait_for(r"port=(\d+)", 5)[1] == "17"
    assert process.poll() is None
    assert process.stop() == -signal.SIGTERM
    assert process.poll() == -signal.SIGTERM
    assert process.stop() == -signal.SIGTERM, "to stop what has ended is no error"


def test_words_on_standard_error_count_too(two_hosts: Lab) -> None:
    process = two_hosts.left.spawn("sh", "-c", "echo listening >&2; read never")
    assert process.wait_for("^listening$", 5)
    process.stop()


def test_a_process_that_ends_before_it_is_ready_says_its_last_words(two_hosts: Lab) -> None:
    process = two_hosts.left.spawn("sh", "-c", "echo cannot bind >&2; exit 7")
    with pytest.raises(TestbedError) as raised:
        process.wait_for("ready", 5)
    assert one_line(raised.value) == (
        "left: waited for 'ready' from 'sh -c 'echo cannot bind >&2; exit 7'', which ended with code 7; "
        "its last words: 'cannot bind'"
    )


def test_a_process_that_never_gets_ready(two_hosts: Lab) -> None:
    process = two_hosts.left.spawn("sh", "-c", "echo starting; read never")
    with pytest.raises(TestbedError, match=r"which did not within 0\.2 s; its last words: 'starting'$"):
        process.wait_for("ready", 0.2)
    with pytest.raises(TestbedError, match=r"did not end within 0\.1 s$"):
        process.wait(0.1)
    process.stop()


def test_a_process_that_ignores_the_polite_signal_is_killed(two_hosts: Lab) -> None:
    process = two_hosts.left.spawn("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    process.wait_for("ready", 5)
    assert process.stop(0.2) == -signal.SIGKILL


def test_a_signal_is_delivered(two_hosts: Lab) -> None:
    process = two_hosts.left.spawn(
        "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    )
    process.wait_for("ready", 5)
    process.signal(signal.SIGINT)
    assert process.wait(5) == 5
    assert process.lines == ["ready", "caught"]
    process.signal(signal.SIGINT)


def test_files_come_back(two_hosts: Lab) -> None:
    path = f"{two_hosts.left.folder}/some.conf"
    two_hosts.left.write(path, "ä line\n", mode=0o600)
    assert two_hosts.left.read(path) == "ä line\n"
    assert two_hosts.left.run("stat", "-c", "%a %s", path).stdout == "600 8\n"
    assert not os.path.exists(path), "the lab's /run is its own"
    two_hosts.left.write(path, "x")
    assert two_hosts.left.read(path) == "x"
    two_hosts.left.sparse(path, 10**9)
    assert two_hosts.left.run("stat", "-c", "%s", path).stdout == "1000000000\n"


def test_files_that_cannot_be_had_are_said(two_hosts: Lab) -> None:
    left = two_hosts.left
    for action, expected in (
        (lambda: left.read("/no/such"), "left: cannot read /no/such: No such file or directory"),
        (lambda: left.read("/"), "left: cannot read /: Is a directory"),
        (lambda: left.write("/no/such", "x"), "left: cannot write /no/such: No such file or directory"),
        (
            lambda: left.write("/proc/sys/net/ipv4/ip_forward", "x"),
            "left: cannot write /proc/sys/net/ipv4/ip_forward: Invalid argument",
        ),
        (lambda: left.offloads("eth9", ("tso",), on=False), "left: offloads of eth9: No such device"),
    ):
        with pytest.raises(TestbedError) as raised:
            action()
        assert one_line(raised.value) == expected


def test_a_kernel_parameter_that_is_not_there_is_named(two_hosts: Lab) -> None:
    with pytest.raises(TestbedError, match=r"^left: cannot read .*/proc/sys/net/no/such: No such file or directory$"):
        two_hosts.left.state(("net/no/such",))


def test_a_sparse_file_that_cannot_be_made_is_said(two_hosts: Lab) -> None:
    with pytest.raises(TestbedError, match=r"^left: cannot (write|make) /no/such: No such file or directory$"):
        two_hosts.left.sparse("/no/such", 1)


def test_hosts_are_apart(two_hosts: Lab) -> None:
    left, right = two_hosts.left, two_hosts.right
    left.apply(Plan("x", (SysctlSet("net/mptcp/enabled", "0"), AddressAdd("eth1", "10.93.93.1/30"))))
    assert right.state(("net/mptcp/enabled",)).sysctls == {"net/mptcp/enabled": "1"}
    assert right.state().links["eth1"].addresses == ()
    assert list(left.nics) == ["a", "b"]
    assert [nic.device for nic in left.nics.values()] == ["eth1", "eth2"]
    with pytest.raises(KeyError):
        left.nic("z")


def test_a_cable_that_is_pulled_takes_the_carrier_at_both_ends(two_hosts: Lab) -> None:
    cable = two_hosts.topology.cables[0]

    def lost(device: str) -> bool:
        shown = [
            two_hosts.hosts[host].run("ip", "-o", "link", "show", device, quiet=True).stdout
            for host in ("left", "right")
        ]
        return all("NO-CARRIER" in words for words in shown)

    two_hosts.cabling.cut(cable)
    until(lambda: lost("eth1"), "no carrier on both eth1", 5)
    assert not lost("eth2")
    two_hosts.cabling.restore(cable)
    until(lambda: not lost("eth1"), "a carrier on eth1", 5)


def test_frames_vanish_each_way_and_the_carrier_stays(two_hosts: Lab) -> None:
    cable = two_hosts.topology.cables[0]
    ends = [two_hosts.hosts[port.node] for port in cable.ports]
    for number, host in enumerate(ends, start=1):
        host.apply(Plan("an address", (AddressAdd("eth1", f"192.0.2.{number}/24"),)))

    def heard(sender: Host, to: str) -> int:
        """Send three pings, and return how many arrive at the other end."""
        other = next(host for host in ends if host is not sender)
        before = other.state().links["eth1"]
        assert before.carrier
        seen = other.spawn("tcpdump", "-i", "eth1", "-l", "-n", "--immediate-mode", "icmp[icmptype] == icmp-echo")
        seen.wait_for("listening on", 5)
        sender.run("ping", "-c", "3", "-i", "0.05", "-W", "0.2", to, check=False, quiet=True)
        seen.stop()
        return sum("echo request" in line for line in seen.lines)

    for host, other in ((ends[0], 2), (ends[1], 1)):
        host.run("ping", "-c", "1", f"192.0.2.{other}")  # the neighbours know each other
    assert [heard(ends[0], "192.0.2.2"), heard(ends[1], "192.0.2.1")] == [3, 3]
    two_hosts.cabling.mute(cable, cable.a)
    assert [heard(ends[0], "192.0.2.2"), heard(ends[1], "192.0.2.1")] == [0, 3]
    two_hosts.cabling.mute(cable)
    assert [heard(ends[0], "192.0.2.2"), heard(ends[1], "192.0.2.1")] == [0, 0]
    two_hosts.cabling.restore(cable)
    assert [heard(ends[0], "192.0.2.2"), heard(ends[1], "192.0.2.1")] == [3, 3]


def test_a_port_of_another_cable_cannot_be_muted(two_hosts: Lab) -> None:
    one, other = two_hosts.topology.cables
    with pytest.raises(UsageError, match=r"left\.b is no port of the cable left\.a–right\.a"):
        two_hosts.cabling.mute(one, other.a)


def trips(host: Host, address: str) -> list[float]:
    """Return round trips in milliseconds, of ten echo requests."""
    done = host.run("ping", "-n", "-c", "10", "-i", "0.02", address)
    return [float(line.partition("time=")[2].split()[0]) for line in done.stdout.splitlines() if "time=" in line]


def test_frames_of_a_delayed_cable_take_so_long_each_way_and_none_is_lost(two_hosts: Lab) -> None:
    cable = two_hosts.topology.cables[0]
    for number, host in enumerate((two_hosts.left, two_hosts.right), start=1):
        host.apply(Plan("an address", (AddressAdd("eth1", f"192.0.2.{number}/24"), LinkSet("eth1", up=True))))
    assert sorted(trips(two_hosts.left, "192.0.2.2"))[5] < 5
    with two_hosts.delayed(cable, 0.02):
        found = trips(two_hosts.left, "192.0.2.2")
        assert len(found) == 10
        assert 40 < sorted(found)[5] < 45
    found = trips(two_hosts.left, "192.0.2.2")
    assert len(found) == 10
    assert sorted(found)[5] < 5


def test_a_route_s_metrics_are_those_asked_for(two_hosts: Lab) -> None:
    route = RouteAdd("10.8.0.1/32", "eth1", window=65536, quick_ack=True)
    with two_hosts.left.applied(Plan("a route", (LinkSet("eth1", up=True), route))):
        assert "window 65536 quickack 1" in two_hosts.left.run("ip", "route", "show", "10.8.0.1").stdout


def test_an_ipv6_address_can_be_used_at_once(two_hosts: Lab) -> None:
    for number, host in enumerate((two_hosts.left, two_hosts.right), start=1):
        address = AddressAdd("eth1", f"2001:db8::{number}/64")
        host.apply(Plan("an address", (LinkSet("eth1", up=True), address)))
    assert "tentative" not in two_hosts.left.run("ip", "-6", "address", "show", "dev", "eth1", "scope", "global").stdout
    two_hosts.left.run("ping", "-n", "-c", "1", "-W", "1", "2001:db8::2")


def test_the_journal_holds_what_was_done_and_no_mere_observation(netns: NetnsTarget) -> None:
    journal = Journal()
    with netns.lab(pair(), Link(), journal) as lab:
        lab.left.run("true")
        lab.left.run("ip", "link", quiet=True)
        lab.left.apply(Plan("x", (LimitsSet(3, 3),)))
    titles = [(step.host, step.title) for step in journal.steps]
    assert ("left", "true") in titles
    assert ("left", "ip mptcp limits set subflows 3 add_addr_accepted 3") in titles
    assert not any(title == "ip link" for _, title in titles)
    assert all(step.duration >= 0 for step in journal.steps)


def test_a_lab_that_is_gone_is_said(netns: NetnsTarget) -> None:
    with netns.lab(pair(), Link(), Journal()) as lab:
        left = lab.left
    with pytest.raises(TestbedError, match=r"the lab is gone$") as raised:
        left.run("true")
    one_line(raised.value)


def test_a_faster_cable_of_a_larger_topology(netns: NetnsTarget) -> None:
    with netns.lab(gateway(), Link(), Journal()) as lab:
        assert list(lab.hosts) == ["left", "right", "beyond"]
        assert list(lab.hosts["right"].nics) == ["a", "b", "out"]
        assert str(lab.address(lab.topology.cables[2].b)) == "10.10.0.2/24"


def test_a_condition_that_never_holds_says_what_was_awaited() -> None:
    ticks = count()
    with pytest.raises(TestbedError, match=r"^waited 0\.05 s for better weather$"):
        until(lambda: next(ticks) < 0, "better weather", 0.05)
    assert next(ticks) > 1
    assert until(lambda: next(ticks) > 3, "some ticks", 5, interval=0.001) >= 0


A, B = "10.93.93.1/30", "10.94.94.1/30"
ADDRESSED: tuple[Operation, ...] = (AddressAdd("eth1", A), AddressAdd("eth2", B))
ROUTED: tuple[Operation, ...] = (
    *ADDRESSED,
    RouteAdd("10.9.0.0/16", "eth1", via="10.93.93.2"),
    RouteAdd("default", "eth1", table=101),
    RouteAdd("default", "eth2", via="10.94.94.2"),
)
RULED: tuple[Operation, ...] = (*ROUTED, RuleAdd("10.93.93.1", 101, 101), RuleAdd("10.7.0.0/16", 101, 102))
ENDPOINTS: tuple[Operation, ...] = (
    *ADDRESSED,
    LimitsSet(4, 2),
    EndpointAdd(1, "10.93.93.1", ("signal",)),
    EndpointAdd(2, "10.94.94.1", ("subflow", "backup"), "eth2"),
)
BRIDGED: tuple[Operation, ...] = (LinkAdd("br0", "bridge"), LinkSet("eth2", master="br0"))
SYSCTLS = ("net/mptcp/enabled", "net/ipv4/conf/all/rp_filter", "net/ipv4/ip_forward")

PLANS: dict[str, tuple[tuple[Operation, ...], tuple[Operation, ...]]] = {
    "device": ((), (LinkAdd("br0", "bridge"),)),
    "device and what is done to it": (
        ADDRESSED,
        (
            LinkAdd("br0", "bridge"),
            LinkSet("br0", up=True, mtu=1400),
            AddressAdd("br0", "10.77.0.1/24"),
            RouteAdd("10.78.0.0/16", "br0", via="10.77.0.2"),
            LinkSet("eth2", master="br0"),
        ),
    ),
    "device that takes another's place": (
        ROUTED,
        (
            LinkAdd("br0", "bridge"),
            LinkSet("eth1", up=False),
            LinkSet("eth1", master="br0"),
            AddressDelete("eth1", A),
            LinkSet("br0", up=True),
            LinkSet("eth1", up=True),
            AddressAdd("br0", A),
            RouteAdd("10.9.0.0/16", "br0", via="10.93.93.2"),
        ),
    ),
    "down": (ROUTED, (LinkSet("eth1", up=False),)),
    "up": ((LinkSet("eth1", up=False),), (LinkSet("eth1", up=True),)),
    "down and up again": (ROUTED, (LinkSet("eth1", up=False), LinkSet("eth1", up=True))),
    "mtu": (ADDRESSED, (LinkSet("eth1", mtu=1400),)),
    "mtu, master and down at once": ((LinkAdd("br0", "bridge"),), (LinkSet("eth1", up=False, mtu=1400, master="br0"),)),
    "master": ((LinkAdd("br0", "bridge"),), (LinkSet("eth1", master="br0"),)),
    "no master": (BRIDGED, (LinkSet("eth2", master=""),)),
    "another master": ((*BRIDGED, LinkAdd("br1", "bridge")), (LinkSet("eth2", master="br1"),)),
    "address": ((), (AddressAdd("eth1", A),)),
    "second address": (ROUTED, (AddressAdd("eth1", "10.95.95.1/24"),)),
    "address deleted": (ADDRESSED, (AddressDelete("eth1", A),)),
    "last address of a device with routes": (ROUTED, (AddressDelete("eth1", A),)),
    "address given and taken": ((), (AddressAdd("eth1", A), AddressDelete("eth1", A))),
    "address taken and given": (ROUTED, (AddressDelete("eth2", B), AddressAdd("eth2", B))),
    "route": (ADDRESSED, (RouteAdd("10.8.0.0/16", "eth1", via="10.93.93.2"),)),
    "route that acknowledges at once": (ADDRESSED, (RouteAdd("10.8.0.1/32", "eth1", quick_ack=True),)),
    "route in a table": (ADDRESSED, (RouteAdd("default", "eth2", table=102),)),
    "route deleted": (ROUTED, (RouteDelete("10.9.0.0/16", "eth1", via="10.93.93.2"),)),
    "default route replaced": (
        ROUTED,
        (RouteDelete("default", "eth2", via="10.94.94.2"), RouteAdd("default", "eth1", via="10.93.93.2")),
    ),
    "route deleted and the device down": (
        ROUTED,
        (RouteDelete("10.9.0.0/16", "eth1", via="10.93.93.2"), LinkSet("eth1", up=False)),
    ),
    "address with a peer": ((), (AddressAdd("eth1", "10.5.0.1 peer 10.5.0.2/32"),)),
    "address with a peer deleted": (
        (*ADDRESSED, AddressAdd("eth1", "10.5.0.1 peer 10.5.0.2/32")),
        (AddressDelete("eth1", "10.5.0.1 peer 10.5.0.2/32"),),
    ),
    "rule": (ADDRESSED, (RuleAdd("10.93.93.1", 101, 101),)),
    "rule by prefix": (ADDRESSED, (RuleAdd("10.93.0.0/16", 101, 101),)),
    "rule that prohibits": (ADDRESSED, (ProhibitAdd(5, "eth1", 50),)),
    "rule deleted": (RULED, (RuleDelete("10.93.93.1", 101, 101),)),
    "rule by prefix deleted": (RULED, (RuleDelete("10.7.0.0/16", 101, 102),)),
    "sysctl": ((), (SysctlSet("net/mptcp/enabled", "0"),)),
    "sysctl twice": ((), (SysctlSet("net/ipv4/ip_forward", "1"), SysctlSet("net/ipv4/ip_forward", "0"))),
    "limits": ((), (LimitsSet(8, 8),)),
    "limits that were none": ((LimitsSet(0, 0),), (LimitsSet(8, 8),)),
    "endpoint": (ADDRESSED, (EndpointAdd(1, "10.93.93.1", ("subflow", "fullmesh")),)),
    "endpoint bound to a device": (ADDRESSED, (EndpointAdd(9, "10.94.94.1", ("subflow",), "eth2"),)),
    "endpoint with a port": (ADDRESSED, (EndpointAdd(4, "10.94.94.1", ("signal",), port=4433),)),
    "endpoint with a port deleted": (
        (*ADDRESSED, EndpointAdd(4, "10.94.94.1", ("signal",), "eth2", 4433)),
        (EndpointDelete(4),),
    ),
    "endpoint deleted": (ENDPOINTS, (EndpointDelete(1),)),
    "endpoint with a device deleted": (ENDPOINTS, (EndpointDelete(2),)),
    "endpoint changed": (ENDPOINTS, (EndpointChange(1, ("backup",)),)),
    "endpoint replaced": (
        ENDPOINTS,
        (EndpointDelete(1), EndpointAdd(1, "10.93.93.1", ("subflow", "fullmesh")), LimitsSet(8, 8)),
    ),
    "table": ((), (TableAdd("ours", "chain c { type filter hook output priority 0; }"),)),
    "all together": (
        (*RULED, *ENDPOINTS[2:]),
        (
            SysctlSet("net/ipv4/conf/all/rp_filter", "2"),
            LinkSet("eth1", mtu=1400),
            AddressAdd("eth1", "10.95.95.1/24"),
            AddressAdd("eth2", "10.96.96.1/24"),
            RouteAdd("default", "eth2", table=102),
            RuleAdd("10.95.95.1", 102, 103),
            RuleDelete("10.93.93.1", 101, 101),
            EndpointAdd(3, "10.95.95.1", ("subflow",), "eth1"),
            EndpointDelete(1),
            LimitsSet(8, 8),
            TableAdd("ours", "chain c { type filter hook output priority 0; counter; }"),
            LinkAdd("br0", "bridge"),
            LinkSet("br0", up=True),
        ),
    ),
}


def same(found: State, before: State) -> None:
    """Compare field by field, so that a failure names the field. A bridge takes its address from its ports, and keeps it."""
    for one in fields(State):
        assert getattr(without_bridges(found), one.name) == getattr(without_bridges(before), one.name), one.name


def without_bridges(state: State) -> State:
    links = {name: replace(link, mac="") if link.kind == "bridge" else link for name, link in state.links.items()}
    return replace(state, links=links)


def tables(lab: Lab) -> str:
    """Tables of nftables, and rules: of these a state tells those by source alone."""
    return "".join(lab.left.run(*words.split(), quiet=True).stdout for words in ("nft list tables", "ip rule show"))


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_and_its_inverse_lead_back_to_what_was_there(two_hosts: Lab, name: str) -> None:
    history, operations = PLANS[name]
    left = two_hosts.left
    left.apply(Plan("what was there before", history))
    left.apply(Plan("somebody else's", (TableAdd("others", "chain keep {}"),)))
    before, ruleset = left.state(SYSCTLS), tables(two_hosts)
    with left.applied(Plan(name, operations)):
        if name not in ("down and up again", "sysctl twice", "address given and taken", "address taken and given"):
            assert left.state(SYSCTLS) != before or tables(two_hosts) != ruleset
    same(left.state(SYSCTLS), before)
    assert tables(two_hosts) == ruleset
    assert "table inet others" in ruleset


def test_every_operation_is_among_the_plans() -> None:
    used = {type(operation) for history, operations in PLANS.values() for operation in (*history, *operations)}
    subjects = (devices, kernel, mptcp, routing)
    values = [value for subject in subjects for value in vars(subject).values()]
    known = {kind for kind in values if isinstance(kind, type) and hasattr(kind, "command")}
    undo = {LinkDelete, TableDelete, ProhibitDelete}
    assert known - used == {Operation, *undo}, "these undo what a plan made, and have no inverse"


def test_a_state_is_what_iproute2_tells(two_hosts: Lab) -> None:
    """However a host reads its state, it is the one that ``ip`` shows: the same plans undo the same on every kind of host."""
    left = two_hosts.left
    left.apply(Plan("ours", (*RULED, *ENDPOINTS[2:], *BRIDGED, LinkSet("br0", up=True, mtu=1400))))
    for words in (
        "rule add fwmark 7 table 300 priority 200",
        "rule add from 10.80.0.0/16 prohibit priority 201",
        "rule add from 10.81.0.0/16 iif eth1 table 301 priority 202",
        "rule add not from 10.85.0.0/16 table 303 priority 203",
        "rule add from 10.86.0.0/16 table 1000 priority 204",
        "route add unreachable 10.82.0.0/16",
        "route add 10.83.0.0/16 dev eth1 table 1000",
        "link set dev eth2 down",
        "address add 10.88.0.1/24 dev br0 label br0:x",
        "address add 10.89.0.1 peer 10.89.0.2/32 dev br0",
        "-6 address add 2001:db8::1/64 dev eth1 nodad",
    ):
        left.run("ip", *words.split())
    told = left.run(*COMMAND, input=QUERY, check=False).stdout
    same(left.state(), State.parse(told))


def test_what_is_there_already_is_refused_or_left(two_hosts: Lab) -> None:
    left = two_hosts.left
    left.apply(Plan("x", (*RULED, *ENDPOINTS[2:])))
    before = left.state(SYSCTLS)
    with left.applied(Plan("no change", (LinkSet("eth1", up=True, mtu=1500), LimitsSet(4, 2)))):
        pass
    same(left.state(SYSCTLS), before)
    for operation in (
        AddressAdd("eth1", A),
        RuleAdd("10.93.93.1", 101, 101),
        EndpointAdd(1, "10.93.93.1", ("signal",)),
    ):
        with pytest.raises(TestbedError, match=r"^left: the kernel refused '"):
            left.apply(Plan("again", (operation,)))
    same(left.state(SYSCTLS), before)


def test_devices_can_be_deleted(two_hosts: Lab) -> None:
    left = two_hosts.left
    left.apply(Plan("x", (LinkAdd("br0", "bridge"), TableAdd("ours", ""))))
    left.apply(Plan("y", (LinkDelete("br0"), TableDelete("ours"))))
    assert "br0" not in left.state().links
    assert "ours" not in tables(two_hosts)


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (LinkAdd("x0", "nosuchkind"), "operation not supported"),
        (LinkAdd("eth1", "bridge"), "file exists"),
        (LinkDelete("nosuch"), "device"),
        (LinkSet("nosuch", up=True), "device"),
        (LinkSet("eth1", mtu=1), "invalid argument"),
        (LinkSet("eth1", master="nosuch"), "device"),
        (AddressAdd("nosuch", A), "device"),
        (AddressAdd("eth1", "10.93.93.1/33"), "invalid argument"),
        (AddressDelete("eth1", "10.1.1.1/32"), "cannot assign requested address"),
        (RouteAdd("10.9.0.0/16", "eth1", via="192.0.2.1"), "network is unreachable"),
        (RouteDelete("10.9.0.0/16", "eth1"), "no such process"),
        (RuleDelete("10.1.1.1", 101, 101), "no such file or directory"),
        (SysctlSet("net/mptcp/enabled", "often"), "invalid argument"),
        (LimitsSet(9, 9), "invalid argument"),
        (EndpointAdd(1, "10.93.93.1", ("signal",), "nosuch"), "device"),
        (EndpointAdd(1, "10.93.93.1", ("signal", "subflow", "fullmesh")), "invalid argument"),
        (EndpointDelete(77), "invalid argument"),
        (EndpointChange(77, ("backup",)), "invalid argument"),
    ],
    ids=lambda value: value.command if isinstance(value, Operation) else "",
)
def test_a_refusal_names_host_change_and_reason(two_hosts: Lab, operation: Operation, reason: str) -> None:
    with pytest.raises(TestbedError) as raised:
        two_hosts.left.apply(Plan("refused", (operation,)))
    assert one_line(raised.value).startswith(f"left: the kernel refused '{operation.command}': ")
    assert reason in str(raised.value).lower()


@pytest.mark.parametrize(
    "operation",
    [
        AddressAdd("eth1", "10.93.93.1"),
        AddressAdd("eth1", "nonsense/24"),
        RuleAdd("nonsense", 101, 101),
        EndpointAdd(300, "10.93.93.1", ("signal",)),
        EndpointAdd(1, "10.93.93.1", ("nosuch",)),
        LinkSet("eth1", mtu=2**40),
    ],
    ids=lambda value: value.command,
)
def test_nonsense_is_refused_with_host_and_change(two_hosts: Lab, operation: Operation) -> None:
    with pytest.raises(TestbedError) as raised:
        two_hosts.left.apply(Plan("nonsense", (operation,)))
    assert one_line(raised.value).startswith("left: ")
    assert operation.command in str(raised.value)


@pytest.mark.parametrize("operation", [TableAdd("bad", "chain {"), TableDelete("nosuch")], ids=["add", "delete"])
def test_a_ruleset_that_is_refused_is_said_in_one_line(two_hosts: Lab, operation: Operation) -> None:
    with pytest.raises(TestbedError, match=r"^left: 'nft ") as raised:
        two_hosts.left.apply(Plan("refused", (operation,)))
    assert "Error" in one_line(raised.value)


REFUSED: tuple[Operation, ...] = (
    SysctlSet("net/ipv4/ip_forward", "1"),
    AddressAdd("eth1", A),
    RuleAdd("10.93.93.1", 101, 101),
    TableAdd("ours", ""),
    EndpointDelete(77),
    LimitsSet(8, 8),
)


@pytest.mark.parametrize("how", ["apply", "applied"])
def test_a_refusal_in_the_middle_takes_back_what_was_done(two_hosts: Lab, how: str) -> None:
    left = two_hosts.left
    before, ruleset = left.state(SYSCTLS), tables(two_hosts)
    with pytest.raises(TestbedError, match=r"^left: the kernel refused 'ip mptcp endpoint delete id 77'"):
        if how == "apply":
            left.apply(Plan("refused in the middle", REFUSED))
        else:
            with left.applied(Plan("refused in the middle", REFUSED)):
                pytest.fail("the block must not be reached")
    same(left.state(SYSCTLS), before)
    assert tables(two_hosts) == ruleset


def test_an_undo_that_is_refused_does_not_keep_the_rest_from_being_undone(two_hosts: Lab) -> None:
    left = two_hosts.left
    before = left.state(SYSCTLS)
    three = Plan("x", (LimitsSet(8, 8), AddressAdd("eth1", A), RuleAdd("10.93.93.1", 101, 101)))
    with pytest.raises(TestbedError, match="refused 'ip address delete"), left.applied(three):
        left.apply(Plan("somebody else", (AddressDelete("eth1", A),)))
    same(left.state(SYSCTLS), before)


def test_a_block_that_fails_is_undone_and_its_error_stays(two_hosts: Lab) -> None:
    left = two_hosts.left
    before = left.state(SYSCTLS)
    with pytest.raises(ZeroDivisionError), left.applied(Plan("x", (AddressAdd("eth1", A),))):
        _ = 1 / 0
    same(left.state(SYSCTLS), before)


@pytest.mark.skipif(
    os.geteuid() != 0 or len(os.sched_getaffinity(0)) < 2, reason="steering takes root and two processors"
)
def test_what_nics_receive_is_spread_over_the_processors(two_hosts: Lab) -> None:
    script = "mount -t sysfs sys /run/tmp && cat /run/tmp/class/net/eth*/queues/rx-0/rps_cpus; umount /run/tmp"
    found = two_hosts.left.run("unshare", "--mount", "sh", "-c", script).stdout.split()
    wanted = int(mask(os.sched_getaffinity(0)).replace(",", ""), 16)
    assert [int(one.replace(",", ""), 16) for one in found] == [wanted] * len(two_hosts.left.nics)
