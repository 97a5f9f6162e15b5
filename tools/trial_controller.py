"""The controller of a fault trial: pytest, started as a user starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from channover import syscalls as kernel

TRACEBACKS = ("Traceback (most recent call last)", "INTERNALERROR")


class Controller:
    """A run of pytest on the hosts, with a terminal's process group, and nothing in common with this process."""

    def __init__(self, folder: Path, seconds: float) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "CHANNOVER"))}
        environment |= {"TRIAL_SECONDS": str(seconds), "PYTHONUNBUFFERED": "x"}
        words = ["-m", "pytest", "test_trial.py", "--target=physical", "--inventory", "trial.yaml"]
        words += ["--no-report", "--reports", str(folder / "reports")]
        self._log = folder / "said.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._prepare,
            )

    @staticmethod
    def _prepare() -> None:
        kernel.die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        lines = [line.strip(" =") for line in self.said.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to it alone, or to its process group as a terminal does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    @property
    def traceback(self) -> str | None:
        """The first traceback of Python's that it shows, if it does."""
        found = [place for word in TRACEBACKS if (place := self.said.find(word)) >= 0]
        return self.said[min(found) :][:1500] if found else None

    def kill(self) -> None:
        """End it whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
