"""Plots drawn beside the tests, by a process that gets only what processor time nobody else wants (``SCHED_IDLE``).

A plot takes some 40 ms, and its library a second to load: neither belongs into a test. The process ends with the run:
the kernel kills it with its parent (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from channover import isolated
from channover import syscalls as kernel
from channover.report.drawing.plots import Judged, course_svg, nic_rates_svg
from channover.report.facts import Bound
from channover.report.store import write_whole

PLACEHOLDER = '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="20"><text y="15">not drawn: {}</text></svg>'
"""What stands in a plot's place until it is drawn."""
SAMPLES = "NIC samples"
"""The name of the attachment beside a plot that holds what it is drawn from."""


class Plotter:
    """Draws plots into files. Started with the first one."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._feeder: threading.Thread | None = None

    def draw(self, path: Path, job: Mapping[str, Any]) -> None:
        """Have what :func:`drawn` draws put into a file, some time before :meth:`finish` returns."""
        if self._process is None:
            self._start()
        self._jobs.put(json.dumps({**job, "path": str(path)}).encode() + b"\n")

    def _start(self) -> None:
        self._process = subprocess.Popen(
            isolated.python("channover.report.allure.plot_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def _feed(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            while (job := self._jobs.get()) is not None:
                pipe.write(job)
                pipe.flush()

    def finish(self, timeout: float = 60.0) -> bool:
        """Wait until all is drawn; False where that took longer than ``timeout`` (seconds), or the process failed."""
        if self._process is None or self._feeder is None:
            return True
        self._jobs.put(None)
        with contextlib.suppress(OSError):  # from here on somebody waits for it
            os.sched_setscheduler(self._process.pid, os.SCHED_OTHER, os.sched_param(0))
        self._feeder.join(timeout)
        try:
            return self._process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False


def main() -> None:
    """Draw what standard input asks for, a JSON object a line, until it ends."""
    kernel.die_with_parent()
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for line in sys.stdin:
        job = json.loads(line)
        with contextlib.suppress(OSError):  # the report's folder is gone
            write_whole(Path(job["path"]), drawn(job))


def drawn(job: Mapping[str, Any]) -> str:
    """Return the plot of plain data: ``series``, ``title``, ``phases``, and ``link_rate`` (bit/s) or what is on its ``axis``.

    Beside a link rate there may be the ``sum`` of the NICs and the ``goodput``, as times and rates, and its ``bounds``.

    Raises KeyError, ValueError.
    """
    series = [(label, times, rates) for label, times, rates in job["series"]]
    phases = [(label, begin, end) for label, begin, end in job["phases"]]
    if "axis" in job:
        return course_svg(series, title=job["title"], axis=job["axis"], phases=phases)
    judged = Judged(
        [
            (words, *job[key])
            for key, words in (("sum", "sum of NICs"), ("goodput", "goodput"))
            if job.get(key, ((),))[0]
        ],
        [Bound(**bound) for bound in job.get("bounds", ())],
    )
    return nic_rates_svg(series, title=job["title"], link_rate=job["link_rate"], phases=phases, judged=judged)


def missing(svg: str) -> bool:
    """Say whether a plot has not been drawn."""
    return svg.startswith(PLACEHOLDER.partition("{}")[0])
