"""What a test leaves as properties of its reports, which ``--junitxml`` writes: the behaviour, the outcome, values, causes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from channover.text import printable

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

    import pytest

_DIGITS = 10


def record(report: pytest.TestReport, left: Mapping[str, Any], outcome: str) -> None:
    """Add to a test's last report what it left, as ``record_property`` would: a worker of xdist sends it along.

    JUnit's format knows failures, errors and skips alone: the property ``outcome`` tells what was inconclusive.
    """
    found = [("behaviour", left["behaviour"] or ""), ("outcome", outcome), *_values(left["measurements"])]
    found += [("cause", f"{one['id']}: {one['statement']}") for one in left["causes"] if outcome != "passed"]
    report.user_properties += [(printable(name), printable(value)) for name, value in found if value]


def _values(measurements: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each value as a plain number, with its unit in the name; of values of one name the second has a 2, and so on."""
    from channover.report.results import Measurement
    from channover.report.terminal import expectation, scale

    seen: Counter[tuple[str, str]] = Counter()
    for one in (Measurement(**plain) for plain in measurements):
        seen[one.name, one.unit] += 1
        number = seen[one.name, one.unit]
        name = one.name if number == 1 else f"{one.name} {number}"
        unit = "" if one.unit == "1" else f" ({one.unit})"
        if one.value is not None:
            yield f"{name}{unit}", f"{one.value:.{_DIGITS}g}"
        if one.uncertainty:
            yield f"{name} ±{unit}", f"{one.uncertainty:.{_DIGITS}g}"
        yield f"{name} expected", f"{expectation(one)} {scale(one.unit)}".rstrip()


def accuse_nobody(junit: Path) -> None:
    """Turn failures in JUnit's file into errors where the property ``outcome`` says that no behaviour failed.

    pytest calls a failure whatever was raised in a test's body: a broken testbed, and what was inconclusive, too.
    """
    if not junit.is_file():
        return  # a pipe, or pytest could not write it
    from xml.etree import ElementTree

    with suppress(OSError, ElementTree.ParseError):
        tree = ElementTree.parse(junit)
        if sum([_turn(suite) for suite in tree.iter("testsuite")]):
            tree.write(junit, encoding="utf-8", xml_declaration=True)


def _turn(suite: Element) -> int:
    """Turn a suite's failures that are none into errors, count them as such, and return how many there were."""
    found = []
    for case in suite.iter("testcase"):
        outcomes = {one.get("value") for one in case.iter("property") if one.get("name") == "outcome"}
        found += case.findall("failure") if outcomes & {"error", "inconclusive"} else []
    for one in found:
        one.tag = "error"
    for count, more in (("failures", -len(found)), ("errors", len(found))):
        suite.set(count, str(int(suite.get(count, "0")) + more))
    return len(found)
