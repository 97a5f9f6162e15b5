"""Run the suites again and again, unattended, a third of the runs beside load, and write what came out as data.

    make soak N=30                                    # or: python tools/soak.py 30
    python tools/soak.py 10 --load never              # on a quiet machine only
    python tools/soak.py 10 -- suites/mptcp -k mesh   # with words of pytest's own
    python tools/soak.py 30 --into reports/soak-a     # goes on where it was stopped, up to 30 runs in all

Each run's results.json goes into the folder as soon as the run has ended; ``soak.json``, ``soak.csv`` and ``soak.txt`` are made
anew of all of them. Ctrl-C ends the run under way, which does not count, and the tables stand. Nothing is tried again.

Ends with 0 where all passed, 1 where anything failed, 6 where only the testbed broke, 7 where something was only inconclusive.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Literal

from channover.report.results import Results
from channover.report.store import write_whole

ROOT = Path(__file__).parent.parent
LONGEST = 1800
"""Seconds that a run may take; its load never lasts longer."""
LOOPS = 2
"""Busy loops that are a run's load."""
OUTCOMES = ("passed", "failed", "inconclusive", "error", "skipped")
Load = Literal["third", "always", "never"]


@dataclass
class Test:
    """What became of one test in all runs: of quiet ones, and of those beside load (``loaded``). Durations are seconds."""

    nodeid: str
    quiet: Counter[str] = field(default_factory=Counter)
    loaded: Counter[str] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    reasons: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name within its file."""
        return self.nodeid.rpartition("::")[2]


@contextmanager
def load(wanted: bool) -> Iterator[None]:
    """Keep processors busy for the length of a block, and never for longer than a run may take."""
    code = f"import time\nend = time.monotonic() + {LONGEST}\nwhile time.monotonic() < end: sum(range(100000))"
    loops = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(LOOPS)] if wanted else []
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def beside_load(number: int, when: Load) -> bool:
    """Say whether a run, counted from one, is one beside load: every third."""
    return when == "always" or (when == "third" and number % 3 == 0)


def run(number: int, folder: Path, words: Sequence[str], *, loaded: bool) -> Path:
    """Run the suites once; return where the results went. Raises SystemExit where there are none."""
    target = folder / f"{number:04}-{'loaded' if loaded else 'quiet'}.json"
    suites = [] if any((ROOT / word.partition("::")[0]).exists() for word in words) else ["suites"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-report", *suites, *words]
    with tempfile.TemporaryDirectory() as reports, load(loaded):
        process = subprocess.Popen(
            [*command, "--reports", reports],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is this program's: it passes one on, and waits
        )
        try:
            said, _ = process.communicate(timeout=LONGEST)
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise
        found = Path(reports) / "latest" / "results.json"
        if not found.exists():
            raise SystemExit(f"run {number} left no results:\n{said[-2000:]}")
        write_whole(target, found.read_text("utf-8"))
    return target


def gathered(folder: Path) -> tuple[list[Test], list[dict[str, Any]]]:
    """Return what became of each test in the runs that a folder holds, in the order in which they ran, and of each run."""
    tests: dict[str, Test] = {}
    runs = []
    for path in sorted(folder.glob("[0-9]*-*.json")):
        results = Results.from_json(path.read_text("utf-8"))
        loaded = path.stem.endswith("-loaded")
        counts: Counter[str] = Counter(test.outcome for test in results.tests)
        seconds = sum(test.duration for test in results.tests)
        runs.append({"run": path.stem, "loaded": loaded, "seconds": round(seconds, 1), **counts})
        for one in results.tests:
            test = tests.setdefault(one.nodeid, Test(one.nodeid))
            (test.loaded if loaded else test.quiet)[one.outcome] += 1
            test.durations.append(one.duration)
            for order, each in enumerate(one.measurements):
                if each.value is not None:
                    test.values[f"{order} {each.name}, {each.unit}"].append(each.value)
            if one.outcome not in ("passed", "skipped"):
                test.reasons.append(f"{path.stem}: {one.outcome}: {one.reason}")
    return list(tests.values()), runs


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, deviation, smallest, median and largest of some values."""
    return {
        "count": len(values),
        "mean": fmean(values),
        "deviation": stdev(values) if len(values) > 1 else 0.0,
        "least": min(values),
        "median": median(values),
        "most": max(values),
    }


def write(folder: Path, tests: Sequence[Test], runs: Sequence[dict[str, Any]]) -> str:
    """Write the tables of all runs into their folder; return the one for people."""
    document = {
        "runs": runs,
        "tests": [
            {
                "nodeid": test.nodeid,
                "quiet": test.quiet,
                "loaded": test.loaded,
                "reasons": test.reasons,
                "durations": spread(test.durations),
                "values": {name: spread(values) for name, values in test.values.items()},
            }
            for test in tests
        ],
    }
    write_whole(folder / "soak.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(["test", "load", "runs", *OUTCOMES, "seconds_median", "seconds_most"])
    for test in tests:
        for word, counts in (("quiet", test.quiet), ("loaded", test.loaded)):
            row = [test.nodeid, word, counts.total(), *(counts[outcome] for outcome in OUTCOMES)]
            table.writerow([*row, round(median(test.durations), 2), round(max(test.durations), 2)])
    write_whole(folder / "soak.csv", rows.getvalue())
    text = _for_people(tests, runs)
    write_whole(folder / "soak.txt", text)
    return text


def _for_people(tests: Sequence[Test], runs: Sequence[dict[str, Any]]) -> str:
    loaded = sum(one["loaded"] for one in runs)
    lines = [f"{len(runs)} runs, {loaded} of them beside {LOOPS} busy loops", ""]
    lines.append(f"{'passed':>6} {'failed':>6} {'inconcl.':>8} {'error':>5}  {'seconds':>13}  test")
    for test in tests:
        both = test.quiet + test.loaded
        times = f"{median(test.durations):5.1f} to {max(test.durations):4.1f}"
        lines.append(
            f"{both['passed']:6} {both['failed']:6} {both['inconclusive']:8} {both['error']:5}  {times:>13}  {test.name}"
        )
        for name, values in test.values.items():
            if name.endswith("bit/s"):
                found = spread([value / 1e6 for value in values])
                what = name.partition(" ")[2].removesuffix(", bit/s")
                lines.append(
                    f"{'':43} {what}: {found['mean']:.2f} ± {found['deviation']:.2f} Mbit/s, "
                    f"{found['least']:.2f} to {found['most']:.2f}"
                )
    reasons = [f"{test.name}: {reason}" for test in tests for reason in test.reasons]
    return "\n".join([*lines, *([""] if reasons else []), *reasons]) + "\n"


def code(tests: Sequence[Test]) -> int:
    """Return how the whole ends: as a run of pytest with all of these outcomes would."""
    both = sum((test.quiet + test.loaded for test in tests), Counter[str]())
    return 1 if both["failed"] else 6 if both["error"] else 7 if both["inconclusive"] else 0


def main() -> int:
    """Run, as often as was asked for, and write the tables after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int, help="how many runs there are to be in all")
    parser.add_argument(
        "--load", choices=("third", "always", "never"), default="third", help="which runs have load beside"
    )
    parser.add_argument("--into", type=Path, help="folder of the runs (default: reports/soak-MOMENT)")
    given = sys.argv[1:]
    own, words = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    wanted = parser.parse_args(own)
    folder = wanted.into or ROOT / "reports" / time.strftime("soak-%Y%m%dT%H%M%SZ", time.gmtime())
    os.makedirs(folder, exist_ok=True)
    tests, runs = gathered(folder)
    try:
        for number in range(len(runs) + 1, wanted.runs + 1):
            start = time.monotonic()
            path = run(number, folder, words, loaded=beside_load(number, wanted.load))
            tests, runs = gathered(folder)
            write(folder, tests, runs)
            ended = ", ".join(f"{runs[-1][word]} {word}" for word in OUTCOMES if word in runs[-1])
            print(f"{path.stem}: {ended} in {time.monotonic() - start:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"stopped; to go on: python tools/soak.py {wanted.runs} --into {folder}", flush=True)
    if runs:
        print(write(folder, tests, runs))
        print(f"data: {folder}/soak.json, soak.csv")
    return code(tests) if len(runs) >= wanted.runs else 130


if __name__ == "__main__":
    sys.exit(main())
