"""Faults of the programs themselves: that die, stall, or are others than was asked for."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.bench import Bench, require
from tests.faults.fault import Evidence, Fault, When, caught, unfit


def _signal(host: str, pattern: str, number: str) -> Callable[[Bench], Evidence]:
    """Send a signal to the programs of a lab whose command line has a pattern, once they are there.

    A lab has a process namespace of its own: no other lab's programs are seen.
    """

    def do(bench: Bench) -> Evidence:
        machine = getattr(bench, host)
        done = machine.run(
            "sh",
            "-c",
            f"for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q -- '{pattern}' && "
            f"[ ${{p#/proc/}} != $$ ] && kill -{number} ${{p#/proc/}} && echo sent {number} to ${{p#/proc/}}; done; :",
            quiet=True,
        )
        return require("sent" in done.stdout, " ".join(done.stdout.split()) or f"no program has {pattern}")

    return do


STALLING = """
n=0
while [ -z "$all" ]; do
    for p in /proc/[0-9]*; do
        tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q -- "$1" && [ ${p#/proc/} != $$ ] && all="$all ${p#/proc/}"
    done
    sleep 0.05
done
while kill -STOP $all; do
    sleep $2
    kill -CONT $all
    sleep $2
    n=$((n+1))
    [ $n = 10 ] && echo stalled ten times
done
"""


def _stalling(host: str, pattern: str, seconds: float) -> Callable[[Bench], Evidence]:
    """Have a program stand still for so long (seconds), and go on for as long, again and again."""

    def do(bench: Bench) -> Evidence:
        machine = getattr(bench, host)
        process = machine.spawn("bash", "-c", STALLING, "stalling", pattern, str(seconds))
        return lambda: str(process.wait_for(r"stalled", 40 * seconds)[0]) + f" {pattern} at {host}"

    return do


def own_curl(bench: Bench) -> Evidence:
    """Put a curl in the place of the distribution's that somebody has built anew; it is the lab's own mount."""
    changed = f"{bench.left.folder}/curl"
    script = f'curl=$(readlink -f "$(command -v curl)") && cp "$curl" {changed} && echo >>{changed}'
    bench.left.run("sh", "-c", f'{script} && mount --bind {changed} "$curl"')
    return require(
        "curl" in bench.left.run("cat", "/proc/mounts", quiet=True).stdout,
        "another curl is mounted over the distribution's",
    )


FAULTS = (
    Fault(
        "own-curl",
        "programs",
        "the client's curl is none of the distribution's",
        own_curl,
        When.TRAFFIC,
        {
            "MP-3": caught(
                words=r"programs as their distribution made them of 1, expected .*curl is of no package, or was changed"
            )
        },
    ),
    Fault(
        "receiver-killed",
        "programs",
        "the receiving iperf3 is killed soon after the traffic began",
        _signal("right", "iperf3 -s", "KILL"),
        When.MID,
        {"LAG-1": unfit("program-ended", words="iperf3")},
    ),
    Fault(
        "receiver-stalls",
        "programs",
        "the receiving iperf3 stands still for half of the time",
        _stalling("right", "iperf3 -s", 0.05),
        When.TRAFFIC,
        {"MP-1": caught("receiver-slow", "program-stopped", "receive-buffer")},
    ),
    Fault(
        "sender-stalls",
        "programs",
        "the sending iperf3 stands still for half of the time",
        _stalling("left", "iperf3 -c", 0.2),
        When.TRAFFIC,
        {"LAG-1": caught("sender-limited", "program-stopped")},
    ),
    Fault(
        "switch-killed",
        "programs",
        "the switch daemon of one end is killed soon after the traffic began",
        _signal("right", "ovs-vswitchd unix:/run/right", "KILL"),
        When.MID,
        {"LAG-1": caught("program-ended", words="Open vSwitch|ovs")},
    ),
    Fault(
        "switch-stops",
        "programs",
        "the switch daemon of one end stops answering as the traffic begins",
        _signal("right", "ovs-vswitchd unix:/run/right", "STOP"),
        When.TRAFFIC,
        {"LAG-1": caught("program-stopped", "program-ended")},
    ),
    Fault(
        "tunnel-killed",
        "programs",
        "the client's OpenVPN is killed soon after the traffic began",
        _signal("left", "openvpn --config /run/left", "KILL"),
        When.MID,
        {"TUN-5": caught("program-ended", words="openvpn")},
    ),
)
