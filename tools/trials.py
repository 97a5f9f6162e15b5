"""One fault trial: a controller is started as a user does, a fault is done, and two hosts must be as they were before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from channover.errors import TestbedError
from channover.hosts.host import until
from tools.trial_controller import Controller
from tools.trial_hosts import DATA, Event, TrialHost, differences, inventory, prepare_all

RESTORE = 14.0
"""Seconds that a restore may take on a micro-VM under software emulation (docs/safety.md, "What is promised")."""
NO_SIGN = 5.0
"""Seconds after the taking within which a controller may not have given its first sign of life: then 20 s count."""
CLOCKS = 0.3
"""Seconds by which a host's uptime is known here."""
HANG = 150.0
"""Seconds after a fault, and after the suite's own time, within which a controller must have ended."""
SLOW = 45.0
"""Seconds that a host may take, when all is over, to look as before; more than its time stated is a fault all the same."""


@dataclass(frozen=True)
class Fault:
    """A fault: in words, the exit codes that a controller may end with, and when the hosts that it hits are to be free.

    ``limit`` seconds count from the fault, or (``from_end``) from the controller's end; a host that is not hit is to be
    free before that end. ``inside``: the host does it to itself.
    """

    name: str
    words: str
    codes: tuple[int, ...]
    promise: str
    limit: float
    from_end: bool = False
    hits_all: bool = False
    inside: bool = False
    remedy: str = ""


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("none", "none", (0,), "before pytest ends", 0, from_end=True, hits_all=True),
        Fault("kill", "controller SIGKILLed", (-9,), "5 s and the restore", 5 + RESTORE, hits_all=True),
        Fault("term", "controller SIGTERMed", (-15,), "5 s and the restore", 5 + RESTORE, hits_all=True),
        Fault("int", "Ctrl-C", (2,), "before pytest ends", 0, from_end=True, hits_all=True),
        Fault("cut", "management link cut", (1, 4), "20 s and the restore", 20 + RESTORE),
        Fault("reboot", "host rebooted", (1, 4), "the boot", 60, inside=True),
        Fault("sshd", "sshd killed", (1, 4), "5 s and the restore", 5 + RESTORE, inside=True),
        Fault("full", "disk full", (0, 1, 4), "before pytest ends", 0, from_end=True, inside=True, remedy="room"),
        Fault(
            "sudo",
            "sudo refused",
            (1, 4),
            "5 s after pytest, and the restore",
            5 + RESTORE,
            True,
            inside=True,
            remedy="allow",
        ),
    )
}


@dataclass
class Trial:
    """One trial. Times are seconds: ``moment`` after the hosts were taken, ``seconds`` as the fault counts them."""

    fault: Fault
    moment: float
    hosts: Sequence[TrialHost]
    one: TrialHost
    folder: Path
    span: float
    outlasts: bool = False
    """Whether a link that is cut stays so until the controller has ended, and not only until the host is free."""
    faults: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    code: int | None = None
    took: float = 0.0
    last_line: str = ""
    output: str = ""
    _marks: dict[str, int] = field(default_factory=dict)
    _before: dict[str, list[str]] = field(default_factory=dict)
    _synchronized: set[str] = field(default_factory=set)
    _struck: float = 0.0
    _over: float = 0.0
    _mended: float = 0.0

    @property
    def hit(self) -> Sequence[TrialHost]:
        """The hosts that the fault hits."""
        return self.hosts if self.fault.hits_all else (self.one,)

    def run(self) -> None:
        """Make the trial. What is wrong stands in ``faults``. Raises TestbedError where it could not be made."""
        self._before = dict(zip((host.name for host in self.hosts), _each(self.hosts, TrialHost.settled), strict=True))
        self._marks = {host.name: len(host.events()) for host in self.hosts}
        self.folder.mkdir()
        (self.folder / "test_trial.py").write_text((DATA / "suite.py").read_text())
        (self.folder / "trial.yaml").write_text(inventory(self.hosts, sudo=self.fault.name == "sudo"))
        for name in ("client", "known_hosts"):
            os.link(self.folder.parent / name, self.folder / name)
        self.controller = Controller(self.folder, self.span + 10.0)
        try:
            if self._reached():
                self._strike()
                self._follow()
        finally:
            self.controller.kill()
            self._over = self._over or time.monotonic()
            self.code, self.output = self.controller.process.returncode, self.controller.said
            self.last_line = self.controller.last_line
            self._mend()
        self._judge()

    def _all_taken(self) -> bool:
        """Say whether every host was taken, and set each one's clock when it says so."""
        for host in self.hosts:
            if host.name not in self._synchronized and (events := self._events(host)):
                host.synchronize(events[-1].uptime)
                self._synchronized.add(host.name)
        return len(self._synchronized) == len(self.hosts)

    def _events(self, host: TrialHost) -> list[Event]:
        return [each for each in host.events()[self._marks[host.name] :] if each.what in ("taken", "free", "seen")]

    def _reached(self) -> bool:
        """Wait for the moment."""
        until(lambda: self.controller.ended or self._all_taken(), "the controller to take the hosts", 90, 0.02)
        moment = time.monotonic() + self.moment
        while time.monotonic() < moment and not self.controller.ended:
            time.sleep(0.02)
        if self.controller.ended:
            self.faults.append(f"the controller ended before the fault: {self.controller.last_line}")
        return not self.controller.ended

    def _strike(self) -> None:
        """Do the fault, and note when it was done (monotonic)."""
        self._struck = time.monotonic()
        if self.fault.inside:
            marked = len(self.one.events())
            self.one.begin_fault(self.fault.name)

            def done() -> list[Event]:
                return [event for event in self.one.events()[marked:] if event.what == "fault"]

            until(done, f"{self.one.name}: the fault", 30, 0.02)
            self._struck = self.one.moment(done()[0].uptime)
        elif self.fault.name == "cut":
            self.one.machine.reachable(False)
        elif self.fault.name != "none":
            number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[self.fault.name]
            self.controller.signal(number, group=self.fault.name == "int")

    def _free(self, host: TrialHost) -> bool:
        """Say whether no run has the host any more: one that never had it must have ended."""
        if self.fault.name == "reboot" and host is self.one:
            return host.rebooted
        events = self._events(host)
        return events[-1].what == "seen" if events else self.controller.ended

    def _follow(self) -> None:
        """Watch until the controller has ended and the hosts are free."""
        own = self.span + 70.0 - self.moment if self.fault.codes[0] == 0 else 0.0
        deadline = self._struck + HANG + own
        while True:
            now = time.monotonic()
            if self.controller.ended and not self._over:
                self._over = now
            mended = self._free(self.one) and (self._over or not self.outlasts)
            if mended and self.fault.name in ("cut", "reboot") and not self._mended:
                self._mended = now
                if self.fault.name == "cut":
                    self.one.machine.reachable(True)
            if self._over and all(self._free(host) for host in self.hosts):
                break
            if now > deadline:
                if not self._over:
                    self.faults.append(
                        f"the controller hangs: it had not ended {now - self._struck:.0f} s after the fault"
                    )
                break
            time.sleep(0.02)

    def _mend(self) -> None:
        """Take the fault back. Raises TestbedError."""
        if self.fault.name == "cut" and not self._mended:
            self.one.machine.reachable(True)
        if self.fault.remedy:
            self.one.end_fault(self.fault.remedy)

    def _judge(self) -> None:
        """Compare the hosts with what they were, and the controller's end with what may be."""
        self.took = self._over - self._struck if self._struck else 0.0
        if not self.faults and self.code not in self.fault.codes:
            self.faults.append(f"the controller ended with {self.code}: {self.last_line}")
        if found := self.controller.traceback:
            self.faults.append(f"the controller shows a traceback: {found}")
        rebooted = self.one if self.fault.name == "reboot" else None
        if rebooted and not rebooted.rebooted:
            raise TestbedError(f"{rebooted.name} did not boot again")
        if rebooted:
            prepare_all((rebooted,))
        for host, left in zip(self.hosts, _each(self.hosts, self._left), strict=True):
            self.faults += [f"{host.name} is not as before: {line}" for line in left]
        for host in self.hosts:
            self._time(host)
        if self.fault.name == "cut" and not self.faults:
            while_cut = differences(self._before[self.one.name], self.one.seen())
            self.faults += [f"{self.one.name} was not as before while it was cut: {line}" for line in while_cut]

    def _left(self, host: TrialHost) -> list[str]:
        """Return what differs from before, once nothing does or when it takes too long."""
        deadline = time.monotonic() + SLOW
        while (left := differences(self._before[host.name], host.snapshot())) and time.monotonic() < deadline:
            time.sleep(1.0)
        return left

    def _time(self, host: TrialHost) -> None:
        """Note after how many seconds a host was free, and whether that was in time."""
        if self.fault.name == "reboot" and host is self.one:
            free = self._mended
        else:
            found = [event for event in self._events(host) if event.what == "free"]
            if not found:
                if self._events(host):
                    self.faults.append(f"{host.name} was taken and not set free")
                return  # or the run never had it
            free = host.moment(found[-1].uptime)
        is_hit = host in self.hit
        from_end = self.fault.from_end or not is_hit
        seconds = free - (self._over if from_end else self._struck)
        if is_hit:
            self.seconds[host.name] = seconds
        early = self.moment < NO_SIGN and self.fault.name in ("kill", "term")
        limit = 20 + RESTORE if early else self.fault.limit if is_hit else 0.0
        if seconds > limit + CLOCKS:
            since = "the controller's end" if from_end else "the fault"
            self.faults.append(f"{host.name} was free {seconds:.1f} s after {since}, and not {self.fault.promise}")

    def told(self) -> str:
        """Return the trial in one line."""
        free = ", ".join(f"{name} {seconds:+.1f} s" for name, seconds in self.seconds.items()) or "no host was taken"
        since = "the controller's end" if self.fault.from_end else "the fault"
        ended = f"{self.code}: {self.last_line}"
        return f"at {self.moment:4.1f} s; controller after {self.took:5.1f} s with {ended}; free after {since}: {free}"


def _each(hosts: Sequence[TrialHost], work: Callable[[TrialHost], list[str]]) -> list[list[str]]:
    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(work, hosts))
