"""Rivals are no behaviours of the catalogue: they are measured where they are asked for."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip them, unless the run has ``--rivals``."""
    if not config.getoption("channover_rivals"):
        for item in items:
            if item.path.parent.name == "rivals":
                item.add_marker(pytest.mark.skip(reason="measured and not judged: --rivals runs it"))
