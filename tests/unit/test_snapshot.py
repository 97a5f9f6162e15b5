"""A host's states compared in words, and what the guardian prints, read."""

from __future__ import annotations

import subprocess

import pytest

from channover.hosts.guardian.differences import (
    SCRIPT,
    Ending,
    Lease,
    Setting,
    changes,
    differences,
    parse,
    parse_end,
    parse_show,
)

LINK = "link eth1 up=yes mtu=1500 master= mac=02:00:00:00:00:01 qlen=1000 promisc=off arp=on addrgenmode=eui64"


def test_the_script_is_in_the_package_and_is_bash() -> None:
    assert SCRIPT.startswith(b"#!/bin/bash\n")
    subprocess.run(["bash", "-n"], input=SCRIPT, check=True)


def test_equal_states_do_not_differ() -> None:
    text = f"{LINK}\ndevice lo\nroute default via 10.0.0.2 dev eth1\nsysctl net/ipv4/ip_forward=0\n"
    assert differences(text, text) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (LINK, LINK.replace("1500", "1400"), ["eth1: MTU is 1400, was 1500"]),
        (LINK, LINK.replace("up=yes", "up=no"), ["eth1: is down, was up"]),
        (LINK, LINK.replace("master=", "master=br0"), ["eth1: master is br0, was none"]),
        (LINK, LINK.replace("00:01", "00:02"), ["eth1: MAC address is 02:00:00:00:00:02, was 02:00:00:00:00:01"]),
        (
            LINK,
            LINK.replace("yes", "no").replace("1500", "1400"),
            ["eth1: is down, was up", "eth1: MTU is 1400, was 1500"],
        ),
        (LINK, "", ["eth1: device is gone"]),
        ("", "device bond0", ["bond0: device was added"]),
        ("device br9", "", ["br9: device is gone"]),
        (
            "",
            "address eth1 inet 10.0.0.1/24 scope global",
            ["eth1: address 10.0.0.1/24 was added (inet scope global)"],
        ),
        (
            "address eth1 inet 10.0.0.1/24 brd 10.0.0.255 scope global",
            "address eth1 inet 10.0.0.1/24 scope global",
            ["eth1: address 10.0.0.1/24 is inet scope global, was inet brd 10.0.0.255 scope global"],
        ),
        (
            "address eth1 inet 10.5.0.1 peer 10.5.0.2/32 scope global",
            "",
            ["eth1: address 10.5.0.1 peer 10.5.0.2/32 is gone (inet peer 10.5.0.2/32 scope global)"],
        ),
        ("route default via 10.0.0.2 dev eth1", "", ["route 'default via 10.0.0.2 dev eth1' is gone"]),
        ("", "route6 2001:db8::/32 dev eth1 metric 5", ["IPv6 route '2001:db8::/32 dev eth1 metric 5' was added"]),
        ("", "rule 100: from 10.0.0.1 lookup 101", ["rule '100: from 10.0.0.1 lookup 101' was added"]),
        ("rule6 7: from all lookup 9", "", ["IPv6 rule '7: from all lookup 9' is gone"]),
        (
            "endpoint 10.0.0.1 id 1 subflow dev eth1",
            "endpoint 10.0.0.1 id 1 signal dev eth1",
            ["MPTCP endpoint 10.0.0.1 is id 1 signal dev eth1, was id 1 subflow dev eth1"],
        ),
        (
            "limits add_addr_accepted 0 subflows 2",
            "limits add_addr_accepted 0 subflows 8",
            ["MPTCP limit subflows is 8, was 2"],
        ),
        ("sysctl net/ipv4/ip_forward=0", "sysctl net/ipv4/ip_forward=1", ["net/ipv4/ip_forward is 1, was 0"]),
        ("offload eth1 gso=on", "offload eth1 gso=off", ["eth1: offload gso is off, was on"]),
        (
            "qdisc eth1 root default",
            "qdisc eth1 root tbf rate 100Mbit burst 16Kb lat 20ms",
            ["eth1: root qdisc is tbf rate 100Mbit burst 16Kb lat 20ms, was default"],
        ),
        ("", "qdisc eth1 clsact", ["eth1: qdisc clsact was added"]),
        ("", "qdisc eth1 parent 1:1 tbf rate 1Mbit", ["eth1: qdisc at 1:1 was added (tbf rate 1Mbit)"]),
        (
            "neighbour eth1 10.1.0.9 lladdr 02:00:00:00:00:09 nud permanent",
            "",
            ["eth1: neighbour 10.1.0.9 is gone (lladdr 02:00:00:00:00:09 nud permanent)"],
        ),
        ("proxy eth1 2001:db8::9", "", ["eth1: proxy entry 2001:db8::9 is gone"]),
        (
            "port eth1 bridge_slave priority 12 cost 77",
            "port eth1 bridge_slave priority 12 cost 4",
            ["eth1: bridge port's cost is 4, was 77"],
        ),
        ("nexthop id 5 via 10.1.0.5 dev eth1", "", ["next hop id 5 is gone (via 10.1.0.5 dev eth1)"]),
        (
            f"{LINK.replace('master=', 'master=br0')}\nport eth1 bridge_slave priority 12 cost 77",
            LINK,
            ["eth1: master is none, was br0"],
        ),
        ("ipv6mtu eth1 1300", "", ["eth1: MTU of IPv6 is gone (1300)"]),
        ("filters eth1 4", "filters eth1 2", ["eth1: number of filters is 2, was 4"]),
        ("unread table", "table inet guard", ["nftables table inet guard was added"]),
    ],
)
def test_each_kind_of_setting_in_words(before: str, after: str, words: list[str]) -> None:
    assert differences(before, after) == words


def test_a_device_that_is_gone_is_one_difference() -> None:
    settings = f"{LINK}\naddress eth1 inet 10.0.0.1/24 scope global\noffload eth1 gso=on"
    assert differences(settings, "") == ["eth1: device is gone"]


@pytest.mark.parametrize("line", ["nonsense", "colour eth1 red"])
def test_what_is_no_state_is_quoted(line: str) -> None:
    with pytest.raises(ValueError, match=f"no line of a host's state: '{line}'"):
        parse(line)


def test_settings_keep_their_order_and_values() -> None:
    assert parse("sysctl net/ipv4/tcp_rmem=4096 87380 6291456\n\ntable inet a") == (
        Setting("", "net/ipv4/tcp_rmem", "4096 87380 6291456"),
        Setting("", "nftables table inet a"),
    )


def test_the_two_sides_of_a_difference_become_one_sentence() -> None:
    assert changes([f"- {LINK}", f"+ {LINK.replace('1500', '9000')}", "+ device br0"]) == [
        "eth1: MTU is 9000, was 1500",
        "br0: device was added",
    ]
    with pytest.raises(ValueError, match="no line of a difference"):
        changes(["link eth1 up=yes"])


def test_an_ending_tells_changed_from_left() -> None:
    text = "changed: - offload eth1 gro=on\nchanged: + offload eth1 gro=off\nleft: - device br9\nrestored: r1\n"
    assert parse_end(text) == Ending(("eth1: offload gro is off, was on",), ("br9: device is gone",))
    assert parse_end("") == Ending((), ())


SHOWN = """\
state=held
run=r-1
folder=/run/channover/r-1
who=ann=x on desk
since=2026-01-02T03:04:05Z
ttl=30
nics=eth1 eth2
left=12.50
watcher=alive

state=unrestored
run=r-0
folder=/run/channover/r-0.left
who=bob
since=2026-01-01T00:00:00Z
ttl=30
nics=eth1
left=0.00
watcher=dead
difference=- device br9
"""


def test_leases_are_read() -> None:
    held, left = parse_show(SHOWN)
    assert held == Lease(
        "r-1", "held", "ann=x on desk", "2026-01-02T03:04:05Z", 30, 12.5, ("eth1", "eth2"), True, "/run/channover/r-1"
    )
    assert (left.state, left.watched, left.differences) == ("unrestored", False, ("br9: device is gone",))
    assert parse_show("state=free\n") == ()
    with pytest.raises(ValueError, match="'ttl' is missing"):
        parse_show(SHOWN.replace("ttl=30\n", ""))
