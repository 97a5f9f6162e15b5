"""What sipp's statistics tell of calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from channover.network.programs.applications.sip import calls_a_second, parse_statistics

TWENTY = (Path(__file__).parents[1] / "data" / "sipp" / "twenty-calls.csv").read_text()
"""Of sipp 3.6.1: twenty calls, ten a second, of 0.3 s each, all kept; a line every half a second."""


def test_the_last_line_has_the_sum_and_each_line_what_came_since_the_one_before() -> None:
    seen = parse_statistics(TWENTY)
    assert (seen.placed, seen.kept, seen.failed) == (20, 20, 0)
    assert [one.placed for one in seen.intervals] == [0, 5, 5, 5, 5, 0, 0]
    assert sum(one.kept for one in seen.intervals) == 20
    times = [one.at for one in seen.intervals]
    assert times == sorted(times)
    assert times[1:3] == pytest.approx([0.505, 1.008], abs=1e-3)


def test_calls_a_second_are_those_of_half_a_second_and_never_of_less() -> None:
    rates = calls_a_second(parse_statistics(TWENTY).intervals)
    assert [round(placed) for _, placed, _ in rates] == [10, 10, 10, 10, 0]
    assert max(kept for _, _, kept in rates) < 13


def test_a_last_line_that_is_torn_does_not_count() -> None:
    lines = TWENTY.splitlines()
    torn = "\n".join([*lines[:4], lines[4][:100]])
    assert parse_statistics(torn).placed == 10


@pytest.mark.parametrize("text", ["", "StartTime;FailedCall(C)\n", TWENTY.splitlines()[0], "a;FailedCall(C)\n1;2\n"])
def test_what_has_no_line_of_statistics_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="statistics"):
        parse_statistics(text)
