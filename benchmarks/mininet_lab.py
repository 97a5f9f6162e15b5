#!/usr/bin/python3
"""Mininet's side of benchmarks/run.py: makes labs on request, so that its start-up is paid once, as channover's is.

Reads ``up PAIRS CABLES`` and ``down`` from standard input; answers each with one JSON line. Needs Debian's package
``mininet`` and the interpreter that it is installed for. Hosts are joined by direct links (``TCLink``: tbf at both ends),
so neither a switch nor a controller is started.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from mininet.link import TCLink  # type: ignore[import-not-found]
from mininet.log import setLogLevel  # type: ignore[import-not-found]
from mininet.net import Mininet  # type: ignore[import-not-found]

OFFLOADS = "tx off tso off gso off gro off"


def up(pairs: int, cables: int) -> Any:
    """Make pairs of hosts joined by shaped cables, ping each way; return the network."""
    net = Mininet(controller=None, link=TCLink, autoSetMacs=False, waitConnected=False)
    for pair in range(pairs):
        left, right = (net.addHost(f"{side}{pair + 1}", ip=None) for side in "lr")
        for cable in range(cables):
            number = pair * cables + cable
            ends = [{"ip": f"10.101.{number}.{side}/30"} for side in (1, 2)]
            net.addLink(
                left, right, bw=100, use_tbf=True, latency_ms=20, gro=False, txo=False, params1=ends[0], params2=ends[1]
            )
    net.start()
    for host in net.hosts:
        host.cmd("; ".join(f"ethtool -K {device} {OFFLOADS} >/dev/null" for device in host.intfNames()))
    pings = []
    for pair in range(pairs):
        first = pair * cables
        for name, other in ((f"l{pair + 1}", 2), (f"r{pair + 1}", 1)):
            pings.append(net[name].popen(["ping", "-c", "1", "-W", "2", "-q", f"10.101.{first}.{other}"]))
    if any(ping.wait() for ping in pings):
        raise SystemExit("a ping was not answered")
    return net


def memory(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes, in bytes."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return total


def main() -> None:
    """Serve."""
    setLogLevel("error")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers)
    net: Any = None
    for line in sys.stdin:
        action, *rest = line.split()
        start = time.perf_counter()
        if action == "up":
            net = up(*(int(word) for word in rest))
        else:
            net.stop()
        answer: dict[str, object] = {"seconds": time.perf_counter() - start}
        if action == "up":
            shells = [host.pid for host in net.hosts]
            answer |= {"pids": shells, "memory": memory([os.getpid(), *shells])}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
