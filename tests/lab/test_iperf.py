"""iperf3 itself, between two hosts of a lab."""

from __future__ import annotations

import signal
from ipaddress import IPv4Interface
from threading import Event, Thread

import pytest

from channover.errors import TestbedError
from channover.hosts.host import until
from channover.hosts.lab import Lab
from channover.measure.measurement import Measuring
from channover.measure.traffic import TrafficGenerator
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd
from channover.model.operations.kernel import TableAdd
from channover.model.operations.mptcp import EndpointAdd, LimitsSet
from channover.model.plan import Plan
from channover.model.topology import Port
from channover.network.programs.iperf import (
    Load,
    Transfer,
    Transport,
)
from channover.observe.sockets import subflows
from channover.scenarios.labs import HostEnd
from channover.verdict.expectation import near
from tests.support.iperf_output import Ended, told


def ended(lab: Lab, load: Load, client: Ended, server: str) -> Transfer:
    return Transfer(load, lab.left, lab.right, Ended(server), client)


@pytest.mark.lab
@pytest.mark.timed
def test_a_refused_connection_is_a_broken_testbed_with_both_sides_words(two_hosts: Lab) -> None:
    client = Ended(told("client-refused.json"), code=1)
    transfer = ended(two_hosts, Load(Transport.TCP, "10.93.93.2"), client, "")
    with pytest.raises(
        TestbedError,
        match=r"^left: iperf3 to 10\.93\.93\.2 port 5201: unable to connect to server: Connection refused; server: nothing$",
    ):
        transfer.stop()


@pytest.mark.lab
@pytest.mark.timed
def test_a_client_that_ended_by_itself_has_its_report(two_hosts: Lab) -> None:
    transfer = ended(two_hosts, Load(Transport.TCP, "x"), Ended(told("client-tcp.json")), told("server-tcp.txt"))
    assert not transfer.running
    assert transfer.congestion_control == "bbr"
    assert transfer.datagrams == (0, 0)
    transfer.stop()
    assert len(transfer.slices()) >= 10


@pytest.mark.lab
@pytest.mark.timed
def test_what_is_no_json_is_a_broken_testbed(two_hosts: Lab) -> None:
    client = Ended("", "iperf3: parameter error - bad\n", 1)
    with pytest.raises(
        TestbedError, match=r"^left: iperf3 to x port 5201: iperf3: parameter error - bad; server: nothing$"
    ):
        ended(two_hosts, Load(Transport.TCP, "x"), client, "").stop()


WORDS = "iperf3: error - unable to send control message: Bad file descriptor\n"


@pytest.mark.lab
@pytest.mark.timed
@pytest.mark.parametrize(
    ("before", "behind", "code"), [("", WORDS, 1), ("", WORDS, 0), ("warning: {odd}\n", "", 0), (WORDS, WORDS, 1)]
)
def test_words_around_a_report_are_a_note(two_hosts: Lab, before: str, behind: str, code: int) -> None:
    client = Ended(before + told("client-tcp.json") + behind, code=code)
    transfer = ended(two_hosts, Load(Transport.TCP, "x"), client, told("server-tcp.txt"))
    assert not transfer.running
    assert transfer.congestion_control == "bbr"
    said = " ".join((before + behind).split())
    assert transfer.notes == [f"left: iperf3 to x port 5201 said besides its report: {said}"]


@pytest.mark.lab
@pytest.mark.timed
def test_a_whole_report_with_another_exit_code_is_a_note(two_hosts: Lab) -> None:
    client = Ended(told("client-tcp.json"), "iperf3: exiting\n", 1)
    transfer = ended(two_hosts, Load(Transport.TCP, "x"), client, told("server-tcp.txt"))
    assert not transfer.running
    assert transfer.notes == ["left: iperf3 to x port 5201 ended with code 1"]


@pytest.mark.lab
@pytest.mark.timed
@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "words"),
    [
        (told("client-tcp.json")[:900], "", 0, r"its report breaks off behind '.*'; server: nothing$"),
        ("", "", 0, r"it left no report and ended with code 0; server: nothing$"),
        ("", "warning: harmless", -9, r"was ended by SIGKILL, as a kernel that is out of memory sends it$"),
        (told("client-tcp.json"), "", -11, r"was ended by SIGSEGV$"),
        ("", "", -64, r"was ended by SIGRTMAX$"),
        ("", "", -40, r"was ended by signal 40$"),
    ],
)
def test_a_client_without_a_whole_report_is_a_broken_testbed(
    two_hosts: Lab, stdout: str, stderr: str, code: int, words: str
) -> None:
    transfer = ended(two_hosts, Load(Transport.TCP, "x"), Ended(stdout, stderr, code), told("server-tcp.txt"))
    with pytest.raises(TestbedError, match=rf"^left: iperf3 to x port 5201:? {words}"):
        assert not transfer.running


@pytest.fixture
def addressed(two_hosts: Lab) -> Lab:
    for host in (two_hosts.left, two_hosts.right):
        address = str(two_hosts.address(Port(host.name, "a")))
        host.apply(Plan("addresses", (AddressAdd(host.nic("a").device, address),)))
    return two_hosts


def started(lab: Lab, load: Load) -> Transfer:
    (transfer,) = Transfer.start([(lab.left, lab.right, load)])
    return transfer


@pytest.mark.lab
@pytest.mark.timed
def test_a_transfer_is_ended_when_enough_is_known(addressed: Lab) -> None:
    transfer = started(addressed, Load(Transport.TCP, "10.93.93.2", "10.93.93.1", limit=20))
    until(lambda: len(transfer.slices()) >= 3, "three slices", 5)
    transfer.stop()
    taken = transfer.slices()
    assert len(taken) >= 3
    assert transfer.slices() == taken, "what comes after the end is left out"
    assert transfer.congestion_control
    assert transfer.client.poll() is not None
    assert transfer.server.poll() is not None
    transfer.stop()


@pytest.mark.lab
@pytest.mark.timed
def test_datagrams_that_the_receiver_itself_loses_are_no_verdict(addressed: Lab) -> None:
    """Its NIC has them all; iperf3 is kept from running half of the time, and its socket's buffer runs over."""
    ends = [
        HostEnd(host, IPv4Interface(f"{host.state().links['eth1'].addresses[0]}")) for host in addressed.hosts.values()
    ]
    flow = TrafficGenerator(Transport.UDP, Measuring(Link(), duration=None, limit=3.0))(*ends, offered=90e6)
    over = Event()

    def halting() -> None:
        while not over.wait(0.1):
            flow.programs.transfers[0].server.signal(signal.SIGSTOP)
            over.wait(0.1)
            flow.programs.transfers[0].server.signal(signal.SIGCONT)

    thread = Thread(target=halting)
    thread.start()
    try:
        with pytest.raises(TestbedError, match=r"no verdict: right lost \d+\.\d% of the datagrams that its NICs had"):
            assert flow.goodput == near(90e6)
    finally:
        over.set()
        thread.join()
        flow.run.abandon()


@pytest.mark.lab
@pytest.mark.timed
def test_a_subflow_that_is_reset_on_the_way_was_established_and_is_told(two_hosts: Lab) -> None:
    """A middlebox resets the joined subflow while the traffic goes on over the first one."""
    for host in (two_hosts.left, two_hosts.right):
        addresses = {host.nic(name).device: two_hosts.address(Port(host.name, name)) for name in ("a", "b")}
        add = [AddressAdd(device, str(address)) for device, address in addresses.items()]
        host.apply(Plan("two paths", (*add, LimitsSet(2, 2))))
    second = two_hosts.address(Port("right", "b")).ip
    two_hosts.right.apply(Plan("the second address", (EndpointAdd(2, str(second), ("signal",)),)))
    ends = [HostEnd(host, two_hosts.address(Port(host.name, "a"))) for host in two_hosts.hosts.values()]
    flow = TrafficGenerator(Transport.MPTCP, Measuring(Link(), duration=None, limit=6.0))(*ends)
    try:
        assert flow.run.measurement.more()
        (joined,) = [one for one in subflows(two_hosts.left) if one.join and one.bytes_sent > 100_000]
        rule = f"ip saddr {joined.source} tcp sport {joined.source_port} reject with tcp reset"
        words = f"chain c {{ type filter hook output priority 0; {rule}; }}"
        two_hosts.left.apply(Plan("a middlebox", (TableAdd("middlebox", words),)))
        until(lambda: joined.pair not in {one.pair for one in subflows(two_hosts.left)}, "the reset", 5)
        assert flow.established(two_hosts.left) == 2
        assert any(f"left: {joined} had ended before the traffic did" in note for note in flow.programs.notes)
    finally:
        flow.run.abandon()


@pytest.mark.lab
@pytest.mark.timed
def test_nothing_listens(addressed: Lab) -> None:
    transfer = started(addressed, Load(Transport.TCP, "10.93.93.2", port=5300))
    transfer.stop()
    other = Load(Transport.TCP, "10.93.93.2", port=5999)
    lost = Transfer(
        other, addressed.left, addressed.right, transfer.server, addressed.left.spawn("iperf3", *other.options, "-J")
    )
    lost.client.wait(5)
    with pytest.raises(TestbedError, match=r"^left: iperf3 to 10\.93\.93\.2 port 5999: .*Connection refused"):
        assert not lost.running


@pytest.mark.lab
@pytest.mark.timed
def test_a_port_in_use_is_said(addressed: Lab) -> None:
    holder = addressed.right.spawn("iperf3", "-s", "-p", "5400", "--forceflush")
    holder.wait_for("Server listening", 5)
    with pytest.raises(TestbedError, match="Address already in use"):
        started(addressed, Load(Transport.TCP, "10.93.93.2", port=5400))
