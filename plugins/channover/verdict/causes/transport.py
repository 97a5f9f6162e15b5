"""Causes in TCP itself: windows, buffers, congestion control, loss."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import Case, HostView
from channover.verdict.causes.kind import Found, cause

_LIMITED = 0.5
"""The share of its time from which a limit is what holds a sender back."""
_LOSS = 0.02
_SMALL = 500_000
"""Bytes below which the most that a buffer may grow to is small for the paths of a lab."""


def _short(case: Case) -> bool:
    return case.missed == "too little" and case.transport != "udp"


def _most(value: str) -> int:
    """Return the last of a kernel parameter's numbers: the most that a buffer may grow to."""
    words = value.split()
    return int(words[-1]) if words and words[-1].isdecimal() else 0


@cause(
    "receive-buffer",
    "The receiver's buffer is too small: its window held the sender back.",
    shows="how long senders were limited by the receiver's window (`ss -ti`: rwnd_limited), and `net.ipv4.tcp_rmem`",
    remedy="`sysctl net.ipv4.tcp_rmem='4096 131072 6291456'`, and no SO_RCVBUF in the program",
    applies=_short,
)
def _receive_buffer(case: Case) -> Iterator[Found]:
    limited = max((one.receiver_limited for one in case.data(case.sender)), default=0.0)
    value = case.receiver.sysctls.get("net/ipv4/tcp_rmem", "")
    small = 0 < _most(value) < _SMALL
    held = bool(case.seconds) and limited > _LIMITED * case.seconds
    if small or held:
        yield Found(
            f"{case.receiver.name}'s receive window held {case.sender.name} back"
            + (f": its buffers may grow to {_most(value):,} bytes" if small else ""),
            (
                f"{case.sender.name} was limited by it for {limited:.1f} of {case.seconds:.1f} s",
                f"{case.receiver.name}: net.ipv4.tcp_rmem = {value}",
            ),
            "shown" if small else "possible",
        )


@cause(
    "send-buffer",
    "The sender's buffer is too small: it held less than its paths take.",
    shows="how long senders were limited by it (`ss -ti`: sndbuf_limited), and `net.ipv4.tcp_wmem`",
    remedy="`sysctl net.ipv4.tcp_wmem='4096 16384 4194304'`, and no SO_SNDBUF in the program",
    applies=_short,
)
def _send_buffer(case: Case) -> Iterator[Found]:
    limited = max((one.buffer_limited for one in case.data(case.sender)), default=0.0)
    value = case.sender.sysctls.get("net/ipv4/tcp_wmem", "")
    small = 0 < _most(value) < _SMALL
    held = bool(case.seconds) and limited > _LIMITED * case.seconds
    if small or held:
        yield Found(
            f"{case.sender.name}'s send buffer held it back"
            + (f": it may grow to {_most(value):,} bytes" if small else ""),
            (
                f"it was limited by it for {limited:.1f} of {case.seconds:.1f} s",
                f"{case.sender.name}: net.ipv4.tcp_wmem = {value}",
            ),
            "shown" if small else "possible",
        )


@cause(
    "tcp-setting",
    "A setting of TCP is not the kernel's default, and slows it: window scaling, SACK, timestamps.",
    shows="`sysctl net.ipv4`",
    remedy="`sysctl net.ipv4.NAME=1`",
    applies=_short,
)
def _setting(case: Case) -> Iterator[Found]:
    for host in case.ends:
        for name in ("tcp_window_scaling", "tcp_sack", "tcp_moderate_rcvbuf"):
            if host.sysctls.get(f"net/ipv4/{name}") == "0":
                yield Found(
                    f"{host.name} has net.ipv4.{name} = 0",
                    (),
                    "likely" if name != "tcp_window_scaling" else "shown",
                    f"sysctl net.ipv4.{name}=1",
                )


@cause(
    "congestion-control",
    "The ends use different congestion controls, or the sender another than its host's default.",
    shows="the sockets' congestion control (`ss -ti`), beside `net.ipv4.tcp_congestion_control` of both hosts",
    remedy="`sysctl net.ipv4.tcp_congestion_control=NAME`, the same at both ends",
    applies=_short,
)
def _congestion(case: Case) -> Iterator[Found]:
    used = sorted({one.congestion_control for one in case.data(case.sender) if one.congestion_control})
    defaults = {host.name: host.sysctls.get("net/ipv4/tcp_congestion_control", "") for host in case.ends}
    if len(set(filter(None, defaults.values()))) > 1 or (used and defaults[case.sender.name] not in ("", *used)):
        yield Found(
            f"{case.sender.name} sends with {' and '.join(used) or defaults[case.sender.name]}",
            tuple(f"{name}: net.ipv4.tcp_congestion_control = {value}" for name, value in defaults.items()),
            "possible",
        )


@cause(
    "loss",
    "Segments were lost on a path: the sender sent many again.",
    shows="what the sockets sent again (`ss -ti`: bytes_retrans)",
    remedy="look for drops between the two addresses: queues, filters, the cable",
    applies=_short,
    follows=True,
)
def _loss(case: Case) -> Iterator[Found]:
    lossy = [
        (one, one.bytes_retransmitted / one.bytes_sent)
        for one in case.data(case.sender)
        if one.bytes_sent > 100_000 and one.bytes_retransmitted > _LOSS * one.bytes_sent
    ]
    if lossy:
        yield Found(
            f"{case.sender.name} sent up to {max(share for _, share in lossy):.1%} of its bytes again",
            tuple(
                f"{one.source} to {one.destination}: {one.bytes_retransmitted:,} of {one.bytes_sent:,} bytes again, "
                f"window {one.cwnd} segments, round trip {one.rtt * 1000:.1f} ms"
                for one, _ in lossy[:9]
            ),
            "possible",
        )


@cause(
    "bad-checksums",
    "A host threw away segments for a wrong checksum: an offload that nobody finishes, or what rewrites packets.",
    shows="the counters TcpInCsumErrors, UdpInCsumErrors, and `ethtool -k`",
    remedy="`ethtool -K DEVICE tx off` at the sender",
)
def _checksums(case: Case) -> Iterator[Found]:
    for host in case.ends:
        wrong = sum(host.counters.get(name, 0) for name in ("TcpInCsumErrors", "UdpInCsumErrors", "IcmpInCsumErrors"))
        if wrong > 3:
            yield Found(f"{host.name} threw away {wrong:,} segments for a wrong checksum", (), "shown")


@cause(
    "offloads",
    "A NIC hands out segments of many frames where the far end's does not: what counts frames counts one for all.",
    shows="`ethtool -k DEVICE` at both ends",
    remedy="`ethtool -K DEVICE tso off gso off`",
)
def _offloads(case: Case) -> Iterator[Found]:
    on = {
        host.name: [device for device, text in host.features.items() if "tcp-segmentation-offload: on" in text]
        for host in case.ends
    }
    one, other = (on[host.name] for host in case.ends)
    if bool(one) != bool(other):
        name = case.client.name if one else case.server.name
        yield Found(f"{name}'s {', '.join(one or other)} sends segments of many frames (TSO)", (), "likely")


def _beyond(case: Case) -> bool:
    return case.missed == "too much" and case.mptcp


def _used(host: HostView) -> list[str]:
    return [nic.name for nic in host.nics if nic not in host.idle() and nic.carried]


@cause(
    "endpoint-left",
    "MPTCP endpoints are there that were to be gone: more paths carried the data than were meant to.",
    shows="`ip mptcp endpoint show`, and the bytes of each NIC",
    remedy="`ip mptcp endpoint delete id ID`",
    applies=lambda case: _beyond(case) and not case.one_subflow_a_path,
)
def _endpoint_left(case: Case) -> Iterator[Found]:
    for host in case.ends:
        if len(_used(host)) > 1 and case.server.state.endpoints and host.state.endpoints:
            told = [f"endpoint {one.address} ({', '.join(one.flags)})" for one in host.state.endpoints.values()]
            yield Found(
                f"{host.name}'s NICs {', '.join(_used(host))} carried data: its endpoints are there", (*told, str(host))
            )


@cause(
    "no-backup",
    "No MPTCP endpoint is a backup, and each path carried data where one was to be left aside.",
    shows="`ip mptcp endpoint show`, and the bytes of each NIC",
    remedy="`ip mptcp endpoint change id ID backup`",
    applies=lambda case: _beyond(case) and case.one_subflow_a_path and not any(host.middlebox for host in case.ends),
)
def _no_backup(case: Case) -> Iterator[Found]:
    client = case.client
    if len(_used(client)) > 1 and not any("backup" in one.flags for one in client.state.endpoints.values()):
        told = [f"endpoint {one.address} ({', '.join(one.flags)})" for one in client.state.endpoints.values()]
        yield Found(
            f"{client.name}'s NICs {', '.join(_used(client))} carried data, and none of its endpoints is a backup",
            (*told, str(client)),
            "shown",
        )


@cause(
    "rule-left",
    "Source rules are there that were to be gone: subflows left by the NIC of their address.",
    shows="`ip rule show`, and the bytes of each NIC",
    remedy="`ip rule del from ADDRESS`",
    applies=_beyond,
)
def _rule_left(case: Case) -> Iterator[Found]:
    for host in case.ends:
        rules = [f"rule from {one.source} table {one.table}" for one in host.state.rules if not one.of_any]
        if len(_used(host)) > 1 and rules:
            yield Found(
                f"{host.name}'s NICs {', '.join(_used(host))} carried data: its source rules are there",
                (*rules, str(host)),
            )
