"""What the project's own tests share: labs of namespaces, and the marker of tests that need them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import settings

from channover.hosts.base import Journal
from channover.targets.base import Lab
from channover.targets.netns import NetnsTarget
from channover.topology import pair
from channover.wire import Link

# A busy machine is slow, and a failure must come back when it is looked for.
settings.register_profile("channover", deadline=None, derandomize=True)
settings.load_profile("channover")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: needs network namespaces; skipped, with the remedy, where there are none")


@cache
def _no_namespaces() -> str | None:
    target = NetnsTarget()
    try:
        return target.unmet(pair())
    finally:
        target.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") and (reason := _no_namespaces()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def netns() -> Iterator[NetnsTarget]:
    target = NetnsTarget()
    yield target
    target.close()


@pytest.fixture
def two_hosts(netns: NetnsTarget) -> Iterator[Lab]:
    with netns.lab(pair(), Link(), Journal()) as made:
        yield made
