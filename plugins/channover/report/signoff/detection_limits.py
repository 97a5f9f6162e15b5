"""What would have been noticed: the detection limits of the proof of a lab's cables (ISO 11843-1), as they are shipped.

They are measured by the project's own fault matrix (docs/faults.md), on the version, target and machine that they name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from channover.report.drawing.topology import rate

NAME = "detection_limits.json"


@cache
def told() -> Mapping[str, Any]:
    """Return the limits, each in words, with what they were measured on."""
    known = json.loads(resources.files("channover.report").joinpath(NAME).read_text("utf-8"))
    return {
        **{name: known[name] for name in ("enough", "tries", "measured", "version", "target", "kernel")},
        "rate": rate(known["link_rate"]),
        "labs": known["false_alarms"]["of"],
        "false": known["false_alarms"]["found"],
        "limits": [{"words": f"{one['says']} {size(one['limit'], one['unit'])}"} for one in known["limits"]],
    }


def size(value: float, unit: str) -> str:
    """Return the size of a fault in words, of a share (0 to 1) or seconds."""
    return f"{value * 1e3:g} ms" if unit == "s" else f"{value * 100:g} %"
