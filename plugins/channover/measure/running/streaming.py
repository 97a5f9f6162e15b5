"""Streams that are played under measurement: when they start, where they stall, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from channover.errors import UsageError
from channover.measure.activity import End
from channover.measure.running.phased import Ends, Phased, Phasing
from channover.network.programs.applications import rtp
from channover.network.programs.applications.media import Media
from channover.network.programs.applications.player import PORT, StreamPlayed, play, served
from channover.network.programs.applications.rtp import RtpSeen
from channover.network.programs.iperf import Transport
from channover.network.programs.numbered import SLICE
from channover.network.tunnel import Tunnel
from channover.verdict.measured import Measured

DELAY = 0.5
"""Seconds for which a receiver of RTP waits for a packet: what comes later is as good as lost."""
UNDER_WAY = "what is under way"
PROGRAMS = 0.5
"""What of a processor it takes to make packets of media, and to take them."""
LATE = 4.0
"""How many times as long as it lasts a stream may take to come."""


@dataclass(frozen=True)
class Played:
    """A stream that was played. ``moving`` has what its hosts and their NICs showed, in the phase ``playing``."""

    media: Media
    moving: Phased

    @property
    def seen(self) -> StreamPlayed:
        """How it played. Raises UsageError where nothing was played."""
        came = self.moving.came
        if not isinstance(came, StreamPlayed):
            raise UsageError(f"{self.moving.name}: nothing was played")
        return came

    def _value(self, name: str, number: float, unit: str = "1", *, harmful: bool = False) -> Measured:
        return self.moving.value(f"{name} over {self.moving.ends.transport.value}", number, unit, harmful=harmful)

    @property
    def segments(self) -> Measured:
        """Return how many segments came."""
        return self._value("segments played", self.seen.segments)

    @property
    def start(self) -> Measured:
        """Return how long (s) after the first segment was asked for the stream began to play."""
        return self._value("start", self.seen.playback.start, "s", harmful=True)

    @property
    def stalls(self) -> Measured:
        """Return how often the player had to wait for the next segment."""
        return self._value("stalls", len(self.seen.playback.stalls), harmful=True)

    @property
    def stalled(self) -> Measured:
        """Return for how long (s) nothing played, in all."""
        return self._value("stalled", self.seen.playback.stalled, "s", harmful=True)


@dataclass(frozen=True)
class Sent:
    """A stream that was sent by RTP. ``moving`` has what its hosts and their NICs showed, in the phase ``sending``."""

    media: Media
    moving: Phased

    @property
    def seen(self) -> RtpSeen:
        """What came of its packets. Raises UsageError where nothing was sent."""
        came = self.moving.came
        if not isinstance(came, RtpSeen):
            raise UsageError(f"{self.moving.name}: nothing was sent by RTP")
        return came

    @property
    def lost(self) -> Measured:
        """Return the share of its packets that never came."""
        share = self.seen.lost / max(self.seen.expected, 1)
        return self.moving.value(f"share of packets lost, {self.moving.name}", share, harmful=True)

    @property
    def late(self) -> Measured:
        """Return the share of the stream that had not come when its last packet was DELAY seconds old: lost, or late."""
        end = self.moving.span(UNDER_WAY).end.receiver
        came = sum(self.seen.slices[: round(end / SLICE)])
        share = 1 - came / (self.media.rtp_rate * self.media.seconds / 8)
        return self.moving.value(f"share that did not come in time, {self.moving.name}", share, harmful=True)


@dataclass(frozen=True)
class Streaming:
    """What a test plays streams with: ``streaming.play(server, client, media, mptcp=True)``."""

    phasing: Phasing
    shown: Callable[[Sequence[Played]], None] = field(repr=False)

    def play(self, client: End, server: End, media: Media, *, mptcp: bool, live: bool = False) -> Played:
        """Play a stream by HTTP (HLS) to its end: made before, or ``live`` while it plays. Raises TestbedError."""
        transport = Transport.MPTCP if mptcp else Transport.TCP
        kind = "live" if live else "on demand"
        name = f"HLS {kind} over {transport.value}, {server.host.name}→{client.host.name}"
        ends = Ends(client, server, transport, frozenset({PORT}), upload=False)
        with (
            served(server.host, str(server.address.ip), media, live=live, mptcp=mptcp) as serving,
            self.phasing(name, play(client.host, serving, media, live=live), ends) as moving,
        ):
            moving.phase_to_the_end("playing", LATE * media.seconds + 5.0)
        return Played(media, moving)

    def send(self, tunnel: Tunnel, media: Media, *, mptcp: bool) -> Sent:
        """Send a stream by RTP through a tunnel, carried by MPTCP or not, from client to server. Raises TestbedError."""
        client, server = tunnel.ends
        name = f"RTP through {tunnel.kind} over {'mptcp' if mptcp else 'tcp'}, {client.host.name}→{server.host.name}"
        ends = Ends(client, server, Transport.UDP, frozenset({rtp.PORT}))
        sending = rtp.stream(client.host, server.host, str(server.address.ip), media)
        with self.phasing(name, sending, ends, offered=media.rtp_rate, programs=PROGRAMS) as moving:
            moving.phase_to_the_end("sending", LATE * media.seconds + 5.0)
            moving.phase(UNDER_WAY, DELAY)
        return Sent(media, moving)

    def show(self, *streams: Played) -> None:
        """Attach a plot of the buffers of streams over time to the test's report, all in one."""
        self.shown(streams)
