"""The live line: what it says in the room that there is, and how it is painted."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len

from channover.pytest_plugin.live.paint import LiveLine, progress
from channover.verdict.expectation import at_least, near


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


WORDS = progress(
    ["LAG-1", "test_one_flow"], "tcp left→right", 94.1e6, near(94.15e6, 0.01), {"a": 0.996, "b": 0.004}, 1.24, 8.76
)


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (
            200,
            "LAG-1 test_one_flow  tcp left→right  94.1 Mbit/s of 94.2 ±0.9  a 100% b 0%  1.2 s, at most 8.8 s more",
        ),
        (90, "LAG-1  tcp left→right  94.1 Mbit/s of 94.2 ±0.9  a 100% b 0%  1.2 s, at most 8.8 s more"),
        (79, "LAG-1  tcp left→right  94.1 Mbit/s of 94.2 ±0.9  a 100% b 0%  ≤ 9 s"),
        (54, "LAG-1  94.1 Mbit/s of 94.2 ±0.9  a 100% b 0%  ≤ 9 s"),
        (46, "LAG-1  94.1 (94.2 ±0.9)  a 100% b 0%  ≤ 9 s"),
        (32, "LAG-1  94.1 (94.2 ±0.9)  ≤ 9 s"),
        (20, "LAG-1  tcp left→rig…"),
    ],
)
def test_it_says_as_much_as_there_is_room_for(room: int, shown: str) -> None:
    assert LiveLine._cut(WORDS, room) == shown


def test_what_has_no_rate_yet_is_told_with_its_time_and_many_nics_by_their_number() -> None:
    waiting = progress(["MP-1", "test_x"], "copy by HTTP", None, None, {}, 0.5, 59.5)
    assert waiting == [
        "MP-1 test_x  copy by HTTP  0.5 s, at most 59.5 s more",
        "MP-1  copy by HTTP  0.5 s, at most 59.5 s more",
        "MP-1  copy by HTTP  ≤ 60 s",
    ]
    turn = progress(["MP-1"], "turn to measure, after process 7 (pytest), since 12:00:00", None, None, {}, 3, 3597)
    assert LiveLine._cut(turn, 40) == "MP-1  turn to measure  ≤ 3597 s"
    shares = {name: 1 / 6 for name in "abcdef"}
    assert "  a 17% b 17% c 17% d 17% +2  " in progress(["x"], "y", 1e8, at_least(1e8), shares, 1, 1)[0]


def test_live_line_overwrites_itself_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    now = [0.0]
    file = Terminal()
    with LiveLine(file, clock=lambda: now[0]) as line:
        for tick in range(100):
            now[0] = tick / 100
            line.update(progress(["LAG-1"], "tcp left→right", 94.1e6, None, {}, now[0], 10 - now[0]))
    painted = re.split(r"\x1b\[\d+D", file.getvalue())
    assert 9 <= len(painted) - 1 <= 10
    assert painted[0] == "LAG-1  tcp left→right  94.1 Mbit/s  0.0 s, at most 10.0 s more\x1b[K"
    cells = cell_len(painted[0].removesuffix("\x1b[K"))
    assert file.getvalue().startswith(f"{painted[0]}\x1b[{cells}D"), "the cursor goes back"
    assert painted[-1] == "\x1b[K", "it clears itself"
    assert "\n" not in file.getvalue()


def test_live_line_keeps_to_one_line_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    LiveLine(file, column=lambda: 30).update(["吞吐量" * 40 + "\nsecond"])
    shown, _, rest = file.getvalue().partition("\x1b[K")
    assert cell_len(shown) < 50 and shown.endswith("…") and rest == f"\x1b[{cell_len(shown)}D"
    full = Terminal()
    LiveLine(full, column=lambda: 75).update(["no room"])
    assert full.getvalue() == ""


def test_live_line_is_silent_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    log, dumb = io.StringIO(), Terminal()
    with LiveLine(log) as line:
        line.update(["x"])
    monkeypatch.setenv("TERM", "dumb")
    with LiveLine(dumb) as line:
        line.update(["x"])
    assert log.getvalue() == dumb.getvalue() == ""


def test_live_line_survives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    with LiveLine(file) as line:
        line.update(["x"])
        file.close()
        line.clear()
        line.update(["y"])
    LiveLine(file).update(["closed from the start"])
