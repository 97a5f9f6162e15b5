"""What hosts show of themselves: the tools' words turned into values."""

from __future__ import annotations

from pathlib import Path

import pytest

from channover.observe import evidence
from channover.observe.counters import Counters, fallback_reasons, parse_netstat, refusal_reasons
from channover.observe.nics import NicCounters, NicSeries, parse_dev, parse_samples
from channover.observe.sockets import Subflow, parse_mptcp, parse_tcp
from channover.verdict.causes.options import options_lost

DATA = Path(__file__).parents[1] / "data" / "observe"
VERSIONS = ("6.1", "6.15")


def told(name: str) -> str:
    return (DATA / name).read_text()


def one(sockets: tuple[Subflow, ...], source_port: int) -> Subflow:
    (found,) = [socket for socket in sockets if socket.source_port == source_port]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_s_subflows_are_told_apart(version: str) -> None:
    sockets = parse_tcp(told(f"ss-{version}-left-tcp.txt"))
    assert len(sockets) == 12

    first = one(sockets, 59030)
    assert (first.source, first.destination, first.destination_port) == ("10.93.93.1", "10.93.93.2", 5201)
    assert (first.state, first.device, first.mptcp, first.join, first.backup) == ("ESTAB", None, True, False, False)
    assert (first.token, first.remote_token) == ("87cbd5b8", None)
    assert first.congestion_control == "cubic"
    assert first.bytes_sent > 7_000_000
    assert first.bytes_sent >= first.bytes_acked > first.bytes_retransmitted > 0
    assert (first.retransmissions, first.cwnd > 10) == (17, True)
    assert 0.001 < first.rtt < 0.1

    second = one(sockets, 48125)
    assert (second.device, second.join, second.backup, second.token) == ("eth1", True, False, "87cbd5b8")
    assert (second.remote_token, second.local_id, second.remote_id) == ("8b7876c", 0, 2)

    backup = one(sockets, 43749)
    assert (backup.device, backup.join, backup.backup, backup.bytes_sent) == ("eth2", True, True, 0)
    assert str(backup) == "10.94.94.1%eth2:43749 → 10.93.93.2:5201 ESTAB"


@pytest.mark.parametrize("version", VERSIONS)
def test_other_states_and_families_are_read_too(version: str) -> None:
    sockets = parse_tcp(told(f"ss-{version}-left-tcp.txt"))
    waiting = one(sockets, 40320)
    assert (waiting.state, waiting.destination, waiting.destination_port) == ("SYN-SENT", "10.94.94.2", 81)
    assert (waiting.mptcp, waiting.token, waiting.retransmissions) == (False, None, 1)
    listening = [socket for socket in sockets if socket.listening]
    assert [(socket.source, socket.source_port, socket.destination_port) for socket in listening] == [("::1", 8080, 0)]
    without_details = next(socket for socket in sockets if socket.state == "FIN-WAIT-2")
    assert (without_details.source, without_details.congestion_control) == ("::1", None)
    assert str(without_details).startswith("[::1]:8080 → [::1]:")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_s_mapped_addresses_are_plain_ipv4(version: str) -> None:
    sockets = parse_tcp(told(f"ss-{version}-right-tcp.txt"))
    listening = {socket.source_port: socket for socket in sockets if socket.listening}
    assert (listening[5201].source, listening[5201].mptcp, listening[5202].mptcp) == ("*", True, False)
    joined = next(socket for socket in sockets if socket.destination_port == 48125)
    assert (joined.source, joined.destination) == ("10.94.94.2", "10.93.93.1")
    assert joined.bytes_received > 8_000_000
    backup = next(socket for socket in sockets if socket.destination_port == 43749)
    assert backup.backup


@pytest.mark.parametrize("version", VERSIONS)
def test_connections_hold_their_subflows_by_token(version: str) -> None:
    left = parse_mptcp(told(f"ss-{version}-left-mptcp.txt"))
    assert [(each.destination_port, each.fallback, each.extra_subflows) for each in left] == [
        (5202, True, 0),
        (5202, True, 0),
        (5201, False, 2),
        (5201, False, 2),
    ]
    sockets = parse_tcp(told(f"ss-{version}-left-tcp.txt"))
    for connection in left:
        owned = [socket for socket in sockets if socket.token == connection.token]
        assert len(owned) == 1 + connection.extra_subflows
    right = parse_mptcp(told(f"ss-{version}-right-mptcp.txt"))
    assert [each.state for each in right] == ["ESTAB", "ESTAB", "LISTEN"]
    assert (right[0].source, right[0].add_addr_signal, right[2].token) == ("10.93.93.2", 1, None)


def test_a_connection_s_bytes_are_told_by_a_newer_iproute2_only() -> None:
    assert parse_mptcp(told("ss-6.1-left-mptcp.txt"))[2].bytes_sent == 0
    assert parse_mptcp(told("ss-6.15-left-mptcp.txt"))[2].bytes_sent == 17_170_469


@pytest.mark.parametrize(
    ("words", "address", "device"),
    [
        ("[fe80::1]%eth1:5201", "fe80::1", "eth1"),
        ("[fe80::1%eth1]:5201", "fe80::1", "eth1"),
        ("[::ffff:10.0.0.1]:5201", "10.0.0.1", None),
        ("[2001:db8::1]:5201", "2001:db8::1", None),
        ("0.0.0.0%tun0:5201", "0.0.0.0", "tun0"),
    ],
)
def test_addresses_of_every_kind(words: str, address: str, device: str | None) -> None:
    (socket,) = parse_tcp(f"ESTAB 0 0 {words} [::1]:*\n\t ts sack reno cwnd:10\n")
    assert (socket.source, socket.device, socket.source_port, socket.destination_port) == (address, device, 5201, 0)
    assert socket.congestion_control == "reno"


def test_what_is_no_socket_is_refused() -> None:
    with pytest.raises(ValueError, match="no socket"):
        parse_tcp("ss: command line is not complete\n")
    assert parse_tcp("") == ()


def test_counters_have_the_names_of_nstat() -> None:
    before, after = parse_netstat(told("netstat-before.txt")), parse_netstat(told("netstat-after.txt"))
    happened = after - before
    assert happened["MPTcpExtMPJoinSynTx"] == 4
    assert happened["MPTcpExtNotInThisKernel"] == 0
    assert "MPTcpExtMPJoinSynTx" in happened
    assert "MPTcpExtNotInThisKernel" not in happened
    assert set(happened.changed("MPTcpExt")) >= {"MPTcpExtMPCapableSYNTX", "MPTcpExtAddAddr"}
    assert parse_netstat(told("snmp.txt"))["TcpMaxConn"] == -1


def test_a_fallback_is_said_with_its_reason() -> None:
    before, after = parse_netstat(told("netstat-before.txt")), parse_netstat(told("netstat-after.txt"))
    (reason,) = fallback_reasons(before, after)
    assert reason.startswith("the SYN+ACK carried no MP_CAPABLE")
    assert reason.endswith("(MPTcpExtMPCapableFallbackSYNACK +2)")
    assert fallback_reasons(after, after) == ()
    assert refusal_reasons(before, after) == ()
    assert "limit" in refusal_reasons(Counters(), Counters({"MPTcpExtMPJoinRejected": 1}))[0]


CLIENT = {"MPCapableSYNTX": 2, "MPJoinSynTx": 3, "MPJoinSynAckRx": 3}
SERVER = {"MPCapableSYNRX": 2, "MPJoinSynRx": 3, "MPJoinAckRx": 3}


@pytest.mark.parametrize(
    ("client", "server", "lost"),
    [
        ({}, {}, ()),
        ({"MPCapableFallbackSYNACK": 2, "MPJoinSynTx": 0}, {"MPCapableSYNRX": 0}, ("MP_CAPABLE of SYNs",)),
        ({"MPCapableFallbackSYNACK": 2}, {}, ("MP_CAPABLE of SYN-ACKs",)),
        ({}, {"MPCapableFallbackACK": 1}, ("MP_CAPABLE or DSS behind SYNs",)),
        ({"DssFallback": 1}, {}, ("MP_CAPABLE or DSS behind SYNs",)),
        ({"DssFallback": 1}, {"DataCsumErr": 1, "DssFallback": 2}, ("checksums of data",)),
        ({}, {"MPJoinSynRx": 2}, ("MP_JOIN of SYNs",)),
        ({"MPJoinSynAckRx": 2}, {}, ("MP_JOIN of SYN-ACKs",)),
        ({}, {"MPJoinAckRx": 2}, ("MP_JOIN or DSS behind SYNs",)),
        ({"MPCapableSYNTX": 0}, {"MPCapableSYNRX": 0}, ()),
    ],
)
def test_what_was_lost_of_mptcp_is_told_by_what_both_ends_counted(
    client: dict[str, int], server: dict[str, int], lost: tuple[str, ...]
) -> None:
    ends = [
        Counters({f"MPTcpExt{name}": value for name, value in {**usual, **changed}.items()})
        for usual, changed in ((CLIENT, client), (SERVER, server))
    ]
    assert options_lost(*ends) == lost


@pytest.mark.parametrize(("opened", "lost"), [(5, ("MP_JOIN of SYNs",)), (2, ())])
def test_joins_that_a_kernel_does_not_count_are_what_it_opened_beside_connections(
    opened: int, lost: tuple[str, ...]
) -> None:
    client = {"MPTcpExtMPCapableSYNTX": 2, "TcpActiveOpens": opened}
    assert options_lost(client, {"MPTcpExtMPCapableSYNRX": 2}) == lost


@pytest.mark.parametrize("text", ["Tcp: A B\nTcp: 1\n", "Tcp: A\nUdp: 1\n", "Tcp: A\n"])
def test_torn_counters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no counters"):
        parse_netstat(text)


def test_device_counters() -> None:
    found = parse_dev(told("dev.txt"))
    assert list(found) == ["lo", "eth1", "eth2"]
    assert found["eth1"] == NicCounters(759421, 9770, 0, 0, 25234270, 16795, 0, 0)
    assert (found["eth1"] - found["eth1"]).total_bytes == 0
    with pytest.raises(ValueError, match="no counters of a device"):
        parse_dev("eth1: 1 2 3\n")


def sample(moment: float, sent: int) -> str:
    return f"@{moment:.6f}\n  eth1: 0 0 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n.\n"


def test_samples_become_a_series_and_a_torn_one_is_left_out() -> None:
    text = sample(100.0, 0) + sample(100.1, 1_250_000) + sample(100.2, 2_500_000)
    whole = parse_samples("left", ("eth1",), text)
    assert whole.times == (100.0, 100.1, 100.2)
    assert whole.rate("eth1") == pytest.approx((1e8, 1e8))
    assert whole.delta("eth1").tx_bytes == 2_500_000
    assert whole.mean("eth1") == pytest.approx(1e8)
    assert whole.middles == pytest.approx((100.05, 100.15))
    for cut in range(1, len(sample(100.2, 2_500_000))):
        torn = parse_samples("left", ("eth1",), text[:-cut])
        assert torn.times == (100.0, 100.1), cut
    with pytest.raises(ValueError, match="no sample"):
        parse_samples("left", ("eth1",), "@100.0\n  eth1: 1 2")


def test_a_long_series_is_thinned_and_its_bytes_stay() -> None:
    counters = tuple(NicCounters(tx_bytes=number * 1000) for number in range(12_001))
    series = NicSeries("left", tuple(number / 10 for number in range(12_001)), {"eth1": counters})
    found = series.thinned(3000)
    assert len(found.times) == len(found.samples["eth1"]) == 2401
    assert (found.times[0], found.times[-1]) == (0.0, 1200.0)
    assert found.delta("eth1") == series.delta("eth1")
    assert found.rate("eth1") == pytest.approx([80_000.0] * 2400)
    assert series.thinned(20_000) == series


def test_the_mean_rate_cuts_both_ends_off() -> None:
    steps = [0, 0, 0, 0, *([1_250_000] * 12), 0, 0, 0, 0]
    samples, total = [NicCounters()], 0
    for step in steps:
        total += step
        samples.append(NicCounters(rx_bytes=total, tx_bytes=total // 40))
    series = NicSeries("left", tuple(100 + number / 10 for number in range(len(samples))), {"eth1": tuple(samples)})
    assert series.mean_rate("eth1") == pytest.approx(1e8, rel=1e-3)
    assert series.mean("eth1", "rx") == pytest.approx(6e7)
    with pytest.raises(ValueError, match="no sample between"):
        series.between(1, 2)


def test_evidence_is_split_into_sections() -> None:
    answer = (
        "\n\036sockets\ntcp   ESTAB 0 0 10.0.0.1:1 10.0.0.2:2\n\t cubic cwnd:10 tcp-ulp-mptcp\n"
        "mptcp ESTAB 0 0 10.0.0.1:1 10.0.0.2:2\n\t subflows:1 token:a1\n"
        "\n\036ip\n1: lo: <UP> mtu 65536\n    inet 127.0.0.1/8\n0:\tfrom all lookup local\n9:\tnot from 10.0.0.1 lookup 1\n"
        "10.0.0.1 id 1 subflow dev eth1 \nadd_addr_accepted 8 subflows 8 \ndefault via 10.0.0.2 dev eth1\n"
        "\n\036proc\nTcp: A B\nTcp: 0 7\nInter-| Receive\n face |bytes\n eth1: 1\n"
    )
    found = evidence.parse(answer)
    assert parse_tcp(found["sockets"])[0].mptcp
    assert parse_mptcp(found["connections"])[0].token == "a1"
    assert found["addresses"] == "1: lo: <UP> mtu 65536\n    inet 127.0.0.1/8"
    assert found["rules"].count("from") == 2
    assert found["endpoints"].startswith("10.0.0.1 id 1")
    assert found["limits"].startswith("add_addr_accepted 8")
    assert found["routes"] == "default via 10.0.0.2 dev eth1"
    assert found["counters"].split() == ["TcpB", "7"]
    assert found["nics"].startswith("Inter-|")
    assert "ruleset" not in found
    with pytest.raises(ValueError, match="no sockets"):
        evidence.parse("sh: 1: not found")


def test_evidence_of_a_host_without_mptcp_keeps_its_routes() -> None:
    answer = (
        "\036sockets\n\036proc\nTcp: A\nTcp: 0\n"
        "\036ip\n1: lo: <UP>\n0:\tfrom all lookup local\nError: No such file\n10.0.0.0/30 dev eth1\n"
    )
    found = evidence.parse(answer)
    assert (found["endpoints"], found["limits"]) == ("", "")
    assert found["routes"] == "Error: No such file\n10.0.0.0/30 dev eth1"
