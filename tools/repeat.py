"""Run the suites again and again and tell how often each test passed, and how its figures spread.

    python tools/repeat.py --runs 20              # on a quiet machine
    python tools/repeat.py --runs 10 --busy       # with every core kept busy beside
    python tools/repeat.py --runs 3 -- -n 4       # with options of pytest's own

Ends with 1 where any test of any run did not pass.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@contextmanager
def busy(wanted: bool, seconds: int) -> Iterator[None]:
    """Keep every core busy for the length of a block, and never longer than ``seconds``."""
    code = f"import time\nend = time.time() + {seconds}\nwhile time.time() < end: sum(range(100000))"
    hogs = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)] if wanted else []
    try:
        yield
    finally:
        for hog in hogs:
            hog.send_signal(signal.SIGKILL)
            hog.wait()


def one_run(reports: Path, extra: list[str]) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-report",
        "--reports",
        str(reports),
        *extra,
    ]
    if not any(word.startswith("suites") for word in extra):
        command.append("suites")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    path = reports / "latest" / "results.json"
    if not path.exists():
        raise SystemExit(f"a run left no results:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    found: list[dict[str, Any]] = json.loads(path.read_text())["tests"]
    return found


def main() -> int:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="how often (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="keep every core busy meanwhile")
    parser.add_argument("--json", type=Path, help="write what was found to a file")
    parser.add_argument("pytest", nargs="*", help="options for pytest, after --")
    wanted = parser.parse_args()
    outcomes: dict[str, list[str]] = defaultdict(list)
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    reasons: list[str] = []
    lasted: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, wanted.runs + 1):
            start = time.monotonic()
            with busy(wanted.busy, 1800):
                tests = one_run(Path(folder), wanted.pytest)
            lasted.append(time.monotonic() - start)
            for result in tests:
                name = result["nodeid"].rpartition("::")[2]
                outcomes[name].append(result["outcome"])
                for order, one in enumerate(result["measurements"]):
                    if one["value"] is not None and one["unit"] == "bit/s":
                        figures[name, f"{order} {one['name']}"].append(one["value"] / 1e6)
                if result["outcome"] != "passed":
                    reasons.append(f"run {number}: {name}: {result['outcome']}: {result['reason'][:600]}")
            bad = sum(result["outcome"] != "passed" for result in tests)
            print(f"run {number}: {len(tests)} tests, {bad} not passed, {lasted[-1]:.0f} s", flush=True)
            if bad:
                print("  " + "\n  ".join(line for line in reasons if line.startswith(f"run {number}:")), flush=True)
    print(f"\n{wanted.runs} runs of {statistics.median(lasted):.0f} s (median)")
    for title, ended in outcomes.items():
        print(f"{ended.count('passed'):4}/{len(ended)} {title}")
        for (test, what), values in figures.items():
            if test == title:
                spread = f"median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"
                print(f"          {what}: {spread} Mbit/s")
    if wanted.json:
        summary = {
            "outcomes": outcomes,
            "figures": {" ".join(key): value for key, value in figures.items()},
            "seconds": lasted,
        }
        wanted.json.write_text(json.dumps(summary, indent=1))
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
