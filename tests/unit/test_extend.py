"""What another package registers: what cannot be is said in one line, and changes nothing."""

from __future__ import annotations

import pytest

from channover import extend
from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE, PARTS
from channover.targets.capabilities import CAPABILITIES

WRONG = {
    "taken": ('behaviours.add(Behaviour("LAG-1", "s", "s"))', "behaviour 'LAG-1' is there already: channover's own"),
    "bad id": (
        'behaviours.add(Behaviour("acme1", "s", "s"))',
        "behaviour 'acme1': an id is a part, a hyphen and a number, as in ACME-1",
    ),
    "no part": (
        'behaviours.add(Behaviour("ODD-1", "s", "s"))',
        "behaviour 'ODD-1': there is no part 'ODD'; add it before, with behaviours.part",
    ),
    "empty": (
        'behaviours.add(Behaviour("LAG-90", "", "s"))',
        "behaviour 'LAG-90': statement must be a text that is not empty, not ''",
    ),
    "needs": (
        'behaviours.add(Behaviour("LAG-90", "s", "s", needs="lag"))',
        "behaviour 'LAG-90': needs must be a tuple of names, as in (\"lag\",), not 'lag'",
    ),
    "no behaviour": ('behaviours.add("LAG-90")', "behaviour: 'LAG-90' is none; write Behaviour("),
    "part taken": ('behaviours.part("LAG", title="t", layer="2")', "part 'LAG' is there already: channover's own"),
    "part": ('behaviours.part("l a g", title="t", layer="2")', "part 'l a g': a part is named by capital letters"),
    "capability": (
        'capabilities.add("tun", Capability("t", {}))',
        "capability 'tun' is there already: channover's own",
    ),
    "trial": ('capabilities.add("x", Capability("t", {}, trial=3))', "capability 'x': trial must take a host"),
    "programs": (
        'capabilities.add("x", Capability("t", ["ip"]))',
        "capability 'x': programs must map a program to its",
    ),
    "driver": ('capabilities.add("lag", Capability("t", {}))', "capability 'lag': what makes LAGs is a driver"),
}


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_registered_is_refused_in_one_line(line: str, words: str) -> None:
    before = [list(each.entries) for each in (CATALOGUE, PARTS, CAPABILITIES)]
    with pytest.raises(UsageError) as refused:
        exec(line, {name: getattr(extend, name) for name in extend.__all__})
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)
    assert [list(each.entries) for each in (CATALOGUE, PARTS, CAPABILITIES)] == before
