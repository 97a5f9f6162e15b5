"""The plugin as its user sees it: in a folder of the user's own, with ``-p channover.pytest_plugin.hooks`` and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import channover
from channover.errors import TestbedError
from channover.hosts.lab import Lab
from channover.report.results import Results, validate
from channover.targets.capabilities import bonding

PLUGINS = str(Path(channover.__file__).parent.parent)
PASSES = """
from channover.testing import behaviour

@behaviour("MP-8")
def test_passes(counted):
    assert counted("paths", 1) == 1
"""
NEEDS_VPN = """
from channover.testing import behaviour

@behaviour("TUN-2")
def test_vpn():
    raise AssertionError("it must not be tried")

@behaviour("MP-8")
def test_other(counted):
    assert counted("paths", 1) == 1
"""
NO_VPN = """
from channover.targets import capabilities

capabilities.CAPABILITIES.entries["openvpn"] = capabilities.Capability("OpenVPN", {"no-such-program": "openvpn"})
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


def said(done: pytest.RunResult) -> str:
    return f"{done.stdout.str()}\n{done.stderr.str()}"


def results(user: pytest.Pytester) -> Results:
    """The results of the latest run, checked against their schema."""
    latest = user.path / "reports" / "latest"
    assert latest.is_symlink()
    text = (latest / "results.json").read_text()
    validate(json.loads(text))
    found = Results.from_json(text)
    assert found.run.id == latest.resolve().name
    return found


def outcomes(user: pytest.Pytester) -> dict[str, tuple[str, str]]:
    return {test.nodeid.split("::")[-1]: (test.outcome, test.reason) for test in results(user).tests}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--target", "moon"], "--target: there is no target 'moon'; "),
        (["--link-rate", "fast"], "--link-rate: 'fast' is not a rate: write a number and a unit, such as 100mbit"),
        (["--link-rate", "900gbit"], "--link-rate: '900gbit' is not a rate that a lab can run: from 1mbit to 800gbit"),
        (["--duration", "soon"], "--duration: 'soon' is no number of seconds from 1 to 86400"),
        (["--duration", "0"], "--duration: '0' is no number of seconds from 1 to 86400"),
        (["--soak", "0"], "--soak: '0' is no number of seconds from 1 to 86400"),
        (["--measure-limit=-3"], "--measure-limit: '-3' is no number of seconds from 1 to 86400"),
        (["--lag-driver", "team"], "--lag-driver: there is no driver 'team'; there are: auto, bonding, openvswitch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_impossible_option_is_a_usage_error_in_one_line(
    user: pytest.Pytester, options: list[str], expected: str
) -> None:
    user.makepyfile(PASSES)
    done = run(user, *options)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in said(done).splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith(f"ERROR: {expected}")
    assert not (user.path / "reports").exists()


RATES = """
from channover.testing import LacpRate, behaviour

@behaviour("LAG-8")
def test_rate(lacp_rate: LacpRate, counted):
    assert counted("seconds", lacp_rate.timeout) == 3
"""


def test_a_test_runs_with_both_rates_of_lacp_where_there_is_time_for_the_slow_one(user: pytest.Pytester) -> None:
    user.makepyfile(RATES)
    run(user)
    assert {name: outcome for name, (outcome, _) in outcomes(user).items()} == {"test_rate": "passed"}
    run(user, "--soak", "60")
    assert outcomes(user)["test_rate[fast]"][0] == "passed"
    outcome, reason = outcomes(user)["test_rate[slow]"]
    assert outcome == "failed" and "seconds of 90, expected exactly 3" in reason


@pytest.mark.lab
def test_a_lag_driver_that_the_kernel_lacks_is_a_usage_error(user: pytest.Pytester, two_hosts: Lab) -> None:
    if bonding(two_hosts.left) is None:
        pytest.skip("this kernel has the bonding driver: nothing is lacking")
    user.makepyfile(PASSES)
    done = run(user, "--lag-driver", "bonding", "-q")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in said(done).splitlines() if "--lag-driver" in line]
    assert re.match(r"ERROR: --lag-driver=bonding: .*no bonding driver .*--lag-driver openvswitch", line)
    assert "Traceback" not in said(done)
    assert not (user.path / "reports").exists()


def test_reports_that_cannot_be_kept_are_a_usage_error(user: pytest.Pytester) -> None:
    user.makepyfile(PASSES)
    (user.path / "taken").write_text("a file")
    done = run(user, "--reports", "taken/here", "-q")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "reports cannot be kept in taken/here: Not a directory" in said(done)
    assert "Traceback" not in said(done)


def test_a_suite_without_behaviours_is_left_alone(user: pytest.Pytester) -> None:
    """Whatever it calls its own markers: other projects have a 'behaviour' and a 'topology' too."""
    user.makepyfile(
        "import pytest\n"
        "@pytest.mark.behaviour('login')\n@pytest.mark.topology('any')\n"
        "def test_plain(): pass\n"
        "@pytest.mark.behaviour()\n"
        "def test_other(): pass\n"
    )
    done = run(user)
    done.assert_outcomes(passed=2)
    done.stdout.no_fnmatch_line("channover: *")
    assert not (user.path / "reports").exists()


def test_an_unknown_behaviour_is_a_collection_error_that_names_near_ids(user: pytest.Pytester) -> None:
    user.makepyfile(test_typo=PASSES.replace("MP-8", "lag_11"), test_good=PASSES)
    done = run(user)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["test_*: behaviour mark: no behaviour 'lag_11' in the catalogue: did you mean LAG-1*"])
    done.assert_outcomes(errors=1)
    assert not [line for line in done.outlines if line.startswith("E  ")]


@pytest.mark.parametrize(
    "text",
    ["import channover.testing as t\n@t.behaviour('XYZ')\n", "from channover.testing import *\n@behaviour('XYZ')\n"],
)
def test_so_is_one_of_no_known_form_however_the_decorator_is_written(user: pytest.Pytester, text: str) -> None:
    user.makepyfile(test_typo=f"{text}def test_typo(): pass\n")
    done = run(user)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["test_typo: behaviour mark: no behaviour 'XYZ' in the catalogue: known are LAG-1*"])
    assert "Traceback" not in done.stdout.str() and not [line for line in done.outlines if line.startswith("E  ")]


@pytest.mark.lab
def test_what_cannot_be_tried_is_skipped_with_the_remedy_and_fails_without_skips(user: pytest.Pytester) -> None:
    user.makeconftest(NO_VPN)
    user.makepyfile(NEEDS_VPN)
    done = run(user, "-rs")
    done.assert_outcomes(skipped=1, passed=1)
    reason = "left has no no-such-program: apt-get install openvpn"
    assert reason in said(done)
    assert "skipped: prerequisites missing: TUN-2\n" in said(done)
    outcome, told = outcomes(user)["test_vpn"]
    assert outcome == "skipped"
    assert told.startswith(reason)
    assert outcomes(user)["test_other"] == ("passed", "")
    first = results(user).run.id

    done = run(user, "--no-skips")
    done.assert_outcomes(failed=1, passed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    outcome, told = outcomes(user)["test_vpn"]
    assert outcome == "failed"
    assert f"--no-skips forbids to skip it: {reason}" in told
    assert results(user).run.id != first
    assert (user.path / "reports" / first / "results.json").exists(), "the first run's report stays"


@pytest.mark.lab
def test_collection_alone_tells_what_would_be_skipped_and_makes_no_report(user: pytest.Pytester) -> None:
    user.makeconftest(NO_VPN)
    user.makepyfile(test_it=NEEDS_VPN)
    done = run(user, "--collect-only", "-q")
    assert done.ret == 0
    done.stdout.fnmatch_lines(
        ["would skip test_it.py::test_vpn: left has no no-such-program: apt-get install openvpn*"]
    )
    assert "would skip test_it.py::test_other" not in said(done)
    assert not (user.path / "reports").exists()


@pytest.mark.lab
def test_a_broken_testbed_is_an_error_and_a_broken_behaviour_a_failure(user: pytest.Pytester) -> None:
    user.makepyfile(
        test_one="""
        from contextlib import contextmanager

        import pytest
        from channover.errors import BehaviourFailed, TestbedError
        from channover.testing import behaviour

        @pytest.fixture
        def broken():
            raise TestbedError("left: sshd did not start")

        @contextmanager
        def untidily():
            try:
                yield
            finally:
                raise TestbedError("left: the undo was refused")

        @pytest.fixture
        def untidy():
            with untidily():
                yield

        @behaviour("MP-8")
        def test_testbed():
            raise TestbedError("left: 'iperf3' ended with code 1")

        @behaviour("MP-8")
        def test_setup(broken):
            pass

        @behaviour("MP-8")
        def test_teardown(untidy, counted):
            assert counted("paths", 1) == 1

        @behaviour("MP-8")
        def test_failed_first():
            with untidily():
                assert 2 + 2 == 5, "sums are wrong"

        @behaviour("MP-8")
        def test_bug():
            {}["missing"]

        @behaviour("MP-8")
        def test_assertion():
            assert 1 + 1 == 3, "sums are wrong"

        @behaviour("MP-8")
        def test_failed():
            raise BehaviourFailed("the connection fell back to TCP")

        @behaviour("MP-8")
        def test_fail():
            pytest.fail("by hand")

        @behaviour("MP-8")
        def test_skip():
            pytest.skip("not today")

        @behaviour("MP-8")
        @pytest.mark.xfail(reason="known")
        def test_xfail():
            assert False
        """,
        test_two="""
        from channover.testing import behaviour

        @behaviour("MP-7")
        def test_of_another_file(counted):
            assert counted("paths", 1) == 1

        def test_plain():
            assert False
        """,
    )
    done = run(user)
    done.assert_outcomes(passed=2, failed=5, errors=4, skipped=1, xfailed=1)
    found = outcomes(user)
    assert found.pop("test_xfail") == ("failed", "expected to fail (known): assert False")
    assert found == {
        "test_testbed": ("error", "left: 'iperf3' ended with code 1"),
        "test_setup": ("error", "left: sshd did not start"),
        "test_teardown": ("error", "left: the undo was refused"),
        "test_failed_first": (
            "failed",
            "sums are wrong\nassert (2 + 2) == 5\nand on the way out of the lab: left: the undo was refused",
        ),
        "test_bug": ("error", "KeyError: 'missing'"),
        "test_assertion": ("failed", "sums are wrong\nassert (1 + 1) == 3"),
        "test_failed": ("failed", "the connection fell back to TCP"),
        "test_fail": ("failed", "by hand"),
        "test_skip": ("skipped", "not today"),
        "test_of_another_file": ("passed", ""),
        "test_plain": ("failed", "assert False"),
    }
    run_ = results(user).run
    assert (run_.target, run_.link_rate, run_.interrupted) == ("netns", 100e6, False)
    assert run_.tools["iproute2"]
    assert "results: reports/" in said(done)
    assert results(user).tests[0].behaviour == "MP-7", "in the order of the catalogue"


@pytest.mark.lab
def test_a_lab_comes_with_the_fixture(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        from channover.model.operations.devices import AddressAdd
        from channover.model.plan import Plan
        from channover.testing import Lab, behaviour, exactly, on
        from channover.model.topology import Port, gateway
        from channover.verdict.measured import count

        @behaviour("MP-8")
        def test_ping(lab: Lab, counted) -> None:
            for host in (lab.left, lab.right):
                address = str(lab.address(Port(host.name, "a")))
                host.apply(Plan("addresses", (AddressAdd(host.nic("a").device, address),)))
            answers = lab.left.run("ping", "-c", "1", "-W", "5", "10.93.93.2").stdout.count("bytes from")
            assert counted("answers", answers) == 1

        @behaviour("MP-7")
        @on(gateway())
        def test_topology(lab: Lab, channover_record) -> None:
            assert list(lab.hosts) == ["left", "right", "beyond"]
            assert lab.link.rate == 50_000_000
            assert count("hosts", 3, channover_record.readings.append) == 3

        def test_without_a_behaviour(lab: Lab) -> None:
            assert lab.left.name == "left"
        """
    )
    done = run(user, "--link-rate", "50mbit", "--reports", "elsewhere")
    done.assert_outcomes(passed=3)
    (user.path / "reports").symlink_to("elsewhere")
    found = results(user)
    assert found.run.link_rate == 50e6
    (measurement,) = next(test for test in found.tests if test.behaviour == "MP-7").measurements
    assert (measurement.name, measurement.value, measurement.low, measurement.high) == ("hosts", 3, 3, 3)
    allure = list((user.path / "elsewhere" / "latest" / "allure-results").glob("*-result.json"))
    stories: list[Any] = [json.loads(path.read_text()) for path in allure]
    steps = [step["name"] for story in stories if "test_ping" in story["name"] for step in story["steps"]]
    assert any(name.startswith("left: ping -c 1") for name in steps)


@pytest.mark.lab
def test_the_articles_figure_of_three_paths_is_not_shown_beside_two(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import pytest
        from channover.testing import Measured, behaviour, on
        from channover.model.topology import trio
        from channover.verdict.statistics import Estimate

        @pytest.fixture
        def goodput(channover_record):
            return Measured("goodput", known=Estimate(2e8, 1e6, 40), on_result=channover_record.readings.append)

        @behaviour("MP-1")
        def test_two(goodput):
            assert goodput >= 1e8

        @behaviour("MP-1")
        @on(trio())
        def test_three(goodput):
            assert goodput >= 1e8
        """
    )
    run(user).assert_outcomes(passed=2)
    found = json.loads((user.path / "reports" / "latest" / "results.json").read_text("utf-8"))["tests"]
    figures = {test["nodeid"].rpartition("::")[2]: test["measurements"][0]["article"] for test in found}
    assert figures == {"test_two": None, "test_three": 279e6}


@pytest.mark.lab
def test_an_interrupted_run_leaves_what_it_found(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        from channover.testing import behaviour

        @behaviour("MP-8")
        def test_first(counted):
            assert counted("paths", 1) == 1

        @behaviour("MP-8")
        def test_second():
            raise KeyboardInterrupt

        @behaviour("MP-8")
        def test_third():
            pass
        """
    )
    done = run(user)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    assert results(user).run.interrupted
    assert outcomes(user)["test_first"] == ("passed", "")
    assert "test_third" not in outcomes(user)


@pytest.mark.lab
def test_workers_leave_one_report_together(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import os
        import pytest
        from channover.errors import TestbedError
        from channover.testing import Lab, behaviour

        @behaviour("MP-8")
        @pytest.mark.parametrize("number", range(6))
        def test_many(lab: Lab, number: int, counted) -> None:
            assert os.environ["PYTEST_XDIST_WORKER"]
            if number == 3:
                raise TestbedError("left: broke")
            assert counted("number", number) != 4
        """
    )
    done = run(user, "-n", "2")
    done.assert_outcomes(passed=4, failed=1, errors=1)
    found = outcomes(user)
    assert len(found) == 6
    assert found["test_many[3]"] == ("error", "left: broke")
    assert found["test_many[4]"][0] == "failed"
    folders = [path for path in (user.path / "reports").iterdir() if not path.is_symlink()]
    assert len(folders) == 1
    assert len(list((folders[0] / "allure-results").glob("*-result.json"))) == 6
    assert results(user).run.tools


def test_a_dry_run_keeps_errors_that_are_not_its_own(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import pytest
        from channover.errors import TestbedError, UsageError
        from channover.testing import behaviour

        @pytest.fixture
        def broken(lab):
            raise TestbedError("left: out of order")

        @behaviour("MP-8")
        def test_set_up(broken):
            pass

        @behaviour("MP-8")
        def test_use(lab):
            raise UsageError("there is no such thing")

        @behaviour("MP-8")
        def test_answer(lab):
            lab.left.read("/proc/cmdline")

        @behaviour("MP-8")
        def test_after_an_answer_that_was_made_up(lab):
            if not lab.left.run("openvpn", "--version").stdout:
                raise TestbedError("left: openvpn does not say its version")

        @behaviour("MP-8")
        def test_verdict(lab):
            assert lab.left.run("echo", "1").stdout == "1"
        """
    )
    done = run(user, "--dry-run", "-rEs", "-v")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.assert_outcomes(errors=2, skipped=3)
    done.stdout.fnmatch_lines(
        ["ERROR *::test_set_up - *TestbedError: left: out of order", "ERROR *::test_use - *UsageError*"]
    )
    assert not (user.path / "reports").exists()


FAST = """
from contextlib import contextmanager
from channover.run import environment
from channover.targets.netns import NetnsTarget
from channover.model.link import Link

class Fast(NetnsTarget):
    @contextmanager
    def lab(self, topology, link, journal):
        with super().lab(topology, Link(500_000_000), journal) as made:
            yield made

environment.target_of = lambda _: Fast()
"""


@pytest.mark.lab
def test_what_is_measured_has_the_link_of_the_lab(user: pytest.Pytester) -> None:
    user.makeconftest(FAST)
    user.makepyfile(
        """
        from channover.testing import behaviour

        @behaviour("MP-8")
        def test_measures(measuring, lab, counted):
            assert measuring.link == lab.link
            assert counted("rate", measuring.link.rate) == 500_000_000
        """
    )
    run(user).assert_outcomes(passed=1)


FRAIL = """
from pathlib import Path
from channover.run import environment
from channover.targets.netns import NetnsTarget

class Frail(NetnsTarget):
    def dead(self):
        found = Path("died").exists()
        Path("died").unlink(missing_ok=True)
        return ["vm1 died: Kernel panic\\nconsole of vm1:\\nsysrq triggered crash"] if found else []

    def revive(self):
        Path("revived").touch()

environment.target_of = lambda _: Frail()
"""
DIES = """
from pathlib import Path
import pytest
from channover.errors import TestbedError
from channover.testing import Lab, behaviour

@pytest.fixture
def again(lab: Lab):
    if Path("revived").exists() and {stays!r}:
        raise TestbedError("left: still not there")

@behaviour("MP-8")
def test_dies(again, counted):
    assert counted("paths", 1) == 1
    if not Path("revived").exists():
        Path("died").touch()
        if {fails!r}:
            raise TestbedError("left: the connection is lost")

@behaviour("MP-8")
def test_lives(counted):
    assert counted("paths", 1) == 1
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    ("fails", "stays", "outcome", "repeated"),
    [(True, False, "passed", True), (True, True, "error", True), (False, False, "passed", False)],
)
def test_a_second_try_after_a_machine_died_is_marked(
    user: pytest.Pytester, fails: bool, stays: bool, outcome: str, repeated: bool
) -> None:
    user.makeconftest(FRAIL)
    user.makepyfile(DIES.format(fails=fails, stays=stays))
    done = run(user, "-n", "1")
    found = {test.nodeid.split("::")[-1]: test for test in results(user).tests}
    assert (found["test_dies"].outcome, found["test_dies"].repeated) == (outcome, repeated), said(done)
    assert (found["test_lives"].outcome, found["test_lives"].repeated) == ("passed", False)
    assert ("repeated: a machine died in the first try" in said(done)) == repeated
    allure = user.path / "reports" / "latest" / "allure-results"
    pages = [json.loads(file.read_text()) for file in allure.glob("*-result.json")]
    page = next(one for one in pages if one["name"] == "test_dies")
    assert page["status"] == {"passed": "passed", "error": "broken"}[outcome]
    consoles = [one["source"] for one in page["attachments"] if "console" in one["name"]]
    assert ["sysrq triggered crash" in (allure / name).read_text() for name in consoles] == [True]
    labels = [label["value"] for label in page["labels"] if label["name"] == "repeated"]
    assert labels == ["a machine died"] * repeated


def test_errors_are_of_one_family() -> None:
    assert not issubclass(TestbedError, AssertionError)


def test_a_run_that_was_stopped_behind_its_last_test_is_whole(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        from channover.testing import behaviour

        @behaviour("MP-8")
        def test_first(counted):
            assert counted("paths", 1) == 1

        @behaviour("MP-8")
        def test_last(counted):
            assert counted("paths", 1) == 2
        """
    )
    assert run(user, "-x").ret == pytest.ExitCode.TESTS_FAILED
    assert not results(user).run.interrupted
    assert run(user, "-x", "--failed-first").ret == pytest.ExitCode.TESTS_FAILED
    assert results(user).run.interrupted, "the failed one came first, and the other was not run"
