"""How busy a machine's processors are, by whom, and how long a run's own programs waited for one.

Idle time is too coarse for a lab on its machine: a flow may stand in one processor's queue while the other idles. What
counts is the run delay: how long a thread was ready to run and did not (``/proc/PID/schedstat``, second field, ns). The
kernel's ``ksoftirqd`` is one of those threads: it does a lab's work where other programs want its processor.

Sources: ``proc(5)`` for ``/proc/stat`` and ``/proc/PID/stat``, ``Documentation/scheduler/sched-stats.rst``,
``Documentation/accounting/psi.rst`` for ``/proc/pressure/cpu``.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.model.processors import Name, Processors, Strain, strain

PRESSURE = "/proc/pressure/cpu"
STAT = "/proc/stat"
RESCAN = 1.0
"""Seconds after which this machine's programs are looked through anew: that takes some milliseconds."""
GLANCE = 0.3
"""Seconds in which it shows how busy a machine is: programs' time is counted in hundredths of one."""
_HERTZ = os.sysconf("SC_CLK_TCK")
_BESIDE = re.compile(r"bash|python[\d.]*|pytest.*")
"""Programs of a run that look on beside the traffic, and labs' first processes: no flow waits for what they wait."""
_KERNEL = 2
"""The process number of the parent of the kernel's threads."""


def processors(host: Host) -> Processors:
    """Return a host's processors now. Raises TestbedError."""
    text, pressure = host.read(STAT), ""
    with contextlib.suppress(TestbedError):  # a kernel without CONFIG_PSI, or where it is switched off
        pressure = host.read(PRESSURE)
    return Processors.parse(text, pressure)


class OwnMachine:
    """Reads the processors of this machine, as often as wanted.

    A lab's programs are this process and all below it; what they waited is told. Where this is one of a run's workers
    (``run``: the process that they are of), the other workers' programs are the run's own, and no other work.
    """

    def __init__(self, run: int | None = None) -> None:
        self._run = run if run is not None else _run()
        self._lowered = os.getpriority(os.PRIO_PROCESS, 0) > 0
        self._threads: list[tuple[Name, str]] = []
        self._used: dict[Name, float] = {}
        self._scanned = 0.0

    def __call__(self) -> Processors:
        """Return them as they are now."""
        if time.monotonic() - self._scanned > RESCAN:
            self.scan()
        read = Processors.parse(_text(STAT), _text(PRESSURE), self._lowered)
        waited = {name: delay for name, path in self._threads if (delay := _delay(_text(path))) is not None}
        return Processors(read.cores, read.at, waited, read.pressure, self._used, self._scanned)

    def scan(self) -> None:
        """Look through the machine's programs: which are the run's, and what the others have used."""
        parents: dict[int, int] = {}
        found: dict[Name, float] = {}
        yielding: set[int] = set()
        for name in os.listdir("/proc"):
            if name.isdigit() and (told := _process(_text(f"/proc/{name}/stat"))):
                title, parent, used, nice = told
                parents[int(name)] = parent
                found[int(name), title] = used
                if nice > 0 and not self._lowered:
                    yielding.add(int(name))
        own = {pid for pid in parents if os.getpid() in _line(pid, parents)}
        kernel = {pid for pid, parent in parents.items() if parent == _KERNEL or pid == _KERNEL}
        run = {pid for pid in parents if self._run in _line(pid, parents)}
        self._used = {name: used for name, used in found.items() if name[0] not in run | own | kernel | yielding}
        watched = [name for name in found if name[0] in own - {os.getpid()} and not _BESIDE.fullmatch(name[1])]
        softirqs = [name for name in found if name[0] in kernel and name[1].startswith("ksoftirqd/")]
        self._threads = [thread for name in (*watched, *softirqs) for thread in _threads(name)]
        self._scanned = time.monotonic()


class Glance:
    """How busy this machine is with what is not the run's, from when this is made."""

    def __init__(self) -> None:
        self._machine = OwnMachine()
        self._before = self._machine()

    def taken(self) -> Strain:
        """Return how the processors were since then, once that is long enough ago for their clock."""
        time.sleep(max(self._before.at + GLANCE - time.monotonic(), 0.0))
        self._machine.scan()
        return strain(self._before, self._machine())


def _run() -> int:
    """Return the process that a run is: this one, or its parent where this is one of pytest-xdist's workers."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def _text(path: str) -> str:
    """Return a file of ``/proc``; an empty text where there is none, or none any more."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _process(stat: str) -> tuple[str, int, float, int] | None:
    """Return a process's name, its parent, the processor time (seconds) that it has used, and its nice value."""
    head, _, rest = stat.rpartition(")")
    fields = rest.split()
    if len(fields) < 17:
        return None
    return head.partition("(")[2], int(fields[1]), (int(fields[11]) + int(fields[12])) / _HERTZ, int(fields[16])


def _line(pid: int, parents: Mapping[int, int]) -> list[int]:
    """Return a process and all above it."""
    found = [pid]
    while (pid := parents.get(pid, 0)) and pid not in found:
        found.append(pid)
    return found


def _threads(name: Name) -> list[tuple[Name, str]]:
    folder = f"/proc/{name[0]}/task"
    with contextlib.suppress(OSError):
        return [((int(each), name[1]), f"{folder}/{each}/schedstat") for each in os.listdir(folder)]
    return []


def _delay(schedstat: str) -> float | None:
    """Return how long (seconds) a thread has waited for a processor; None where that is not told."""
    fields = schedstat.split()
    return int(fields[1]) / 1e9 if len(fields) == 3 else None
