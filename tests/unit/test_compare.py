"""What changed between two runs: changes are told from noise."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channover.errors import UsageError
from channover.report.comparison.compare import Comparison, Difference, Verdict, compare
from channover.report.comparison.table import render, to_json
from channover.report.facts import HostFacts, NicFacts, Planned
from channover.report.results import Measurement, Results
from channover.verdict.significance import Spread, holm, of_groups, of_intervals, of_runs, of_succession, pooled
from channover.verdict.statistics import estimate
from channover.verdict.student import student_tails
from tests.support import runs
from tests.support.commands import command


def run_of(rate: float, half: float | None = 3e5, **changes: Any) -> Results:
    low, high = 0.99 * rate, 1.01 * rate
    measured = replace(runs.RATE, value=rate, uncertainty=half, expected=rate, low=low, high=high)
    return runs.results(runs.test("MP-1", measurements=[measured, runs.NICS]), **changes)


def rates(found: Comparison) -> Difference:
    (one,) = [each for each in found.differences if each.name == "goodput"]
    return one


def test_a_difference_beyond_noise_and_floor_is_a_change() -> None:
    found = compare([run_of(94e6)], [run_of(80e6)])
    assert rates(found).kind == "changed" and found.significant
    assert rates(found).share == pytest.approx(-0.14)  # of the link's rate


@pytest.mark.parametrize(
    ("after", "half"),
    [(93.2e6, 1e5), (94e6, 3e5), (80e6, 2e7)],
    ids=["below the floor", "none", "within the intervals"],
)
def test_a_difference_within_noise_or_floor_is_none(after: float, half: float) -> None:
    found = compare([run_of(94e6, half)], [run_of(after, half)])
    assert rates(found).kind == "same" and not found.significant


def test_a_value_that_is_expected_closely_changes_by_less() -> None:
    def loose(rate: float) -> Results:
        value = replace(runs.RATE, value=rate, low=9e7, high=None, expected=None, uncertainty=3e5)
        return runs.results(runs.test("MP-1", measurements=[value]))

    assert rates(compare([run_of(94e6)], [run_of(91e6)])).kind == "changed", "94.15 ± 0.95 is expected"
    assert rates(compare([loose(94e6)], [loose(91e6)])).kind == "same", "90 or more is expected"
    assert rates(compare([run_of(94e6)], [run_of(91e6)])).floor == pytest.approx(0.01)
    assert rates(compare([loose(94e6)], [loose(91e6)])).floor == 0.05


def test_the_floor_can_be_told() -> None:
    former = [run_of(value) for value in (94e6, 94.02e6, 93.99e6, 94.01e6, 94e6, 93.98e6)] * 4
    assert rates(compare([run_of(94e6, 1e5)], [run_of(93.2e6, 1e5)], former=former)).kind == "same", "below 1 %"
    assert rates(compare([run_of(94e6, 1e5)], [run_of(93.2e6, 1e5)], 0.005, former)).kind == "changed"
    assert rates(compare([run_of(94e6)], [run_of(80e6)], least=0.2)).kind == "same"


def test_repetitions_know_the_noise_between_runs() -> None:
    # each run is sure of itself, but runs differ
    noisy = [run_of(value, 1e4) for value in (94e6, 84e6, 90e6)]
    others = [run_of(value, 1e4) for value in (85e6, 93e6, 87e6)]
    assert rates(compare(noisy[:1], others[:1])).kind == "changed"
    assert rates(compare(noisy, others)).kind == "same"
    steady = [run_of(value, 1e4) for value in (94.0e6, 94.1e6, 94.05e6)]
    slower = [run_of(value, 1e4) for value in (92.0e6, 92.1e6, 92.05e6)]
    found = compare(steady, slower)
    assert rates(found).kind == "changed" and "of 3 and 3 runs, and a usual one" in found.method


def test_every_run_of_a_side_counts_for_the_chance_whichever_comes_first() -> None:
    # one slow run among three that are as before; and its mirror image
    slow, usual = run_of(78e6, 1e4), [run_of(value, 1e4) for value in (94.1e6, 93.9e6)]
    for order in ([slow, *usual], [*usual, slow]):
        for found in (compare([run_of(94e6, 1e4)], order), compare(order, [run_of(94e6, 1e4)])):
            assert abs(rates(found).share or 0.0) > 0.05 and rates(found).kind == "same", found
            assert found.method.startswith("Student's test with the spread between runs (of ")
    # three that are slower alike, though the first of them was not sure of itself
    slower = [run_of(84e6, 3e7), run_of(84.1e6, 1e4), run_of(83.9e6, 1e4)]
    for order in (slower, slower[::-1]):
        for found in (compare([run_of(94e6, 1e4)], order), compare(order, [run_of(94e6, 1e4)])):
            assert rates(found).kind == "changed", found
    # of a single run that took no interval, the repetitions know the noise
    assert rates(compare([run_of(94e6, None)], slower)).kind == "changed"
    assert rates(compare([run_of(84e6, None)], slower)).kind == "same"


def test_counts_are_exact() -> None:
    before = runs.results(runs.test("MP-2", measurements=[replace(runs.NICS, value=100.0)]))
    after = runs.results(runs.test("MP-2", measurements=[replace(runs.NICS, value=99.0)]))
    (found,) = compare([before], [after]).differences
    assert found.kind == "changed" and found.share == pytest.approx(-0.01)


def test_what_was_taken_once_has_unknown_noise_and_is_no_change() -> None:
    found = compare([run_of(94e6, None)], [run_of(50e6, None)])
    assert rates(found).kind == "noise unknown" and not found.significant
    assert "noise unknown −46.8%" in render(found, width=140)
    assert "the noise is not known" in " ".join(render(found).split())


def test_verdicts_and_tests_that_came_or_went_are_changes() -> None:
    before = runs.results(runs.test("LAG-1"), runs.test("LAG-2"), runs.test("LAG-3"))
    after = runs.results(
        runs.test("LAG-1", "failed", "no"),
        runs.test("LAG-4"),
        more_planned=[Planned("suites/test_any.py::test_lag_3", "LAG-3")],
    )
    found = compare([before], [after])
    states = [(each.behaviour, each.before, each.after) for each in found.verdicts]
    assert states == [
        ("LAG-1", "passed", "failed"),
        ("LAG-2", "passed", None),
        ("LAG-3", "passed", "not reported"),
        ("LAG-4", None, "passed"),
    ]
    assert found.significant
    table = render(found)
    assert "verdict" in table and "removed" in table and "added" in table and "2 tests came or went" in table


def test_changed_facts_are_told_and_are_no_change_by_themselves() -> None:
    nic = NicFacts("a", "eth0", "ice", "4.40")
    before = run_of(94e6, hosts=(HostFacts("left", "host", "6.1", (nic,)),), kernel="6.1")
    after = run_of(
        94e6,
        hosts=(HostFacts("left", "host", "6.12", (replace(nic, firmware="4.50"),)),),
        kernel="6.12",
        tools={"iperf3": "3.19"},
    )
    found = compare([before], [after])
    facts = {each.name: (each.before, each.after) for each in found.facts}
    assert facts["kernel"] == ("6.1", "6.12") and facts["left.a: firmware"] == ("4.40", "4.50")
    assert facts["left: kernel or firmware"] == ("6.1", "6.12") and facts["iperf3"] == ("3.12", "3.19")
    assert "openvpn" in facts and "left.a: driver" not in facts and not found.significant


def test_different_targets_are_not_compared() -> None:
    with pytest.raises(UsageError, match=r"different targets.*netns, physical"):
        compare([run_of(94e6)], [run_of(94e6, target="physical")])


def test_a_name_that_comes_twice_is_compared_in_its_order() -> None:
    first, second = replace(runs.RATE, value=20e6), replace(runs.RATE, value=90e6)
    results = runs.results(runs.test(measurements=[first, second]))
    assert not compare([results], [results]).significant
    assert [each.before and each.before.mean for each in compare([results], [results]).differences] == [20e6, 90e6]


def test_json_says_the_same() -> None:
    found = compare([run_of(94e6)], [run_of(80e6)])
    document = json.loads(to_json(found))
    assert document["significant"] is True and document["target"] == "netns"
    assert document["differences"][0]["kind"] == "changed" and document["differences"][0]["after"]["mean"] == 80e6


def test_any_text_is_shown_and_lines_fit() -> None:
    odd = compare([runs.odd()], [runs.odd()])
    text = render(replace(odd, verdicts=(Verdict(None, "\x1b[31m" + "x" * 500, "passed", "failed"),)))
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 100
    assert json.loads(to_json(odd))["significant"] is False


def test_real_runs_that_differ_by_nothing_but_chance_are_the_same() -> None:
    # as real as a test can have them: correlated samples of a steady rate, estimated as flows are
    chance = random.Random(7)

    def once(seed_rate: float) -> Results:
        tests = []
        for number in range(30):
            samples, last = [], 0.0
            for _ in range(60):
                last = 0.5 * last + chance.gauss(0, 2e6)
                samples.append(seed_rate + last)
            found = estimate(samples)
            value = Measurement("goodput", found.mean, "bit/s", uncertainty=found.half, samples=found.samples)
            tests.append(runs.test("MP-1", name=f"t[{number}]", measurements=[value]))
        return runs.results(*tests)

    assert sum(compare([once(94e6)], [once(94e6)], least=0.0).significant for _ in range(40)) <= 2
    assert all(compare([once(94e6)], [once(70e6)]).significant for _ in range(5))


def test_student_and_holm_are_those_of_the_tables() -> None:
    for t, freedom, both in [(12.706, 1, 0.05), (4.303, 2, 0.05), (3.499, 7, 0.01), (5.408, 7, 0.001), (0.0, 5, 1.0)]:
        assert student_tails(t, freedom) == pytest.approx(both, rel=1e-3)
    assert of_intervals(1.0, 0.0, 0.0, 0.99) == 0.0 and of_intervals(0.0, 0.0, 0.0, 0.99) == 1.0
    assert of_intervals(5.0, 3.0, 4.0, 0.99) == pytest.approx(0.01, rel=1e-2)
    constant = Spread(0.0, 4.0)
    assert of_groups([1.0, 1.0], [2.0, 2.0], constant) == 0.0 and of_groups([1.0, 1.0], [1.0, 1.0], constant) == 1.0
    # two samples of which the answer is known: t = 2.8284, 8 degrees of freedom
    one, other = [1.0, 2.0, 3.0, 4.0, 5.0], [3.83, 4.83, 5.83, 6.83, 7.83]
    together = pooled([of_runs(one), of_runs(other)], None)
    assert together is not None and of_groups(one, other, together) == pytest.approx(0.0222, abs=2e-4)
    # the prediction of one more value: t = (8 - 3) / (1.5811 * sqrt(1 + 1/5)) = 2.8868, 4 degrees of freedom
    assert of_groups([8.0], one, Spread(2.5, 4.0)) == pytest.approx(student_tails(2.88675, 4), rel=1e-5)
    assert of_runs(one) == Spread(2.5, 4.0) and of_runs([1.0]) is None
    # one step of level counts once: of twelve values the variance would be 27
    stepped = of_succession([0.0] * 6 + [10.0] * 6)
    assert stepped is not None
    assert stepped.variance == pytest.approx(100 / 22) and stepped.freedom == pytest.approx(22 / 3)
    assert holm([0.004, 0.02, 0.006], 0.01) == [False, False, False]
    assert holm([0.003, 0.02, 0.004], 0.01) == [True, False, True]


def test_the_command_says_it_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = runs.saved(run_of(94e6), tmp_path / "one"), runs.saved(run_of(80e6), tmp_path / "other")
    assert command("compare", one, one / "results.json") == 0
    assert "0 verdicts and 0 of 2 values changed" in " ".join(capsys.readouterr().out.split())
    assert command("compare", one, other) == 1
    assert command("compare", one, other, "--least", "20") == 0
    assert command("compare", one, other, "--json") == 1
    capsys.readouterr()
    assert command("compare", one, "--with", other, one) == 0, "one of two is as before"
    assert command("compare", one, one, one, "--with", other, other, other) == 1
    capsys.readouterr()
    assert command("compare", one, other, one) == 2, "which side is the third on?"
    assert command("compare", one, tmp_path / "none") == 2
    assert command("compare", one, other, "--least", "-3") == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_two_runs_of_the_same_code_differ_by_more_than_the_noise_within_them() -> None:
    def run(rate: float) -> Results:
        value = replace(runs.RATE, value=rate, low=175e6, high=None, expected=185e6, uncertainty=4e5)
        return runs.results(runs.test("MP-1", measurements=[value]))

    assert rates(compare([run(184e6)], [run(171e6)])).kind == "same", "7 %: as two runs of the same code may"
    steady = [run(value) for value in (184e6, 184.4e6, 183.7e6, 184.2e6, 183.9e6, 184.1e6, 184.3e6)]
    assert rates(compare([run(184e6)], [run(171e6)], former=steady)).kind == "changed", "not those of this lab"
    restless = [run(value) for value in (184e6, 176e6, 185e6, 171e6, 180e6, 185e6, 174e6)]
    assert rates(compare([run(184e6)], [run(171e6)], former=restless)).kind == "same"
    found = compare([run(184e6)], [run(171e6)], former=steady)
    assert "7 former runs" in found.method and "taken as usual" in compare([run(184e6)], [run(171e6)]).method


def test_counts_that_former_runs_show_to_vary_are_not_exact() -> None:
    def run(lost: float) -> Results:
        return runs.results(runs.test("TUN-6", measurements=[replace(runs.NICS, name="datagrams lost", value=lost)]))

    (found,) = compare([run(2)], [run(5)]).differences
    assert found.kind == "changed"
    (found,) = compare([run(2)], [run(5)], former=[run(lost) for lost in (0, 4, 1, 6, 2, 3)]).differences
    assert found.kind == "same"


def test_facts_are_those_of_every_run_of_a_side() -> None:
    one, other, third = (run_of(94e6, kernel=kernel) for kernel in ("6.1", "6.12", "6.18"))
    facts = {each.name: (each.before, each.after) for each in compare([one, other], [other, third]).facts}
    assert facts["kernel"] == ("6.1, 6.12", "6.12, 6.18")
    assert "kernel" not in {each.name for each in compare([one, other], [other, one]).facts}


def test_former_runs_in_the_same_folder_tell_how_much_runs_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def save(day: int, rate: float, **changes: Any) -> Path:
        value = replace(runs.RATE, value=rate, low=150e6, high=None, expected=185e6, uncertainty=4e5)
        run = {"id": f"202601{day:02}T120000Z-0", "start": f"2026-01-{day:02}T12:00:00.000Z", **changes}
        return runs.saved(runs.results(runs.test("MP-1", measurements=[value]), **run), tmp_path / str(run["id"]))

    one, other = save(20, 184e6), save(21, 171e6)
    assert command("compare", one, other) == 0
    for day in range(1, 9):
        save(day, 171e6 + 13e6 * (day % 2), lab="of another lab")
    assert command("compare", one, other) == 0
    for day in range(9, 17):
        save(day, 184e6 + 2e5 * (day % 3))
    (tmp_path / "20260118T120000Z-0").mkdir()
    (tmp_path / "20260118T120000Z-0" / "results.json").write_text('{"run": []}')
    assert command("compare", one, other) == 1
    assert "of 8 former runs" in " ".join(capsys.readouterr().out.split())
    assert command("compare", one, other, "--former", tmp_path / "nowhere") == 0


def test_runs_of_two_families_are_not_compared_and_another_mtu_is_told() -> None:
    with pytest.raises(UsageError, match="over IPv4 and over IPv6 cannot be compared"):
        compare([run_of(94e6)], [run_of(93e6, family=6)])
    with pytest.raises(UsageError, match="over IPv4 and over IPv6 cannot be compared"):
        compare([run_of(94e6), run_of(94e6, family=6)], [run_of(94e6)])
    jumbo = compare([run_of(94e6, family=6)], [run_of(94e6, family=6, mtu=9000)])
    assert [(one.name, one.before, one.after) for one in jumbo.facts] == [("MTU, bytes", "1500", "9000")]
