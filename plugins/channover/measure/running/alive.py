"""Whether the programs that something rests on still run, for the diagnosis."""

from __future__ import annotations

from channover.errors import TestbedError
from channover.hosts.host import Host, Process
from channover.verdict.causes.case import ProgramView


def program(host: Host, name: str, process: Process) -> ProgramView:
    """Return a program as it is now: running, stopped (``proc(5)``, stat: T), or ended, with its last words."""
    words = " ".join((process.stderr or process.stdout).split())[-200:]
    if (code := process.poll()) is not None:
        return ProgramView(host.name, name, f"ended with code {code}", words)
    try:
        state = host.read(f"/proc/{process.pid}/stat").rpartition(") ")[2].split()[0]
    except (TestbedError, IndexError):
        state = "R"
    return ProgramView(host.name, name, "stopped" if state in ("T", "t") else "running", words)
