"""Measure how fast labs come and go, beside a shell script and Mininet, in one run.

What is timed: two or more hosts in pairs, every cable shaped to 100 Mbit/s in both directions, checksum and segmentation
offloads off, addresses set, one ping each way answered; and taking all that down. The contenders take turns, and begin in
turn, so that whatever else the machine does falls on all of them alike. Reported are medians, the middle half of the
samples, and each one's ratio to channover.

The kernel frees a network namespace after the command that let it go has returned. So teardown is told twice: "down" is
until the call returned, "gone" until the last of the lab's interfaces had left the kernel. For that an extra veth pair is
put, outside the time taken, between this namespace and the lab's first host, last host and panel: its near end goes as
the namespace does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "plugins")]

from benchmarks.contenders import Channover, Contender, MininetPeer, Shell  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

RESULTS = HERE / "results"
AIM_PER_HOST = 0.004


@dataclass(frozen=True)
class Sample:
    """One lab that came and went; seconds."""

    contender: str
    hosts: int
    up: float
    down: float
    gone: float

    @property
    def total(self) -> float:
        """Up, and down until the call returned."""
        return self.up + self.down


def _canaries(contender: Contender) -> list[str]:
    """Tie interfaces of this namespace to the lab's namespaces, and return their names."""
    names = []
    for number, namespace in enumerate(contender.namespaces()):
        name = f"cb{os.getpid() % 10_000}-{number}"
        words = ["link", "add", name, "type", "veth", "peer", "name", "canary", "netns", namespace]
        subprocess.run(["ip", *words], check=True)
        names.append(name)
    return names


def _present(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def measure(contender: Contender, pairs: int, cables: int, pause: float) -> Sample:
    """Bring a lab up and down once, and wait until the kernel has done with it."""
    time.sleep(pause)  # what the one before left to the kernel must not be charged to this one
    up = contender.up(pairs, cables)
    names = _canaries(contender)
    start = time.perf_counter()
    down = contender.down()
    while any(_present(name) for name in names):
        if time.perf_counter() - start > 60:
            raise SystemExit(f"{contender.name}: interfaces are still there after 60 s")
        time.sleep(0.001)
    return Sample(contender.name, 2 * pairs, up, down, time.perf_counter() - start)


def memory(contender: Contender, pairs: int, cables: int) -> dict[str, float]:
    """Return what a lab of idle hosts takes: processes, their memory, and what the kernel had less (bytes)."""
    before = _available()
    contender.up(pairs, cables)
    found = {"hosts": 2.0 * pairs, "processes": 0.0, "pss": 0.0, "rss": 0.0}
    for pid in contender.processes():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found["processes"] += 1
        for key in ("pss", "rss"):
            found[key] += sum(int(line.split()[1]) * 1024 for line in lines if line.lower().startswith(f"{key}:"))
    found["available_less"] = before - _available()
    contender.down()
    return found


def _available() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:"))


def _spread(values: Sequence[float]) -> str:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return f"{statistics.median(values) * 1e3:.1f} ({low * 1e3:.1f}–{high * 1e3:.1f})"


def _of(samples: Sequence[Sample], name: str, hosts: int) -> list[Sample]:
    return [sample for sample in samples if sample.contender == name and sample.hosts == hosts]


def _median(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    return statistics.median(value(sample) for sample in samples)


def _up(sample: Sample) -> float:
    return sample.up


def _down(sample: Sample) -> float:
    return sample.down


def _returned(sample: Sample) -> float:
    return sample.total


def _until_gone(sample: Sample) -> float:
    return sample.up + sample.gone


def ratios(samples: Sequence[Sample], name: str, hosts: int) -> list[float]:
    """Return a contender's time to channover's, turn by turn: the two of a turn met the same machine."""
    ours, theirs = _of(samples, "channover", hosts), _of(samples, name, hosts)
    return [other.total / own.total for own, other in zip(ours, theirs, strict=False)]


def per_host(samples: Sequence[Sample], name: str, value: Callable[[Sample], float]) -> dict[int, float]:
    """Return the seconds that each further host took, from the smallest lab to each larger one."""
    sizes = sorted({sample.hosts for sample in samples if sample.contender == name})
    medians = {size: _median(_of(samples, name, size), value) for size in sizes}
    return {size: (medians[size] - medians[sizes[0]]) / (size - sizes[0]) for size in sizes[1:]}


def show(
    console: Console,
    samples: Sequence[Sample],
    contenders: Sequence[Contender],
    idle: dict[str, list[dict[str, float]]],
) -> None:
    """Print the tables."""
    sizes = sorted({sample.hosts for sample in samples})
    table = Table(title="Labs up and down: ms, median (middle half); ratio of up + down to channover's")
    for heading in ("hosts", "", "up", "down", "up + down", "up until gone", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    for size in sizes:
        for contender in contenders:
            found = _of(samples, contender.name, size)
            if found:
                ratio = statistics.median(ratios(samples, contender.name, size))
                values = (_up, _down, _returned, _until_gone)
                spreads = [_spread([value(sample) for sample in found]) for value in values]
                table.add_row(str(size), contender.name, *spreads, f"× {ratio:.2f}")
        table.add_section()
    console.print(table)
    if len(sizes) > 1:
        table = Table(title=f"Each further host, from {sizes[0]} on: ms, up + down (up until gone)")
        table.add_column("")
        for size in sizes[1:]:
            table.add_column(f"to {size}", justify="right")
        for contender in contenders:
            returned = per_host(samples, contender.name, _returned)
            gone = per_host(samples, contender.name, _until_gone)
            each = [f"{returned[size] * 1e3:.2f} ({gone[size] * 1e3:.2f})" for size in returned]
            table.add_row(contender.name, *each)
        console.print(table)
    if idle:
        table = Table(title="Idle labs")
        for heading in ("", "hosts", "processes", "PSS MB", "RSS MB", "less available MB"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, rows in idle.items():
            for row in rows:
                sums = (row["pss"], row["rss"], row["available_less"])
                megabytes = [f"{value / 1e6:.1f}" for value in sums]
                table.add_row(name, f"{row['hosts']:.0f}", f"{row['processes']:.0f}", *megabytes)
        console.print(table)


def verdicts(samples: Sequence[Sample]) -> list[str]:
    """Say whether the aims are met: no slower than the shell, at most 4 ms for each further host."""
    lines = []
    smallest = min(sample.hosts for sample in samples)
    for name in sorted({sample.contender for sample in samples if sample.contender.startswith("shell")}):
        ratio = statistics.median(ratios(samples, name, smallest))
        lines.append(f"{'met' if ratio >= 1 else 'MISSED'}: no slower than {name} ({smallest} hosts: × {ratio:.2f})")
    for label, value in (("until the call returned", _returned), ("until gone", _until_gone)):
        further = per_host(samples, "channover", value)
        if further:
            largest = max(further)
            ok = further[largest] <= AIM_PER_HOST
            lines.append(
                f"{'met' if ok else 'MISSED'}: at most {AIM_PER_HOST * 1e3:g} ms a further host up to {largest}, "
                f"{label} ({further[largest] * 1e3:.2f})"
            )
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeat", type=int, default=20, metavar="N", help="labs of two hosts a contender (default 20)"
    )
    parser.add_argument("--sizes", default="2,8,32,128", help="numbers of hosts, even (default 2,8,32,128)")
    parser.add_argument("--large-repeat", type=int, default=5, metavar="N", help="larger labs a contender (default 5)")
    parser.add_argument("--cables", type=int, default=2, help="cables of each pair, 1 to 8 (default 2)")
    parser.add_argument("--pause", type=float, default=0.25, metavar="S", help="seconds before each lab (default 0.25)")
    parser.add_argument("--only", default="", metavar="NAMES", help="contenders, such as channover,shell,mininet")
    parser.add_argument("--no-memory", action="store_true", help="leave idle labs out")
    return parser


def main() -> int:
    """Run. Returns 0, whatever the figures: a machine's speed is no failure."""
    options = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    if os.getuid() != 0:
        raise SystemExit("benchmarks are run as root: their peers need it")
    sizes = sorted({int(size) for size in options.sizes.split(",")})
    wanted = [name for name in options.only.split(",") if name]
    contenders: list[Contender] = [Channover()]
    if not wanted or "shell" in wanted:
        contenders += [Shell("panel"), Shell("plain")]
    if not wanted or "mininet" in wanted:
        missing = MininetPeer.missing()
        if missing:
            console.print(f"left out: {missing}")
        else:
            contenders.append(MininetPeer())
    samples: list[Sample] = []
    idle: dict[str, list[dict[str, float]]] = {}
    load = os.getloadavg()
    try:
        for contender in contenders:
            measure(contender, 1, options.cables, options.pause)  # warm caches, not counted
        with console.status("") as status:
            for size in sizes:
                turns = options.repeat if size == sizes[0] else options.large_repeat
                for turn in range(turns):
                    shift = turn % len(contenders)
                    for contender in contenders[shift:] + contenders[:shift]:
                        status.update(f"{size} hosts, turn {turn + 1} of {turns}: {contender.name}")
                        samples.append(measure(contender, size // 2, options.cables, options.pause))
            if not options.no_memory:
                for contender in contenders:
                    status.update(f"idle labs: {contender.name}")
                    idle[contender.name] = [memory(contender, size // 2, options.cables) for size in (2, sizes[-1])]
    finally:
        for contender in contenders:
            contender.close()
    show(console, samples, contenders, idle)
    console.print("start-up, once a run: " + ", ".join(f"{c.name} {c.startup * 1e3:.0f} ms" for c in contenders))
    lines = verdicts(samples)
    for line in lines:
        console.print(line)
    document = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load": {"before": load, "after": os.getloadavg()},
        "cables": options.cables,
        "startup_seconds": {contender.name: contender.startup for contender in contenders},
        "samples_seconds": [asdict(sample) for sample in samples],
        "further_host_seconds": {
            contender.name: {
                "returned": per_host(samples, contender.name, _returned),
                "gone": per_host(samples, contender.name, _until_gone),
            }
            for contender in contenders
        },
        "idle_bytes": idle,
        "verdicts": lines,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"results: {path.relative_to(HERE.parent)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
