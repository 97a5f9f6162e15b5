"""Causes that the loss of a path is noticed late, or its return not at all: counts and timers of the kernel's."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import Case
from channover.verdict.causes.kind import Found, cause, over_mptcp

_STALE = 8
"""Intervals of retransmission from which on a lost path is noticed late; the kernel's own are 4."""
_RETRIES = 8
"""Retransmissions (``net.ipv4.tcp_retries2``) that RFC 1122, 4.2.3.5, asks for at the least: 100 s."""

_TIMED_OUT = 3
"""Time-outs of a subflow in a row, each twice as long as the one before, from which on its path is lost."""
_PIECES = 8
"""What MPTCP itself sent again, from which on it recovers piece by piece: a path that is taken for lost costs it 4."""


def _setting(case: Case, name: str) -> Iterator[tuple[str, int]]:
    for host in case.ends:
        value = host.sysctls.get(name, "")
        if value.isdigit():
            yield host.name, int(value)


@cause(
    "stale-late",
    "A host takes a path for lost only after so many retransmissions that it goes on sending by it.",
    shows="`sysctl net.mptcp.stale_loss_cnt`, and the counter SubflowStale",
    remedy="`sysctl net.mptcp.stale_loss_cnt=4`",
    applies=over_mptcp,
)
def _stale(case: Case) -> Iterator[Found]:
    for name, count in _setting(case, "net/mptcp/stale_loss_cnt"):
        if count == 0 or count > _STALE:
            words = "never" if count == 0 else f"only after {count} intervals of retransmission"
            evidence = (f"net.mptcp.stale_loss_cnt is {count}", case.host(name).told("SubflowStale", "SubflowRecover"))
            yield Found(f"{name} takes a path for lost {words}", evidence)


@cause(
    "loss-uncounted",
    "A path was lost after another one had come back, and is not taken for lost: what it was given comes again piece by piece.",
    shows="`nstat -az` of the sender: MPTcpExtMPTCPRetrans, SubflowStale, SubflowRecover; its sockets (`ss -ti`: backoff)",
    remedy="take the lost path's endpoint away (`ip mptcp endpoint delete id ID`), or have a path be given less: a smaller "
    "`net.ipv4.tcp_wmem` at the sender. It is the kernel, which sends one piece of at most 32 kB again in each time-out "
    "(seen on Linux 6.18: a second loss was not counted in 11 of 18 connections)",
    applies=over_mptcp,
)
def _uncounted(case: Case) -> Iterator[Found]:
    sender = case.sender
    silent = [one for one in case.own(sender) if one.state == "ESTAB" and one.backoff >= _TIMED_OUT]
    recovered = sender.counted("SubflowRecover")
    if silent and 0 < sender.counted("SubflowStale") <= recovered and sender.counted("MPTCPRetrans") >= _PIECES:
        (lost, *_) = silent
        yield Found(
            f"{sender.name} does not take {lost.source} to {lost.destination} for lost, though nothing is heard from there",
            (
                f"{lost.backoff} time-outs of that subflow in a row",
                sender.told("MPTCPRetrans", "SubflowStale", "SubflowRecover"),
            ),
            "likely",
        )


@cause(
    "gives-up-early",
    "A host ends a subflow after so few retransmissions that it does not outlive an outage of its path.",
    shows="`sysctl net.ipv4.tcp_retries2`",
    remedy="`sysctl net.ipv4.tcp_retries2=15`",
)
def _gives_up(case: Case) -> Iterator[Found]:
    for name, count in _setting(case, "net/ipv4/tcp_retries2"):
        if count < _RETRIES:
            yield Found(
                f"{name} ends a connection, or a subflow, after {count} retransmissions without an answer",
                (f"net.ipv4.tcp_retries2 is {count}, of {_RETRIES} at the least (RFC 1122, 4.2.3.5)",),
            )


@cause(
    "mptcp-unasked",
    "Traffic that was to be plain TCP is Multipath TCP: something has its programs ask for it.",
    shows="the sockets of both ends (`ss -tai`), or, where they are gone, the counters of MP_CAPABLE (`nstat`)",
    remedy="look for what preloads mptcpize's library (`LD_PRELOAD`, `mptcpize enable`), or replaces sockets by BPF",
    applies=lambda case: case.transport == "tcp" and not case.lags,
)
def _unasked(case: Case) -> Iterator[Found]:
    client, server = case.ends
    own = [one for host in case.ends for one in case.own(host)]
    if any(one.mptcp for one in own) or (
        not own and client.counted("MPCapableSYNTX") and server.counted("MPCapableSYNRX")
    ):
        yield Found(
            f"{client.name}'s program asked for MPTCP, and {server.name}'s took it",
            (client.told("MPCapableSYNTX", "MPJoinSynTx"), server.told("MPCapableSYNRX", "MPJoinSynRx")),
            "shown" if own else "likely",
        )
