"""What collected tests need and cannot have here: found out once, before any of them runs, and said with the remedy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from channover.errors import ChannoverError, UsageError
from channover.pytest_plugin.beginning import refuse
from channover.pytest_plugin.live import line as live_line
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.results import marks
from channover.pytest_plugin.stash import UNMET, is_worker, marked, shows_fixtures, topology_of
from channover.pytest_plugin.testbed import TESTBED

if TYPE_CHECKING:
    from channover.model.catalogue import Behaviour
    from channover.observe.processors import Glance
    from channover.run.environment import Environment

_GLANCE: pytest.StashKey[Glance] = pytest.StashKey()
"""How busy this machine was with other work as the run began."""


def find_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find out what cannot be tried here, and why, and skip it. Raises pytest.UsageError where nothing can be."""
    if shows_fixtures(config):
        return
    if not any(marks.marked(item) or marks.takes_part(item) for item in items):
        return
    from channover.model import registry

    if fault := registry.fault():
        refuse(config, items, UsageError(fault))
        return
    for item, fault in marks.wrong(items).items():
        items.remove(item)
        report = pytest.CollectReport(item.nodeid, "failed", f"{item.name}: {fault}", [])
        config.hook.pytest_collectreport(report=report)
    _leave_out(config, items)
    stated = [(item, behaviour) for item in items if (behaviour := marks.stated(item)) is not None]
    if not stated:
        return
    session = config.stash[TESTBED].session
    if session.settings.emulated and not (
        config.option.collectonly or session.settings.place.dry_run or is_worker(config)
    ):
        from channover.observe.processors import Glance

        config.stash[_GLANCE] = Glance()
    session.topologies = tuple(dict.fromkeys(topology_of(item) for item, _ in stated))
    try:
        if not config.option.collectonly:
            session.ready()
        for item, behaviour in stated:
            if reason := _unmet(item, behaviour, session):
                item.stash[UNMET] = reason
                if not session.settings.strict:
                    item.add_marker(pytest.mark.skip(reason=reason))
    except ChannoverError as error:
        refuse(config, items, error)


def _unmet(item: pytest.Item, behaviour: Behaviour, session: Environment) -> str | None:
    """Say why a test cannot be tried here: its topology, what its behaviour needs, its hash policy; or None."""
    from channover.network.lag import HashPolicy

    topology = topology_of(item)
    if (reason := session.lacks(topology)) or _unasked(item.config):
        return reason
    if reason := session.unmet(behaviour, topology):
        return reason
    if session.settings.family == 6 and (reason := session.lacks_ipv6(topology)):
        return reason
    policy = marked(item, "hash_policy", HashPolicy)
    if policy is None or "lag" not in behaviour.needs or policy in session.driver.policies:
        return None
    lacks = f"the LAG driver {session.driver.name} has no hash policy {policy.value}"
    return f"{lacks}: boot a kernel that has the bonding driver (CONFIG_BONDING), or --target vm"


def _leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that nobody asked for, which the plan names as left out.

    Those are further variants of behaviours, and in a run with IPv6 what chooses families itself: it would be the same run.
    """
    names = [*([] if words.value(config, "--variants") else ["variant"]), *(["families"] if _second(config) else [])]
    left = [item for item in items if any(map(item.get_closest_marker, names)) and marks.stated(item)]
    if left:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


def _second(config: pytest.Config) -> bool:
    """Whether this is a second run, with IPv6."""
    return config.stash[TESTBED].settings.family == 6


def headline(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Name the target, where behaviours were collected."""
    if not any(map(marks.stated, items)):
        return []
    from channover.model.link import USUAL_MTU
    from channover.verdict.expectation import quantity

    wanted = config.stash[TESTBED].settings
    found = f"channover: target {wanted.target}, links of {', '.join(quantity(rate, 'bit/s') for rate in wanted.rates)}"
    if wanted.link.mtu != USUAL_MTU:
        found += f", MTU {wanted.link.mtu}"
    if _second(config):
        found += ", IPv6; tests about families themselves (MP-11), or about IPv4 alone, are left out"
    if wanted.place.dry_run and not config.option.collectonly:
        driver = config.stash[TESTBED].session.lag[0]
        found += f", LAG by {driver}; a dry run measures nothing, and leaves nothing"
    return [found, *_busy(config)]


def _busy(config: pytest.Config) -> list[str]:
    """Say that this machine is busy with other work, and by what, where its processors are to be wires."""
    if _GLANCE not in config.stash:
        return []
    from channover.verdict import shortage

    taken = shortage.busy(config.stash[_GLANCE].taken(), os.cpu_count() or 1)
    return [f"channover: this machine is busy, and verdicts may be inconclusive: {taken}"] if taken else []


def say_of_workers(config: pytest.Config) -> None:
    """In the controller of xdist's workers, which collects nothing, say so once the first of them has found what compares."""
    wanted, reporter = config.stash[TESTBED].settings, config.pluginmanager.get_plugin("terminalreporter")
    if _GLANCE in config.stash or reporter is None or not wanted.emulated:
        return
    from channover.observe.processors import Glance

    config.stash[_GLANCE] = Glance()
    for line in _busy(config):
        live_line.write_line(config, line)


def say_unmet(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """With ``--collect-only``, print why tests would be skipped."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or is_worker(config) or not config.option.collectonly or not any(map(marks.stated, items)):
        return
    for item in items:
        if UNMET in item.stash:
            reporter.write_line(f"would skip {item.nodeid}: {item.stash[UNMET]}")
    _say_where(config, items, reporter)
    if _unasked(config):
        reporter.write_line(
            "channover: no host was asked what it lacks; 'channover doctor --target physical' asks them"
        )


def _say_where(config: pytest.Config, items: Sequence[pytest.Item], reporter: Any) -> None:
    """Print by which targets the topologies of collected tests can be had, and what a lab of real hosts needs for each."""
    from channover.run.elsewhere import elsewhere, needs

    asked: dict[Any, dict[str, None]] = {}
    for item in items:
        if behaviour := marks.stated(item):
            asked.setdefault(topology_of(item), {})[behaviour.id] = None
    settings = config.stash[TESTBED].settings
    reporter.write_line(f"channover: elsewhere than --target={settings.target}: {elsewhere(settings)}")
    for name, behaviours, cables in needs([(topology, list(found)) for topology, found in asked.items()]):
        reporter.write_line(f"channover: {behaviours}: the topology {name}; a lab of real hosts needs {cables}")


def _unasked(config: pytest.Config) -> bool:
    """Say whether real hosts are left alone: who only collects, an editor for one, must not take and change them."""
    return bool(config.option.collectonly) and config.stash[TESTBED].settings.place.lab is not None
