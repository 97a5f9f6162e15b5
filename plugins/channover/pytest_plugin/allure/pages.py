"""Each test's page in the report, and the packets of its lab: taken while the lab is there, written when the test is over."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from channover.errors import TestbedError
from channover.pytest_plugin.results import artifacts, marks
from channover.pytest_plugin.stash import CAPTURES, FAULTS, LAB, MACHINES, PHASES, RECORD
from channover.pytest_plugin.testbed import TESTBED

if TYPE_CHECKING:
    from channover.measure.record import Record


def meet(request: pytest.FixtureRequest, name: str, made: object) -> None:
    """Learn of the test's lab, and start to capture its packets where that is asked for. Raises TestbedError."""
    if name != "lab" or not isinstance(request.node, pytest.Item) or RECORD not in request.node.stash:
        return
    from channover.hosts.lab import Lab
    from channover.observe.captures import Captures
    from channover.pytest_plugin.allure.page_facts import machines

    if isinstance(made, Lab):
        request.node.stash[LAB] = made
        if made.switches:
            from channover.pytest_plugin.allure import switches

            switches.meet(request.node, made)
        wanted = request.config.stash[TESTBED].settings
        if wanted.target == "physical" and not wanted.place.dry_run:
            request.node.stash[MACHINES] = machines(made)
        if wanted.pcap != "never":
            request.node.stash[CAPTURES] = Captures(made.hosts.values(), wanted.pcap_size)


def look(item: pytest.Item) -> TestbedError | None:
    """Look at what failed, and take the captures, while the lab is still there; return why that could not be done."""
    record = item.stash.get(RECORD, None)
    lab = item.stash.get(LAB, None)
    if record is None or lab is None:
        return None
    from channover.pytest_plugin.allure.page_facts import faults

    if record.failed:
        with contextlib.suppress(TestbedError):  # a host that does not answer is what the test has failed of
            item.stash[FAULTS] = faults(lab, record)
    if lab.switches:
        from channover.pytest_plugin.allure import switches

        switches.look(item, lab, record)
    try:
        _attach(item, record)
    except TestbedError as error:
        return error
    return None


def _attach(item: pytest.Item, record: Record) -> None:
    captures = item.stash.get(CAPTURES, None)
    if captures is None:
        return
    import allure

    from channover.observe.captures import LIMIT

    always = item.config.stash[TESTBED].settings.pcap == "always"
    for one in captures.stop(keep=always or record.failed):
        name = f"packets of {one.host}.{one.nic}" + (f", the first {LIMIT >> 20} MiB" if one.cut else "")
        allure.attach(one.content, name, allure.attachment_type.PCAP)
        artifacts.take_packets(item, one)


def tell(item: pytest.Item, report: pytest.TestReport) -> None:
    """Write the test's page when it is over."""
    record = item.stash.get(RECORD, None)
    if record is None or not marks.takes_part(item):
        return
    item.stash.setdefault(PHASES, []).append(report)
    if report.when == "teardown":
        import allure

        from channover.pytest_plugin.allure.evidence import draw
        from channover.pytest_plugin.allure.page_facts import page_of

        draw(record)
        dynamic: Any = allure.dynamic
        dynamic.description_html(page_of(item, record))
