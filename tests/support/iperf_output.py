"""What iperf3 printed: files, and processes that have ended with it."""

from __future__ import annotations

import re
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "iperf"


def told(name: str) -> str:
    return (DATA / name).read_text()


class Ended:
    """A process that has ended, with what it said."""

    argv = ("iperf3",)
    pid = 1

    def __init__(self, stdout: str, stderr: str = "", code: int = 0) -> None:
        self.stdout, self.stderr, self.code = stdout, stderr, code
        self.signals: list[int] = []

    @property
    def lines(self) -> list[str]:
        return self.stdout.split("\n")[:-1]

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout: float) -> int:  # noqa: ARG002
        return self.code

    def wait_for(self, pattern: str, timeout: float) -> re.Match[str]:
        raise NotImplementedError

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def stop(self, timeout: float = 5.0) -> int:  # noqa: ARG002
        return self.code
