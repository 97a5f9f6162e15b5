"""What results, certificate and comparison of a run of many tests cost.

    python -m benchmarks.report_scale [TESTS]

Prints a line for each, and exits with 1 where one is beyond the budget: 15 s and 1.5 GB for 1000 tests.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import runs

from channover.report.comparison.compare import compare
from channover.report.comparison.table import render
from channover.report.results import Results
from channover.report.signoff import certificate

SECONDS, BYTES = 15.0, 1.5e9
"""For 1000 tests."""


def measure(name: str, work: Callable[[], object]) -> bool:
    """Do some work, say what it cost, and return whether that was within the budget."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    # kB on Linux; children: Chromium, of which the largest process counts
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    within = seconds <= SECONDS and memory <= BYTES
    print(f"{name:28} {seconds:6.2f} s   {memory / 1e6:6.0f} MB at most so far   {'ok' if within else 'TOO MUCH'}")
    return within


def main(tests: int) -> int:
    """Measure all parts; return 1 where one is beyond the budget."""
    with tempfile.TemporaryDirectory(prefix="channover-scale-") as place:
        folder = Path(place)
        results = runs.large(tests)
        file = folder / "results.json"
        print(f"{tests} tests, {sum(len(test.measurements) for test in results.tests)} values")
        works: dict[str, Callable[[], object]] = {
            "results.json, written": lambda: results.write(file),
            "results.json, read": lambda: Results.from_json(file.read_text("utf-8")),
            "certificate.html": lambda: certificate.write(folder, pdf=False),
            "certificate.html and .pdf": lambda: print(certificate.write(folder).note or "", end=""),
            "comparison": lambda: render(compare([results], [results])),
        }
        found = [measure(name, work) for name, work in works.items()]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
