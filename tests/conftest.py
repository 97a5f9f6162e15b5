"""What the project's own tests share: labs of namespaces, and the marker of tests that need them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm import pool as machines
from channover.model.link import Link
from channover.model.topology import pair
from channover.targets.netns import NetnsTarget

# A busy machine is slow, and a failure must come back when it is looked for.
settings.register_profile("channover", deadline=None, derandomize=True)
settings.load_profile("channover")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run also what takes minutes and would make CI too long")


BESIDE = (
    "discover facts full_disk gate guardian hosts isolation logins loopcheck observe physical privileges readback "
    "remote ssh_reach"
)
"""Modules of tests/lab that measure nothing, or nothing that a busy machine changes."""


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.support.timed")
    config.addinivalue_line("markers", "alone: wants the machine for itself; all others may run beside each other")
    config.addinivalue_line("markers", "slow: takes minutes; skipped without --slow")
    config.addinivalue_line("markers", "lab: needs network namespaces; skipped, with the remedy, where there are none")
    config.addinivalue_line(
        "markers", "vm: boots micro-VMs; skipped, with the remedy, where there is no kernel or emulator"
    )


@cache
def _no_namespaces() -> str | None:
    target = NetnsTarget()
    try:
        return target.unmet(pair())
    finally:
        target.close()


HERE = Path(__file__).parent
collect_ignore = ["data"]
"""What is installed for tests, with suites of its own."""
LAYERS = ("unit", "plugin", "lab", "vm")
"""Folders of tests in the order in which they are run: the quickest ones tell first of a mistake."""


def _layer(item: pytest.Item) -> int:
    folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
    return LAYERS.index(folder) if folder in LAYERS else len(LAYERS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_layer)
    for item in items:
        if _layer(item) == 0 and any(item.get_closest_marker(name) for name in ("lab", "vm")):
            raise pytest.UsageError(f"{item.nodeid} takes a lab: its place is tests/lab, tests/plugin or tests/vm")
        if item.get_closest_marker("timed") or (_layer(item) > 1 and item.path.stem[5:] not in BESIDE.split()):
            item.add_marker("alone")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and not item.config.getoption("--slow"):
        pytest.skip("takes minutes: pytest tests/ --slow runs it")
    if item.get_closest_marker("lab") and (reason := _no_namespaces()):
        pytest.skip(reason)
    if item.get_closest_marker("vm") and (reason := machines.unmet() or kernels.any_unmet()):
        pytest.skip(reason)


# Runs that tests start are no job's: the summary of one that runs these tests is not theirs.
for variable in ("GITHUB_STEP_SUMMARY", "GITLAB_CI"):
    os.environ.pop(variable, None)

# Runs that tests start make no HTML report, unless a test is about that, and do without what takes long to begin.
os.environ["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} --no-report -p no:hypothesispytest".strip()


@pytest.fixture(scope="session")
def netns() -> Iterator[NetnsTarget]:
    target = NetnsTarget()
    yield target
    target.close()


@pytest.fixture
def two_hosts(netns: NetnsTarget) -> Iterator[Lab]:
    with netns.lab(pair(), Link(), Journal()) as made:
        yield made
