"""A pytest plugin for tests that rest on time: those marked ``timed`` are judged by nothing that was taken from them.

The marker is for a test of a lab whose figures other machines' work can spoil, and for nothing else: a second try hides a
fault of anything else. ``test_layers`` names the modules that may have it.
"""

from __future__ import annotations

import re
import time

import pytest

from channover.errors import Inconclusive, TestbedError
from channover.model.processors import strain
from channover.observe.processors import OwnMachine

ATTEMPTS = 3
PATIENCE = 90.0
"""Seconds that a run of the tests may lose to other machines before it tries no test a second time."""
_lost: list[float] = []
INCONCLUSIVE = re.compile(
    r"(?:no verdict|INCONCLUSIVE): [^\n]*|went to other machines|other work took what the lab needed"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "timed: a test of a lab that rests on time; tried again where the time was not its own"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Judge a lab by nothing that it did while its processors were taken from it.

    A test of a lab that fails is tried again where the machine's processors were another machine's, or busy without a
    pause, or where the product said `no verdict` for this very reason. Only where other machines never leave
    off, as the kernel counts it, is it skipped with the reason. On a machine that has its processors a failure fails.
    """
    if not pyfuncitem.get_closest_marker("timed"):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for attempt in range(ATTEMPTS):
        machine, start = OwnMachine(), time.monotonic()
        before = machine()
        try:
            pyfuncitem.obj(**arguments)
        except (AssertionError, Inconclusive, TestbedError) as error:
            said = INCONCLUSIVE.search(str(error))
            lately = strain(before, machine())
            stolen = f"{lately.stolen:.0%} of the time went to other machines" if lately.stolen > 0.02 else ""
            busy = f"the processors were {lately.idle:.0%} idle" if lately.idle < 0.1 else said and said[0]
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
