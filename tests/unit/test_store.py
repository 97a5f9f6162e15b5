"""Names and folders of what tests leave: safe on every file system, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channover.hosts.host import middle_left_out
from channover.report.store import BoundedFolder, claimed_folder, safe_name


@given(st.text(), st.text())
def test_names_are_safe_and_tell_apart(one: str, other: str) -> None:
    name = safe_name(one)
    assert 0 < len(name.encode()) <= 100 and not name.startswith((".", "-")) and not set(name) & set('/\\:*?"<>| \0\n')
    assert safe_name(one) == name
    if one != other:
        assert safe_name(other) != name


def test_a_plain_name_stays(tmp_path: Path) -> None:
    assert safe_name("left") == "left" and safe_name("test_x", "a/test_x").startswith("test_x-")
    first, second = (claimed_folder(tmp_path / "artifacts", "left", 2) for _ in range(2))
    assert first == tmp_path / "artifacts/left" and second == tmp_path / "artifacts/left-2"
    assert claimed_folder(tmp_path / "artifacts", "left", 2) is None


def test_a_folder_takes_no_more_than_it_has_room_for(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path, 10)
    folder.put("left/a.txt", "12345678")
    folder.put("left/b.pcap", b"123")
    folder.put("left/c.txt", "é")
    assert folder.left_out == ["left/b.pcap"] and folder.room == 0
    assert {file.name for file in (tmp_path / "left").iterdir()} == {"a.txt", "c.txt"}


@pytest.mark.parametrize("length", [0, 10, 11, 5000])
def test_of_a_long_text_the_ends_are_kept(length: int) -> None:
    text = "".join(chr(65 + number % 26) for number in range(length))
    kept = middle_left_out(text, 10)
    assert (
        kept == text if length <= 10 else kept.startswith(text[:5]) and kept.endswith(text[-5:]) and "left out" in kept
    )
