"""Faults of what applications rest on: paths whose loss is noticed late, programs that do not ask for MPTCP, or stand still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from channover.measure.running import downloads, streaming
from channover.network.programs.applications import sip
from tests.faults.bench import Bench
from tests.faults.fault import Evidence, Fault, When, caught, fails
from tests.faults.multipath import parameter


def _served_by_tcp(served: Callable[..., Any], used: Callable[[], None]) -> Callable[..., Any]:
    """Have nginx be started without ``mptcpize``, whatever was asked for."""

    @contextmanager
    def plain(*words: Any, **named: Any) -> Iterator[Any]:
        used()
        with served(*words, **{**named, "mptcp": False}) as found:
            server, *rest = found if isinstance(found, tuple) else (found,)
            asked = replace(server, mptcp=named["mptcp"])
            yield (asked, *rest) if rest else asked

    return plain


def _served_by_mptcp(served: Callable[..., Any], used: Callable[[], None]) -> Callable[..., Any]:
    """Have both ends be started with ``mptcpize``, whatever was asked for."""

    def over_mptcp(*words: Any, **named: Any) -> Any:
        used()
        return served(*words, **{**named, "mptcp": True})

    return over_mptcp


SOON = """
while :; do
    for p in /proc/[0-9]*; do
        tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q -- "^$1" || continue
        sleep "$2"
        kill -"$3" ${p#/proc/} && echo sent $3 to $1 && exit
    done
    sleep 0.05
done
"""


def _soon(host: str, pattern: str, seconds: float, number: str) -> Callable[[Bench], Evidence]:
    """Send a signal to a program so many seconds after it was started."""

    def do(bench: Bench) -> Evidence:
        watching = getattr(bench, host).spawn("bash", "-c", SOON, "soon", pattern, str(seconds), number)
        return lambda: str(watching.wait_for(r"sent .*", 3.0)[0])

    return do


def sip_filtered(bench: Bench) -> Callable[[], str]:
    """Have cable b lose what SIP says in the clear, and let everything else pass, joins among it."""
    return bench.rules("b", f"  tcp dport {sip.PORT} meta length > 200 counter drop", ("right",))


FAULTS = (
    Fault(
        "stale-late",
        "MPTCP recovery",
        "the server takes a path for lost only after a hundred intervals of retransmission",
        parameter("right", "net/mptcp/stale_loss_cnt", "100"),
        When.READY,
        {"APP-1": fails("stale-late")},
    ),
    Fault(
        "gives-up-early",
        "MPTCP recovery",
        "the server ends a subflow after two retransmissions",
        parameter("right", "net/ipv4/tcp_retries2", "2"),
        When.READY,
        {"APP-1": fails("gives-up-early")},
    ),
    Fault(
        "nginx-plain",
        "programs",
        "nginx is started without mptcpize",
        None,
        When.IN_PLACE,
        {"APP-1": fails("mptcp-not-asked")},
        (),
        ((downloads, "served", _served_by_tcp),),
    ),
    Fault(
        "nginx-plain-stream",
        "programs",
        "nginx is started without mptcpize",
        None,
        When.IN_PLACE,
        {"APP-3": fails("mptcp-not-asked")},
        (),
        ((streaming, "served", _served_by_tcp),),
    ),
    Fault(
        "control-by-mptcp",
        "comparisons",
        "the download that is to be by TCP goes by MPTCP",
        None,
        When.IN_PLACE,
        {"APP-1 TCP": fails("mptcp-unasked")},
        (),
        ((downloads, "served", _served_by_mptcp),),
    ),
    Fault(
        "control-by-mptcp-stream",
        "comparisons",
        "the stream that is to be played by TCP comes by MPTCP",
        None,
        When.IN_PLACE,
        {"APP-3": fails("mptcp-unasked")},
        (),
        ((streaming, "served", _served_by_mptcp),),
    ),
    Fault(
        "control-by-mptcp-calls",
        "comparisons",
        "the calls that are to go by TCP go by MPTCP",
        None,
        When.IN_PLACE,
        {"APP-2 plain": fails("mptcp-unasked")},
        (),
        ((sip, "calls", _served_by_mptcp),),
    ),
    Fault(
        "sip-filtered",
        "MPTCP middleboxes",
        "a firewall on cable b drops SIP, and lets joins pass",
        sip_filtered,
        When.BUILT,
        {"APP-2": fails(words=r"calls kept to their end of \d+, expected exactly 60")},
    ),
    Fault(
        "callee-stops",
        "programs",
        "the answering SIP program stands still after a second",
        _soon("right", "sipp", 1.0, "STOP"),
        When.READY,
        {"APP-2": caught("program-stopped", words="calls (placed|kept)")},
    ),
    Fault(
        "tls-front-killed",
        "programs",
        "the server's TLS front is killed after a second and a half",
        _soon("right", "stunnel", 1.5, "KILL"),
        When.READY,
        {"APP-2 TLS": caught("program-ended", words="calls (placed|kept)")},
    ),
    Fault(
        "nginx-stops",
        "programs",
        "nginx stands still while a stream is played",
        _soon("right", "nginx", 1.5, "STOP"),
        When.READY,
        {"APP-3": caught("program-stopped")},
    ),
)
