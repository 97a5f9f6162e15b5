"""What a run's decision rests on, tried as a user would run it: pytest's own command line, alone and with workers."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

import channover
from channover.report.deciding.decision import Decision, decide
from channover.report.results import Results
from channover.report.signoff import certificate
from tests.support.certificates import Page
from tests.support.workers import WORKERS

pytestmark = pytest.mark.lab

PLUGINS = str(Path(channover.__file__).parent.parent)
GOOD = """
from channover.testing import behaviour

@behaviour("MP-8")
def test_one(counted):
    assert counted("ports", 1) == 1

@behaviour("MP-7")
def test_other(counted):
    assert counted("ports", 1) == 1
"""
BROKEN = "import no_such_module\n"
FAILS_ONCE = """
import os
from pathlib import Path
import pytest
from channover.testing import behaviour

def fails():
    try:
        Path("failed").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

@behaviour("MP-8")
def test_one(counted):
    assert not fails()
    assert counted("ports", 1) == 1
"""


@pytest.fixture
def user(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", PLUGINS)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return pytester


def run(user: pytest.Pytester, *options: str) -> pytest.RunResult:
    done = user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", *options)
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
    return done


def results(user: pytest.Pytester) -> Results:
    return Results.from_json((user.path / "reports/latest/results.json").read_text("utf-8"))


def decided(user: pytest.Pytester, *options: str) -> Decision:
    run(user, *options)
    return decide(results(user))


def sheet(user: pytest.Pytester) -> str:
    """The first sheet's text; the annexes begin behind it."""
    now = datetime.now(timezone.utc)
    page = certificate.write(user.path / "reports/latest", now=now, pdf=False).page.read_text("utf-8")
    return Page(page[: page.index('<section class="annex">')]).text


def annexes(user: pytest.Pytester) -> str:
    page = (user.path / "reports/latest/certificate.html").read_text("utf-8")
    return Page(page[page.index('<section class="annex">') :]).text


# --------------------------------------------------------------------------------------------------------- the plan


@WORKERS
def test_a_file_that_could_not_be_collected_is_not_accepted_though_the_run_went_on(
    user: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    user.makepyfile(test_good=GOOD, test_broken=BROKEN)
    found = decided(user, "--continue-on-collection-errors", *workers)
    assert found.verdict == "NOT ACCEPTED"
    assert found.incomplete == (
        "could not be collected: test_broken.py (ModuleNotFoundError: No module named 'no_such_module')",
    )
    assert {each.state for each in found.behaviours} == {"passed"}
    assert found.incomplete[0] in sheet(user)


@pytest.mark.parametrize("options", [(), ("--continue-on-collection-errors",)])
def test_a_worker_that_could_not_collect_spoils_the_run(user: pytest.Pytester, options: tuple[str, ...]) -> None:
    user.makepyfile(test_good=GOOD, test_some="import os\nassert os.environ['PYTEST_XDIST_WORKER'] == 'gw0'\n" + GOOD)
    done = run(user, "-n", "2", *options)
    assert done.ret != 0
    if (user.path / "reports").exists():
        found = decide(results(user))
        assert found.verdict == "NOT ACCEPTED" and any("test_some.py" in one for one in found.incomplete)


@WORKERS
def test_a_run_that_ends_with_errors_of_collection_leaves_no_results(
    user: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    user.makepyfile(test_good=GOOD, test_broken=BROKEN)
    assert run(user, *workers).ret != 0
    assert not (user.path / "reports").exists()


@WORKERS
def test_a_file_that_skips_itself_is_not_accepted(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    user.makepyfile(
        test_good=GOOD, test_shy="import pytest\npytest.skip('not today', allow_module_level=True)\n" + GOOD
    )
    found = decided(user, *workers)
    assert found.verdict == "NOT ACCEPTED"
    assert found.incomplete == ("skipped as a whole: test_shy.py (not today)",)


@pytest.mark.parametrize("options", [("--setup-plan",), ("--setup-only",), ("--setup-only", "-n", "2")], ids=" ".join)
def test_a_run_without_bodies_is_not_accepted(user: pytest.Pytester, options: tuple[str, ...]) -> None:
    user.makepyfile(test_good=GOOD)
    found = decided(user, *options)
    assert found.verdict == "NOT ACCEPTED" and {each.state for each in found.behaviours} == {"not reported"}
    assert found.incomplete[0].startswith("only set up and torn down, no body ran: test_good.py::")
    assert "no body ran" in sheet(user)


@pytest.mark.parametrize(
    "options",
    [
        ("--dry-run",),
        ("--fixtures",),
        ("--collect-only",),
        pytest.param(("--fixtures-per-test",), marks=pytest.mark.slow),
        pytest.param(("--fixtures", "-n", "2"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_what_measures_nothing_leaves_nothing_and_moves_no_link(
    user: pytest.Pytester, options: tuple[str, ...]
) -> None:
    user.makepyfile(test_good=GOOD)
    user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", *options)
    assert not (user.path / "reports").exists()
    run(user)
    before = sorted(user.path.glob("reports/*")), os.readlink(user.path / "reports/latest")
    user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", *options)
    assert (sorted(user.path.glob("reports/*")), os.readlink(user.path / "reports/latest")) == before


def test_fixtures_are_listed_without_a_word_to_hosts(user: pytest.Pytester) -> None:
    user.makepyfile(test_good=GOOD)
    (user.path / "labs.yaml").write_text(
        "labs: {one: {hosts: {left: {ssh: {address: 127.0.0.1, port: 1}, management: lo, nics: {a: eth1, b: eth2}}, "
        "right: {ssh: {address: 127.0.0.1, port: 2}, management: lo, nics: {a: eth1, b: eth2}}}, "
        "cables: [{ends: [left.a, right.a], rate: 1gbit}, {ends: [left.b, right.b], rate: 1gbit}]}}\n"
    )
    done = run(user, "--fixtures", "--target=physical", "--inventory=labs.yaml")
    assert done.ret == 0 and "cannot reach" not in done.stdout.str() + done.stderr.str()


# ----------------------------------------------------------------------------------------------------------- reports


@pytest.mark.parametrize(
    "options",
    [("--keep-duplicates", "test_it.py", "test_it.py"), ("--dist", "each", "--tx", "2*popen")],
    ids=["twice", "each"],
)
def test_a_test_that_was_reported_twice_counts_as_its_worst_report(
    user: pytest.Pytester, options: tuple[str, ...]
) -> None:
    user.makepyfile(test_it=FAILS_ONCE)
    found = decided(user, *options)
    assert found.verdict == "NOT ACCEPTED"
    (judged,) = found.behaviours
    assert judged.state == "failed"
    (told,) = results(user).tests
    assert sorted(told.outcomes) == ["failed", "passed"]
    assert "reported more than once, the worst report counts: test_it.py::test_one" in sheet(user)
    assert decided(user, *options).verdict == "ACCEPTED", "both passed"
    assert results(user).tests[0].outcomes == ("passed", "passed")


def test_repeats_by_a_parameter_are_tests_of_their_own(user: pytest.Pytester) -> None:
    user.makeconftest(
        "def pytest_generate_tests(metafunc):\n"
        "    metafunc.fixturenames.append('_again')\n"
        "    metafunc.parametrize('_again', range(3), indirect=True)\n"
        "import pytest\n"
        "@pytest.fixture\n"
        "def _again(request): pass\n"
    )
    user.makepyfile(test_it=FAILS_ONCE)
    found = decided(user)
    assert found.verdict == "NOT ACCEPTED" and "1 failed, 2 passed" in found.reasons[0]


RERUNS = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        if {said}:
            for report in reports[:2]:
                report.outcome = "rerun" if report.failed else report.outcome
                item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
"""What pytest-rerunfailures does, and what a plugin does that keeps the first try to itself."""


@WORKERS
@pytest.mark.parametrize("said", [True, False], ids=["reported", "hidden"])
def test_a_rerun_does_not_undo_a_failure(user: pytest.Pytester, workers: tuple[str, ...], said: bool) -> None:
    user.makeconftest(RERUNS.format(said=said))
    user.makepyfile(test_it=FAILS_ONCE)
    done = run(user, *workers)
    assert done.ret == 0, "pytest takes the last try"
    found = decide(results(user))
    assert found.verdict == "NOT ACCEPTED" and found.behaviours[0].state == "failed"
    if not said:
        assert "reported as passed" in results(user).tests[0].reason


@WORKERS
@pytest.mark.parametrize("way", ["changed", "replaced"])
def test_a_report_that_a_conftest_rewrites_does_not_count(
    user: pytest.Pytester, workers: tuple[str, ...], way: str
) -> None:
    change = {
        "changed": "report.outcome, report.longrepr = 'passed', None\n    return report",
        "replaced": "return pytest.TestReport(report.nodeid, report.location, {}, 'passed', None, report.when)",
    }[way]
    user.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        f"    report = yield\n    {change}\n"
    )
    user.makepyfile(test_good=GOOD, test_it=FAILS_ONCE)
    assert run(user, *workers).ret == 0
    found = decide(results(user))
    assert found.verdict == "NOT ACCEPTED"
    reasons = {test.nodeid: test.reason for test in results(user).tests}
    assert "conftest.py" in reasons["test_it.py::test_one"]


@WORKERS
def test_a_failing_test_of_no_behaviour_spoils_the_run(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    user.makepyfile(test_good=GOOD + "\ndef test_plain():\n    assert False, 'no'\n\ndef test_fine():\n    pass\n")
    found = decided(user, *workers)
    assert found.verdict == "NOT ACCEPTED"
    assert found.incomplete == ("a test of no behaviour failed or was lost: test_good.py::test_plain",)
    assert found.incomplete[0] in sheet(user)


def test_unittests_count_as_others_do(user: pytest.Pytester) -> None:
    user.makepyfile(
        test_good=GOOD,
        test_unit="import unittest\nclass Case(unittest.TestCase):\n    def test_bad(self): self.fail('no')\n",
    )
    assert decided(user).incomplete == ("a test of no behaviour failed or was lost: test_unit.py::Case::test_bad",)


@WORKERS
def test_a_process_that_ends_itself_is_not_accepted(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    user.makepyfile(test_good=GOOD + "\ndef test_z():\n    import os\n    os._exit(0)\n")
    run(user, *workers)
    assert decide(results(user)).verdict == "NOT ACCEPTED"


@pytest.mark.parametrize("words", ["import sys; sys.exit(0)", "import pytest; pytest.exit('enough', returncode=0)"])
def test_a_conftest_that_ends_the_run_with_zero_is_not_accepted(user: pytest.Pytester, words: str) -> None:
    user.makeconftest(f"def pytest_runtest_setup(item):\n    if item.name == 'test_other':\n        {words}\n")
    user.makepyfile(test_good=GOOD)
    assert decided(user).verdict == "NOT ACCEPTED"


# ------------------------------------------------------------------------------------------------------------- marks

WRONG = {
    "none": ("pytest.mark.behaviour()", "@behaviour(): a behaviour mark has one argument"),
    "int": ("pytest.mark.behaviour(8)", "@behaviour(8): a behaviour mark has one argument"),
    "two words": ('pytest.mark.behaviour("MP-8", "MP-7")', "a behaviour mark has one argument"),
    "keyword": ('pytest.mark.behaviour(id="MP-8")', "@behaviour(id='MP-8'): a behaviour mark has one argument"),
    "unknown": ('pytest.mark.behaviour("MP-88")', "no behaviour 'MP-88' in the catalogue: did you mean MP-8"),
    "lower case": ('pytest.mark.behaviour("mp-8")', "no behaviour 'mp-8' in the catalogue: did you mean MP-8"),
    "two marks": (
        'behaviour("MP-7")\n@behaviour("MP-8")',
        "2 behaviour marks (@behaviour('MP-8'), @behaviour('MP-7'))",
    ),
}


@WORKERS
def test_a_behaviour_mark_that_names_none_is_an_error_at_collection(
    user: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    tests = [f"@{text}\ndef test_{n}():\n    pass\n" for n, (text, _) in enumerate(WRONG.values())]
    user.makepyfile(test_good=GOOD, test_it=f"import pytest\n{GOOD}\n" + "\n".join(tests))
    done = run(user, *workers)
    assert done.ret != 0
    assert [f"\ntest_{n}: " in done.stdout.str() for n in range(len(WRONG))] == [True] * 7
    assert not (user.path / "reports").exists()
    found = decided(user, "--continue-on-collection-errors", *workers)
    assert found.verdict == "NOT ACCEPTED" and "could not be collected: test_it.py::test_0 (" in found.incomplete[0]
    assert "could not be collected: test_it.py::test_0 (" in sheet(user)
    reasons = {one.nodeid: one.reason for one in results(user).run.uncollected}
    for number, (_, words) in enumerate(WRONG.values()):
        assert words in reasons[f"test_it.py::test_{number}"]
    assert {each.state for each in found.behaviours} == {"passed"}


def test_a_mark_alone_is_channovers_where_it_names_something_alike_or_its_test_uses_the_plugin(
    user: pytest.Pytester,
) -> None:
    user.makepyfile(test_alike="import pytest\n@pytest.mark.behaviour('LAG_11')\ndef test_a(): pass\n")
    done = run(user)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*no behaviour 'LAG_11' in the catalogue*"])
    (user.path / "test_alike.py").write_text("import pytest\n@pytest.mark.behaviour()\ndef test_a(counted): pass\n")
    assert run(user).ret == pytest.ExitCode.INTERRUPTED


# -------------------------------------------------------------------------------------------------------- deviations


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("-k", "one or slow"),
            "(-k one or slow): test_class.py: TestIt::test_a, TestIt::test_b; test_good.py: test_other",
        ),
        (("-k", "one", "-n", "2", "test_good.py"), "1 deselected (-k one): test_good.py: test_other"),
        (("-m", "not slow"), "1 deselected (-m not slow): test_slow.py: test_slow"),
        (
            ("--deselect", "test_good.py::test_one"),
            "1 deselected (--deselect test_good.py::test_one): test_good.py: test_one",
        ),
        (
            ("test_good.py::test_one", "test_class.py::TestIt::test_a"),
            "2 not asked for (node ids): test_good.py: test_other; test_class.py: TestIt::test_b",
        ),
        (("-qk", "one", "test_good.py"), "1 deselected (-k one): test_good.py: test_other"),
        (("-vxkone", "test_good.py"), "1 deselected (-kone): test_good.py: test_other"),
        (("@words", "test_good.py"), "1 deselected (-k one of @words): test_good.py: test_other"),
        (("--ignore=test_class.py",), "1 ignored (--ignore=test_class.py): test_class.py"),
        (("--ignore-glob=*class*",), "1 ignored (--ignore-glob=*class*): test_class.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_was_left_out_is_named_on_the_first_sheet(
    user: pytest.Pytester, options: tuple[str, ...], words: str
) -> None:
    made_three_files(user)
    found = decided(user, *options)
    assert any(words in one for one in found.deviations), found.deviations
    assert words in sheet(user)


def made_three_files(user: pytest.Pytester) -> None:
    user.makeini("[pytest]\nmarkers = slow\n")
    (user.path / "words").write_text("-k\none\n")
    user.makepyfile(
        test_good=GOOD,
        test_slow="import pytest\nfrom channover.testing import behaviour\n@pytest.mark.slow\n@behaviour('LAG-1')\n"
        "def test_slow(counted):\n    assert counted('ports', 1) == 1\n",
        test_class="from channover.testing import behaviour\nclass TestIt:\n    @behaviour('LAG-2')\n"
        "    def test_a(self, counted): assert counted('ports', 1) == 1\n    def test_b(self): pass\n",
    )


@pytest.mark.parametrize("where", ["PYTEST_ADDOPTS", "pytest.ini", "tox.ini", "other.ini"])
def test_words_that_did_not_come_from_the_command_line_are_told(
    user: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    user.makepyfile(test_good=GOOD)
    options: tuple[str, ...] = ()
    if where == "PYTEST_ADDOPTS":
        monkeypatch.setenv(where, "-k 'one'")
    else:
        (user.path / where).write_text("[pytest]\naddopts = -k one\n")
        options = ("-c", where) if where == "other.ini" else ()
    found = decided(user, *options)
    origin = where if where == "PYTEST_ADDOPTS" else f"addopts of {where}"
    assert any(f"1 deselected (-k one of {origin}): test_good.py: test_other" in one for one in found.deviations)
    assert results(user).run.options == {origin: ("-k", "one")}
    assert results(user).run.command == ("pytest", *command(user), *options)
    assert f"-k one of {origin}" in sheet(user) and origin in annexes(user)


def command(user: pytest.Pytester) -> tuple[str, ...]:
    told = results(user).run.command
    assert told[1].startswith("--basetemp=")
    return told[1], "-p", "channover.pytest_plugin.hooks", "--no-report"


BAD_AT_FIRST = """
import pathlib

@behaviour("LAG-1")
def test_bad(counted):
    assert pathlib.Path("good").exists()
    assert counted("ports", 1) == 1
"""


@WORKERS
def test_last_failed_names_what_it_left_out_and_no_worker(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    bad = GOOD + BAD_AT_FIRST
    user.makepyfile(test_bad=bad, test_good=GOOD)
    assert decided(user).verdict == "NOT ACCEPTED"
    (user.path / "good").touch()
    found = decided(user, "--lf", *workers)
    assert found.text == "ACCEPTED: 1 of 31 behaviours for the emulated lab only", found.reasons
    (told,) = [one for one in found.deviations if "--lf" in one]
    for words in ("4 not asked for (--lf)", "test_bad.py: test_one, test_other", "test_good.py: test_one, test_other"):
        assert words in told, told
    assert "worker" not in sheet(user)


def test_what_a_conftest_takes_out_without_a_word_is_told(user: pytest.Pytester) -> None:
    user.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_collection_modifyitems(items):\n"
        "    items[:] = [item for item in items if item.name != 'test_other']\n"
        "    return (yield)\n"
    )
    user.makepyfile(test_good=GOOD)
    found = decided(user)
    assert any("1 deselected (by a hook): test_good.py: test_other" in one for one in found.deviations)
    (user.path / "conftest.py").write_text("collect_ignore = ['test_good.py']\n")
    user.makepyfile(test_more=GOOD)
    found = decided(user)
    assert any("1 ignored: test_good.py" in one for one in found.deviations)


def test_what_a_late_conftest_takes_out_is_told(user: pytest.Pytester) -> None:
    user.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_collection_modifyitems(items):\n"
        "    yield\n"
        "    items[:] = [item for item in items if item.name != 'test_other']\n"
    )
    user.makepyfile(test_good=GOOD)
    found = decided(user)
    assert found.verdict == "ACCEPTED" and any("deselected (by a hook)" in one for one in found.deviations)


@WORKERS
def test_marks_of_expected_failures_are_told(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    user.makepyfile(
        test_it=GOOD
        + "\nimport pytest\n"
        + "@behaviour('LAG-1')\n@pytest.mark.xfail(reason='slow')\ndef test_x(): assert False\n"
        + "@behaviour('LAG-2')\n@pytest.mark.xfail\ndef test_xpass(counted): assert counted('ports', 1) == 1\n"
        + "@behaviour('LAG-3')\n@pytest.mark.xfail(strict=True)\ndef test_strict(counted): assert counted('p', 1) == 1\n"
        + "@behaviour('LAG-4')\ndef test_said(): pytest.xfail('not yet')\n"
    )
    found = decided(user, *workers)
    states = {each.behaviour: each.state for each in found.behaviours}
    assert states == {
        "LAG-1": "failed", "LAG-2": "passed", "LAG-3": "failed", "LAG-4": "failed", "MP-7": "passed", "MP-8": "passed",
    }  # fmt: skip
    words = "3 marked as expected to fail (xfail): test_it.py: test_x, test_xpass, test_strict"
    assert words in found.deviations and words in sheet(user)
    found = decided(user, "--runxfail", *workers)
    assert any("options that change what pytest does: --runxfail" in one for one in found.deviations)


def test_other_options_that_change_what_pytest_does_are_told(user: pytest.Pytester) -> None:
    user.makepyfile(test_good=GOOD)
    found = decided(user, "-p", "no:doctest", "-o", "python_functions=test_one", "--import-mode=importlib")
    assert "options that change what pytest does: -p no:doctest, -o python_functions=test_one" in found.deviations
    assert found.text == "ACCEPTED: 1 of 31 behaviours for the emulated lab only"


def test_what_a_late_conftest_hides_of_a_test_that_compared_nothing_does_not_count(user: pytest.Pytester) -> None:
    user.mkpydir("sub")
    (user.path / "sub" / "conftest.py").write_text(
        "import pytest\n@pytest.hookimpl(wrapper=True)\ndef pytest_runtest_call():\n    try:\n        return (yield)\n"
        "    except BaseException:\n        return None\n"
    )
    (user.path / "sub" / "test_it.py").write_text(
        "from channover.testing import behaviour\n@behaviour('LAG-1')\ndef test_nothing(): pass\n"
        "@behaviour('LAG-2')\ndef test_missed(counted): counted('ports', 1) == 2\n"
    )
    found = decided(user)
    assert found.verdict == "NOT ACCEPTED"
    reasons = [judged.tests[0].reason for judged in found.behaviours]
    assert reasons == ["given as passed, and compared nothing", "given as passed, and not as expected: ports"]


@WORKERS
def test_no_part_that_verdicts_rest_on_can_be_taken_away(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    user.makepyfile(test_good=GOOD)
    done = run(user, "-p", "no:channover_hooks", *workers)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: -p no:channover_hooks takes away a part of channover that verdicts rest on" in done.stderr.str()
    assert not (user.path / "reports").exists()


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_run_that_a_failure_stopped_is_not_accepted(user: pytest.Pytester, option: str) -> None:
    user.makepyfile(test_it=FAILS_ONCE, test_more=GOOD)
    assert "the run was stopped before its end" in decided(user, option).incomplete


@WORKERS
def test_files_beside_the_revision_are_named(user: pytest.Pytester, workers: tuple[str, ...]) -> None:
    user.makepyfile(test_good=GOOD, test_changed=GOOD)
    (user.path / ".gitignore").write_text("reports/\nhidden/\n__pycache__/\n.pytest_cache/\nrunpytest-*/\n")
    git(user, "init", "-q")
    git(user, "add", ".")
    git(user, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "one")
    assert decided(user, *workers).deviations == ("hosts and NICs were not recorded",)
    clean = results(user).run.revision
    assert clean and not clean.endswith("-dirty")
    (user.path / "test_changed.py").write_text(GOOD + "\n")
    (user.path / "conftest.py").write_text("from helper import x\n")
    (user.path / "helper.py").write_text("x = 1\n")
    (user.path / "hidden").mkdir()
    (user.path / "hidden/test_new.py").write_text(GOOD)
    (user.path / "notes.txt").write_text("not code")
    found = decided(user, *workers)
    assert results(user).run.revision == f"{clean}-dirty"
    words = (
        f"the suites were not as their revision {clean}-dirty has them: test_changed.py (changed), "
        "conftest.py (untracked), helper.py (untracked), hidden/test_new.py (untracked)"
    )
    assert words in found.deviations
    assert words in sheet(user)


def git(user: pytest.Pytester, *words: str) -> None:
    subprocess.run(["git", *words], cwd=user.path, check=True, capture_output=True)


# -------------------------------------------------------------------------------------------------- the first line


def test_the_first_line_says_of_how_much_and_names_the_others(user: pytest.Pytester) -> None:
    user.makepyfile(test_good=GOOD)
    done = user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks")
    done.stdout.fnmatch_lines(
        [
            "index: reports/*/index.html",
            "certificate: reports/*/certificate.html: ACCEPTED: 2 of 31 behaviours for the emulated lab only",
            "  not planned: LAG-1, LAG-2, *, APP-3",
        ]
    )
    page = (user.path / "reports/latest/index.html").read_text("utf-8")
    assert "ACCEPTED: 2 of 31 behaviours" in page and 'href="certificate.html"' in page
    first = sheet(user)
    assert "ACCEPTED: 2 of 31 behaviours for the emulated lab only" in first
    assert "not planned: LAG-1, LAG-2, LAG-3, " in first


def test_a_need_that_nobody_knows_is_an_error_at_collection(user: pytest.Pytester) -> None:
    user.makeconftest(
        "from dataclasses import replace\n"
        "from channover.model.catalogue import CATALOGUE\n"
        "CATALOGUE.entries['MP-8'] = replace(CATALOGUE['MP-8'], needs=('quantum-tunnels',))\n"
    )
    user.makepyfile(test_good=GOOD)
    done = user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks")
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*MP-8 (channover's own) needs 'quantum-tunnels', which is no capability: *"])
