"""Runs the fault matrix, judges it, and writes its page: ``python -m tests.faults.run``, which ``make faults`` calls.

Each row is a run of pytest with the suites' own tests, word for word, and one fault beside it. What a row came to is kept as
it ends: a run that was stopped goes on where it was, until all rows are there.

    -k WORD        rows whose id or family has the word
    --fresh        begin anew
    --missed       run again what was not caught and named
    --for SECONDS  begin no row after so long
    --jobs N       rows at a time (as many as processors): of more, one in eight finds the machine busy with the others
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults import limits, page
from tests.faults.fault import SUITES, Fault
from tests.faults.judge import Row, judge
from tests.faults.table import ROWS

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "reports" / "faults"
"""Where each row's outcome is kept, one file a row."""
AGAIN = 1
"""How often a row is run again that tells nothing: the machine was busy, or the fault was not in force."""
_stopped = threading.Event()
"""Is set when no row is to be finished."""
BOUND = 160.0
"""Seconds that one test of a row may take at most, set-up included."""


def run_row(fault: Fault) -> Row:
    """Run a row and judge it."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="channover-faults-") as name:
        folder = Path(name)
        log = folder / "log.json"
        command = [sys.executable, "-m", "pytest", "-p", "tests.faults.injection", "--fault", fault.id]
        command += ["--fault-log", str(log), "-p", "no:cacheprovider", "-q", "--no-report", "--target", fault.target]
        command += ["--measure-limit", "4", "--reports", str(folder / "reports")]
        command += ["--variants"]
        command += [SUITES[each] for each in fault.tests]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
        words = _run(command, environment, BOUND * len(fault.tests) + 30.0)
        found = folder / "reports" / "latest" / "results.json"
        tests = json.loads(found.read_text())["tests"] if found.exists() else []
        said = json.loads(log.read_text()) if log.exists() else []
        return judge(fault, tests, said, time.monotonic() - start, words)


def _run(command: Sequence[str], environment: dict[str, str], bound: float) -> str:
    """Run a command with all that it starts, for so long (seconds) at most; return the end of what it said."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + bound
    while True:
        try:
            said, _ = process.communicate(timeout=0.5)
            return said[-3000:]
        except subprocess.TimeoutExpired:
            if time.monotonic() < until and not _stopped.is_set():
                continue
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=20.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return f"it took longer than {bound:g} s"


def kept() -> dict[str, Row]:
    """Return the rows that have been run so far."""
    return {path.stem: Row.from_plain(json.loads(path.read_text())) for path in sorted(KEPT.glob("*.json"))}


def keep(row: Row) -> None:
    """Keep what a row came to."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{row.fault}.json").write_text(json.dumps(row.to_plain(), indent=1, ensure_ascii=False) + "\n")


def told(row: Row) -> str:
    """Return what a row came to, in a line; what is not as it should be is said."""
    if row.skipped:
        return f"not run here: {row.skipped}"
    if row.void:
        return f"VOID: {row.void[:300]}"
    if row.busy:
        return "no verdict: this machine was busy with something else; it is run again"
    words = ", ".join(f"{one.test} {one.short}{'' if _as_it_should(one) else ' (!)'}" for one in row.seen)
    verdict = "good" if row.good else "NOT CAUGHT" if not row.caught else "NOT NAMED" if not row.named else "NOT SPARED"
    return f"{verdict}: {words}"


def _as_it_should(one: object) -> bool:
    return all(getattr(one, name) in (None, True) for name in ("caught", "named", "spared"))


def _run_all(rows: Sequence[Fault], jobs: int, until: float) -> int:
    """Run so many rows at a time, and begin none after a moment (monotonic seconds); return how many were not begun."""
    left = deque(rows)
    lock = threading.Lock()

    def begun() -> Fault | None:
        with lock:
            return left.popleft() if left and time.monotonic() < until else None

    def work() -> None:
        while not _stopped.is_set() and (fault := begun()) is not None:
            row = run_row(fault)
            for _ in range(AGAIN if not _stopped.is_set() and (row.busy or (row.void and not row.skipped)) else 0):
                row = run_row(fault)
            with lock:
                if _stopped.is_set():
                    return
                keep(row)
                print(f"{len(rows) - len(left)}/{len(rows)} {fault.id} ({row.seconds:.0f} s): {told(row)}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for each in [pool.submit(work) for _ in range(jobs)]:
                each.result()
        except KeyboardInterrupt:
            _stopped.set()
            raise
    return len(left)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="tests.faults.run", description="run the fault matrix")
    parser.add_argument("-k", dest="word", default="", help="rows whose id or family has the word")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--missed", action="store_true", help="run again what was not caught and named")
    parser.add_argument("--for", dest="seconds", type=float, default=3300.0, help="begin no row after so many seconds")
    parser.add_argument(
        "--limits", action="store_true", help="measure the detection limits too, when all rows are there"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="rows at a time (%(default)s): what they measure takes turns by itself",
    )
    chosen = parser.parse_args()
    rows = [one for one in ROWS if any(word in f"{one.id} {one.family}" for word in chosen.word.split(","))]
    whole = not (chosen.word or chosen.missed)
    if chosen.fresh or (whole and all(each.id in kept() for each in ROWS)):
        for path in KEPT.glob("*.json"):
            path.unlink()
    done = kept()
    if chosen.missed:
        rows = [one for one in rows if one.id in done and not done[one.id].good]
    else:
        rows = [one for one in rows if one.id not in done]
    if left := _run_all(rows, chosen.jobs, time.monotonic() + chosen.seconds):
        print(f"{left} rows are left: run it again to go on", flush=True)
        return 3
    done = kept()
    if any(each.id not in done for each in ROWS):
        return 0
    if whole:
        limits.main()
    page.write(done)
    print(f"docs/faults.md: {sum(done[each.id].good for each in ROWS)} of {len(ROWS)} rows are as they must be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
