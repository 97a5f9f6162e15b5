"""What ``channover new`` writes, and refuses to write over."""

from __future__ import annotations

from pathlib import Path

import pytest

from channover.cli.main import main
from channover.model.catalogue import PARTS
from tests.support.commands import command


def test_an_inventory_that_was_written_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("new", "inventory", "lab.yaml") == 0
    assert command("inventory", "validate", "lab.yaml") == 0
    assert "lab.yaml: valid: lab bench (2 hosts, 2 cables)" in capsys.readouterr().out
    (tmp_path / "lab.yaml").write_text("mine")
    assert command("new", "inventory", "lab.yaml") == 2 and (tmp_path / "lab.yaml").read_text() == "mine"
    assert capsys.readouterr().err.startswith("channover: lab.yaml is there already, and is not written over")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("suite", "mine", "--behaviour", "MP-99"), "MP-99"),
        (("suite", "mine/bonds.py"), "bonds.py: pytest finds files called test_….py"),
        (("behaviour", "acme"), "'acme': an id is a part in capitals"),
        (("behaviour", "LAG-90"), "the part LAG is channover's own"),
        (("behaviour", "ACME-1", "--statement", 'a "quoted" one'), "without double quotes"),
        (("inventory", "/dev/null/lab.yaml"), "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_begun_is_one_line_and_leaves_nothing(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("new", *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", [*PARTS])
def test_a_suite_of_each_part_is_python(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("new", "suite", "suites/mine", "--behaviour", f"{part}-1") == 0
    text = (tmp_path / "suites" / "mine" / "test_mine.py").read_text()
    compile(text, "test_mine.py", "exec")
    assert f'@behaviour("{part}-1")' in text and "$" not in text


def test_the_help_of_each_says_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    for what, following in (
        ("suite", "pytest mine --target=netns"),
        ("behaviour", "pip install -e acme_behaviours"),
        ("inventory", "channover inventory validate lab.yaml"),
    ):
        with pytest.raises(SystemExit):
            main(["new", what, "--help"])
        assert following in capsys.readouterr().out
