"""Where each test stands in the HTML report: what follows the report's name and ``#``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from channover.report.allure.config import NODEID, result_id
from channover.report.deciding.endings import ended
from channover.report.results import Results


def uuid_of(run: str, nodeid: str) -> str:
    """Return the name of the result of a test that Allure was told nothing of."""
    return str(uuid5(NAMESPACE_OID, f"{run} {nodeid}"))


def test_ids(results: Results, allure_results: Path) -> dict[str, str]:
    """Return the report's id of each test, by nodeid; of several tries that of the last. Raises OSError."""
    found = {nodeid: uuid_of(results.run.id, nodeid) for nodeid in ended(results)}
    seen = [one for path in allure_results.glob("*-result.json") if (one := _result(path))]
    for one in sorted(seen, key=lambda each: float(each.get("start") or 0)):
        if nodeid := next((label["value"] for label in one.get("labels") or () if label.get("name") == NODEID), ""):
            found[str(nodeid)] = str(one["uuid"])
    return {nodeid: result_id(uuid) for nodeid, uuid in found.items()}


def _result(path: Path) -> Mapping[str, Any] | None:
    try:
        result = json.loads(path.read_bytes())
    except ValueError:
        return None
    return result if isinstance(result, dict) and "uuid" in result else None
