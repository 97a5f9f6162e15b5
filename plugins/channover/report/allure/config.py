"""What Allure is told of a run beside its tests: where and by what it ran, categories, metrics, the quality gate."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import channover
from channover.model.catalogue import CATALOGUE
from channover.report.deciding.endings import State, ended
from channover.report.results import Measurement, Results

LOST = "unknown"
"""Allure's word for a test that never gave a verdict: not reported, or not settled."""
STATUS: Mapping[State, str] = {
    "passed": "passed",
    "failed": "failed",
    "error": "broken",
    "inconclusive": LOST,
    "skipped": "skipped",
    "not reported": LOST,
}
"""Allure's words: *failed* is a broken behaviour, *broken* a broken testbed, *unknown* what has no verdict besides."""
NODEID = "nodeid"
"""The label that ties a result of Allure to a test of results.json; the report does not show it."""
KIND = "kind"
"""The label that categories go by: the words that tell of it need not be in the message."""
_KINDS = {
    "unsettled": re.compile("INCONCLUSIVE: |not settled when the time was up"),
    "loop": re.compile("feeds on itself|inside the loop|tunnel loop"),
    "fallback": re.compile("fell back to TCP"),
}

OPTIONS: Mapping[str, Any] = {
    "singleFile": True,
    "reportLanguage": "en",
    "theme": "auto",
    "groupBy": ["epic", "feature", "story"],
    "sections": ["charts", "timeline", "metrics"],
    "charts": [
        {"type": "currentStatus", "title": "Results"},
        {"type": "statusDynamics", "title": "Results, run by run"},
        {
            "type": "testResultSeverities",
            "title": "Results by severity",
            "levels": ["blocker", "critical", "normal"],
            "statuses": ["passed", "failed", "broken", "skipped", LOST],
            "includeUnset": True,
        },
        {"type": "problemsDistribution", "title": "Problems by target", "by": "environment"},
        {"type": "durationDynamics", "title": "Durations, run by run"},
        {"type": "durations", "title": "Durations by layer", "groupBy": "layer"},
    ],
}
CATEGORIES: Mapping[str, Any] = {
    "rules": [
        {"id": "testbed", "name": "Broken testbed: no verdict", "matchers": {"statuses": ["broken"]}},
        {
            "id": "unsettled",
            "name": "Inconclusive: measured, and not settled",
            "matchers": {"statuses": [LOST], "labels": {KIND: "unsettled"}},
        },
        {"id": "lost", "name": "Collected and not reported", "matchers": {"statuses": [LOST]}},
        {
            "id": "loop",
            "name": "The tunnel feeds on itself",
            "matchers": {"statuses": ["failed"], "labels": {KIND: "loop"}},
        },
        {
            "id": "fallback",
            "name": "MPTCP fell back to TCP",
            "matchers": {"statuses": ["failed"], "labels": {KIND: "fallback"}},
        },
        {"id": "behaviour", "name": "Broken behaviour", "matchers": {"statuses": ["failed"]}},
        {"id": "skipped", "name": "Not tried here", "matchers": {"statuses": ["skipped"]}},
    ]
}

_RULES: Mapping[State, tuple[str, str]] = {
    "failed": ("behaviours", "failed"),
    "error": ("testbed", "met a broken testbed"),
    "inconclusive": ("settled", "were inconclusive"),
    "skipped": ("tried", "were skipped"),
    "not reported": ("complete", "were collected and not reported"),
}


def kind(reason: str) -> str:
    """Return which kind of problem a reason tells of, the first that its words name; empty for none of these."""
    return next((name for name, words in _KINDS.items() if words.search(reason)), "")


def seconds(moment: str) -> float:
    """Return a moment of results.json as seconds since the epoch."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def environment(results: Results) -> str:
    """Return ``environment.properties``: what the run was of."""
    run = results.run
    rows = {
        "target": run.target,
        "lab": run.lab,
        "kernel": run.kernel,
        "link rate": ", ".join(f"{rate / 1e6:g} Mbit/s" for rate in run.link_rates),
        "IP version": f"{run.family}",
        "MTU": f"{run.mtu} bytes",
        "LAG driver": run.lag_driver or "",
        "congestion control": run.congestion_control,
        "suites' revision": run.revision,
        "channover": channover.__version__,
        "Python": platform.python_version(),
        **{f"tool {name}": version for name, version in sorted(run.tools.items())},
        **{f"host {host.name}": host.kernel for host in run.hosts if host.kernel},
    }
    return "".join(
        f"{_escaped(key).replace(' ', chr(92) + ' ')} = {_escaped(value)}\n" for key, value in rows.items() if value
    )


def _escaped(text: str) -> str:
    return "".join(f"\\{one}" if one in "\\=:#!" else " " if one in "\r\n" else one for one in text)


def executor(results: Results) -> dict[str, Any]:
    """Return ``executor.json``."""
    return {"name": "channover", "type": "channover", "buildName": results.run.id, "reportName": results.run.id}


def metrics(results: Results) -> list[dict[str, Any]]:
    """Return every measured rate and time as a metric of Allure, whose trend it shows."""
    found = []
    start, stop = (int(seconds(moment) * 1000) for moment in (results.run.start, results.run.end))
    for test in results.tests:
        known = CATALOGUE.get(test.behaviour or "")
        for number, one in enumerate(test.measurements):
            if one.value is None or one.unit not in ("bit/s", "s"):
                continue
            value = one.value / 1e6 if one.unit == "bit/s" else one.value
            found.append(
                {
                    "id": f"{test.nodeid} {number}",
                    "key": f"{results.run.kind} {test.nodeid} {one.name} {number}",
                    "title": f"{test.behaviour or test.nodeid}: {one.name} ({test.nodeid.rpartition('::')[2]})",
                    "value": round(value, 6),
                    "unit": "Mbit/s" if one.unit == "bit/s" else "s",
                    "group": known.epic if known else "other",
                    "groupTitle": known.epic if known else "Other",
                    "better": _better(one),
                    "start": start,
                    "stop": stop,
                }
            )
    return found


def _better(one: Measurement) -> str:
    if one.rule == "outside":
        return "neutral"
    if one.low is not None and one.high is None:
        return "higher"
    return "lower" if one.high is not None and (one.low is None or one.low <= 0) else "neutral"


def result_id(uuid: str) -> str:
    """Return the id that Allure gives a result."""
    return hashlib.md5(uuid.encode(), usedforsecurity=False).hexdigest()


def gate(results: Results, uuids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the quality gate's results: Allure's own rules would let a skipped mandatory behaviour pass.

    Only mandatory tests count, as in the decision. ``uuids`` are those of Allure's results, by nodeid.
    """
    ends = [end for plan, end in ended(results).values() if plan.mandatory]
    found = []
    for state, (name, what) in _RULES.items():
        nodeids = sorted(end.nodeid for end in ends if end.state == state)
        shown = ", ".join(nodeid.rpartition("::")[2] for nodeid in nodeids[:5]) + (", …" if len(nodeids) > 5 else "")
        found.append(
            {
                "rule": name,
                "success": not nodeids,
                "actual": len(nodeids),
                "expected": 0,
                "message": f"mandatory tests that {what}: {len(nodeids)}" + (f" ({shown})" if nodeids else ""),
                "environment": results.run.target,
                "testResults": [result_id(uuids[nodeid]) for nodeid in nodeids if nodeid in uuids],
            }
        )
    return found
