"""The smallest fault of a cable that the proof of a lab finds in 19 of 20 tries: its detection limit (ISO 11843-1, 3.8).

What is found out is shipped with channover (``channover/report/detection_limits.json``): a certificate says what would have
been noticed. Sizes are tried from the largest; a size counts where 19 of 20 labs with it were found unfit, by the right kind.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import channover
from channover.hosts.host import Journal
from channover.measure.cpu_lock import cpu_lock
from channover.model.link import Link
from channover.model.topology import pair
from channover.observe.proof.prove import prove
from channover.targets.netns import NetnsTarget
from tests.faults.bench import Bench

PATH = Path(channover.__file__).parent / "report" / "detection_limits.json"
KEPT = Path(__file__).parents[2] / "reports" / "fault-limits"
"""Where the parts that have been measured are kept until all are there."""
TRIES, ENOUGH = 20, 19
FALSE = 20
"""Labs without a fault that are proved beside: none of them may be found unfit."""


@dataclass(frozen=True)
class Family:
    """A kind of fault that has a size: what is done to cable b, the sizes from the largest, and how the proof calls it."""

    id: str
    says: str
    unit: str
    sizes: tuple[float, ...]
    do: Callable[[Bench, float], object]
    kinds: tuple[str, ...]


def _lost(bench: Bench, share: float) -> None:
    bench.rules("b", f"  numgen random mod 1000000 < {round(share * 1e6)} counter drop")


FAMILIES = (
    Family(
        "rate-below",
        "a cable carries less than its rate, by",
        "share",
        (0.02, 0.015, 0.012, 0.011, 0.0105, 0.0095, 0.008),
        lambda bench, size: bench.slow("b", 1 - size),
        ("rate",),
    ),
    Family(
        "rate-above",
        "a cable carries more than its rate, by",
        "share",
        (0.02, 0.015, 0.012, 0.011, 0.0105, 0.0095, 0.008),
        lambda bench, size: bench.rate("b", 1 + size),
        ("rate",),
    ),
    Family(
        "loss",
        "a cable loses frames, both ways, of all",
        "share",
        (0.005, 0.003, 0.002, 0.0015, 0.001, 0.0007, 0.0005),
        _lost,
        ("loss",),
    ),
    Family(
        "delay",
        "a cable's idle round trip is longer than the wire's own, by",
        "s",
        (0.02, 0.01, 0.007, 0.006, 0.0055, 0.005, 0.0045),
        lambda bench, size: bench.line("b", f"{size * 1e3 / 2:g}"),
        ("delay",),
    ),
)


@contextmanager
def _labs() -> Iterator[Callable[[Family | None, float], bool]]:
    target = NetnsTarget()

    def found(family: Family | None, size: float) -> bool:
        """Say whether a new lab with a fault of this size is found unfit for it; without one, for whatever."""
        with target.lab(pair(), Link(), Journal()) as lab, cpu_lock():
            if family is not None:
                family.do(Bench(lab), size)
            findings = prove(lab)
        if family is None:
            return bool(findings)
        return any(one.kind in family.kinds and one.cable.a.nic == "b" for one in findings)

    try:
        yield found
    finally:
        target.close()


def detect(family: Family, found: Callable[[Family, float], bool]) -> dict[str, Any]:
    """Return the detection limit of a family, and what was tried for it."""
    tried: list[dict[str, Any]] = []
    limit = None
    for size in family.sizes:
        hits = tries = 0
        while tries < TRIES and tries - hits <= TRIES - ENOUGH:
            hits += found(family, size)
            tries += 1
        tried.append({"size": size, "found": hits, "of": tries})
        print(f"{family.id} {size:g} {family.unit}: found in {hits} of {tries}", flush=True)
        if hits < ENOUGH:
            break
        limit = size
    return {"id": family.id, "says": family.says, "unit": family.unit, "limit": limit, "tried": tried}


def _kept(name: str, measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was kept of a part of it, or measure it and keep it: a run that was stopped goes on where it was."""
    path = KEPT / f"{name}.json"
    if not path.exists():
        found = measured()
        KEPT.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found) + "\n")
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def measure() -> dict[str, Any]:
    """Return the detection limits of all families on this machine."""
    with _labs() as found:
        false = _kept("none", lambda: {"found": sum(found(None, 0.0) for _ in range(FALSE)), "of": FALSE})
        print(f"labs without a fault that were found unfit: {false['found']} of {false['of']}", flush=True)
        limits = [_kept(each.id, partial(detect, each, found)) for each in FAMILIES]
    return {
        "measured": datetime.now(timezone.utc).date().isoformat(),
        "version": channover.__version__,
        "target": "netns",
        "kernel": platform.release(),
        "link_rate": float(Link().rate),
        "tries": TRIES,
        "enough": ENOUGH,
        "false_alarms": false,
        "limits": limits,
    }


def main() -> None:
    """Measure them and write them where channover ships them."""
    PATH.write_text(json.dumps(measure(), indent=1) + "\n")
    shutil.rmtree(KEPT)


if __name__ == "__main__":
    main()
