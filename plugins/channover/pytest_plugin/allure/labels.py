"""The labels that a test has in the report: where it stands, what it rests on, how much depends on it, links to read."""

from __future__ import annotations

import re
from typing import Any

import allure
import pytest

from channover.model.catalogue import Behaviour
from channover.pytest_plugin.stash import topology_of
from channover.report.allure.config import NODEID
from channover.run.environment import Environment
from channover.verdict.expectation import quantity

_BLOCKERS = frozenset(("LAG-4", "LAG-8", "TUN-3", "TUN-4", "APP-1"))
"""Without these, traffic stops; without the others, it is slower or elsewhere than it should be."""
_LINKS = (
    (re.compile(r"\bRFC (\d+)"), "https://www.rfc-editor.org/rfc/rfc{}", "RFC {}"),
    (re.compile(r"\bIEEE 802\.1AX-(2014)"), "https://1.ieee802.org/tsn/802-1ax-{}/", "IEEE 802.1AX-{}"),
    (re.compile(r"\bkernel, networking/(\w+)"), "https://docs.kernel.org/networking/{}.html", "kernel: networking/{}"),
)


def label(item: pytest.Item, behaviour: Behaviour | None, environment: Environment) -> None:
    """Label the test that is being set up; one without a behaviour with where it runs."""
    dynamic: Any = allure.dynamic
    if behaviour is not None:
        _label(dynamic, behaviour)
    dynamic.label("target", environment.settings.target)
    dynamic.label(NODEID, item.nodeid)
    dynamic.parameter("target", environment.settings.target)
    dynamic.parameter("link rate", quantity(environment.settings.link_for(topology_of(item)).rate, "bit/s"))
    if environment.settings.family != 4:
        dynamic.parameter("IP version", str(environment.settings.family))
    if behaviour is not None and "lag" in behaviour.needs:
        dynamic.parameter("LAG driver", str(environment.lag[0]))


def _label(dynamic: Any, behaviour: Behaviour) -> None:
    """Label a test with what it states."""
    dynamic.epic(behaviour.epic)
    dynamic.feature(behaviour.feature)
    dynamic.story(behaviour.story)
    dynamic.severity(severity(behaviour))
    dynamic.tag(behaviour.id)
    dynamic.label("behaviour", behaviour.id)
    dynamic.label("layer", behaviour.part.layer)
    for requirement in requirements(behaviour):
        dynamic.label("requirement", requirement)
    for name, address in links(behaviour):
        dynamic.link(address, name=name)


def severity(behaviour: Behaviour) -> str:
    """Return Allure's word for what depends on a behaviour."""
    if behaviour.id in _BLOCKERS:
        return "blocker"
    return "critical" if behaviour.article is not None else "normal"


def requirements(behaviour: Behaviour) -> list[str]:
    """Return what a behaviour is required by: each part of its source but the article."""
    parts = [part.strip() for part in behaviour.source.split(";")]
    return [part for part in parts if not part.startswith("article")]


def links(behaviour: Behaviour) -> list[tuple[str, str]]:
    """Return the standards that a behaviour's source names, each with its public address."""
    found = []
    for pattern, address, name in _LINKS:
        for match in pattern.finditer(behaviour.source):
            entry = (name.format(match[1]), address.format(match[1]))
            if entry not in found:
                found.append(entry)
    return found
