"""Causes in the programs that traffic rests on: stopped, ended, or giving and taking less than the lab carries."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import SENDING, Case
from channover.verdict.causes.kind import Found, cause

ENDED = "Open vSwitch ended with code"
"""How it is said of a switch's program that it has ended (``network/programs/ovs_daemons.py``): of a command of its, that it
ended with a code says that the switch refused it."""
SILENT = "did not end within"
"""How it is said that a program asked a switch's, or another one, and got no answer."""
_LIMITED = 0.2
"""The share of its time from which a limit is what holds a sender back."""


@cause(
    "program-stopped",
    "A program that the traffic rests on stands still: SIGSTOP, or a debugger.",
    shows="the process's state (`/proc/PID/stat`)",
    remedy="`kill -CONT PID`, and find out who stopped it",
)
def _stopped(case: Case) -> Iterator[Found]:
    for one in case.programs:
        if one.state == "stopped":
            yield Found(f"{one.host}: {one.name} is stopped", (f"last words: {one.words or 'none'}",), "shown")
    for end in case.lags:
        if SILENT in end.refused:
            yield Found(f"the program of {end.host}'s {end.device} does not answer: {end.refused}", (), "likely")


@cause(
    "program-ended",
    "A program that the traffic rests on has ended.",
    shows="the process's exit code and its last words",
    remedy="read its last words; start it again",
)
def _ended(case: Case) -> Iterator[Found]:
    for one in case.programs:
        if one.state.startswith("ended"):
            yield Found(f"{one.host}: {one.name} {one.state}", (f"last words: {one.words or 'none'}",), "shown")
    for end in case.lags:
        if ENDED in end.refused:
            yield Found(f"{end.host}'s {end.device}: {end.refused}", (), "shown")


@cause(
    "receiver-slow",
    "The receiving program takes less than what arrives: data wait in its socket.",
    shows="the receive queues, and how long the sender was limited by the receiver's window (`ss -ti`)",
    remedy="look at what the receiving program does: its processor, its disk, a limit of its own",
    applies=lambda case: case.missed == "too little",
)
def _slow_receiver(case: Case) -> Iterator[Found]:
    waiting = sum(one.receive_queue for one in case.data(case.receiver))
    limited = max((one.receiver_limited for one in case.data(case.sender)), default=0.0)
    if case.seconds and waiting > 100_000 and limited > _LIMITED * case.seconds:
        yield Found(
            f"{case.receiver.name}'s program takes less than what arrives",
            (
                f"{waiting:,} bytes wait in its sockets",
                f"the sender was limited by the receiver's window for {limited:.1f} of {case.seconds:.1f} s",
            ),
            "shown",
        )


@cause(
    "sender-limited",
    "The sending program gave too little to send: the lab was not what limited it.",
    shows="how long the sockets had something to send (`ss -ti`: busy)",
    remedy="look at what the sending program does: a rate that it was told, its processor, its disk",
    applies=lambda case: case.slow,
    follows=True,
)
def _limited_sender(case: Case) -> Iterator[Found]:
    if case.seconds > 1 and 0 < case.busy < SENDING * case.seconds:
        yield Found(
            f"{case.sender.name}'s program had something to send for {case.busy:.1f} of {case.seconds:.1f} s only",
            (str(case.sender),),
            "shown",
        )
