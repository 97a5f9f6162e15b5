"""What the project's own tests share: labs of namespaces, and the marker of tests that need them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import settings

from channover.errors import RigError
from channover.hosts.host import Journal
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm import pool as machines
from channover.model.link import Link
from channover.model.topology import pair
from channover.observe.counters import own_processors
from channover.targets.base import Lab
from channover.targets.netns import NetnsTarget

# A busy machine is slow, and a failure must come back when it is looked for.
settings.register_profile("channover", deadline=None, derandomize=True)
settings.load_profile("channover")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run also what takes minutes and would make CI too long")


def pytest_configure(config: pytest.Config) -> None:
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


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and not item.config.getoption("--slow"):
        pytest.skip("takes minutes: pytest tests/ --slow runs it")
    if item.get_closest_marker("lab") and (reason := _no_namespaces()):
        pytest.skip(reason)
    if item.get_closest_marker("vm") and (reason := machines.unmet() or kernels.any_unmet()):
        pytest.skip(reason)


# Runs that tests start make no HTML report, unless a test is about that.
os.environ["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} --no-report".strip()

TIMED = ("test_cleanup", "test_faults", "test_files", "test_iperf", "test_without_root")
"""Modules whose tests rest on time: only these may be tried again, since a second try hides a fault of anything else."""
ATTEMPTS = 3
PATIENCE = 90.0
"""Seconds that a run of the tests may lose to other machines before it tries no test a second time."""
_lost: list[float] = []
INCONCLUSIVE = re.compile(r"no verdict, since [^\n]*|went to other machines|other work took what the lab needed")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Judge a lab by nothing that it did while its processors were taken from it.

    A test of a lab that fails is tried again where the machine's processors were another machine's, or busy without a
    pause, or where the product said that for this very reason there is no verdict. Only where other machines never leave
    off, as the kernel counts it, is it skipped with the reason. On a machine that has its processors a failure fails.
    """
    if not pyfuncitem.get_closest_marker("lab") or pyfuncitem.path.stem not in TIMED:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for attempt in range(ATTEMPTS):
        before, start = own_processors(), time.monotonic()
        try:
            pyfuncitem.obj(**arguments)
        except (AssertionError, RigError) as error:
            said = INCONCLUSIVE.search(str(error))
            stolen = own_processors().starved_since(before, least_idle=-1, most_stolen=0.02)
            busy = own_processors().starved_since(before, least_idle=0.1) or (said and said[0])
            if not stolen and (not busy or attempt == ATTEMPTS - 1):
                raise
            cause = stolen or busy
            _lost.append(time.monotonic() - start)
            if stolen and sum(_lost) > PATIENCE:
                break
        else:
            return True
        time.sleep(attempt)
    pytest.skip(f"tried {attempt + 1} times: {cause}; run it on a machine whose processors are its own")


@pytest.fixture(scope="session")
def netns() -> Iterator[NetnsTarget]:
    target = NetnsTarget()
    yield target
    target.close()


@pytest.fixture
def two_hosts(netns: NetnsTarget) -> Iterator[Lab]:
    with netns.lab(pair(), Link(), Journal()) as made:
        yield made
