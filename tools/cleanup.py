"""Show that nothing of a run stays behind, however it ends. As root: ``python tools/cleanup.py --moments 10``.

Each attempt starts pytest on a terminal of its own, ends it at a random moment in one of the ways below, and looks for what
is left: processes and network namespaces of the run, interfaces, mounts, files, and any change of the network that the
run was started in. All must be gone within 5 s; what took longer is waited for, named, and makes the script fail.

KILL, TERM, HUP   that signal to pytest alone, as ``kill`` sends it
INT               Ctrl-C typed on the terminal: SIGINT to all of pytest's process group, workers included
INT2              Ctrl-C, and within a second once more
CLOSE             the terminal goes away
STOP              pytest is stopped (SIGSTOP) and killed a second later
NURSERY           the process that labs are forked from is killed, not pytest
LABINIT           the first process of each lab is killed, not pytest

Connections whose wire is cut do not end by themselves, and keep their namespace for a minute; a lab aborts them as it ends.
Only where a lab's own processes are killed (the last two ways) nobody does, so there ``--hold`` leaves connections out.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import fcntl
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

from channover.errors import UsageError  # noqa: E402
from channover.report.results import Results  # noqa: E402
from tools import leaks  # noqa: E402

LIMIT = 5.0
"""Within so many seconds of the end, nothing may be left."""
WAYS: Mapping[str, tuple[int, ...]] = {
    "KILL": (-signal.SIGKILL,),
    "TERM": (-signal.SIGTERM,),
    "HUP": (-signal.SIGHUP,),
    "INT": (2, -signal.SIGINT),
    "INT2": (2, -signal.SIGINT),
    "CLOSE": (-signal.SIGHUP,),
    "STOP": (-signal.SIGKILL,),
    "NURSERY": (),
    "LABINIT": (),
}
"""The exit codes of pytest that each way may lead to (negative: the signal); where empty, pytest must go on."""
TYPED = ("INT", "INT2", "CLOSE")
"""Ways that take a terminal."""
OPTIONS = ("-v", "-c", str(ROOT / "pyproject.toml"), "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider")
BROKEN = 6
"""The exit code of a run in which only the testbed broke."""
ENDED = (0, 1, BROKEN)
"""Exit codes of a pytest that was not stopped."""

HOLD = '''
import os
from pathlib import Path

import pytest

from channover.testing import Lab, Multipath, behaviour

LITTER = """
ip tuntap add dev tun9 mode tun
ip netns add inner && ip link add v0 type veth peer v1 netns inner
nft add table inet litter
mount -t tmpfs litter /mnt
touch $TMPDIR/litter /run/litter
(setsid sh -c 'trap "" TERM INT HUP; sleep 600 & wait' </dev/null >/dev/null 2>&1 &)
"""


@behaviour("MP-1")
def test_holds_a_lab_full_of_litter(multipath: Multipath, lab: Lab, request: pytest.FixtureRequest) -> None:
    for host in lab.hosts.values():
        host.run("sh", "-c", LITTER, check=False)
        host.spawn("sh", "-c", 'trap "" TERM INT HUP; sleep 600 & wait; wait')
    if os.environ["CLEANUP_CONNECTIONS"]:
        connect(lab)
    reports = Path(request.config.getoption("channover_reports"))
    (reports.parent / f"{reports.name}.holding").touch()
    while True:
        lab.left.run("sleep", "1", quiet=True)


def connect(lab: Lab) -> None:
    address = lab.address(next(port for port in lab.topology.cables[0].ports if port.node == "right"))
    for host, *words in (lab.right, "-s"), (lab.left, "-c", str(address.ip), "-t", "60"):
        host.spawn("mptcpize", "run", "iperf3", "--forceflush", *words).wait_for("listening|connected", 10)
    lab.left.run("sleep", "0.3")
    for cable in lab.topology.cables:
        lab.cabling.cut(cable)  # so that no connection can end by itself
'''
"""A test that leaves behind all it can, and then waits to be ended."""


@dataclass
class Attempt:
    """One run of pytest, and what became of it."""

    way: str
    words: list[str]
    reports: Path
    user: str | None = None
    gap: float = 0.5
    patience: float = 30.0
    moment: float = 0.0
    seconds: float | None = None
    ran: str = ""
    seen: str = ""
    faults: list[str] = field(default_factory=list)
    results: str = ""
    output: bytearray = field(default_factory=bytearray)

    def start(self, strangers: frozenset[int] = frozenset()) -> None:
        """Start pytest on a terminal of its own."""
        self.reports.mkdir(mode=0o777)
        self.reports.chmod(0o777)
        self.terminal, other = pty.openpty()
        prefix: list[str] = []
        if self.user:
            prefix = ["setpriv", "--reuid", self.user, "--regid", "nogroup", "--clear-groups"]
        self.pytest = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pytest", *OPTIONS, f"--reports={self.reports}", *self.words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "CLEANUP_CONNECTIONS": "x" * bool(WAYS[self.way])},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            preexec_fn=self._prepare,
        )
        os.close(other)
        self.started = time.monotonic()
        self.closing = threading.Event()
        self.reader = threading.Thread(target=self._drain, daemon=True)
        self.reader.start()
        self.watch = leaks.Watch(self.pytest.pid, strangers)

    def _prepare(self) -> None:
        """Have pytest heed signals, and give it the terminal, so that Ctrl-C and the terminal's end become signals.

        A shell starts what it runs in the background with SIGINT ignored, and so does this script, then. The terminal is
        not given for the other ways: where pytest leads a session with a terminal, its death is SIGHUP for all workers,
        and where it does not, as in CI or below a shell, it is none.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if self.way in TYPED:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _drain(self) -> None:
        """Read what pytest writes to its terminal."""
        with contextlib.suppress(OSError):
            while not self.closing.is_set():
                if select.select([self.terminal], [], [], 0.05)[0]:
                    self.output += os.read(self.terminal, 65536)

    def _close(self) -> None:
        """Close the terminal, once. A terminal that another thread reads would stay."""
        if not self.closing.is_set():
            self.closing.set()
            self.reader.join()
            os.close(self.terminal)

    @property
    def said(self) -> str:
        """What pytest has written so far."""
        return self.output.decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether pytest has ended."""
        return self.pytest.poll() is not None

    def let_run(self, moment: float, *, hold: bool) -> None:
        """Follow the run for so many seconds from now; with ``hold``, from when it holds its lab."""
        holding = self.reports.with_name(f"{self.reports.name}.holding")
        if hold and leaks.wait(lambda: (self.watch.poll(), self.ended or holding.exists())[1], 60.0) is None:
            self.faults.append(f"pytest did not come to hold a lab: {self.said[-300:]!r}")
        if hold and self.ended and not holding.exists():
            self.faults.append(f"pytest ended before it held a lab: {self.said[-300:]!r}")
        start = time.monotonic()
        while not self.ended and time.monotonic() - start < moment:
            self.watch.poll()
            time.sleep(0.02)

    def end(self) -> None:
        """End it, in its way."""
        self.moment = time.monotonic() - self.started
        living = self.watch.poll()
        names = sorted({entry.name for entry in living.values()} - {"pytest", "python", "python3"})
        tests = re.findall(r"::test_(\w+)", self.said)
        self.ran = (tests[-1] if tests else "starting") + (f": {', '.join(names)}" if names else "")
        inits = [pid for pid in living if _is_lab_part(pid)]
        nurseries = [pid for pid in inits if living[pid].parent not in inits]
        if self.way in ("KILL", "TERM", "HUP"):
            self.pytest.send_signal(getattr(signal, f"SIG{self.way}"))
        elif self.way == "CLOSE":
            self._close()
        elif self.way == "STOP":
            self.pytest.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            self.pytest.send_signal(signal.SIGKILL)
        elif self.way == "NURSERY":
            for pid in nurseries:
                self._kill(pid, signal.SIGKILL)
        elif self.way == "LABINIT":
            for pid in set(inits) - set(nurseries):
                self._kill(pid, signal.SIGKILL)
        else:
            os.write(self.terminal, b"\x03")
            if self.way == "INT2":
                leaks.wait(lambda: self.ended, self.gap)
                with contextlib.suppress(OSError):
                    os.write(self.terminal, b"\x03")
        self.sent = time.monotonic()

    def _kill(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def left(self) -> list[str]:
        """Return what is left of it. Of a run that goes on, only what ended with its lab counts."""
        return self.watch.left() if self.ended else ["pytest runs", *self.watch.left()]

    def check(self) -> None:
        """Wait until nothing is left, and note how long that took and what is wrong."""
        spared = not WAYS[self.way]
        before = dict(self.watch.processes), dict(self.watch.namespaces)
        if spared and not self.ended:
            self._check_lab_gone(*before)
            if leaks.wait(lambda: (self.watch.poll(), self.ended)[1], 120.0) is None:
                self.faults.append("pytest hangs: it did not end within 120 s of the loss of its lab")
                self.pytest.send_signal(signal.SIGKILL)
            elif self.pytest.returncode != BROKEN:
                self.faults.append(f"pytest ended with {self.pytest.returncode}, not {BROKEN}: {self.said[-300:]!r}")
            self.sent = time.monotonic()
        late: list[str] = []
        while left := self.left():
            waited = time.monotonic() - self.sent
            if waited > LIMIT and not late:
                late = left
            if waited > self.patience:
                break
            time.sleep(0.02)
        clean = not left and self.watch.interfaces_freed(self.patience)
        seconds = time.monotonic() - self.sent
        if not spared or self.seconds is None:
            self.seconds = seconds
        if not clean or seconds > LIMIT:
            lasting = f"for {seconds:.1f} s" if clean else f"still after {seconds:.0f} s"
            self.faults.append(f"{lasting}: {'; '.join(late or left) or 'interfaces'}")
        if left:
            self.watch.end()
            self.pytest.send_signal(signal.SIGKILL)
        self.pytest.wait()
        if not spared and self.pytest.returncode not in (*WAYS[self.way], *ENDED):
            self.faults.append(f"pytest ended with {self.pytest.returncode}: {self.said[-300:]!r}")
        self._close()
        spaces = len(self.watch.namespaces)
        self.seen = f"{len(self.watch.processes)}/{spaces}"
        self.results = self._results()

    def _check_lab_gone(self, processes: dict[tuple[int, int], str], namespaces: dict[str, int]) -> None:
        """Check that the labs of that moment end, all of each, while pytest goes on."""
        own = os.readlink("/proc/self/ns/pid")

        def there() -> bool:
            living = self.watch.poll()
            inside = [pid for pid in living if (pid, living[pid].start) in processes and _space(pid) not in ("", own)]
            numbers = set(namespaces.values()) & {
                number for link, number in self.watch.namespaces.items() if f"{link} is there" in self.watch.left()
            }
            return bool(inside or numbers)

        self.seconds = leaks.wait(lambda: not there(), self.patience)
        if self.seconds is None or self.seconds > LIMIT:
            self.faults.append("the lab outlived its first process")

    def _results(self) -> str:
        """Check the run's folder, and say what is in it."""
        folders = [path for path in self.reports.iterdir() if not path.is_symlink() and path.name != ".history"]
        if not folders:
            return "no folder yet"
        for stray in [path for path in self.reports.rglob(".*.tmp")]:
            self.faults.append(f"left in reports: {stray.relative_to(self.reports)}")
        path = folders[0] / "results.json"
        there = sorted(each.name for each in folders[0].iterdir())
        if not there:
            return "empty folder yet"
        if len(folders) > 1 or not path.exists():
            self.faults.append(f"no results.json, but {', '.join(there)}")
            return "no file"
        try:
            found = Results.from_json(path.read_text("utf-8"))
        except (UsageError, OSError) as error:
            self.faults.append(f"results.json: {error}")
            return "invalid"
        if found.run.interrupted == (self.pytest.returncode in ENDED):
            self.faults.append(f"results.json says interrupted={found.run.interrupted}, exit {self.pytest.returncode}")
        return f"valid, {'interrupted' if found.run.interrupted else 'complete'}, {len(found.tests)} tests"


def _is_lab_part(pid: int) -> bool:
    try:
        return b"channover.hosts.netns.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _space(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--signal", default="KILL,TERM,INT", metavar="WAYS", help="ways to end a run, by commas (%(default)s)")
    add("--moments", type=int, default=10, help="attempts of each way (%(default)s)")
    add("--span", type=float, default=40.0, metavar="SECONDS", help="moments are drawn from this time (%(default)s)")
    add("--seed", type=int, default=None, help="of the moments; a random one by default, printed")
    add("--target", default="netns", help="pytest's --target (%(default)s)")
    add("--xdist", type=int, default=0, metavar="N", help="run with -n N")
    add(
        "--hold", action="store_true", help="one test with a lab full of litter instead of the suites; no random moment"
    )
    add("--patience", type=float, default=30.0, metavar="SECONDS", help="wait so long for what is late (%(default)s)")
    add("--beside", action="store_true", help="a second run beside each, which must go on undisturbed")
    add("--user", default=None, help="run pytest as this user, who must be able to read the project")
    add("--machine", action="store_true", help="compare the whole machine, unprotected from what else runs on it")
    add("--show", action="store_true", help="print what pytest wrote")
    add("words", nargs="*", help="what to run instead of the suites; options for pytest after --")
    options = parser.parse_args()
    options.ways = options.signal.upper().split(",")
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"--signal: no way to end a run: {', '.join(unknown)}; there are {', '.join(WAYS)}")
    if os.getuid() != 0:
        parser.error("root is needed to look at all that a run could leave")
    return options


def attempt(way: str, moment: float, gap: float, words: list[str], room: Path, options: argparse.Namespace) -> Attempt:
    """Run pytest once and end it."""
    one = Attempt(way, words, Path(tempfile.mkdtemp(dir=room)) / "reports", options.user, gap, options.patience)
    one.reports.parent.chmod(0o777)
    one.start()
    other = None
    if options.beside:
        other = Attempt("KILL", words, one.reports.parent / "beside", options.user)
        other.start(frozenset({one.pytest.pid}))
        one.watch.strangers = frozenset({other.pytest.pid})
    one.let_run(moment, hold=options.hold)
    one.end()
    one.check()
    if other:
        other.let_run(0.5, hold=options.hold)
        if other.ended:
            one.faults.append(f"the other run ended with {other.pytest.returncode}: {other.said[-300:]!r}")
        elif not any(_is_lab_part(pid) for pid in other.watch.poll()):
            one.faults.append("the other run has lost its labs")
        other.end()
        other.check()
        one.faults += [f"the other run: {fault}" for fault in other.faults]
    return one


def main() -> int:
    """Make the attempts, print a line each, and return the exit status."""
    options = parse()
    compileall.compile_dir(str(ROOT / "plugins"), quiet=1)  # or the first report of a fresh clone leaves files
    leaks.adopt_orphans()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10_000)
    chance = random.Random(seed)
    if options.machine:
        folders = {name: Path(name) for name in (*leaks.WATCHED, "/dev/shm")}
        room = Path(tempfile.mkdtemp(prefix="cleanup-", dir=ROOT / "reports"))
    else:
        folders, room = leaks.enter_view(), leaks.room()
    hold = room / "test_hold.py"
    hold.write_text(HOLD)
    suites = sorted(str(path) for path in (ROOT / "suites").glob("*/test_*.py"))
    print(f"seed {seed}, {'the whole machine' if options.machine else 'a view of the machine for each'}")
    print(f"{'way':8} {'moment':>7} {'clean in':>8}  {'seen':>10}  {'results':32} what ran", flush=True)
    bad = 0
    for way in [way for way in options.ways for _ in range(options.moments)]:
        chance.shuffle(suites)
        wanted = options.words or ([str(hold)] if options.hold else suites)
        words = [*wanted, f"--target={options.target}", *(["-n", str(options.xdist)] if options.xdist else [])]
        moment = 0.3 if options.hold else chance.uniform(0.1, options.span)
        before = leaks.snapshot(folders, processes=options.machine)
        one = attempt(way, moment, chance.random(), words, room, options)
        one.faults += leaks.diff(before, leaks.snapshot(folders, processes=options.machine))
        print(
            f"{way:8} {one.moment:6.2f}s {one.seconds or 0:7.2f}s  {one.seen:>10}  {one.results:32} {one.ran}",
            *(f"    FAULT {fault}" for fault in one.faults),
            sep="\n",
            flush=True,
        )
        if options.show:
            print(one.said)
        bad += bool(one.faults)
    if options.machine:
        shutil.rmtree(room)
    print(f"{bad} of {len(options.ways) * options.moments} attempts left something" if bad else "nothing left")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
