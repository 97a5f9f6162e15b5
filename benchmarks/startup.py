"""What pytest pays at its start for channover where nothing uses it: collecting an empty project, with and without.

    python benchmarks/startup.py [PAIRS]

Each pair is two runs of ``pytest --co``, one right after the other and in turn first. Counted is processor time, which other
work lengthens less than the time on the wall. What is shown are the medians of the pairs' differences and ratios.
Ends with code 1 where the difference is 50 ms or more.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 0.05
"""Seconds that a project may pay which does not use channover."""
PLUGIN = "channover.pytest_plugin.hooks"


def seconds(folder: Path, *words: str) -> float:
    """Return the processor time that pytest takes to collect a folder."""
    command = [sys.executable, "-m", "pytest", "--co", "-q", "-p", "no:cacheprovider", *words]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Other plugins cost the same in both runs of a pair, and their noise hides the difference.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(pairs: int) -> int:
    """Measure that many pairs and say what came of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        (folder / "pytest.ini").write_text("[pytest]\n")
        ways = {"with": ("-p", PLUGIN), "without": ("-p", f"no:{PLUGIN}")}
        for words in ways.values():
            seconds(folder, *words)  # so that all is compiled, and in the page cache
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for pair in range(pairs):
            for way in sorted(ways, reverse=bool(pair % 2)):
                taken[way].append(seconds(folder, *ways[way]))
    both = list(zip(taken["with"], taken["without"], strict=True))
    difference = statistics.median(one - other for one, other in both)
    ratio = statistics.median(one / other for one, other in both)
    print(
        f"without {statistics.median(taken['without']) * 1e3:.0f} ms, with {difference * 1e3:+.0f} ms: {ratio:.3f} times"
    )
    return int(difference >= MOST)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
