"""The behaviour that a test states, read from its marks, and what is wrong with a mark that names none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from channover.errors import UsageError

if TYPE_CHECKING:
    from channover.model.catalogue import Behaviour


def declare(config: pytest.Config) -> None:
    """Tell pytest of the marks."""
    config.addinivalue_line("markers", "behaviour(id): the behaviour of channover's catalogue that a test states")
    config.addinivalue_line("markers", "topology(topology): the topology that a test asks for (default: a pair)")
    config.addinivalue_line("markers", "variant: one more variant of a behaviour, run with --variants only")
    config.addinivalue_line(
        "markers", "families: a test about families themselves, or IPv4 alone: left out with --family 6"
    )
    config.addinivalue_line("markers", "hash_policy(policy): the transmit hash policy of a test's LAGs")


def stated(item: pytest.Item) -> Behaviour | None:
    """Return the behaviour that a test states; other suites may have a marker of the same name for ends of their own."""
    found = list(item.iter_markers("behaviour"))
    if len(found) != 1 or not _good(found[0]):
        return None
    from channover.model.catalogue import CATALOGUE

    return CATALOGUE[found[0].args[0]]


def takes_part(item: pytest.Item) -> bool:
    """Say whether a test is one of the run's results: it states a behaviour, or takes a fixture whose values are compared."""
    return stated(item) is not None or "channover_record" in getattr(item, "fixturenames", ())


def marked(item: pytest.Item) -> bool:
    """Say whether a test has a mark that may be channover's."""
    return item.get_closest_marker("behaviour") is not None


def _good(mark: pytest.Mark) -> bool:
    if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
        return False
    from channover.model.catalogue import CATALOGUE

    return mark.args[0] in CATALOGUE


def wrong(items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
    """Return the tests whose marks name no behaviour, several, or one whose needs nobody knows, each with what is wrong.

    A mark is channover's where any test that was collected states a behaviour of the catalogue, where it names something
    like one, or where its test uses what channover offers; else it is another project's, and left alone.
    """
    ours = any(stated(item) for item in items)
    found = {}
    for item in items:
        marks = list(item.iter_markers("behaviour"))
        behaviour = stated(item)
        if behaviour is not None:
            from channover.targets.capabilities import unknown_needs

            if words := unknown_needs(behaviour):
                found[item] = words
        elif marks and (ours or any(map(_meant, marks)) or uses(item)):
            found[item] = _fault(marks)
    return found


def _meant(mark: pytest.Mark) -> bool:
    """Say whether a mark names something like a behaviour of the catalogue: a part and a number, however they are written."""
    from channover.model.catalogue import PARTS

    like = re.compile(rf"\s*({'|'.join(PARTS)})[-_ ]?\d+\s*", re.IGNORECASE)
    return any(isinstance(word, str) and like.fullmatch(word) for word in (*mark.args, *mark.kwargs.values()))


def uses(item: pytest.Item) -> bool:
    """Say whether a test takes a fixture of channover, or its file imports from it."""
    fixtures = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    makers = [definition.func for definitions in fixtures.values() for definition in definitions]
    names = vars(item.module).values() if isinstance(item, pytest.Function) and item.module else ()
    known = (getattr(one, "__name__" if isinstance(one, ModuleType) else "__module__", "") for one in (*makers, *names))
    return any(str(name).partition(".")[0] == "channover" for name in known)


def _fault(marks: Sequence[pytest.Mark]) -> str:
    if len(marks) > 1:
        return f"{len(marks)} behaviour marks ({', '.join(map(_shown, marks))}): a test states one behaviour"
    (mark,) = marks
    if len(mark.args) == 1 and not mark.kwargs and isinstance(mark.args[0], str):
        from channover.model.catalogue import behaviour

        try:
            behaviour(mark.args[0])
        except UsageError as error:
            return f"behaviour mark: {error}"
    return f'{_shown(mark)}: a behaviour mark has one argument, an id of the catalogue such as "LAG-1"'


def _shown(mark: pytest.Mark) -> str:
    words = [*map(repr, mark.args), *(f"{name}={value!r}" for name, value in mark.kwargs.items())]
    return f"@behaviour({', '.join(words)})"
