"""The program that plays: how it reads a playlist of HLS and follows it, and what it counts of RTP."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from channover.network.programs.applications import player_program
from channover.network.programs.applications.media import LARGEST, SEGMENT, Media
from channover.network.programs.applications.player_program import playlist

LIVE = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:1
#EXT-X-MEDIA-SEQUENCE:3
#EXTINF:0.500000,
3.ts
#EXTINF:0.500000,
4.ts
"""


def test_a_live_playlist_has_its_first_number_and_goes_on_until_its_end_is_said() -> None:
    assert playlist(LIVE) == (3, [(0.5, "3.ts"), (0.5, "4.ts")], False)
    assert playlist(LIVE + "#EXT-X-ENDLIST\n")[2]
    assert playlist("") == (0, [], False)


def test_a_stream_of_any_rate_fits_into_memory_and_lasts_whole_pictures() -> None:
    usual, fast, slow = (Media(rate) for rate in (1.35e8, 1.35e9, 1.35e6))
    assert usual.segment == slow.segment == SEGMENT and usual.size == 84_375_000
    assert fast.size <= LARGEST and 0.2 < fast.segment < SEGMENT and fast.segment * 24 == fast.pictures


def test_how_often_a_stream_stalls_at_one_link_follows_from_its_rate_alone() -> None:
    for rate in (1e7, 1e8, 1e9):
        media = Media(1.35 * rate)
        computed = media.at(0.9415 * rate)
        assert len(computed.stalls) == 3
        assert media.at(1.8 * rate).stalls == ()


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-S", player_program.__file__, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


def told(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, _ = process.communicate(timeout=10)
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/stream.m3u8"
    server.shutdown()
    server.server_close()


def test_a_player_takes_every_segment_in_order_and_says_when_it_was_there(tmp_path: Path, address: str) -> None:
    for number in (3, 4):
        (tmp_path / f"{number}.ts").write_bytes(bytes(1000 * number))
    (tmp_path / "stream.m3u8").write_text(LIVE + "#EXT-X-ENDLIST\n")
    with started("play", address, "3") as process:
        seen = told(process)
    came = [one for one in seen if "segment" in one]
    assert [(one["segment"], one["duration"], one["bytes"]) for one in came] == [(3, 0.5, 3000), (4, 0.5, 4000)]
    assert 0 < came[0]["at"] < came[1]["at"] and seen[-1] == {"complete": True, "error": ""}


def test_a_segment_that_is_gone_ends_a_player_which_says_so(tmp_path: Path, address: str) -> None:
    (tmp_path / "3.ts").write_bytes(bytes(1000))
    (tmp_path / "stream.m3u8").write_text(LIVE + "#EXT-X-ENDLIST\n")
    with started("play", address, "3") as process:
        seen = told(process)
    assert not seen[-1]["complete"] and seen[-1]["error"].startswith("segment 4: 404")


def test_lost_packets_are_those_that_the_numbers_leave_out_whatever_else_comes() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    numbers = [65533, 65534, 0, 1, 5, 4, 6]  # 65535, 2 and 3 are lost, and the numbers begin anew
    with started("take-rtp", "127.0.0.1", str(port)) as process:
        assert process.stdout is not None and "ready" in process.stdout.readline()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in numbers:
                sender.sendto(struct.pack("!BBHII", 0x80, 33, number, 0, 7) + bytes(188), ("127.0.0.1", port))
            sender.sendto(struct.pack("!BBHII", 0x80, 200, 40000, 0, 7) + bytes(16), ("127.0.0.1", port))  # RTCP
            sender.sendto(b"other", ("127.0.0.1", port))
        while "slice" not in (line := process.stdout.readline()) or not json.loads(line)["slice"]:
            pass
        process.terminate()
        seen = told(process)
    assert seen[-1] == {"received": 7, "expected": 10, "lost": 3, "bytes": 7 * 200}
