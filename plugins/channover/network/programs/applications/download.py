"""A download by HTTP from nginx to curl, whose bytes somebody takes note of: when they came, and whether they are those sent.

curl writes to a pipe, at whose other end :mod:`channover.network.programs.numbered_program` stands for the application that
waits for the file. The file's blocks are numbered, so that one that is lost, or comes twice, shows in its SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, python_program
from channover.network.programs import numbered_program
from channover.network.programs.file_servers import PORTS, FileProtocol, FileServer, serve
from channover.network.programs.numbered import READY, SLICE, StreamSeen, facts
from channover.network.tunnel import MPTCPIZE

PORT = PORTS[FileProtocol.HTTP]
HASHING = 60.0
"""Seconds that a host may take to number a file's blocks and to hash it."""
_PROGRAM = Path(numbered_program.__file__)


@dataclass(eq=False)
class Download:
    """A download under way of a file whose SHA-256 is ``digest``."""

    client: Host
    server: FileServer
    process: Process
    digest: str

    @property
    def slices(self) -> list[int]:
        """Bytes that the application got in each slice of SLICE seconds so far."""
        return [int(one["slice"]) for one in facts(self.process.lines) if "slice" in one]

    @property
    def now(self) -> float:
        """The application's clock, in seconds since its start, to a slice."""
        return len(self.slices) * SLICE

    @property
    def over(self) -> bool:
        """Whether the file is there, or curl gave up."""
        return self.process.poll() is not None

    @property
    def programs(self) -> Sequence[tuple[Host, str, Process]]:
        """The programs that it rests on, each with its host and what it is."""
        return [(self.client, "curl", self.process), (self.server.host, "nginx", self.server.process)]

    def end(self) -> StreamSeen:
        """Break it off where it still runs, and return what came. Raises TestbedError where nobody took note of it."""
        if self.process.poll() is None:
            self.process.stop()
        found = next((one for one in facts(self.process.lines) if "sha256" in one), None)
        if found is None:
            raise TestbedError(
                f"{self.client.name}: nobody took note of the download: {self.process.stderr.strip()[-300:]}"
            )
        complete = bool(found["complete"]) and found["bytes"] == self.server.size
        gaps = [(float(start), float(seconds)) for start, seconds in found["gaps"]]
        intact = complete and found["sha256"] == self.digest
        return StreamSeen(
            self.server.size, found["bytes"], intact, complete, gaps, self.slices, self.process.stderr.strip()
        )


@contextmanager
def served(host: Host, address: str, size: int, *, mptcp: bool) -> Iterator[tuple[FileServer, str]]:
    """Serve a file of ``size`` bytes by nginx for the length of a block; gives its SHA-256 too. Raises TestbedError."""
    with serve(host, FileProtocol.HTTP, address, size, mptcp=mptcp) as server:
        numbered = host.run(*python_program(host, _PROGRAM), "fill-file", server.path, timeout=HASHING)
        yield server, next((one["sha256"] for one in facts(numbered.stdout.splitlines()) if "sha256" in one), "")


@contextmanager
def download(client: Host, server: FileServer, digest: str) -> Iterator[Download]:
    """Download a server's file for the length of a block, by MPTCP where that is what it speaks. Raises TestbedError."""
    curl = ("curl", "-q", "-sS", "-N", "--noproxy", "*", "--fail", "-o", "-", server.url)
    words = (*(MPTCPIZE if server.mptcp else ()), *curl)
    process = client.spawn(*python_program(client, _PROGRAM), "take-output", *words)
    try:
        process.wait_for('"ready"', READY)
        yield Download(client, server, process, digest)
    finally:
        with suppress(TestbedError):
            process.stop(1.0)
