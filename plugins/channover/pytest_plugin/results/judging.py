"""What a test's comparisons come to: each of them is a verdict, asserted or not, and a test that measures makes one."""

from __future__ import annotations

import unittest
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from channover.errors import BehaviourFailed, Inconclusive, NotAllowed, TestbedError
from channover.pytest_plugin.results.outcomes import Instead
from channover.pytest_plugin.stash import LAB, RECORD

if TYPE_CHECKING:
    from channover.measure.record import Record
    from channover.verdict.measured import Reading

WANTED = "it was compared, so it counts, without an assert too; where that is wanted, write != or == anything_but(…)"
INSTEAD = 'compare what shows it, as in assert flow.goodput == near(…) or assert counted("ports", 2) == 2'


@contextmanager
def judged(item: pytest.Item) -> Iterator[None]:
    """Judge a test whose body has ended: what it compared counts, and it has to compare.

    After a verdict against, or none, the lab is read back and its cables are proved once more: no behaviour is accused of what
    a cable does, or of a setting that another program has changed.
    Raises ``pytest.fail.Exception``, TestbedError where that finds something, and either it or Inconclusive where the test
    hid one.
    """
    record = item.stash.get(RECORD, None)
    try:
        with _compared(record):
            yield
        return
    except (AssertionError, pytest.fail.Exception, Inconclusive, TestbedError) as error:
        against: BaseException = error
    if record is not None and (isinstance(against, BehaviourFailed) or not all(one.met for one in record.readings)):
        _require_lab(item, record)
    raise against


@contextmanager
def _compared(record: Record | None) -> Iterator[None]:
    try:
        yield
    except (pytest.skip.Exception, unittest.SkipTest, NotAllowed):
        if record is not None:
            _require_held(record.readings)
        raise
    if record is not None:
        _require_held(record.readings)
        _require_compared(record)


def _require_lab(item: pytest.Item, record: Record) -> None:
    """Raise TestbedError where the lab is not as asked for, or a cable not as stated: no comparison is a verdict then."""
    lab = item.stash.get(LAB, None)
    if lab is None:
        return
    from channover.hosts.readback import NOT_AS_ASKED, read_back, told
    from channover.scenarios import proving

    found: TestbedError | None = None
    with suppress(TestbedError):  # a host that does not answer is what the test has failed of
        if words := told(read_back(lab).unmet):
            found = TestbedError(words, NOT_AS_ASKED)
    if found is None and lab.probe is not None and (cables := proving.after_a_verdict(lab, record.waits)):
        found = proving.unfit(cables)
    if found is not None:
        undecided = f"no verdict: {found}"
        record.readings[:] = [
            one if one.met else replace(one, undecided=undecided, inconclusive="") for one in record.readings
        ]
        raise Instead(str(found), found.kind) from None


def judge_teardown(item: pytest.Item) -> None:
    """Judge what was compared while fixtures were torn down. Raises as :func:`judged` does."""
    if (record := item.stash.get(RECORD, None)) is not None:
        _require_held(record.readings[record.told :])


def missed(record: Record) -> bool:
    """Say whether a comparison of the phase that has just ended did not hold; its comparisons are told of then."""
    found = any(reading.missed for reading in record.readings[record.told :])
    record.told = len(record.readings)
    return found


def _require_held(readings: Sequence[Reading]) -> None:
    for reading in readings:
        if reading.undecided:
            raise TestbedError(reading.undecided, "processors")
    if not readings:
        return
    from channover.verdict.measured import explanation

    if lines := explanation(readings):
        pytest.fail("\n".join([*lines, WANTED]), pytrace=False)
    for reading in readings:
        if reading.inconclusive:
            raise Inconclusive(reading.inconclusive)


def _require_compared(record: Record) -> None:
    """Fail a test that states a behaviour, has measured or made values, and compared nothing; and each that was not compared.

    A flow that ran at once with something that was compared is its load: it may be left alone.
    """
    if not record.readings and (record.behaviour is not None or record.flows or record.nics or record.made):
        what = record.behaviour.id if record.behaviour is not None else "what was measured"
        pytest.fail(f"compared nothing: nothing shows {what}; {INSTEAD}", pytrace=False)
    compared = [reading.about for reading in record.readings if reading.about is not None]
    if left := [made.name for made in record.made if not any(one is made for one in compared)]:
        pytest.fail(f"compared nothing of {', '.join(dict.fromkeys(left))}: made for nothing; {INSTEAD}", pytrace=False)
    about = [one for one in compared if not any(one is made for made in record.made)]
    for flow in record.flows:
        if not any(one is flow for one in about) and not (flow.run.beside and about):
            pytest.fail(f"compared nothing of {flow.name}: it was measured for nothing; {INSTEAD}", pytrace=False)
