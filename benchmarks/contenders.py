"""What benchmarks/run.py compares: each can bring a lab up and take it down, and says where its namespaces are."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Protocol, cast

from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.hosts.netns.client import ForkServer
from channover.hosts.netns.process import NamespaceProcess
from channover.model.link import Link
from channover.model.topology import LETTERS, Cable, Node, Port, Topology
from channover.network import addressing
from channover.scenarios import labs as paths
from channover.targets.netns import NetnsTarget

HERE = Path(__file__).parent


class Contender(Protocol):
    """One way to make pairs of shaped hosts that answer each other's ping."""

    name: str
    startup: float
    """Seconds that its start took, paid once a run."""

    def up(self, pairs: int, cables: int) -> float:
        """Bring a lab up, every host pinged from its peer, and return the seconds that took."""
        ...

    def down(self) -> float:
        """Take it down and return the seconds until the call returned."""
        ...

    def namespaces(self) -> Sequence[str]:
        """Return some of the lab's namespaces (first and last host, panel), as ``ip link … netns`` takes them."""
        ...

    def processes(self) -> Sequence[int]:
        """Return the processes that the lab consists of."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


def pairs_of_hosts(pairs: int, cables: int) -> Topology:
    """Return pairs of hosts, each joined by cables of its own."""
    nics = tuple(LETTERS[:cables])
    names = [(f"l{number}", f"r{number}") for number in range(1, pairs + 1)]
    return Topology(
        f"{pairs} pairs",
        tuple(Node(name, nics) for ends in names for name in ends),
        tuple(Cable(Port(left, nic), Port(right, nic)) for left, right in names for nic in nics),
    )


class Channover:
    """The project, as a test uses it: topology, planned addresses, ping."""

    name = "channover"

    def __init__(self) -> None:
        start = time.perf_counter()
        self._target = NetnsTarget()
        self._target.process().close()
        self.startup = time.perf_counter() - start
        self._made: AbstractContextManager[Lab] | None = None
        self._lab: Lab | None = None

    def up(self, pairs: int, cables: int) -> float:
        topology = pairs_of_hosts(pairs, cables)
        start = time.perf_counter()
        self._made = self._target.lab(topology, Link(), Journal())
        self._lab = lab = self._made.__enter__()
        paths.apply_all(lab, {name: addressing.addresses(lab, host) for name, host in lab.hosts.items()})
        pings = []
        for cable in topology.cables[::cables]:
            for port, other in (cable.ports, cable.ports[::-1]):
                words = ("ping", "-c", "1", "-W", "2", "-q", str(lab.address(other).ip))
                pings.append(lab.hosts[port.node].spawn(*words))
        if any(ping.wait(5) for ping in pings):
            raise SystemExit("channover: a ping was not answered")
        return time.perf_counter() - start

    def down(self) -> float:
        assert self._made is not None
        start = time.perf_counter()
        self._made.__exit__(None, None, None)
        self._lab = None
        return time.perf_counter() - start

    def namespaces(self) -> Sequence[str]:
        assert self._lab is not None
        hosts = list(self._lab.hosts)
        process = getattr(self._lab.cabling, "process")  # noqa: B009 - the panel's process is netns' own affair
        self._held: list[NamespaceProcess] = [
            NamespaceProcess(process, host, ("sleep", "600"), {}) for host in (hosts[0], hosts[-1], None)
        ]
        return [str(process.outer_pid) for process in self._held]

    def processes(self) -> Sequence[int]:
        """Return the fork server and all that it forked; the spare lab is among them."""
        fork_server = cast("ForkServer", self._target._fork_server)._process.pid
        return [fork_server, *_descendants(fork_server)]

    def close(self) -> None:
        self._target.close()


def _descendants(pid: int) -> list[int]:
    found = []
    with suppress(FileNotFoundError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [child, *_descendants(child)]
    return found


class Shell:
    """A shell script of batched ip and tc (``shell_lab.sh``); ``wire`` says where the shaper stands."""

    startup = 0.0

    def __init__(self, wire: str) -> None:
        self.name = f"shell, {wire}"
        self._wire = wire
        self._prefix = f"cb{os.getpid() % 10_000}"
        self._pairs = self._cables = 0

    def _script(self, action: str) -> float:
        words = [action, self._wire, str(self._pairs), str(self._cables), self._prefix]
        start = time.perf_counter()
        subprocess.run(["sh", str(HERE / "shell_lab.sh"), *words], check=True, stdin=subprocess.DEVNULL)
        return time.perf_counter() - start

    def up(self, pairs: int, cables: int) -> float:
        self._pairs, self._cables = pairs, cables
        return self._script("up")

    def down(self) -> float:
        return self._script("down")

    def namespaces(self) -> Sequence[str]:
        panel = ["p"] if self._wire == "panel" else []
        return [f"{self._prefix}{name}" for name in ("l1", f"r{self._pairs}", *panel)]

    def processes(self) -> Sequence[int]:
        return []

    def close(self) -> None:
        """Do nothing: nothing was started."""


class MininetPeer:
    """Mininet in an interpreter of its own, started once (``mininet_lab.py``)."""

    name = "mininet"

    def __init__(self) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            ["/usr/bin/python3", str(HERE / "mininet_lab.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        self._pids: list[int] = []
        self._answer()
        self.startup = time.perf_counter() - start

    @staticmethod
    def missing() -> str | None:
        """Say what is missing, if anything."""
        probe = subprocess.run(["/usr/bin/python3", "-c", "import mininet.net"], capture_output=True, check=False)
        return None if probe.returncode == 0 else "mininet is not installed: apt-get install mininet"

    def _answer(self) -> dict[str, object]:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise SystemExit("mininet has ended; see its words above")
        return cast("dict[str, object]", json.loads(line))

    def _ask(self, words: str) -> dict[str, object]:
        print(words, file=self._process.stdin, flush=True)
        return self._answer()

    def up(self, pairs: int, cables: int) -> float:
        answer = self._ask(f"up {pairs} {cables}")
        self._pids = cast("list[int]", answer["pids"])
        return cast("float", answer["seconds"])

    def down(self) -> float:
        return cast("float", self._ask("down")["seconds"])

    def namespaces(self) -> Sequence[str]:
        return [str(self._pids[0]), str(self._pids[-1])]

    def processes(self) -> Sequence[int]:
        return [self._process.pid, *self._pids]

    def close(self) -> None:
        cast("IO[str]", self._process.stdin).close()
        self._process.wait(10)
