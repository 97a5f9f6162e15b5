"""A stream by HTTP that is played: nginx serves its segments, a player follows its playlist (RFC 8216)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, python_program
from channover.network.programs.applications import media as making
from channover.network.programs.applications import player_program
from channover.network.programs.applications.media import PLAYLIST, Media
from channover.network.programs.applications.playback import FIRST, Playback, played
from channover.network.programs.file_servers import PORTS, FileProtocol, FileServer, serve
from channover.network.programs.numbered import READY, SLICE, facts
from channover.network.tunnel import MPTCPIZE

PORT = PORTS[FileProtocol.HTTP]
_PROGRAM = Path(player_program.__file__)


@dataclass(frozen=True)
class StreamPlayed:
    """What became of a stream: how it played, its ``segments`` that came, whether it came to its end, or why not."""

    playback: Playback
    segments: int
    complete: bool
    error: str = ""


@dataclass(eq=False)
class Playing:
    """A player under way."""

    client: Host
    server: FileServer
    process: Process
    maker: Process | None = None
    """What makes a live stream."""

    @property
    def now(self) -> float:
        """The player's clock, in seconds since its start, to a slice."""
        return sum("slice" in one for one in facts(self.process.lines)) * SLICE

    @property
    def over(self) -> bool:
        """Whether all has come, or the player gave up."""
        return self.process.poll() is not None

    @property
    def programs(self) -> Sequence[tuple[Host, str, Process]]:
        """The programs that it rests on, each with its host and what it is."""
        found = [(self.client, "the player", self.process), (self.server.host, "nginx", self.server.process)]
        return [*found, *([(self.server.host, "ffmpeg", self.maker)] if self.maker else [])]

    def end(self) -> StreamPlayed:
        """Break it off where it still runs, and return how it played. Raises TestbedError where the player tells nothing."""
        if not self.over:
            self.process.stop()
        told = facts(self.process.lines)
        last = next((one for one in told if "complete" in one), None)
        if last is None:
            raise TestbedError(f"{self.client.name}: the player tells nothing: {self.process.stderr.strip()[-300:]}")
        came = [one for one in told if "segment" in one]
        playback = played([one["at"] for one in came], [one["duration"] for one in came])
        return StreamPlayed(playback, len(came), bool(last["complete"]), str(last["error"]))


@contextmanager
def served(host: Host, address: str, media: Media, *, live: bool, mptcp: bool) -> Iterator[FileServer]:
    """Have nginx serve a stream's playlist for the length of a block, on demand made before. Raises TestbedError."""
    with serve(host, FileProtocol.HTTP, address, 0, mptcp=mptcp) as server:
        if not live:
            making.on_demand(host, _folder(server), media)
        try:
            yield server
        finally:
            host.run("sh", "-c", 'rm -f "$1"/*.ts "$1"/*.m3u8*', "sh", _folder(server), check=False, quiet=True)


@contextmanager
def play(client: Host, server: FileServer, media: Media, *, live: bool) -> Iterator[Playing]:
    """Play a server's stream for the length of a block, by MPTCP where that is what it speaks. Raises TestbedError."""
    with ExitStack() as stack:
        maker = making.live(server.host, _folder(server), media) if live else None
        if maker is not None:
            stack.callback(_end, maker)
        url = server.url.rpartition("/")[0] + f"/{PLAYLIST}"
        words = (*python_program(client, _PROGRAM), "play", url, str(FIRST))
        process = client.spawn(*(MPTCPIZE if server.mptcp else ()), *words)
        stack.callback(_end, process)
        process.wait_for('"ready"', READY)
        yield Playing(client, server, process, maker)


def _folder(server: FileServer) -> str:
    return server.path.rpartition("/")[0]


def _end(process: Process) -> None:
    with suppress(TestbedError):
        process.stop(1.0)
