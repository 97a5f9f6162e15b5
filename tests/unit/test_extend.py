"""What another package registers: what cannot be is said in one line, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from doctest import DocTestFinder, DocTestRunner
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from channover import extend, testing
from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE, PARTS
from channover.model.registry import Register
from channover.network.drivers import DRIVERS
from channover.run.own_targets import OWN_TARGETS
from channover.targets.capabilities import CAPABILITIES
from channover.verdict.causes.catalogue import CAUSES

REGISTERS: tuple[Register[Any], ...] = (CATALOGUE, PARTS, CAPABILITIES, CAUSES, DRIVERS, OWN_TARGETS)


def own(name: str) -> SimpleNamespace:
    """Return something with all that a LAG driver has."""
    policies = {extend.HashPolicy.LAYER2}
    return SimpleNamespace(name=name, needs=(), policies=policies, checksums=False, create=print, create_switch=print)


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
    "lag": ('capabilities.add("lag", Capability("t", {}))', "capability 'lag': what makes LAGs is a driver"),
    "no cause": ('causes.add("rain")', "a cause is made of a function by @cause("),
    "cause": ('causes.add(cause("No", "t", shows="s", remedy="r")(list))', "'No' is no id of a cause: small letters"),
    "cause taken": (
        'causes.add(cause("nic-down", "t", shows="s", remedy="r")(list))',
        "cause 'nic-down' is there already: channover's own",
    ),
    "driver class": ('drivers.add("x", LagDriver)', "LAG driver 'x': LagDriver is a class; give an object"),
    "driver": ('drivers.add("x", 3)', "LAG driver 'x': int has no name, needs, policies, checksums, create"),
    "driver taken": (
        'drivers.add("bonding", own("bonding"))',
        "LAG driver 'bonding' is there already: channover's own",
    ),
    "driver name": (
        'drivers.add("x", own("y"))',
        "LAG driver 'x': SimpleNamespace has the name 'y'; they must be the same",
    ),
    "auto": ('drivers.add("auto", own("auto"))', "LAG driver 'auto': the name is lower-case letters"),
    "target taken": ('targets.add("vm", print)', "target 'vm' is there already: channover's own"),
    "target": ('targets.add("x", 3)', "target 'x': 3 makes no target; give a function of the options' values"),
    "target rate": ('targets.add("x", print, link_rate="fast")', "target 'x': link_rate: 'fast' is not a rate"),
    "target option": ('targets.add("x", print, options=["--x"])', "target 'x': '--x' is no option; write Option("),
    "option taken": (
        'targets.add("x", print, options=[Option("--kernel", "h")])',
        "target 'x': the option --kernel is that of target 'vm'",
    ),
}


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_registered_is_refused_in_one_line(line: str, words: str) -> None:
    before = [list(each.entries) for each in REGISTERS]
    with pytest.raises(UsageError) as refused:
        exec(line, {"own": own} | {name: getattr(extend, name) for name in extend.__all__})
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)
    assert [list(each.entries) for each in REGISTERS] == before


@pytest.fixture
def registers() -> Iterator[None]:
    """Leave the registers as they were."""
    kept = [(each, dict(each.entries), dict(each.origins)) for each in REGISTERS]
    yield
    for each, entries, origins in kept:
        each.entries.clear()
        each.entries.update(entries)
        each.origins.clear()
        each.origins.update(origins)


EXAMPLES = {
    testing: {"", "behaviour", "on", "hash_policy", "node"},
    extend: {"_Behaviours.part", "_Behaviours.add", "_Capabilities.add", "_Drivers.add", "_Targets.add", "node"},
}
"""Whose docstrings have examples, the empty name being the module itself."""


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda module: module.__name__)
@pytest.mark.usefixtures("registers")
def test_examples_in_docstrings_of_what_is_public_do_what_they_say(
    module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    finder, runner = DocTestFinder(), DocTestRunner()
    found = finder.find(module, globs=dict(vars(module)))
    public = [(name, getattr(module, name)) for name in module.__all__]
    found += [
        test
        for name, one in public
        if callable(one) and one.__module__ != module.__name__
        for test in finder.find(one, name, globs=dict(vars(module)))
    ]
    tried = [test for test in found if test.examples]
    for test in tried:
        runner.run(test)
    said = capsys.readouterr().out
    assert not runner.failures, said
    assert {test.name.removeprefix(module.__name__).removeprefix(".") for test in tried} >= EXAMPLES[module]
