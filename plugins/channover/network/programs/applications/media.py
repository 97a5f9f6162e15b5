"""Made-up pictures as a stream of a given rate: ffmpeg's test picture, padded with null packets (ISO/IEC 13818-1, 2.4.1).

A picture that is cheap to encode makes a stream of any rate so, and what is padded crosses the wire like any other byte.
Rates are bit/s, times seconds. Sources: ``ffmpeg-formats(1)``, hls and mpegts (muxrate); RFC 8216.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from channover.hosts.host import Host, Process
from channover.network.programs.applications.playback import Playback, evenly
from channover.text import authority

PICTURES = 24
"""A second."""
SEGMENT = 0.5
"""Seconds of a segment, at most."""
LARGEST = 512_000_000
"""Bytes that all segments may have: they lie in memory."""
WINDOW = 12
"""Segments that a live playlist names; those before are deleted."""
PLAYLIST = "stream.m3u8"
RTP_PACKET, RTP_PAYLOAD = 1328, 1316
"""Bytes of an RTP packet, and of the seven MPEG-TS packets in it (RFC 2250, 2)."""
PACE = 1.03
"""How much faster than its rate a stream is sent that is paced: with RTP's headers, and some to spare."""
_PICTURE_RATE = 2_000_000


@dataclass(frozen=True)
class Media:
    """A stream of a ``rate``, in ``number`` segments."""

    rate: float
    number: int = 10

    @property
    def pictures(self) -> int:
        """Of a segment."""
        most = LARGEST * 8 / self.rate / self.number
        return max(int(min(SEGMENT, most) * PICTURES), 1)

    @property
    def segment(self) -> float:
        """How long a segment lasts."""
        return self.pictures / PICTURES

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.number * self.segment

    @property
    def size(self) -> int:
        """Bytes of it."""
        return int(self.rate * self.seconds / 8)

    def at(self, goodput: float) -> Playback:
        """Return how it plays where it comes with a goodput (bit/s), and nothing else costs time."""
        return evenly(self.number, self.segment, self.segment * self.rate / goodput)

    @property
    def rtp_rate(self) -> float:
        """The rate of its RTP packets, as UDP's payload."""
        return self.rate * RTP_PACKET / RTP_PAYLOAD

    @property
    def _source(self) -> list[str]:
        picture = f"testsrc=size=640x360:rate={PICTURES}"
        rate = min(_PICTURE_RATE, self.rate / 4)
        coded = ["-c:v", "mpeg2video", "-b:v", f"{rate:.0f}", "-g", str(self.pictures), "-sc_threshold", "0"]
        return ["-f", "lavfi", "-i", picture, "-t", f"{self.seconds:.6f}", *coded]

    def _hls(self, folder: str, *words: str) -> list[str]:
        options = ["-f", "hls", "-hls_time", f"{self.segment:.6f}", "-hls_segment_options", f"muxrate={self.rate:.0f}"]
        return [*options, *words, "-hls_segment_filename", f"{folder}/%d.ts", f"{folder}/{PLAYLIST}"]


FFMPEG: Sequence[str] = ("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "warning", "-y")


def on_demand(host: Host, folder: str, media: Media) -> None:
    """Make a stream's segments and their playlist in a folder of a host. Raises TestbedError."""
    words = media._hls(folder, "-hls_list_size", "0", "-hls_playlist_type", "vod")
    host.run(*FFMPEG, *media._source, *words, timeout=60.0)


def live(host: Host, folder: str, media: Media) -> Process:
    """Start to make a stream as fast as it plays: the last segments are there, older ones are deleted. Raises TestbedError."""
    flags = "temp_file+delete_segments"
    words = media._hls(folder, "-hls_list_size", str(WINDOW), "-hls_flags", flags)
    return host.spawn(*FFMPEG, "-re", *media._source, *words)


def by_rtp(host: Host, media: Media, address: str, port: int) -> Process:
    """Start to send a stream to an address by RTP, as fast as it plays. Raises TestbedError.

    What a picture brings is spread over its time: at once it would be more than a device's queue holds.
    """
    pace = f"bitrate={PACE * media.rate:.0f}&burst_bits={8 * RTP_PACKET}"
    target = f"udp://{authority(address, port)}?pkt_size={RTP_PACKET}&{pace}"
    muxed = ["-f", "rtp_mpegts", "-mpegts_muxer_options", f"muxrate={media.rate:.0f}"]
    return host.spawn(*FFMPEG, "-re", *media._source, *muxed, target)
