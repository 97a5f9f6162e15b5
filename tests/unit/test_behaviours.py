"""The catalogue of behaviours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.model.behaviours_page import page
from channover.model.catalogue import CATALOGUE, behaviour
from channover.targets.capabilities import CAPABILITIES

IDS = [
    *(f"LAG-{number}" for number in range(1, 11)),
    *(f"MP-{number}" for number in range(1, 12)),
    *(f"TUN-{number}" for number in range(1, 8)),
    *(f"APP-{number}" for number in range(1, 4)),
]


def test_catalogue_holds_every_behaviour_in_order() -> None:
    assert list(CATALOGUE) == IDS
    assert all(identifier == entry.id for identifier, entry in CATALOGUE.items())


@pytest.mark.parametrize("identifier", IDS)
def test_entry_is_complete(identifier: str) -> None:
    entry = behaviour(identifier)
    assert entry.statement and entry.source and entry.epic and entry.feature and entry.story
    assert entry.article is None or 10e6 < entry.article < 1e9, "the article's links are 100 Mbit/s: this is bit/s"
    assert entry.article is None or entry.article_note
    assert set(entry.needs) <= {*CAPABILITIES, "lag"}
    assert len(set(entry.needs)) == len(entry.needs) > 0


def test_stories_are_told_once() -> None:
    places = [(entry.epic, entry.feature, entry.story) for entry in CATALOGUE.values()]
    assert len(set(places)) == len(places)


def test_article_figures() -> None:
    figures = {key: entry.article for key, entry in CATALOGUE.items() if entry.article}
    assert figures == {
        "LAG-1": 94.3e6,
        "LAG-2": 95.7e6,
        "LAG-5": 94.2e6,
        "LAG-7": 200e6,
        "MP-1": 279e6,
        "MP-4": 93.0e6,
        "TUN-5": 156e6,
        "TUN-6": 156e6,
    }


def test_a_figure_stands_only_beside_what_was_measured_as_it_was() -> None:
    assert behaviour("MP-1").measured_with(3, 1e8).article == 279e6
    assert behaviour("MP-1").measured_with(2, 1e8).article is None
    assert behaviour("MP-1").measured_with(3, 1e9).article is None
    assert behaviour("LAG-1").measured_with(2, 1e8) is behaviour("LAG-1")


def test_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOGUE["LAG-1"] = behaviour("LAG-2")  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        behaviour("LAG-1").statement = ""  # type: ignore[misc]


@pytest.mark.parametrize(("wrong", "near"), [("lag-1", "LAG-1"), ("LAG_3", "LAG-3"), ("TUNN-4", "TUN-4")])
def test_unknown_id_names_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no behaviour '{wrong}'.*did you mean .*{near}"):
        behaviour(wrong)


def test_unknown_id_far_from_all_lists_them() -> None:
    with pytest.raises(UsageError, match=r"known are LAG-1, .*APP-3"):
        behaviour("quux")


def test_the_page_of_the_behaviours_is_the_catalogue() -> None:
    path = Path(__file__).parents[2] / "docs/behaviours.md"
    assert path.read_text("utf-8") == page(), "run: python -m channover.model.behaviours_page > docs/behaviours.md"
