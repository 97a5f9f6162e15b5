"""Results as data: what a run measured and concluded, as one JSON file that other tools can trust.

The file is described by ``results.schema.json`` (JSON Schema, draft 2020-12) and checked against it when written and
when read. Rates are bit/s, sizes bytes, times seconds; moments are ISO 8601 in UTC. A number that is not finite is
written as null, since JSON has none (RFC 8259, 6).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NoReturn

from channover.errors import UsageError
from channover.model.link import USUAL_MTU
from channover.report.facts import (
    CableFacts,
    Course,
    HostFacts,
    LeftOut,
    NicBytes,
    Planned,
    ProcessorUse,
    TrafficMetrics,
    Uncollected,
    course,
    host_facts,
    traffic_metrics,
)
from channover.report.store import write_whole
from channover.verdict.causes.cause import Cause, cause_of
from channover.verdict.expectation import Expectation, Rule
from channover.verdict.notes import Note

Unit = str
"""``bit/s``, ``s``, ``1`` (a plain number), ``bytes``, or a suite's own, such as ``°C``; rates are never in others."""
Outcome = Literal["passed", "failed", "inconclusive", "error", "skipped"]
VERSION = 1
"""Of the file's format; it grows when a reader of the former one could misunderstand the new."""


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Measurement:
    """One measured value, what was expected of it, and the article's figure, all in ``unit`` (``1``: a plain number).

    ``low`` and ``high`` bound the expected range; None leaves a side open. ``uncertainty`` is half the width of the
    value's confidence interval (the run's ``confidence``): 0 for what is known exactly, such as a count, None where it
    is not known. ``samples`` are those that it rests on. ``why`` says where the expectation comes from, ``settled``
    whether the interval lay wholly inside or outside the range. ``rule`` is how the value must lie to the range
    (:data:`channover.verdict.expectation.Rule`). What is not finite becomes None.
    """

    name: str
    value: float | None
    unit: Unit
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    article: float | None = None
    uncertainty: float | None = None
    samples: int | None = None
    why: str = ""
    settled: bool = True
    rule: Rule = "within"

    def __post_init__(self) -> None:
        for key in ("value", "expected", "low", "high", "article", "uncertainty"):
            object.__setattr__(self, key, _finite(getattr(self, key)))

    @property
    def held(self) -> bool:
        """Whether the value is as expected: one that is not there is not, nor is any where the range has no values."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.value is None or low > high:
            return False
        return low == -high == -math.inf or Expectation(low, high, rule=self.rule).holds(self.value)


@dataclass(frozen=True)
class TestResult:
    """How one test ended: ``duration`` in seconds; ``reason`` is empty where it passed. The main measurement is first.

    ``nics`` tells what each NIC carried while the test measured, ``processors`` how busy those were that made the wires,
    ``metrics`` how what it measured fared beside its rates, and ``notes`` what a reader wants to know beside the outcome:
    neither touches it.
    ``behaviour`` is an id of the catalogue, None for a test that states none. ``lost`` says that the process which ran
    the test was lost, so that there is no verdict; the outcome is ``error`` then. ``repeated`` says that a machine died in
    the first try, and that this is the second one. ``unrun`` says that it was only set up and torn down: its body did not
    run. ``outcomes`` are those of all its reports where it had more than one; the result is that of the worst. ``causes``
    are why it most likely did not pass, the likeliest first. ``spent`` says on what it spent how long (seconds): its set-up and
    its teardown, and within its body on traffic, on what had to converge, and on waiting for its turn to measure.
    ``artifacts`` is the folder of what it left as plain files, within the run's; empty where it passed.
    ``courses`` are how fast data came over time.
    Raises ValueError where the duration is negative or not finite.
    """

    __test__ = False  # no test class, though its name begins like one

    nodeid: str
    behaviour: str | None
    outcome: Outcome
    reason: str = ""
    duration: float = 0.0
    measurements: tuple[Measurement, ...] = ()
    lost: bool = False
    nics: tuple[NicBytes, ...] = ()
    processors: tuple[ProcessorUse, ...] = ()
    repeated: bool = False
    unrun: bool = False
    outcomes: tuple[Outcome, ...] = ()
    metrics: tuple[TrafficMetrics, ...] = ()
    notes: tuple[Note, ...] = ()
    causes: tuple[Cause, ...] = ()
    spent: Mapping[str, float] = field(default_factory=dict)
    artifacts: str = ""
    courses: tuple[Course, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration >= 0):
            raise ValueError(f"{self.nodeid}: a test cannot last {self.duration} s")
        object.__setattr__(self, "duration", float(self.duration))


@dataclass(frozen=True)
class Run:
    """One run: where, with what, when. ``link_rate`` is bit/s; ``tools`` maps names to versions.

    ``start`` and ``end`` are as :func:`moment` writes them, ``command`` is what pytest was called with, ``lag_driver`` is None
    where no LAG could be had. ``interrupted`` says that tests may be missing because the run was stopped.

    What former versions did not note: ``lab``, the name of the lab; ``revision`` of the suites, as the version control
    names it; ``hosts`` and ``cables`` of the testbed; ``planned``, the tests that were collected, None where that is not
    known; ``confidence`` of the intervals, None where there are none; ``durations`` (s) by what lasts so long;
    ``left_out``, the tests that were there and not run; ``uncollected``, what could not be collected; ``options`` that
    were in force beside the command line, by where they come from; ``changes``, the files that were not as their revision
    has them, each with what it was; ``family``, the version of IP, and ``mtu`` (bytes) of the links.
    """

    id: str
    target: str
    kernel: str
    lag_driver: str | None
    tools: Mapping[str, str]
    link_rate: float
    congestion_control: str
    start: str
    end: str
    command: tuple[str, ...] = ()
    interrupted: bool = False
    lab: str = ""
    revision: str = ""
    hosts: tuple[HostFacts, ...] = ()
    cables: tuple[CableFacts, ...] = ()
    planned: tuple[Planned, ...] | None = None
    confidence: float | None = None
    durations: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    uncollected: tuple[Uncollected, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    family: int = 4
    mtu: int = USUAL_MTU

    @property
    def kind(self) -> str:
        """What runs must have in common to be compared: the target, and the version of IP where it is not the usual one."""
        return self.target if self.family == 4 else f"{self.target}-ipv{self.family}"

    @property
    def link_rates(self) -> tuple[float, ...]:
        """The rates (bit/s) of the links that tests used, from the slowest; an emulated lab has one."""
        real = {cable.rate for cable in self.cables if cable.rate} if self.target == "physical" else set[float]()
        return tuple(sorted(real)) or (self.link_rate,)


@dataclass(frozen=True)
class Results:
    """A run and its tests, in the order in which they ended."""

    run: Run
    tests: tuple[TestResult, ...] = field(default=())

    def to_json(self) -> str:
        """Return the results as an indented JSON text. Raises UsageError where they do not fit the schema."""
        run = _slim("run", asdict(self.run))
        tests = [_slim("test", asdict(test)) for test in self.tests]
        for test in tests:
            test["measurements"] = [_slim("measurement", each) for each in test["measurements"]]
        document = _clean({"version": VERSION, "run": run, "tests": tests})
        validate(document)
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, check: bool = True) -> Results:
        """Return the results that a JSON text holds. Raises UsageError, naming the place, where it holds none.

        Without ``check`` the schema is not asked, which takes a second of a large run: for many runs of the past, of which
        one that is none is left out.
        """
        try:
            document = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"these are no results of channover: not JSON ({error})") from None
        if check:
            validate(document)
        try:
            tests = [
                TestResult(
                    **{
                        **test,
                        "measurements": tuple(Measurement(**one) for one in test["measurements"]),
                        "nics": tuple(NicBytes(**one) for one in test.get("nics", ())),
                        "processors": tuple(ProcessorUse(**one) for one in test.get("processors", ())),
                        "metrics": tuple(traffic_metrics(one) for one in test.get("metrics", ())),
                        "outcomes": tuple(test.get("outcomes", ())),
                        "notes": tuple(Note(**one) for one in test.get("notes", ())),
                        "causes": tuple(cause_of(one) for one in test.get("causes", ())),
                        "courses": tuple(course(one) for one in test.get("courses", ())),
                    }
                )
                for test in document["tests"]
            ]
            run = _run(document["run"])
        except (
            ValueError,
            OverflowError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:  # such as numbers beyond a float
            raise UsageError(f"these are no results of channover: {error}") from None
        return cls(run, tuple(tests))

    def write(self, path: Path) -> None:
        """Write the results to a file, whole or not at all. Raises OSError, and UsageError as :meth:`to_json` does."""
        write_whole(path, self.to_json())


def _run(plain: Mapping[str, Any]) -> Run:
    planned = plain.get("planned")
    return Run(
        **{
            **plain,
            "command": tuple(plain["command"]),
            "hosts": tuple(host_facts(host) for host in plain.get("hosts", ())),
            "cables": tuple(CableFacts(**cable) for cable in plain.get("cables", ())),
            "planned": None if planned is None else tuple(Planned(**test) for test in planned),
            "left_out": tuple(LeftOut(**test) for test in plain.get("left_out", ())),
            "uncollected": tuple(Uncollected(**one) for one in plain.get("uncollected", ())),
            "options": {origin: tuple(words) for origin, words in plain.get("options", {}).items()},
            "changes": tuple(plain.get("changes", ())),
        }
    )


@cache
def _left_out(section: str) -> Mapping[str, Any]:
    """Return a section's keys that the schema does not require, with the values at which they are left out."""
    required = schema()["$defs"][section]["required"]
    kinds: dict[str, Any] = {"run": Run, "test": TestResult, "measurement": Measurement}
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(kinds[section])
        if each.name not in required
    }


def _slim(section: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Return the data without what says nothing, so that a reader of former files can read it."""
    optional = _left_out(section)
    return {key: value for key, value in plain.items() if key not in optional or value != optional[key]}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _clean(value: Any) -> Any:
    """Return plain JSON data: tuples as lists, and text that UTF-8 can hold (a lone surrogate is spelt out)."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(entry) for entry in value]
    return value


@cache
def schema() -> Mapping[str, Any]:
    """Return the schema of the results file."""
    text = resources.files("channover.report").joinpath("results.schema.json").read_text("utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator  # here, since only the end of a run needs it

    return Draft202012Validator(schema())


def validate(document: Any) -> None:
    """Check a parsed results file against the schema. Raises UsageError with the first offending place."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(document))
    if error is not None:
        message = error.message if len(error.message) <= 200 else error.message[:199] + "…"
        raise UsageError(f"these are no results of channover: at {error.json_path}: {message}")
