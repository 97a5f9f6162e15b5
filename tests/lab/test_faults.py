"""Rows of the fault matrix that take seconds: the suites' own tests keep from passing, and say why, in labs broken on purpose.

All rows are run by ``make faults`` (:mod:`tests.faults.run`).
"""

from __future__ import annotations

import pytest

from tests.faults.fault import Fault
from tests.faults.run import run_row, told
from tests.faults.table import ROWS


@pytest.mark.lab
@pytest.mark.timed
@pytest.mark.parametrize("fault", [row for row in ROWS if row.quick], ids=lambda row: row.id)
def test_a_fault_is_caught_and_named(fault: Fault) -> None:
    row = run_row(fault)
    assert row.good, f"{told(row)}\n{row.seen}\n{row.words}"
