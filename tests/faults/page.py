"""The fault matrix as a page and a picture, from what was kept of its rows: docs/faults.md and docs/faults.svg."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

import channover
from channover.report.signoff.detection_limits import size
from tests.faults.fault import Expected, Fault
from tests.faults.judge import Row, Seen
from tests.faults.limits import PATH as LIMITS
from tests.faults.table import ROWS

DOCS = Path(__file__).parents[2] / "docs"
GROUPS = {
    "The wire": ("rate", "loss", "delay", "duplex", "size", "crossing", "duplicates", "strangers", "carrier"),
    "Link aggregation": ("LACP configuration", "LACP timers", "LACP frames", "hash", "failover", "long run"),
    "Multipath TCP": (
        "MPTCP signalling",
        "MPTCP limits",
        "MPTCP flags",
        "MPTCP middleboxes",
        "families",
        "unlike paths",
        "MPTCP recovery",
    ),
    "Hosts": ("addresses", "routes", "rules", "neighbours", "filters"),
    "Machines": ("buffers", "offloads", "processors", "programs"),
    "Tunnels": ("tunnels", "loops", "guards"),
    "The tests' own comparisons": ("comparisons",),
    "Harmless": ("harmless",),
}
"""Families by what they are faults of."""
Pairs = Sequence[tuple[Fault, Row]]


def write(rows: Mapping[str, Row]) -> None:
    """Write page and picture of these rows."""
    pairs = [(fault, rows[fault.id]) for fault in ROWS if fault.id in rows]
    (DOCS / "faults.svg").write_text(picture(pairs))
    limits = json.loads(LIMITS.read_text()) if LIMITS.exists() else None
    (DOCS / "faults.md").write_text(page(pairs, limits))


def _share(rows: Iterable[bool]) -> str:
    found = list(rows)
    return f"{sum(found)} of {len(found)}" if found else "–"


def page(pairs: Pairs, limits: Mapping[str, Any] | None) -> str:
    """Return the page."""
    run = [(fault, row) for fault, row in pairs if not row.skipped]
    real = [(fault, row) for fault, row in run if not fault.harmless]
    harmless = [(fault, row) for fault, row in run if fault.harmless]
    spares = [one.spared for _, row in real for one in row.seen if one.spared is not None]
    seconds = sum(row.seconds for _, row in pairs)
    when = datetime.now(timezone.utc).date().isoformat()
    lines = [
        "# What the suites notice",
        "",
        "<!-- Made by `make faults`: do not edit. -->",
        "",
        "Faults are done to living labs, and the suites' own tests run beside them, word for word. Each row proves by its own",
        "evidence that its fault was in force. *Caught* is a fault for which no behaviour that it breaks passed; *named* one",
        "whose right cause came first. Harmless faults must change nothing.",
        "",
        f"Measured on {when} with channover {channover.__version__}, labs of namespaces, Linux {platform.release()}, in "
        f"{seconds / 60:.0f} minutes (`make faults`).",
        "",
        *([f"{len(ROWS) - len(pairs)} further rows were not run.", ""] if len(pairs) < len(ROWS) else []),
        "| | |",
        "|---|---|",
        f"| faults | {len(real)}, beside {len(harmless)} harmless ones |",
        f"| caught | {_share(row.caught for _, row in real)} |",
        f"| named, the right cause first | {_share(row.named for _, row in real)} |",
        f"| behaviours that hold beside a fault, and passed | {_share(spares)} |",
        f"| harmless faults under which all passed | {_share(row.good for _, row in harmless)} |",
        "",
        "![Faults by family: caught and named](faults.svg)",
        "",
    ]
    lines += _limits(limits) if limits else []
    for title, families in GROUPS.items():
        here = [(fault, row) for fault, row in pairs if fault.family in families]
        if here:
            lines += ["", f"## {title}", "", *_table(here)]
    return "\n".join(lines) + "\n"


def _limits(limits: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Detection limits",
        "",
        f"The smallest fault of a cable that the proof of a lab finds in {limits['enough']} of {limits['tries']} tries "
        f"(ISO 11843-1): measured on {limits['measured']} with channover {limits['version']}, target {limits['target']}, "
        f"Linux {limits['kernel']}, cables of {limits['link_rate'] / 1e6:g} Mbit/s. Of {limits['false_alarms']['of']} labs "
        f"without a fault, {limits['false_alarms']['found']} were found unfit. A certificate has them in its annex.",
        "",
        "| what | detection limit | found, by size |",
        "|---|---|---|",
    ]
    for one in limits["limits"]:
        tried = ", ".join(f"{size(each['size'], one['unit'])}: {each['found']}/{each['of']}" for each in one["tried"])
        limit = size(one["limit"], one["unit"]) if one["limit"] is not None else "none of the sizes tried"
        lines.append(f"| {one['says']} | {limit} | {tried} |")
    return lines


def _table(pairs: Pairs) -> list[str]:
    lines = ["| fault | what is done | outcome |", "|---|---|---|"]
    for fault, row in pairs:
        said = "<br>".join(_outcome(fault, one) for one in row.seen) if row.seen else "no results"
        lines.append(f"| {fault.id} | {fault.says} ({fault.when.value}) | {said} |")
    return lines


def _outcome(fault: Fault, seen: Seen) -> str:
    if seen.outcome == "skipped":
        return f"{seen.test} not run here: {seen.reason}"
    if seen.void:
        return f"{seen.test} **void**: {seen.void}"
    expected: Expected | None = fault.breaks.get(seen.test)
    said = seen.outcome
    if seen.first:
        said += f": {seen.first[0]}"
    if seen.notes:
        said += f", but: {', '.join(dict.fromkeys(seen.notes))}"
    if expected is None:
        return f"{seen.test} {said}{'' if seen.spared else ' **(must pass)**'}"
    wrong = "" if seen.named else " **(not caught)**" if not seen.caught else " **(not named)**"
    return f"{seen.test} {said}{wrong}"


ROW, LEFT, WIDTH = 22, 150, 640


def picture(pairs: Pairs) -> str:
    """Return the picture: a bar a family, how many faults of it were caught, how many of those named."""
    families = [each for group in GROUPS.values() for each in group]
    found = [(each, [row for fault, row in pairs if fault.family == each and not row.skipped]) for each in families]
    found = [(each, rows) for each, rows in found if rows]
    most = max((len(rows) for _, rows in found), default=1)
    unit = (WIDTH - LEFT - 60) / most
    height = ROW * len(found) + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans, Verdana, Arial, sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="20" fill="#222222" font-size="12">Faults by family: caught, and the right cause first</text>',
    ]
    for number, (family, rows) in enumerate(found):
        y = 34 + number * ROW
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="#222222">{escape(family)}</text>')
        for position, row in enumerate(sorted(rows, key=lambda row: -row.caught - row.good)):
            fill = "#0072b2" if row.good else "#e69f00" if row.caught else "#ffffff"
            parts.append(
                f'<rect x="{LEFT + position * unit:.1f}" y="{y}" width="{unit - 2:.1f}" height="{ROW - 6}" fill="{fill}" '
                'stroke="#222222" stroke-width="0.8"/>'
            )
        words = f"{sum(row.good for row in rows)} of {len(rows)}"
        parts.append(f'<text x="{LEFT + len(rows) * unit + 6:.1f}" y="{y + 13}" fill="#666666">{words}</text>')
    y = 34 + len(found) * ROW + 12
    for number, (fill, words) in enumerate(
        (("#0072b2", "as it must be"), ("#e69f00", "caught, or not as it must be"), ("#ffffff", "not caught"))
    ):
        x = LEFT + number * 150
        parts.append(
            f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{fill}" stroke="#222222" stroke-width="0.8"/>'
        )
        parts.append(f'<text x="{x + 15}" y="{y}" fill="#222222">{words}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
