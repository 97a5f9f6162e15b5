"""A mark for tests that run pytest: in one process always, by xdist's workers among the slow tests."""

from __future__ import annotations

import pytest

WORKERS = pytest.mark.parametrize(
    "workers", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="workers", marks=pytest.mark.slow)]
)
