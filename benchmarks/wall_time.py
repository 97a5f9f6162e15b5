"""Where the time of a run of the suites goes: per test and phase, as a table that a later run is compared with.

    python -m benchmarks.wall_time [RESULTS] [--against FILE] [--write FILE]

RESULTS is a run's results.json, that of the last run if it is not said: ``make lab`` makes it. FILE is the table of another
run, benchmarks/wall_time.json if it is not said. A test's seconds are set-up (its lab), converging (LACP, tunnels, subflows),
waiting for its turn to measure, traffic, what is left of its body, and teardown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
KEPT = HERE / "wall_time.json"
PHASES = ("set-up", "converging", "waiting", "traffic", "rest", "teardown")


def times(test: Mapping[str, Any]) -> dict[str, float]:
    """Return a test's seconds by phase, and in all."""
    spent = dict(test.get("spent", {}))
    found = {name: float(spent.get(name, 0.0)) for name in PHASES}
    found["rest"] = max(float(test["duration"]) - sum(found.values()), 0.0)
    return {**found, "in all": float(test["duration"])}


def whole(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's table: the seconds that it lasted, and each test's."""
    run = results["run"]
    lasted = datetime.fromisoformat(run["end"]) - datetime.fromisoformat(run["start"])
    tests = {test["nodeid"].rpartition("/")[2]: times(test) for test in results["tests"]}
    return {"run": run["id"], "command": list(run["command"]), "seconds": lasted.total_seconds(), "tests": tests}


def shown(found: Mapping[str, Any], other: Mapping[str, Any] | None) -> Table:
    """Return it for the terminal: the longest test first, and each as a share of what it took in the other run."""
    table = Table(title=f"{found['seconds']:.0f} s by {' '.join(found['command'])}")
    table.add_column("test")
    for name in (*PHASES, "in all", *(["of before"] if other else [])):
        table.add_column(name, justify="right")
    before = (other or {}).get("tests", {})
    for name, spent in sorted(found["tests"].items(), key=lambda one: -one[1]["in all"]):
        ratio = [f"{spent['in all'] / before[name]['in all']:.2f}" if before.get(name) else "new"] if other else []
        table.add_row(name, *(f"{spent[each]:.1f}" for each in (*PHASES, "in all")), *ratio)
    sums = {each: sum(one[each] for one in found["tests"].values()) for each in (*PHASES, "in all")}
    ratio = [f"{found['seconds'] / other['seconds']:.2f}"] if other else []
    table.add_row("all tests", *(f"{sums[each]:.1f}" for each in sums), *ratio, style="bold")
    return table


def main(words: Sequence[str]) -> int:
    """Show where a run's time went, and keep it if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=Path("reports/latest/results.json"))
    parser.add_argument("--against", type=Path, help=f"another run's table; {KEPT} if it is there")
    parser.add_argument("--write", type=Path, nargs="?", const=KEPT, help=f"keep the table there: {KEPT}")
    wanted = parser.parse_args(words)
    try:
        found = whole(json.loads(wanted.results.read_text()))
        against = wanted.against or (KEPT if KEPT.exists() else None)
        other = json.loads(against.read_text()) if against else None
    except (OSError, ValueError, KeyError) as error:
        print(f"{wanted.results}: no results of a run: {error}; make lab makes them", file=sys.stderr)
        return 2
    Console(width=160 if not sys.stdout.isatty() else None).print(shown(found, other))
    if wanted.write:
        wanted.write.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
