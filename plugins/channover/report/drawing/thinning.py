"""Long series made short: a picture of twenty minutes shows a stall of a tenth of a second all the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def thinned(times: Sequence[float], rates: Sequence[float], most: int) -> tuple[list[float], list[float]]:
    """Return about ``most`` samples: both ends, and the lowest and highest of each of ``most`` / 2 equal stretches."""
    if len(times) <= most:
        return list(times), list(rates)
    stretches = max(most // 2, 1)
    width = (times[-1] - times[0]) / stretches
    kept: list[int] = []
    start = 0
    for number in range(1, stretches + 1):
        end = len(times) if number == stretches else bisect_right(times, times[0] + number * width)
        if end > start:
            indices = range(start, end)
            kept += sorted({min(indices, key=rates.__getitem__), max(indices, key=rates.__getitem__)})
        start = end
    kept = sorted({0, *kept, len(times) - 1})
    return [times[index] for index in kept], [rates[index] for index in kept]
