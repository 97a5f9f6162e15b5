"""The HTML report of a run: Allure's results put right, and made into one file that asks for nothing outside.

Allure's results stay as they are: what has to be changed for the report is written beside them for as long as that
takes. results.json has the last word on how a test ended, and on which tests there should be.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.report.allure import config as allure_config
from channover.report.allure import generator, history
from channover.report.allure import plot_process as plotter
from channover.report.allure.generator import GeneratorMissing
from channover.report.allure.links import uuid_of
from channover.report.allure.page import PLOT, data_address, without_headline
from channover.report.deciding.endings import Ended, ended
from channover.report.facts import Planned
from channover.report.results import Results, TestResult
from channover.text import printable, readable

NAME = "report.html"
_PLOT = re.compile(rf'src="{PLOT}([0-9a-f-]+-attachment\.svg)"')
_MESSAGE = 10_000
"""Characters of a reason that the report shows at the head of a test without a page: in whole lines, the rest is counted."""

_QUOTED = frozenset(("target", "link rate", "IP version", "LAG driver"))
"""Parameters that are texts, as are those that are no part of what a test is: allure-pytest gives them quotes."""
_MEMBER = re.compile(r"^<\w+\.(\w+): .*>$", re.DOTALL)
"""A member of an enumeration, as Python shows it."""


@dataclass(frozen=True)
class Made:
    """A report, and what the reader should know of it: a line each."""

    path: Path
    notes: tuple[str, ...] = ()


def make(folder: Path, allure_results: Path | None = None, timeout: float = 120.0) -> Made:
    """Make the report of the run that left its results in ``folder``; the former report is replaced, or stays.

    ``allure_results`` is where Allure's are, if not in the folder. Raises UsageError where there are no results, and
    GeneratorMissing, which says why, where the report cannot be made or is not ready in time (seconds).
    """
    results = read(folder)
    if reason := generator.unmet():
        raise GeneratorMissing(reason)
    source = allure_results or folder / "allure-results"
    if not source.is_dir():
        raise UsageError(f"{source}: there are no results of Allure")
    temporary = folder / f".{NAME}.{secrets.token_hex(4)}.tmp"
    staged = Path(tempfile.mkdtemp(prefix="channover-staged-"))
    try:
        stage = _Stage(results, source, staged)
        stage.fill()
        past = history.place(folder.parent, results.run.kind)
        trend = staged / ".history.jsonl"
        earlier = history.before(past, results.run.id)
        trend.write_text(earlier, "utf-8")
        job = generator.Job(
            results=source.absolute(),
            staged=staged,
            output=temporary.absolute(),
            history=trend,
            name=f"channover · {results.run.target} · {results.run.id}",
            targets=sorted(stage.targets | {results.run.target}),
            options=allure_config.OPTIONS,
            categories=allure_config.CATEGORIES,
            gate=allure_config.gate(results, stage.uuids),
            hide=(allure_config.NODEID, "as_id", "host", "thread", "framework", "language"),
            skip=sorted(stage.inlined),
        )
        generator.generate(job, timeout)
        os.replace(temporary, folder / NAME)
        notes = [*stage.notes(), *_kept(past, results, trend.read_text("utf-8").removeprefix(earlier))]
    except OSError as error:
        raise GeneratorMissing(f"{error.filename or folder}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
    return Made(folder / NAME, tuple(notes))


def _kept(past: Path, results: Results, added: str) -> Iterator[str]:
    """Keep the run in the history of runs; yield why that could not be done: the report is there all the same."""
    try:
        history.keep(past, results.run.id, allure_config.seconds(results.run.start), added)
    except OSError as error:
        yield f"the run is not kept in {past}: {error.strerror or error}"


def read(folder: Path) -> Results:
    """Return a run's results. Raises UsageError where there are none."""
    path = folder / "results.json"
    try:
        return Results.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}: name the folder of a run") from None


@dataclass
class _Stage:
    """The folder of files that stand for Allure's own, and what was found out while it was filled."""

    results: Results
    source: Path
    staged: Path
    uuids: dict[str, str] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    collapsed: list[str] = field(default_factory=list)
    inlined: set[str] = field(default_factory=set)

    def fill(self) -> None:
        """Write what has to be changed or added."""
        verdicts = {test.nodeid: test for test in self.results.tests}
        with os.scandir(self.source) as entries:
            names = sorted(entry.name for entry in entries)
        found: dict[str, list[tuple[str, str]]] = {}
        for name in names:
            if name.endswith("-result.json") and (result := self._read(name)):
                found.setdefault(_identity(result), []).append((_nodeid(result), name))
        alike = {name for group in found.values() if len(group) > 1 for _, name in group}
        for nodeid, name in sorted(one for group in found.values() for one in group):
            if result := self._read(name):
                self._result(name, result, nodeid, verdicts.get(nodeid), alike=name in alike)
        for planned, end in ended(self.results).values():
            if end.state == "not reported":
                self.missing.append(end.nodeid)
            if end.nodeid not in self.uuids:
                self._add(planned, end)
        self._write("environment.properties", allure_config.environment(self.results))
        self._write("executor.json", allure_config.executor(self.results))
        self._write("channover-perf.json", allure_config.metrics(self.results))
        stop = allure_config.seconds(self.results.run.end) * 1000
        errors = [{"message": note, "timestamp": int(stop)} for note in self.losses()]
        self._write("channover-globals.json", {"attachments": [], "errors": errors})

    def losses(self) -> Iterator[str]:
        """Yield what the run lacks, a line each."""
        if self.results.run.interrupted:
            yield "the run was stopped before its end"
        if self.missing:
            yield f"{_tests(self.missing)} collected and not reported: {_some(self.missing)}"

    def notes(self) -> Iterator[str]:
        """Yield what the reader should know of the whole, a line each."""
        yield from self.losses()
        if self.collapsed:
            yield f"{_tests(self.collapsed)} told apart by name, since the parameters are the same: {_some(self.collapsed)}"

    def _write(self, name: str, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (self.staged / name).write_text(text, "utf-8", "backslashreplace")

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return a result of Allure; None where it is none, of which Allure says so itself."""
        try:
            result = json.loads((self.source / name).read_text("utf-8"))
            return result if isinstance(result, dict) and result["name"] and result["uuid"] else None
        except (OSError, ValueError, KeyError):
            return None

    def _result(self, name: str, result: dict[str, Any], nodeid: str, test: TestResult | None, *, alike: bool) -> None:
        self.targets |= {label["value"] for label in result.get("labels") or () if label.get("name") == "target"}
        if test is not None:
            result["status"] = allure_config.STATUS["not reported" if test.lost else test.outcome]
            if test.reason:
                _say_once(result, test.reason)
        parameters = result["parameters"] = result.get("parameters") or []
        for one in parameters:
            value = str(one.get("value"))
            one["value"] = (
                value.strip("'") if one.get("name") in _QUOTED or one.get("excluded") else _MEMBER.sub(r"\1", value)
            )
        if alike:  # Allure would take one for the other's retry, and count them as one
            self.collapsed.append(nodeid)
            parameters.append({"name": "test", "value": nodeid.rpartition("::")[2]})
        self.uuids[nodeid] = str(result["uuid"])
        result["name"] = readable(str(result["name"]))
        if html := result.get("descriptionHtml"):
            result["descriptionHtml"] = _PLOT.sub(lambda match: self._plot(result, match[1]), html)
        _tidy(result, self.inlined)
        self._write(name, result)

    def _plot(self, result: dict[str, Any], name: str) -> str:
        """Return the address of a plot; one that was not drawn, since the run was stopped, is drawn now."""
        try:
            svg = (self.source / name).read_text("utf-8")
            if plotter.missing(svg) and (samples := _beside(result, name)):
                svg = plotter.drawn(json.loads((self.source / samples).read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return 'src=""'
        self.inlined.add(name)
        return f'src="{data_address(svg)}"'

    def _add(self, planned: Planned, end: Ended) -> None:
        """Add a test that Allure knows nothing of: its process died, or it was never begun."""
        path, _, name = end.nodeid.partition("::")
        behaviour = CATALOGUE.get(planned.behaviour or "")
        labels = {allure_config.NODEID: end.nodeid, "target": self.results.run.target}
        if behaviour:
            labels |= {"behaviour": behaviour.id, "tag": behaviour.id}
            labels |= {"epic": behaviour.epic, "feature": behaviour.feature, "story": behaviour.story}
        moment = int(allure_config.seconds(self.results.run.end) * 1000)
        uuid = uuid_of(self.results.run.id, end.nodeid)
        self.uuids[end.nodeid] = uuid
        result = {
            "uuid": uuid,
            "name": readable(name or end.nodeid),
            "fullName": end.nodeid,
            "testCaseId": end.nodeid,
            "titlePath": path.split("/"),
            "status": allure_config.STATUS[end.state],
            "statusDetails": {"message": printable(shortened(end.reason))},
            "labels": [{"name": key, "value": value} for key, value in labels.items()],
            "parameters": [{"name": "target", "value": self.results.run.target}],
            "start": moment,
            "stop": moment,
        }
        self._write(f"{uuid}-result.json", result)


def _say_once(result: dict[str, Any], reason: str) -> None:
    """Say the reason of a test once: its first line at the head, all else on the page, where there is one.

    What pytest shows of the test's lines stays, without the explanation and the arguments. Which kind of problem it is, which
    categories go by, becomes a label.
    """
    details = dict(result.get("statusDetails") or {})
    html = result.get("descriptionHtml")
    details["message"] = printable(reason.partition("\n")[0] if html else shortened(reason))
    if html:
        result["descriptionHtml"] = without_headline(html, reason)
        told = str(details.get("trace", ""))
        if "\nE  " in told:
            _, _, told = told.partition("\n\n")
            code = [line for line in told.splitlines() if not line.startswith("E  ")]
            details["trace"] = "\n".join(code)
    result["statusDetails"] = details
    result["labels"] = [
        *(result.get("labels") or ()),
        {"name": allure_config.KIND, "value": allure_config.kind(reason)},
    ]


def shortened(reason: str) -> str:
    """Return as many whole lines of a reason as there is room for, and how many there are more."""
    kept: list[str] = []
    room = _MESSAGE
    lines = reason.splitlines()
    for line in lines:
        room -= len(line) + 1
        if room < 0 and kept:
            break
        kept.append(line)
    return "\n".join(kept + [f"and {len(lines) - len(kept)} more lines in results.json"] * (len(kept) < len(lines)))


def _nodeid(result: Mapping[str, Any]) -> str:
    for label in result.get("labels") or ():
        if label.get("name") == allure_config.NODEID:
            return str(label["value"])
    path = result.get("titlePath") or []
    files = [number for number, part in enumerate(path) if part.endswith(".py")]
    cut = files[0] + 1 if files else len(path)
    return "::".join(["/".join(path[:cut]), *path[cut:], str(result["name"])])


def _identity(result: Mapping[str, Any]) -> str:
    """Return what Allure tells tests apart by."""
    parameters = [one for one in result.get("parameters") or () if not one.get("excluded")]
    told = sorted((str(one.get("name")), str(one.get("value"))) for one in parameters)
    return json.dumps([result.get("testCaseId") or result.get("fullName"), told])


def _beside(item: Mapping[str, Any], name: str) -> str | None:
    """Return the file of the samples that belong to a plot."""
    attachments = item.get("attachments") or ()
    if any(one.get("source") == name for one in attachments):
        return next((str(one["source"]) for one in attachments if one.get("name") == plotter.SAMPLES), None)
    return next((found for step in item.get("steps") or () if (found := _beside(step, name))), None)


_SCRIPT = re.compile(r"""'(?:[^']|'"'"')*\n(?:[^']|'"'"')*'""")
"""An argument of several lines, as a shell would want it quoted."""


def _tidy(item: dict[str, Any], inlined: set[str]) -> None:
    """Drop attachments that the page itself holds, and the text of scripts from the names of steps."""
    if "attachments" in item:
        item["attachments"] = [one for one in item["attachments"] if one.get("source") not in inlined]
    for step in item.get("steps") or ():
        if "\n" in (name := str(step.get("name", ""))):
            step["name"] = _SCRIPT.sub("'…'", name)
        _tidy(step, inlined)


def _tests(found: list[str]) -> str:
    return "1 test was" if len(found) == 1 else f"{len(found)} tests were"


def _some(found: list[str]) -> str:
    return ", ".join(map(readable, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
