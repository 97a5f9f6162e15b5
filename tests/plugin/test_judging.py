"""A comparison is a verdict: what a test compared counts, asserted or not, and a test that compares nothing shows nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import channover
from channover.report.allure.config import STATUS
from channover.report.comparison.compare import compare
from channover.report.deciding.decision import decide
from channover.report.deciding.endings import ended
from channover.report.results import Results, validate

PLUGINS = str(Path(channover.__file__).parent.parent)
HEAD = """
import pytest
from channover.testing import anything_but, at_least, behaviour, near
"""


@pytest.fixture
def user(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", PLUGINS)
    monkeypatch.setenv("COLUMNS", "200")
    return pytester


def run(user: pytest.Pytester, *options: str) -> pytest.RunResult:
    done = user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", *options)
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
    return done


def outcomes(user: pytest.Pytester) -> dict[str, tuple[str, str]]:
    text = (user.path / "reports" / "latest" / "results.json").read_text()
    validate(json.loads(text))
    return {test.nodeid.split("::")[-1]: (test.outcome, test.reason) for test in Results.from_json(text).tests}


COMPARED_NOTHING = (
    HEAD
    + """
@behaviour("MP-8")
def test_nothing():
    pass

@behaviour("MP-8")
@pytest.mark.parametrize("number", [1, 2])
def test_one_of_two(number, counted):
    if number == 1:
        assert counted("ports", number) == 1
    assert number + 1 > number, "a bare assert records nothing"

@pytest.fixture
def compared(counted):
    assert counted("ports", 2) == 2

@behaviour("MP-8")
def test_by_a_fixture(compared):
    pass

@behaviour("MP-8")
def test_a_value_is_not_compared(counted):
    counted("ports", 2)

@behaviour("MP-8")
def test_skipped():
    pytest.skip("not today")

@behaviour("MP-8")
@pytest.mark.xfail(reason="known", strict=True)
def test_known_to_compare_nothing():
    pass

def test_of_no_behaviour():
    assert True
"""
)


BESIDE = (
    HEAD
    + """
@behaviour("MP-8")
def test_a_count_beside_another(counted):
    counted("ports", 2)
    assert counted("links", 2) == 2

@behaviour("MP-8")
def test_a_list_beside_a_count(counted, listed):
    listed("pairs", {1, 2})
    assert counted("links", 2) == 2

@behaviour("MP-8")
def test_an_observation_beside_a_count(counted, observe):
    observe("temperature", 41.5)
    assert counted("links", 2) == 2

@behaviour("MP-8")
def test_all_are_compared(counted, listed, observe):
    for number in range(2):
        assert counted("links", number) == number
    assert listed("pairs", {1, 2}) >= {1}
    assert listed("pairs", {1}) != {2}
    assert observe("temperature", 41.5).scaled(2, "twice", "1") == 83
"""
)


@pytest.mark.lab
def test_a_value_that_was_made_and_not_compared_fails_its_test_whatever_else_was_compared(
    user: pytest.Pytester,
) -> None:
    user.makepyfile(BESIDE)
    run(user).assert_outcomes(passed=1, failed=3)
    found = outcomes(user)
    for test, name in (
        ("test_a_count_beside_another", "ports"),
        ("test_a_list_beside_a_count", "pairs"),
        ("test_an_observation_beside_a_count", "temperature"),
    ):
        assert found[test][1].startswith(f"compared nothing of {name}: made for nothing; ")


@pytest.mark.lab
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_behaviour_that_was_compared_with_nothing_fails(user: pytest.Pytester, options: tuple[str, ...]) -> None:
    user.makepyfile(COMPARED_NOTHING)
    done = run(user, *options)
    done.assert_outcomes(passed=3, failed=3, skipped=1, xfailed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    found = outcomes(user)
    words = (
        "compared nothing: nothing shows MP-8; compare what shows it, as in assert flow.goodput == near(…) or "
        'assert counted("ports", 2) == 2'
    )
    for name in ("test_nothing", "test_one_of_two[2]", "test_a_value_is_not_compared"):
        assert found[name] == ("failed", words)
    assert found["test_one_of_two[1]"] == found["test_by_a_fixture"] == ("passed", "")
    assert "Traceback" not in done.stdout.str()


@pytest.mark.lab
@pytest.mark.parametrize("option", ["--setup-plan", "--setup-only", "--dry-run"])
def test_what_runs_no_body_or_measures_nothing_has_nothing_to_compare(user: pytest.Pytester, option: str) -> None:
    user.makepyfile(
        HEAD
        + """
@behaviour("MP-8")
def test_nothing(lab):
    lab.left.run("echo", "1")

@behaviour("MP-8")
def test_made_up(lab, counted):
    assert counted("words", len(lab.left.run("echo", "1").stdout)) == 1
"""
    )
    done = run(user, option)
    assert done.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    said = done.stdout.str()
    assert " failed" not in said and "compared nothing" not in said
    if option == "--dry-run":
        assert " error" not in said
    else:
        words = ("error", "only set up and torn down: its body did not run")
        assert outcomes(user) == {"test_nothing": words, "test_made_up": words}


NO_ASSERT = (
    HEAD
    + """
from channover.errors import TestbedError
from channover.testing import Measured
from channover.verdict.causes.cause import Cause, Explanation
from channover.verdict.statistics import Estimate

@behaviour("MP-8")
def test_forgotten(counted):
    counted("ports", 1) == 2
    assert counted("links", 2) == 2

@behaviour("MP-8")
def test_caught(counted):
    with pytest.raises(AssertionError):
        assert counted("ports", 1) == 2

@behaviour("MP-8")
def test_two(counted):
    counted("ports", 1) == 2
    counted("links", 1) > 1

@behaviour("MP-8")
def test_either(counted):
    assert counted("ports", 1) == 2 or counted("ports", 1) == 1

@behaviour("MP-8")
def test_skipped_afterwards(counted):
    counted("ports", 1) == 2
    pytest.skip("too late")

@behaviour("MP-8")
def test_broken_afterwards(counted):
    counted("ports", 1) == 2
    raise TestbedError("left: sshd died")

@behaviour("MP-8")
def test_explained(channover_record):
    def rain(_):
        return Explanation((Cause("rain", "it rains", ("12 mm",), "wait"),), ("the street is wet",))

    rate = Measured(
        "goodput", known=Estimate(5e7, 1e5, 40), on_result=channover_record.readings.append, explain=rain
    )
    rate == near(9e7, why="one link")

@behaviour("MP-8")
@pytest.mark.xfail(reason="known")
def test_known(counted):
    counted("ports", 1) == 2

@pytest.fixture
def early(counted):
    counted("ports", 1) == 2

@pytest.fixture
def asserted_early(counted):
    assert counted("ports", 1) == 2

@pytest.fixture
def late(counted):
    yield
    counted("ports", 1) == 2

@pytest.fixture
def asserted_late(counted):
    yield
    assert counted("ports", 1) == 2

@pytest.fixture
def compares(counted):
    assert counted("links", 2) == 2

@behaviour("MP-8")
def test_early(early): pass

@behaviour("MP-8")
def test_asserted_early(asserted_early): pass

@behaviour("MP-8")
def test_late(late, compares): pass

@behaviour("MP-8")
def test_asserted_late(asserted_late, compares): pass

@behaviour("MP-8")
def test_wanted(counted):
    assert counted("ports", 1) != 2
    assert counted("ports", 1) == anything_but(2)
    assert not counted("ports", 1) != 1 or True

@behaviour("MP-8")
def test_negated(counted):
    assert counted("ports", 1) != 2
"""
)


@pytest.mark.lab
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_comparison_that_did_not_hold_fails_its_test_without_an_assert(
    user: pytest.Pytester, options: tuple[str, ...]
) -> None:
    user.makepyfile(NO_ASSERT)
    done = run(user, *options)
    found = outcomes(user)
    ports = "ports of 1, expected exactly 2"
    wanted = (
        "it was compared, so it counts, without an assert too; where that is wanted, write != or == anything_but(…)"
    )
    for name in ("test_forgotten", "test_caught", "test_either", "test_skipped_afterwards", "test_early", "test_late"):
        assert found[name] == ("failed", f"{ports}\n{wanted}"), name
    assert found["test_two"] == ("failed", f"{ports}\nlinks of 1, expected more than 1\n{wanted}")
    assert found["test_explained"] == (
        "failed",
        "goodput of 50 Mbit/s ± 0.1 Mbit/s, expected 89.1 Mbit/s to 90.9 Mbit/s (one link)\n"
        "most likely: it rains [rain, likely]\n  12 mm\n  remedy: wait\nthe street is wet\n" + wanted,
    )
    assert found["test_broken_afterwards"] == ("error", "left: sshd died")
    assert found["test_known"][0] == "failed", "what was expected to fail and did has failed"
    for name in ("test_asserted_early", "test_asserted_late"):
        assert found[name][0] == "failed" and ports in found[name][1]
    assert found["test_negated"] == ("passed", "")
    assert found["test_wanted"][0] == "failed" and "anything but 1" in found["test_wanted"][1]
    assert re.search(r"= 11 failed, .*1 error", done.stdout.str())
    assert done.ret == pytest.ExitCode.TESTS_FAILED


def test_a_test_of_no_behaviour_that_compared_is_judged_as_well(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import pytest

        def test_forgotten(counted):
            counted("ports", 1) == 2

        @pytest.fixture
        def late(counted):
            yield
            counted("ports", 1) == 2

        def test_late(late):
            pass

        def test_has_nothing_to_compare(counted):
            pass

        def test_made_and_not_compared(counted):
            counted("ports", 1)

        def test_listed_and_not_compared(listed):
            listed("ports", {1})

        def test_a_set(listed):
            listed("ports", {"a"}) == {"a", "b"}

        def test_has_no_truth_value(counted):
            assert counted("NICs used", 0)
        """
    )
    done = run(user)
    said = done.stdout.str()
    assert said.count("ports of 1, expected exactly 2") >= 3
    assert "missing: b" in said
    assert "NICs used of 0 has no truth value: compare it, as in == 2" in said
    assert said.count("compared nothing: nothing shows what was measured") >= 2
    assert re.search(r"= 5 failed, 2 passed, 1 error", said), said
    assert len(outcomes(user)) == 7, "each has its row, and the one that compares nothing of channover's has none"


@pytest.mark.lab
def test_a_testbed_error_that_a_test_hid_is_one_all_the_same(
    user: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.makepyfile(
        """
        from contextlib import suppress
        from channover.errors import TestbedError
        from channover.testing import behaviour
        from channover.testing import Measured, near
        from tests.unit.test_expect import Tape, steady

        @behaviour("MP-8")
        def test_hidden(channover_record, counted):
            tape = Tape(steady(92.8e6, 6e6), limit=60, disturbance="the processors had 0% of idle time")
            with suppress(TestbedError):
                Measured("goodput", source=tape, on_result=channover_record.readings.append) == near(94.15e6)
            assert counted("links", 1) == 1
        """
    )
    monkeypatch.setenv("PYTHONPATH", f"{PLUGINS}:{Path(__file__).parents[2]}")
    run(user)
    outcome, reason = outcomes(user)["test_hidden"]
    assert outcome == "error" and "no verdict: the processors had 0% of idle time" in reason


THREE_OUTCOMES = """
import pytest
from contextlib import suppress
from channover.errors import Inconclusive, TestbedError
from channover.testing import Measured, at_least, behaviour
from tests.unit.test_expect import Tape, steady

@pytest.fixture
def rate(channover_record):
    tape = Tape(steady(95e6, 3e6), limit=60)
    return Measured("goodput", source=tape, on_result=channover_record.readings.append)

@behaviour("MP-7")
def test_open(rate):
    assert rate == at_least(95e6)

@behaviour("MP-7")
def test_open_and_hidden(rate, counted):
    with suppress(Inconclusive):
        rate == at_least(95e6)
    assert counted("links", 1) == 1

@behaviour("MP-7")
@pytest.mark.xfail(reason="known")
def test_open_and_expected_to_fail(rate):
    assert rate == at_least(95e6)

@behaviour("MP-7")
def test_open_and_refused_on_the_way_out(rate):
    try:
        assert rate == at_least(95e6)
    finally:
        raise TestbedError("left: refused")

@behaviour("MP-6")
def test_broken(rate):
    raise TestbedError("left: sshd died")

@behaviour("MP-8")
def test_failed(rate, counted):
    with suppress(Inconclusive):
        rate == at_least(95e6)
    assert counted("links", 1) == 2

@behaviour("MP-4")
def test_met(rate):
    assert rate == at_least(50e6)
"""


@pytest.mark.lab
def test_what_was_not_settled_has_an_outcome_of_its_own_wherever_one_looks(
    user: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.makepyfile(THREE_OUTCOMES)
    monkeypatch.setenv("PYTHONPATH", f"{PLUGINS}:{Path(__file__).parents[2]}")
    done = run(user, "-v")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    found = outcomes(user)
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "test_open": "inconclusive",
        "test_open_and_hidden": "inconclusive",
        "test_open_and_expected_to_fail": "inconclusive",
        "test_open_and_refused_on_the_way_out": "inconclusive",
        "test_broken": "error",
        "test_failed": "failed",
        "test_met": "passed",
    }
    words = r"goodput of 9\d.* Mbit/s ± .*, expected at least 95 Mbit/s: INCONCLUSIVE: the interval still holds the bound of "
    assert all(re.match(words, reason) for outcome, reason in found.values() if outcome == "inconclusive")
    said = done.stdout.str()
    assert re.search(r"= 1 failed, 1 passed, 1 error, 4 inconclusive in", said), said[-1500:]
    assert "test_open INCONCLUSIVE" in said and re.search(r"= INCONCLUSIVE =", said)
    assert "1 passed, 1 failed, 4 inconclusive, 1 error in" in said
    results = Results.from_json((user.path / "reports" / "latest" / "results.json").read_text())
    decision = decide(results)
    assert decision.verdict == "NOT ACCEPTED"
    assert any(
        reason.startswith("MP-7: inconclusive (measured, and neither there nor not") for reason in decision.reasons
    )
    states = {nodeid.split("::")[-1]: end.state for nodeid, (_, end) in ended(results).items()}
    assert states["test_open"] == "inconclusive"
    assert STATUS["inconclusive"] not in (STATUS["failed"], STATUS["error"], STATUS["passed"], STATUS["skipped"])
    given = replace(results, tests=tuple(replace(one, outcome="passed") for one in results.tests))
    states = {nodeid.split("::")[-1]: end.state for nodeid, (_, end) in ended(given).items()}
    assert states["test_open"] == "inconclusive", "what is given as passed and was not settled has not passed"
    settled = replace(
        given,
        tests=tuple(
            replace(one, measurements=tuple(replace(each, settled=True) for each in one.measurements))
            for one in given.tests
        ),
    )
    changed = {(one.nodeid.split("::")[-1], one.before, one.after) for one in compare([results], [settled]).verdicts}
    assert {("test_open", "inconclusive", "passed"), ("test_broken", "error", "failed")} <= changed


@pytest.mark.lab
@pytest.mark.parametrize(
    ("chosen", "code"), [("test_open or test_met", 7), ("test_open or test_broken", 6), ("test_met", 0)]
)
def test_the_exit_code_tells_what_is_inconclusive_from_a_broken_testbed(
    user: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, chosen: str, code: int
) -> None:
    user.makepyfile(THREE_OUTCOMES)
    monkeypatch.setenv("PYTHONPATH", f"{PLUGINS}:{Path(__file__).parents[2]}")
    assert run(user, "-q", "-k", chosen, *(["-n", "2"] if code == 7 else [])).ret == code


MEASURED = """
import time
from channover.testing import Lag, TrafficGenerator, at_least, behaviour

@behaviour("LAG-1")
def test_only_measured(lag: Lag, tcp: TrafficGenerator):
    flow = tcp(lag.left, lag.right)
    time.sleep(0.5)
    flow.goodput.value

@behaviour("LAG-1")
def test_one_of_two(lag: Lag, tcp: TrafficGenerator):
    assert tcp(lag.left, lag.right).goodput >= 1
    tcp(lag.right, lag.left)

@behaviour("LAG-1")
def test_a_load_beside(lag: Lag, tcp: TrafficGenerator):
    tcp(lag.right, lag.left)
    assert tcp(lag.left, lag.right).goodput >= 1

@behaviour("LAG-1")
def test_two_loads(lag: Lag, tcp: TrafficGenerator, counted):
    tcp(lag.right, lag.left), tcp(lag.left, lag.right)
    assert counted("flows", 2) == 2

@behaviour("LAG-1")
def test_two_are_wanted(lag: Lag, tcp: TrafficGenerator):
    flow = tcp(lag.left, lag.right)
    assert flow.goodput >= 1
    assert flow.nics_used == 2

def test_of_no_behaviour(lag: Lag, tcp: TrafficGenerator):
    tcp(lag.left, lag.right)

def test_compared(lag: Lag, tcp: TrafficGenerator):
    assert tcp(lag.left, lag.right).goodput >= 1
"""


@pytest.mark.lab
@pytest.mark.timed
def test_a_flow_that_was_measured_and_not_compared_fails_its_test(user: pytest.Pytester) -> None:
    user.makepyfile(MEASURED)
    # No rate is judged, so one is chosen that a slow machine carries too.
    done = run(user, "--measure-limit", "2", "--link-rate", "20mbit")
    assert "no verdict: " not in done.stdout.str(), done.stdout.str()
    done.assert_outcomes(failed=5, passed=2)
    found = outcomes(user)
    assert found["test_only_measured"][1].startswith("compared nothing: nothing shows LAG-1; ")
    assert found["test_one_of_two"][1].startswith("compared nothing of tcp right→left: it was measured for nothing; ")
    assert found["test_two_loads"][1].startswith("compared nothing of tcp right→left: ")
    assert "compared nothing: nothing shows what was measured; " in done.stdout.str()
    both = "NICs used at left of 1, expected exactly 2\nNICs used at right of 1, expected exactly 2\n"
    assert found["test_two_are_wanted"][1].startswith(both)
    allure = (user.path / "reports" / "latest" / "allure-results").glob("*-result.json")
    (page,) = [text for file in allure if '"test_two_are_wanted"' in (text := file.read_text())]
    assert re.search(r"left\.[ab]: idle; right\.[ab]: idle", page), "the topology shows the idle NIC of each end"
