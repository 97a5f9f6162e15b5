"""Rivals are no behaviours of the catalogue: they are measured where they are asked for."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them, unless the run has ``--rivals``: they are not lacking, and nobody asked for them."""
    rivals = [item for item in items if item.path.parent.name == "rivals"]
    if rivals and not config.getoption("channover_rivals"):
        items[:] = [item for item in items if item not in rivals]
        config.hook.pytest_deselected(items=rivals)
