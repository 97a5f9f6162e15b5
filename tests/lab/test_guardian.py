"""The guardian on a lab's host: one lease at a time, and the host as it was, however the run ends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from channover.errors import TestbedError
from channover.hosts.guardian.differences import GRACE, SCRIPT, Lease, changes, differences, parse_end, parse_show
from channover.hosts.host import Completed, Host, Process, until
from channover.hosts.lab import Lab

pytestmark = pytest.mark.lab

GROUPS = "/sys/fs/cgroup/unified", "/sys/fs/cgroup"


@dataclass
class Guarded:
    """A host with the guardian's script on it."""

    host: Host
    root: str = ""
    groups: str = ""
    settings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.root or f"{self.host.folder}/guardian"
        self.host.write(f"{self.host.folder}/guardian.sh", SCRIPT.decode())

    def argv(self, *words: str) -> tuple[str, ...]:
        script = f"{self.host.folder}/guardian.sh"
        return ("env", f"CHANNOVER_ROOT={self.root}", f"CHANNOVER_CGROUP={self.groups}", "bash", script, *words)

    def __call__(self, *words: str, code: int | None = 0) -> Completed:
        done = self.host.run(*self.argv(*words), check=False)
        assert code is None or done.returncode == code, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def take(self, run: str = "r1", ttl: int = 60, who: str = "ann on desk", code: int = 0) -> Completed:
        return self("take", run, str(ttl), who, "eth1", "eth2", code=code)

    def beat(self, run: str = "r1") -> tuple[Process, Process]:
        """A beat, and the process whose end is the end of its input."""
        pipe = f"{self.host.folder}/beat-{run}"
        self.host.run("mkfifo", pipe, check=False)
        writer = self.host.spawn("sh", "-c", f"while echo; do sleep 0.2; done >{pipe}")
        reader = self.host.spawn("sh", "-c", f'exec "$@" <{pipe}', "sh", *self.argv("beat", run))
        return reader, writer

    def sh(self, *commands: str) -> None:
        self.host.run("bash", "-ec", "\n".join(commands))

    def state(self) -> str:
        return self("state", "eth1", "eth2").stdout

    def show(self) -> tuple[Lease, ...]:
        return parse_show(self("show").stdout)

    def free(self) -> bool:
        return self.show() == ()

    def watcher(self, run: str = "r1") -> int:
        return int(self.host.read(f"{self.root}/{run}/watcher").split()[0])

    def has(self, pid: int) -> bool:
        try:
            return self.host.read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] != "Z"
        except TestbedError:
            return False


FORMER = """
ip link add name old0 type bridge
ip link set eth1 up
ip link set eth2 up
ip address add 10.1.0.1/24 broadcast + dev eth1
ip address add 10.2.0.1/24 dev eth1 label eth1:two
ip address add 10.1.0.2/24 dev eth1
ip address add 10.3.0.1 peer 10.3.0.2/32 dev eth2 metric 7
ip address add 10.4.0.1/24 dev eth2 noprefixroute valid_lft 5000 preferred_lft 4000
ip address add 2001:db8:1::1/64 dev eth1 nodad
ip address add 2001:db8:1::2/64 dev eth1 nodad
ip route add default via 10.1.0.9 dev eth1 src 10.1.0.2 metric 50 mtu lock 1400
ip route add 10.9.0.0/16 via 10.8.8.8 dev eth2 onlink proto static table 101
ip route add 10.10.0.0/16 table 101 nexthop via 10.1.0.3 dev eth1 weight 2 nexthop via 10.2.0.4 dev eth1
ip route add 10.11.0.0/16 dev eth2
ip -6 route add 2001:db8:9::/48 via 2001:db8:1::9 dev eth1 src 2001:db8:1::1 metric 77
ip rule add from 10.1.0.1 fwmark 1/0xff table 101 priority 100
ip rule add to 10.5.0.0/16 iif eth7 prohibit priority 99
ip rule add not from 10.5.0.0/16 lookup main priority 98
ip -6 rule add from 2001:db8:1::1 table 102 priority 100
ip neigh add 10.1.0.77 lladdr 02:00:00:00:00:77 dev eth1 nud permanent
ip neigh add 10.1.0.78 lladdr 02:00:00:00:00:78 dev eth1 nud noarp protocol static
ip neigh add 2001:db8:1::77 lladdr 02:00:00:00:00:77 dev eth1 nud permanent router
ip neigh add proxy 10.1.0.79 dev eth1
ip neigh add proxy 2001:db8:1::79 dev eth1
ip nexthop add id 5 via 10.1.0.5 dev eth1
ip nexthop add id 6 via 10.2.0.6 dev eth1
ip nexthop add id 7 group 5,3/6
ip nexthop add id 8 encap ip id 5 dst 1.2.3.4 via 10.1.0.5 dev eth1
ip route add 10.21.0.0/16 nhid 8 metric 4 mtu 1300
ip route add 10.14.0.0/16 nhid 5
ip route add 10.15.0.0/16 nhid 7 metric 9
ip route add 10.16.0.0/16 via inet6 fe80::5 dev eth1
ip route add 10.17.0.0/16 dev lo src 10.2.0.1
ip route add 10.18.0.0/16 via 10.1.0.9 rto_min 7ms advmss 1200 quickack 1 features ecn
ip route add local 10.19.0.0/16 dev eth1
echo 1300 > /proc/sys/net/ipv6/conf/eth1/mtu
nft add table inet former
"""
"""A host that somebody has set up for a purpose of their own."""

MPTCP = """
ip mptcp limits set subflows 3 add_addr_accepted 1
ip mptcp endpoint add 10.1.0.1 dev eth1 id 7 subflow fullmesh
ip mptcp endpoint add 10.2.0.1 id 9 port 4433 signal
"""

CHANGES = {
    "mtu": "ip link set eth1 mtu 1400",
    "mtu of IPv6": "echo 1400 > /proc/sys/net/ipv6/conf/eth1/mtu; echo 1400 > /proc/sys/net/ipv6/conf/eth2/mtu",
    "mtu too small for IPv6": "ip link set eth1 mtu 1000",
    "mac": "ip link set eth1 address 02:00:00:00:00:77",
    "link down": "ip link set eth1 down",
    "link down and up again": "ip link set eth1 down; ip link set eth1 up",
    "queue, promiscuous, ARP": "ip link set eth1 txqueuelen 77 promisc on arp off",
    "address added": "ip address add 10.7.0.1/24 dev eth1",
    "address deleted": "ip address del 10.2.0.1/24 dev eth1",
    "primary address deleted": "ip address del 10.1.0.1/24 dev eth1",
    "addresses in another order": "ip address del 10.1.0.1/24 dev eth1; ip address replace 10.1.0.2/24 dev eth1;"
    "ip address add 10.1.0.1/24 broadcast + dev eth1",
    "all addresses": "ip address flush dev eth1; ip address flush dev eth2",
    "peer address": "ip address del 10.3.0.1 peer 10.3.0.2/32 dev eth2; ip address add 10.3.0.1/24 dev eth2",
    "address that runs out": "ip address del 10.4.0.1/24 dev eth2",
    "IPv6 addresses": "ip address del 2001:db8:1::1/64 dev eth1; ip address add 2001:db8:2::1/64 dev eth1",
    "link-local address of one's own": "ip address add fe80::77/64 dev eth1",
    "no IPv6": "echo 1 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6",
    "route added": "ip route add 10.12.0.0/16 via 10.1.0.7 dev eth1 metric 5",
    "route deleted": "ip route del default dev eth1",
    "route changed": "ip route replace default via 10.1.0.8 dev eth1 src 10.1.0.2 metric 50",
    "route in a table": "ip route flush table 101; ip route add default via 10.1.0.5 table 201",
    "IPv6 route": "ip -6 route del 2001:db8:9::/48; ip -6 route add 2001:db8:8::/48 via 2001:db8:1::8 dev eth1",
    "neighbours": "ip neigh del 10.1.0.77 dev eth1; ip neigh del proxy 10.1.0.79 dev eth1;"
    "ip neigh replace 10.1.0.78 lladdr 02:00:00:00:00:79 dev eth1 nud permanent;"
    "ip neigh add 10.1.0.80 lladdr 02:00:00:00:00:80 dev eth2 nud permanent; ip neigh add proxy 10.1.0.81 dev eth2",
    "next hops": "ip nexthop flush; ip nexthop add id 9 via 10.1.0.9 dev eth1; ip route add 10.20.0.0/16 nhid 9",
    "rule added": "ip rule add from 10.6.0.1 table 106",
    "rule deleted": "ip rule del priority 100",
    "rules of all kinds": "ip rule del priority 99; ip -6 rule del priority 100; ip rule del priority 32766",
    "rp_filter": "for f in all eth1; do echo 2 > /proc/sys/net/ipv4/conf/$f/rp_filter; done",
    "forwarding": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "MPTCP off": "echo 0 > /proc/sys/net/mptcp/enabled",
    "TCP memory": "echo 4096 50000 60000 > /proc/sys/net/ipv4/tcp_rmem",
    "limits": "ip mptcp limits set subflows 8 add_addr_accepted 8",
    "endpoint added": "ip mptcp endpoint add 10.1.0.2 subflow backup",
    "endpoints changed": "ip mptcp endpoint flush; ip mptcp endpoint add 10.1.0.1 dev eth1 id 7 signal",
    "qdisc": "tc qdisc add dev eth1 root tbf rate 100mbit burst 16k latency 20ms",
    "qdisc of the incoming side": "tc qdisc add dev eth1 clsact; tc qdisc add dev eth2 ingress",
    "offloads": "ethtool -K eth1 tx on sg on tso on gso on gro on; ethtool -K eth2 rx off",
    "bridge": "ip link add br7 type bridge; ip link set br7 up; ip address add 10.7.7.7/24 dev br7",
    "NIC in a bridge": "ip link add br7 type bridge; ip link set eth1 master br7; ip link set br7 up",
    "NIC in a bridge that was there": "ip link set eth1 master old0",
    "tun device": "ip tuntap add tun7 mode tun; ip link set tun7 up; ip route add 10.13.0.0/16 dev tun7",
    "veth pair": "ip link add v7 type veth peer name w7",
    "macvlan": "ip link add m7 link eth1 type macvlan",
    "vlan": "ip link add eth1.7 link eth1 type vlan id 7",
    "dummy": "ip link add d7 type dummy",
    "bond": "ip link add bond7 type bond mode 802.3ad; for d in eth1 eth2; do ip link set $d down;"
    " ip link set $d master bond7; done; ip link set bond7 up; ip address add 10.92.92.1/30 dev bond7",
    "nftables table": "nft add table inet guard; nft add chain inet guard c '{ type filter hook output priority 0; }'",
    "everything": "ip link set eth1 down; ip address flush dev eth1; ip link set eth2 mtu 1300; ip route flush table 101;"
    "ip rule del priority 100; echo 1 > /proc/sys/net/ipv4/ip_forward; ethtool -K eth2 gro on;"
    "ip link add br7 type bridge; ip link set eth2 master br7; nft add table inet guard",
}


@pytest.fixture
def guarded(two_hosts: Lab) -> Iterator[Guarded]:
    made = Guarded(two_hosts.left)
    yield made
    made("restore", "--force", code=None)


@pytest.fixture
def former(guarded: Guarded) -> Guarded:
    """A host with settings of its own."""
    guarded.sh(FORMER)
    try:
        guarded.sh(MPTCP)
    except TestbedError:
        pytest.skip("the kernel has no MPTCP")
    return guarded


def test_a_lease_is_taken_shown_and_given_back(guarded: Guarded) -> None:
    assert guarded.take().stdout == f"held {guarded.root}/r1\n"
    (lease,) = guarded.show()
    assert (lease.run, lease.state, lease.who, lease.ttl, lease.watched) == ("r1", "held", "ann on desk", 60, True)
    assert lease.nics == ("eth1", "eth2")
    assert 50 < lease.left <= 60
    watcher = guarded.watcher()
    assert guarded("end", "r1").stdout == ""
    assert guarded.free()
    assert not guarded.has(watcher)
    assert guarded.host.run("test", "-e", guarded.root, check=False).returncode == 1


def test_runs_that_come_and_go_beside_each_other_lose_no_lease_and_leave_nothing(guarded: Guarded) -> None:
    runs = ("r1", "r2", "r3")
    with ThreadPoolExecutor(len(runs)) as pool:
        taken = list(pool.map(lambda run: [_taken_and_ended(guarded, run) for _ in range(8)], runs))
    assert {code for codes in taken for code in codes} <= {0, 75}
    assert any(0 in codes for codes in taken)
    assert guarded.host.run("test", "-e", guarded.root, check=False).returncode == 1


def _taken_and_ended(guarded: Guarded, run: str) -> int:
    code = guarded("take", run, "60", run, "eth1", code=None).returncode
    if code == 0:
        assert [lease.run for lease in guarded.show()] == [run]
        guarded("end", run)
    return code


def test_a_second_run_is_told_who_holds_the_host(guarded: Guarded) -> None:
    guarded.take()
    since = guarded.show()[0].since
    refused = guarded.take("r2", code=75)
    assert refused.stdout == f"taken by ann on desk since {since}, run r1\n"
    assert [lease.run for lease in guarded.show()] == ["r1"]


def test_two_that_come_at_once_do_not_both_get_it(guarded: Guarded) -> None:
    both = [guarded.host.spawn(*guarded.argv("take", run, "60", run, "eth1")) for run in ("r1", "r2")]
    assert sorted(process.wait(20) for process in both) == [0, 75]
    assert len(guarded.show()) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("take", "../x", "9", "me", "eth1"), "letters, digits and dashes"),
        (("take", "r1", "0", "me", "eth1"), "TTL is a whole number of seconds"),
        (("take", "r1", "9", "me", "eth9"), "there is no NIC eth9"),
        (("take", "r1", "9", "me", "$(id)"), "is no name of a NIC"),
        (("take", "r1", "9", "me"), "usage"),
        (("dance",), "no subcommand"),
    ],
)
def test_a_wrong_call_is_one_line_and_changes_nothing(guarded: Guarded, words: tuple[str, ...], reason: str) -> None:
    done = guarded(*words, code=2)
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert guarded.free()


@pytest.mark.parametrize("words", [("end", "r9"), ("beat", "r9"), ("diff", "r9"), ("run", "r9", "true")])
def test_a_run_without_the_lease_is_told_so(guarded: Guarded, words: tuple[str, ...]) -> None:
    guarded(*words, code=3)


def test_the_script_needs_no_file(guarded: Guarded) -> None:
    environment = (
        "env",
        "-i",
        f"CHANNOVER_ROOT={guarded.root}",
        "CHANNOVER_CGROUP=",
        "/bin/bash",
        "-c",
        SCRIPT.decode(),
    )
    guarded.host.run(*environment, "guardian", "take", "r1", "60", "me", "eth1")
    assert guarded.host.read(f"{guarded.root}/r1/guardian.sh") == SCRIPT.decode()
    assert guarded.show()[0].watched


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_run_changes_is_put_back(former: Guarded, change: str) -> None:
    before = former.state()
    order = former.host.run("ip", "-4", "-br", "address", "show", "dev", "eth1").stdout
    former.take()
    try:
        former.sh(CHANGES[change])
    except TestbedError as error:
        if not re.search("Unknown device type|kind is unknown|not supported", str(error)):
            raise
        pytest.skip(f"not on this kernel: {error}")
    differing = changes(former("diff", "r1").stdout.splitlines())
    assert differing or "order" in change, "the change changed nothing"
    ended = former("end", "r1", code=None)
    assert differences(before, former.state()) == []
    assert former.host.run("ip", "-4", "-br", "address", "show", "dev", "eth1").stdout == order
    assert (ended.returncode, parse_end(ended.stdout).left) == (0, ())
    assert set(parse_end(ended.stdout).changed) == set(differing)
    assert former.free()


def test_qdiscs_of_others_come_back_with_their_options(guarded: Guarded) -> None:
    guarded.sh(
        "ip link set eth1 up",
        "ip link set eth2 up",
        "tc qdisc add dev eth1 root handle 1: tbf rate 100mbit burst 16k latency 20ms",
        "tc qdisc add dev eth2 root pfifo limit 33",
        "tc qdisc add dev eth2 clsact",
    )
    before = guarded.state()
    assert "qdisc eth2 root pfifo limit 33p" in before
    guarded.take()
    guarded.sh("tc qdisc del dev eth1 root", "tc qdisc replace dev eth2 root tbf rate 1mbit burst 16k latency 20ms")
    guarded.sh("tc qdisc del dev eth2 clsact")
    guarded("end", "r1")
    assert differences(before, guarded.state()) == []


def test_classes_that_cannot_be_put_back_are_named_and_remembered(guarded: Guarded) -> None:
    guarded.sh("tc qdisc add dev eth1 root handle 1: htb", "tc class add dev eth1 parent 1: classid 1:1 htb rate 1mbit")
    guarded.take()
    guarded.sh("tc qdisc del dev eth1 root")
    ended = guarded("end", "r1", code=1)
    assert parse_end(ended.stdout).left == ("eth1: number of qdisc classes is gone (1)",)
    assert guarded("end", "r1", code=1).stdout == "left: - classes eth1 1\n"
    (lease,) = guarded.show()
    assert (lease.state, lease.differences) == ("unrestored", ("eth1: number of qdisc classes is gone (1)",))
    taken = guarded.take("r2")
    assert "left: - classes eth1 1" in taken.stderr
    guarded("end", "r2")
    guarded("restore", code=1)
    guarded("restore", "--force", code=1)
    assert guarded.free()


def test_what_somebody_sets_after_a_failed_restore_is_theirs(guarded: Guarded) -> None:
    guarded.sh("tc qdisc add dev eth1 root handle 1: htb", "tc class add dev eth1 parent 1: classid 1:1 htb rate 1mbit")
    guarded.take()
    guarded.sh("tc qdisc del dev eth1 root", "ip link set eth1 mtu 1400")
    guarded("end", "r1", code=1)
    guarded.sh("ip link set eth1 mtu 1300", "ip address add 10.1.0.1/24 dev eth1")
    guarded("restore", code=1)
    state = guarded.state()
    assert "mtu=1300" in state
    assert "10.1.0.1/24" in state


ABOVE = """
ip link set eth1 up mtu 9000
ip link add name m1 link eth1 type macvlan
ip link set m1 up mtu 8000
ip link add name m2 link m1 type macvlan
ip address add 10.1.0.1/24 dev m1
ip address add 2001:db8:1::1/64 dev m1 nodad
ip neigh add 10.1.0.77 lladdr 02:00:00:00:00:77 dev m1 nud permanent
ip route add 10.2.0.0/16 via 10.1.0.9
"""
"""What uses a NIC from above: it follows the NIC's MTU downwards only, and loses what it has when the NIC goes down."""


def test_what_is_stacked_on_a_nic_comes_back_with_it(guarded: Guarded) -> None:
    try:
        guarded.sh(ABOVE)
    except TestbedError as error:
        if not re.search("Unknown device type|kind is unknown|not supported", str(error)):
            raise
        pytest.skip(f"not on this kernel: {error}")
    before = guarded.state()
    assert "link m1 up=yes mtu=8000" in before
    guarded.take(ttl=2)  # and nobody renews it
    guarded.sh("ip link set eth1 down mtu 1500", "ip link set m1 down", "ip link set eth1 up")
    assert "m1: MTU is 1500, was 8000" in changes(guarded("diff", "r1").stdout.splitlines())
    until(guarded.free, "the host to be free", 20, 0.1)
    assert differences(before, guarded.state()) == []
    guarded.sh("ip link delete m1")


def test_a_port_of_a_bridge_keeps_its_settings(guarded: Guarded) -> None:
    guarded.sh(
        "ip link add name old0 type bridge",
        "ip link set eth1 up master old0",
        "ip link set eth1 type bridge_slave priority 12 cost 77 hairpin on learning off isolated on",
    )
    before = guarded.state()
    guarded.take()
    guarded.sh("ip link set eth1 nomaster", "ip link set eth1 down")
    words = changes(guarded("diff", "r1").stdout.splitlines())
    assert words == ["eth1: is down, was up", "eth1: master is none, was old0"]
    guarded.sh("ip link set eth1 master old0")
    assert "eth1: bridge port's priority is 32, was 12" in changes(guarded("diff", "r1").stdout.splitlines())
    guarded("end", "r1")
    assert differences(before, guarded.state()) == []


def test_ipv6_routes_wait_for_their_source(guarded: Guarded) -> None:
    guarded.sh(
        "ip link set eth1 up",
        "ip address add 2001:db8:1::1/64 dev eth1 nodad",
        "ip address add 2001:db8:1::5/64 dev eth1",
        'until [ -z "$(ip -6 -o address show dev eth1 tentative)" ]; do sleep 0.1; done',
        "ip -6 route add 2001:db8:9::/48 via 2001:db8:1::9 src 2001:db8:1::5 dev eth1",
    )
    before = guarded.state()
    guarded.take()
    guarded.sh("ip link set eth1 down")
    guarded("end", "r1")
    assert differences(before, guarded.state()) == []


def test_what_others_add_in_the_meantime_stays(guarded: Guarded) -> None:
    guarded.sh("ip link add docker7 type bridge")
    guarded.take()
    guarded.sh("ip link add veth7 type veth peer name peer7", "ip link set veth7 master docker7")
    guarded.sh("nft add table ip filter", "ip link set peer7 master docker7")
    assert guarded("end", "r1").stdout == ""
    guarded.host.run("ip", "link", "show", "dev", "veth7")
    assert "table ip filter" in guarded.host.run("nft", "list", "tables").stdout


def test_addresses_that_run_out_keep_what_was_left_of_their_time(former: Guarded) -> None:
    former.take()
    former.sh("ip address del 10.4.0.1/24 dev eth2")
    former("end", "r1")
    shown = former.host.run("ip", "-o", "address", "show", "dev", "eth2", "to", "10.4.0.1").stdout.split()
    assert 4900 < int(shown[shown.index("valid_lft") + 1].removesuffix("sec")) <= 5000
    assert 3900 < int(shown[shown.index("preferred_lft") + 1].removesuffix("sec")) <= 4000


def test_an_ipv6_route_that_runs_out_keeps_what_was_left_of_its_time(former: Guarded) -> None:
    former.sh("ip -6 route add 2001:db8:6::/48 via fe80::77 dev eth1 expires 5000")
    before = former.state()
    former.take()
    former.sh("ip link set eth1 down", "ip link set eth1 up")
    former("end", "r1")
    assert differences(before, former.state()) == []
    shown = former.host.run("ip", "-6", "route", "show", "2001:db8:6::/48").stdout.split()
    assert 4900 < int(shown[shown.index("expires") + 1].removesuffix("sec")) <= 5000


def test_the_end_of_the_beat_s_input_brings_the_host_back(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take()
    reader, writer = guarded.beat()
    guarded.sh("ip link set eth1 mtu 1400")
    until(lambda: guarded.show()[0].left > 59, "a beat", 5)
    started = time.monotonic()
    writer.stop()
    assert reader.wait(2) == 0
    assert GRACE - 1 < guarded.show()[0].left <= GRACE
    until(guarded.free, "the host to be free", GRACE + 2, 0.1)
    assert GRACE - 0.5 < time.monotonic() - started < GRACE + 2
    assert differences(before, guarded.state()) == []


def test_another_beat_takes_over_from_one_that_ended(guarded: Guarded) -> None:
    guarded.take()
    reader, writer = guarded.beat()
    until(lambda: guarded.show()[0].left > 59, "a beat", 5)
    other, _ = guarded.beat("r1")
    writer.stop()
    time.sleep(1.0)
    assert [lease.left > 50 for lease in guarded.show()] == [True]
    assert other.poll() is None
    reader.stop()


def test_a_lease_that_nobody_renews_lapses(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take(ttl=2)
    guarded.sh("ip address add 10.1.0.1/24 dev eth1")
    started = time.monotonic()
    until(guarded.free, "the host to be free", 5, 0.1)
    assert time.monotonic() - started > 0.5
    assert differences(before, guarded.state()) == []


def test_a_lease_that_is_renewed_does_not_lapse_and_its_beat_learns_of_the_end(guarded: Guarded) -> None:
    guarded.take(ttl=1)
    reader, _ = guarded.beat()
    time.sleep(3)
    assert [lease.state for lease in guarded.show()] == ["held"]
    assert len(reader.lines) > 1  # each sign of life is answered
    guarded("end", "r1")
    assert reader.wait(3) == 3
    assert "does not hold the lease any more" in reader.stderr


def test_a_beat_that_is_killed_is_a_beat_that_stops(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take(ttl=2)
    reader, _ = guarded.beat()
    guarded.sh("ip link set eth1 mtu 1400")
    reader.signal(9)
    until(guarded.free, "the host to be free", 5, 0.1)
    assert differences(before, guarded.state()) == []


@pytest.mark.parametrize("stubborn", [False, True])
def test_programs_of_the_run_end_with_it_and_others_do_not(guarded: Guarded, stubborn: bool) -> None:
    guarded.take()
    trap = "trap '' TERM; " if stubborn else ""
    command = f"{trap}sleep 1000 & echo ready; while :; do sleep 0.1; done"
    ours = guarded.host.spawn("bash", "-c", command, environment={"CHANNOVER_RUN": "r1"})
    other = guarded.host.spawn("bash", "-c", command, environment={"CHANNOVER_RUN": "r11"})
    plain = guarded.host.spawn("bash", "-c", command)
    for process in (ours, other, plain):
        process.wait_for("ready", 5)
    guarded("end", "r1")
    assert ours.wait(1) == (-9 if stubborn else -15)
    assert (other.poll(), plain.poll()) == (None, None)


def test_whoever_ends_a_run_does_not_end_with_it(guarded: Guarded) -> None:
    guarded.take()
    script = 'env CHANNOVER_RUN=r1 "$@" end r1; echo ended with $?'
    ender = guarded.host.spawn("bash", "-c", script, "bash", *guarded.argv(), environment={"CHANNOVER_RUN": "r1"})
    ender.wait_for("ended with 0", 10)
    assert guarded.free()


@pytest.mark.parametrize("grouped", [False, True])
def test_a_program_that_wipes_its_environment_ends_too(guarded: Guarded, grouped: bool) -> None:
    if grouped:
        probe = 'for d; do mkdir "$d/channover-probe" 2>/dev/null && rmdir "$d/channover-probe" && echo "$d"; done'
        groups = guarded.host.run("sh", "-c", probe, "sh", *GROUPS, check=False).stdout.split()
        found = [
            group
            for group in groups
            if guarded.host.run("test", "-e", f"{group}/cgroup.procs", check=False).returncode == 0
        ]
        if not found:
            pytest.skip("no control groups of version 2 to write to")
        guarded.groups = found[0]
    run = f"r-{time.time_ns()}"  # control groups are the machine's
    guarded.take(run)
    command = "env -i sleep 4321 & env -i sleep 4321"
    started = guarded.host.spawn(*guarded.argv("run", run, "sh", "-c", command))

    def sleepers() -> int:
        return guarded.host.run("ps", "-eo", "args", check=False).stdout.count("\nsleep 4321")

    until(lambda: sleepers() == 2, "two programs", 5)
    guarded("end", run)
    assert sleepers() == 0
    assert started.wait(1) != 0
    if grouped:
        assert guarded.host.run("test", "-e", f"{guarded.groups}/channover-{run}", check=False).returncode == 1


def test_a_program_is_run_as_it_would_run_by_itself(guarded: Guarded) -> None:
    guarded.take()
    command = 'cat; umask; echo "$CHANNOVER_RUN"; exit 7'
    done = guarded.host.run(*guarded.argv("run", "r1", "sh", "-c", command), input="in\n", check=False)
    assert (done.stdout, done.returncode) == ("in\n0022\nr1\n", 7)
    waiting = guarded.host.spawn(
        *guarded.argv("run", "r1", "sh", "-c", "trap 'exit 9' INT; echo up; while :; do sleep 0.1; done")
    )
    waiting.wait_for("up", 5)
    waiting.signal(2)
    assert waiting.wait(3) == 9


def kill_watcher(guarded: Guarded) -> int:
    pid = guarded.watcher()
    guarded.host.run("kill", "-9", str(pid))
    until(lambda: not guarded.has(pid), "the watcher's end", 2)
    return pid


def test_a_dead_watcher_is_noticed_and_started_again_by_the_beat(guarded: Guarded) -> None:
    guarded.take()
    killed = kill_watcher(guarded)
    assert [lease.watched for lease in guarded.show()] == [False]
    assert "lost its watcher" in guarded.take("r2", code=75).stderr
    reader, _ = guarded.beat()
    until(lambda: guarded.show()[0].watched, "a watcher", 5)
    assert guarded.watcher() != killed
    until(lambda: "started again" in reader.stderr, "the beat to say so", 2)


def test_restore_starts_a_dead_watcher_of_a_live_run_again(guarded: Guarded) -> None:
    guarded.take()
    kill_watcher(guarded)
    done = guarded("restore", code=75)
    assert "run r1 of ann on desk is alive" in done.stderr
    assert guarded.show()[0].watched


def test_a_dead_run_without_a_watcher_is_put_back_by_the_next(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take(ttl=1)
    kill_watcher(guarded)
    guarded.sh("ip link set eth1 mtu 1400")
    until(lambda: guarded.show()[0].state == "lapsed", "the lease to lapse", 3)
    taken = guarded.take("r2")
    assert "run r1 of ann on desk" in taken.stderr
    assert "changed: + link eth1 up=" in taken.stderr
    assert differences(before, guarded.state()) == []
    assert [lease.run for lease in guarded.show()] == ["r2"]


def test_a_dead_run_without_a_watcher_is_put_back_by_restore(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take(ttl=1)
    kill_watcher(guarded)
    guarded.sh("ip link set eth1 mtu 1400")
    until(lambda: guarded.show()[0].state == "lapsed", "the lease to lapse", 3)
    done = guarded("restore")
    assert "did: ip link set dev eth1 mtu 1500" in done.stdout
    assert differences(before, guarded.state()) == []
    assert guarded.free()


def test_restore_leaves_a_live_run_alone_unless_forced(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take()
    guarded.sh("ip link set eth1 mtu 1400")
    guarded("restore", "r1", code=75)
    assert "mtu=1400" in guarded.state()
    guarded("restore", "--force", "r1")
    assert differences(before, guarded.state()) == []


def test_a_watcher_that_is_told_to_end_restores_first(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take()
    guarded.sh("ip link set eth1 mtu 1400")
    guarded.host.run("kill", "-HUP", str(guarded.watcher()))
    guarded.host.run("kill", "-INT", str(guarded.watcher()))
    guarded.host.run("kill", "-TERM", str(guarded.watcher()))
    until(guarded.free, "the host to be free", 5, 0.1)
    assert differences(before, guarded.state()) == []


def test_an_end_that_was_cut_short_is_ended_by_the_watcher(guarded: Guarded) -> None:
    before = guarded.state()
    guarded.take()
    guarded.sh("ip link set eth1 mtu 1400", f"mv {guarded.root}/r1/beat {guarded.root}/r1/ended")
    until(guarded.free, "the host to be free", 5, 0.1)
    assert differences(before, guarded.state()) == []


def test_two_ends_at_once_do_not_disturb_each_other(former: Guarded) -> None:
    before = former.state()
    former.take()
    former.sh(CHANGES["everything"])
    both = [former.host.spawn(*former.argv("end", "r1")) for _ in range(2)]
    assert {process.wait(15) for process in both} <= {0, 3}
    assert differences(before, former.state()) == []
    assert former.free()


@dataclass
class Small(Guarded):
    """A host whose guardian has a small disk of its own."""

    def __post_init__(self) -> None:
        self.root = f"{self.host.folder}/small"
        super().__post_init__()
        self.host.run("mkdir", "-p", self.root)
        self.host.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "small", self.root)

    def fill(self) -> None:
        self.host.run("dd", "if=/dev/zero", f"of={self.root}/full", "bs=4k", check=False)

    def empty(self) -> None:
        self.host.run("rm", "-f", f"{self.root}/full")


@pytest.fixture
def small(two_hosts: Lab) -> Iterator[Small]:
    try:
        made = Small(two_hosts.left)
    except TestbedError as error:
        pytest.skip(f"a disk cannot be mounted here: {error}")
    yield made
    made("restore", "--force", code=None)


def test_a_full_disk_refuses_the_lease_and_leaves_nothing(small: Small) -> None:
    small.take()
    small("end", "r1")
    small.fill()
    refused = small.take(code=74)
    assert len(refused.stderr.splitlines()) == 1
    assert "make room there; nothing was changed" in refused.stderr
    assert small.host.run("ls", "-A", small.root).stdout.split() == ["full"]


def test_a_disk_that_runs_full_later_keeps_neither_beat_nor_restore_from_working(small: Small) -> None:
    small.sh(FORMER)
    before = small.state()
    small.take(ttl=2)
    reader, writer = small.beat()
    small.fill()
    time.sleep(3)
    assert [lease.state for lease in small.show()] == ["held"]
    assert reader.poll() is None
    small.sh(CHANGES["everything"])
    writer.stop()
    until(small.free, "the host to be free", GRACE + 2, 0.1)
    assert differences(before, small.state()) == []


def test_what_cannot_be_put_back_is_kept_even_on_a_full_disk(small: Small) -> None:
    small.sh("ip link add old0 type bridge")
    small.take()
    small.sh("ip link del old0")
    small.fill()
    assert small("end", "r1", code=1).stdout == "left: - device old0\n"
    assert [lease.state for lease in small.show()] == ["unrestored"]
    small.empty()
    assert small("restore", code=1).stdout.count("left: - device old0") == 1
    small.sh("ip link add old0 type bridge")
    small("restore")
    assert small.free()


def test_save_makes_the_present_the_former_state(guarded: Guarded) -> None:
    guarded.take()
    guarded.sh("ip link set eth1 mtu 1400")
    assert "mtu=1400" in guarded("diff", "r1").stdout
    guarded("save", "r1")
    assert guarded("diff", "r1").stdout == ""
    guarded.sh("ip link set eth1 mtu 1300")
    guarded("end", "r1")
    assert "link eth1 up=yes mtu=1400" in guarded.state()


# --- a record that is no reason to act ---------------------------------------------------------------------------------


@pytest.fixture
def lapsed(guarded: Guarded) -> Guarded:
    """A host of whose owner's devices a record tells, left by a run that died and has no watcher any more."""
    guarded.sh("ip link add old0 type bridge", "ip address add 10.4.0.1/24 dev eth2 valid_lft 5000 preferred_lft 4000")
    guarded.take(ttl=1)
    kill_watcher(guarded)
    guarded.sh("ip link set eth1 mtu 1400")
    until(lambda: guarded.show()[0].state == "lapsed", "the lease to lapse", 3)
    return guarded


def no_reason(guarded: Guarded, *, words: str = "cannot be read", state: str = "unreadable") -> None:
    """See that nothing is done for a record, neither by a restore nor by the next run, and that both say so in a line."""
    before = guarded.state()
    for done in (guarded("restore", code=1), guarded.take("r2", code=1)):
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert words in done.stderr and "nothing was changed" in done.stderr and "restore --force r1" in done.stderr
        assert done.stdout == ""
    assert [(lease.run, lease.state) for lease in guarded.show()] == [("r1", state)]
    assert guarded.state() == before
    assert "device old0" in before and "link eth1 up=yes mtu=1400" in before


@pytest.mark.parametrize("file", ["ttl", "nics", "saved", "lifetimes", "beat"])
def test_a_record_cut_short_at_any_byte_is_no_reason_to_act(lapsed: Guarded, file: str) -> None:
    path = f"{lapsed.root}/r1/{file}"
    whole = lapsed.host.read(path)
    before = lapsed.state()
    lines = [match.end() for match in re.finditer("\n", whole)]
    cuts = [*range(len(whole))] if len(whole) < 200 else [0, 1, *lines[-4:-1], *range(7, len(whole), 499)]
    script = 'head -c "$2" "$1.whole" >"$1"; shift 2; exec "$@"'
    lapsed.host.run("cp", path, f"{path}.whole")
    for cut in cuts:
        if cut == len(whole) - 1 and file == "beat":
            continue  # the line's end is no part of what it says
        command = ("sh", "-c", script, "sh", path, str(cut), *lapsed.argv("restore"))
        done = lapsed.host.run(*command, check=False)
        assert done.returncode == (0 if cut == len(whole) - 1 else 1), f"{cut}: {done.stderr}"
        if done.returncode == 1:
            assert "cannot be read" in done.stderr and f"/{file} is damaged" in done.stderr, f"{cut}: {done.stderr}"
            assert len(done.stderr.splitlines()) == 1
    if not lapsed.free():
        assert lapsed.state() == before
        no_reason(lapsed)


@pytest.mark.parametrize(
    "damage",
    [
        "printf 'garbage\\n\\0\\377\\n' >saved",
        "printf 'rule 0: from all lookup local\\n' >saved",
        "sed -i '/device old0/d' saved",
        "sed -i 's/eth1/eth9/' nics",
        "rm saved && mkdir saved",
        "rm saved",
        "rm lifetimes",
        "mv saved ../elsewhere && ln -s ../elsewhere saved",
        "chown 65534 saved",
        "chown 65534 .",
        "chmod 777 .",
        "rm ttl; echo 1 >ttl",
        "for f in ttl nics saved lifetimes; do sed -i '$d' $f; done",  # as versions without sums wrote them
        "printf 'long ago\\n' >beat",
        "rm beat && mkdir beat",
        "rm beat && ln -s /dev/null beat",
        "rm -rf ./*",
    ],
)
def test_a_damaged_record_is_no_reason_to_act(lapsed: Guarded, damage: str) -> None:
    lapsed.sh(f"cd {lapsed.root}/r1", damage)
    no_reason(lapsed)
    lapsed("restore", "--force", "r1", code=None)
    assert "device old0" in lapsed.state()
    assert lapsed.free()
    lapsed.take("r2")


def test_a_record_that_is_damaged_while_the_run_lives_is_no_reason_to_act(guarded: Guarded) -> None:
    guarded.sh("ip link add old0 type bridge")
    guarded.take(ttl=2)
    reader, writer = guarded.beat()
    watcher = guarded.watcher()
    guarded.sh("ip link set eth1 mtu 1400", f": >{guarded.root}/r1/beat")
    time.sleep(1)  # the next beat writes it anew
    assert [lease.state for lease in guarded.show()] == ["held"]
    guarded.sh(f": >{guarded.root}/r1/saved")
    assert "taken by" in guarded.take("r2", code=75).stdout
    writer.stop()
    until(lambda: not guarded.has(watcher), "the watcher's end", GRACE + 3, 0.1)
    reader.wait(5)
    no_reason(guarded)
    ended = guarded("end", "r1", code=1)
    assert parse_end(ended.stdout).left == ("the readable record of run r1 is gone",)
    assert "device old0" in guarded.state() and "mtu=1400" in guarded.state()


def test_what_was_left_and_cannot_be_read_deletes_nothing(guarded: Guarded) -> None:
    guarded.sh("ip link add old0 type bridge")
    guarded.take()
    guarded.sh("ip link del old0")
    guarded("end", "r1", code=1)
    guarded.sh("ip link add theirs type bridge")
    for damage in ("truncate -s 0", "truncate -s 5", "rm -f"):
        guarded.sh(f"{damage} {guarded.root}/r1.left/left")
        guarded("restore", code=1)
        assert "device theirs" in guarded.state()
    guarded("restore", "--force", code=None)
    assert guarded.free() and "device theirs" in guarded.state()


@pytest.mark.parametrize(
    "plant", ["chown 65534 {}", "chmod 777 {}", "mv {} {}.real; ln -s {}.real {}", "rm -r {}; echo >{}"]
)
def test_a_root_that_may_be_another_s_is_not_read(lapsed: Guarded, plant: str) -> None:
    before = lapsed.state()
    lapsed.sh(plant.replace("{}", lapsed.root))
    for words in (("show",), ("restore", "--force"), ("diff", "r1"), ("end", "r1"), ("take", "r2", "9", "me", "eth1")):
        done = lapsed(*words, code=1)
        assert f"{lapsed.root} is another's, a link or open to others" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert lapsed.state() == before
    lapsed.sh(f"rm -rf {lapsed.root} {lapsed.root}.real")


# --- races for a lease ---------------------------------------------------------------------------------------------------


def test_one_of_five_that_come_while_a_run_ends_gets_the_host(guarded: Guarded) -> None:
    for number in range(30):
        before = f"before{number}"
        guarded.take(before, ttl=60)
        guarded.sh(f"mv {guarded.root}/{before}/beat {guarded.root}/{before}/ended")  # an end has begun
        five = [f"run{number}-{one}" for one in range(5)]
        racing = [guarded.host.spawn(*guarded.argv("take", run, "60", run, "eth1")) for run in five]
        codes = [process.wait(60) for process in racing]
        said = [process.stdout + process.stderr for process in racing]
        assert sorted(codes) == [0, 75, 75, 75, 75], (number, codes, said)
        guarded("end", five[codes.index(0)])
