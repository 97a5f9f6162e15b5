"""A stream sent as it plays, by RTP over UDP: ffmpeg sends MPEG-TS in packets with numbers (RFC 2250, RFC 3550)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, python_program
from channover.network.programs.applications import media as making
from channover.network.programs.applications import player_program
from channover.network.programs.applications.media import Media
from channover.network.programs.numbered import READY, SLICE, facts

PORT = 5910
"""UDP port of the receiver, of RTP and of what its control protocol says (RFC 5761)."""
_PROGRAM = Path(player_program.__file__)


@dataclass(frozen=True)
class RtpSeen:
    """What became of a stream's packets: how many came, of how many by their numbers; bytes in slices of SLICE seconds."""

    received: int
    expected: int
    slices: Sequence[int]

    @property
    def lost(self) -> int:
        """How many never came."""
        return self.expected - self.received


@dataclass(eq=False)
class RtpStream:
    """A stream under way."""

    hosts: tuple[Host, Host]
    sender: Process
    receiver: Process

    @property
    def now(self) -> float:
        """The receiver's clock, in seconds since its start, to a slice."""
        return len(self.slices) * SLICE

    @property
    def slices(self) -> list[int]:
        """Bytes that came in each slice of SLICE seconds so far."""
        return [int(one["slice"]) for one in facts(self.receiver.lines) if "slice" in one]

    @property
    def over(self) -> bool:
        """Whether all has been sent."""
        return self.sender.poll() is not None

    @property
    def programs(self) -> Sequence[tuple[Host, str, Process]]:
        """The programs that it rests on, each with its host and what it is."""
        return [(self.hosts[0], "ffmpeg", self.sender), (self.hosts[1], "what receives", self.receiver)]

    def end(self) -> RtpSeen:
        """Break it off where it still is sent, and return what came. Raises TestbedError where the receiver tells nothing."""
        if not self.over:
            self.sender.stop()
        self.receiver.stop()
        found = next((one for one in facts(self.receiver.lines) if "expected" in one), None)
        if found is None:
            words = self.receiver.stderr.strip()[-300:]
            raise TestbedError(f"{self.hosts[1].name}: who receives RTP tells nothing: {words}")
        return RtpSeen(found["received"], found["expected"], self.slices)


@contextmanager
def stream(sender: Host, receiver: Host, address: str, media: Media) -> Iterator[RtpStream]:
    """Send a stream to an address for the length of a block, as fast as it plays. Raises TestbedError."""
    with ExitStack() as stack:
        taking = receiver.spawn(*python_program(receiver, _PROGRAM), "take-rtp", address, str(PORT))
        stack.callback(_end, taking)
        taking.wait_for('"ready"', READY)
        giving = making.by_rtp(sender, media, address, PORT)
        stack.callback(_end, giving)
        yield RtpStream((sender, receiver), giving, taking)


def _end(process: Process) -> None:
    with suppress(TestbedError):
        process.stop(1.0)
