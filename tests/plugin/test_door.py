"""What another package adds to channover, as its user sees it: the package installed beside channover, and its suite run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import channover
from channover.report.results import Results
from tests.support.packages import ACME, declare, install

PLUGINS = str(Path(channover.__file__).parent.parent)
LEGS = """
import pytest
from channover.testing import behaviour

@behaviour("ACME-1")
def test_legs(counted):
    assert counted("legs", 4) == 4

@pytest.mark.behaviour("ACME-2")
def test_flight(counted):
    assert counted("wings", 2) == 2
"""


def site(user: pytest.Pytester) -> Path:
    """Return where packages are installed: beside the user's folder, so that their own suites are not collected."""
    return user.path.with_name(f"{user.path.name}-site")


@pytest.fixture
def user(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((PLUGINS, str(site(pytester)))))
    monkeypatch.setenv("COLUMNS", "200")
    return pytester


def broken(user: pytest.Pytester, module: str, name: str = "odd-bonds") -> None:
    """Install a package whose module registers something."""
    place = site(user)
    declare(place, name, "0.1", {"channover": f"odd = {name.replace('-', '_')}"})
    (place / f"{name.replace('-', '_')}.py").write_text(module)


def run(user: pytest.Pytester, *options: str) -> pytest.RunResult:
    done = user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", *options)
    assert "INTERNALERROR" not in said(done)
    assert "Traceback" not in said(done)
    return done


def said(done: pytest.RunResult) -> str:
    return f"{done.stdout.str()}\n{done.stderr.str()}"


def results(user: pytest.Pytester) -> Results:
    return Results.from_json((user.path / "reports" / "latest" / "results.json").read_text())


@pytest.mark.lab
@pytest.mark.parametrize("workers", ["0", "2"])
def test_own_behaviours_are_tried_told_and_signed_as_any_other(user: pytest.Pytester, workers: str) -> None:
    install(ACME, site(user))
    user.makepyfile(test_acme=LEGS)
    done = run(user, "-n", workers, "--override-ini=addopts=")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines([" ACME-1 *legs * 4 *passed"])
    first, second = results(user).tests
    assert (first.behaviour, first.outcome) == ("ACME-1", "passed")
    assert (second.behaviour, second.outcome) == ("ACME-2", "skipped")
    assert second.reason.endswith("has no wings: buy some")
    run_folder = user.path / "reports" / "latest"
    stories = [json.loads(path.read_text()) for path in (run_folder / "allure-results").glob("*-result.json")]
    labels = {one["name"]: one["value"] for one in next(s for s in stories if s["name"] == "test_legs")["labels"]}
    assert (labels["epic"], labels["layer"], labels["story"]) == (
        "Acme's bonds",
        "2 data link",
        "the desk has four legs",
    )
    sheet = (run_folder / "certificate.html").read_text()
    assert "the desk has four legs" in sheet and "Acme&#39;s specification, 4.2" in sheet
    assert "not in this version" not in sheet


@pytest.mark.lab
def test_the_doctor_knows_them(user: pytest.Pytester) -> None:
    install(ACME, site(user))
    doctor = [sys.executable, "-m", "channover.cli.main", "doctor"]
    done = subprocess.run(doctor, capture_output=True, text=True, timeout=60)
    assert "ACME-1" in done.stdout and "has no wings: buy some" in done.stdout, done.stderr


RAISING = {
    "taken": ("behaviours.add(Behaviour('LAG-1', 's', 's'))", "behaviour 'LAG-1' is there already: channover's own"),
    "import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "lines": ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
}


@pytest.mark.parametrize(("line", "words"), RAISING.values(), ids=RAISING)
def test_what_is_registered_wrongly_is_one_line_that_names_the_package(
    user: pytest.Pytester, line: str, words: str
) -> None:
    broken(user, f"from channover.extend import *\n{line}\n")
    user.makepyfile(LEGS)
    done = run(user, "-q")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (told,) = [line for line in done.stderr.lines if line.strip()]
    assert told == f"ERROR: odd-bonds 0.1 (entry point 'odd' of the group channover): {words}"
    assert not (user.path / "reports").exists()


def test_so_it_is_with_workers_and_with_the_doctor(user: pytest.Pytester) -> None:
    broken(user, "1 / 0")
    user.makepyfile(LEGS)
    words = "odd-bonds 0.1 (entry point 'odd' of the group channover): ZeroDivisionError: division by zero"
    done = run(user, "-n", "2")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {words}" in said(done)
    doctor = [sys.executable, "-m", "channover.cli.main", "doctor"]
    told = subprocess.run(doctor, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stderr) == (2, f"channover: {words}\n")


def test_two_packages_with_one_name_are_told_apart(user: pytest.Pytester) -> None:
    install(ACME, site(user))
    broken(user, "from channover.extend import *\nbehaviours.part('ACME', title='t', layer='2')\n")
    user.makepyfile(LEGS)
    done = run(user)
    assert (
        "ERROR: odd-bonds 0.1 (entry point 'odd' of the group channover): part 'ACME' is there already: acme-bonds 1.2"
        in (said(done))
    )


def test_an_unknown_need_is_a_collection_error_that_names_near_ones(user: pytest.Pytester) -> None:
    broken(
        user, "from channover.extend import *\nbehaviours.add(Behaviour('LAG-90', 's', 's', needs=('iperf', 'lag')))\n"
    )
    user.makepyfile(LEGS.replace("ACME-1", "LAG-90").replace("ACME-2", "LAG-90"))
    done = run(user)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(
        ["*test_legs: LAG-90 (odd-bonds 0.1) needs 'iperf', which is no capability: did you mean iperf3*"]
    )


def test_a_project_without_channover_loads_no_package(user: pytest.Pytester) -> None:
    broken(user, "raise SystemExit('loaded')")
    user.makepyfile("def test_plain(): pass")
    run(user).assert_outcomes(passed=1)


@pytest.mark.lab
def test_whatever_compares_has_a_row_without_a_behaviour_too(user: pytest.Pytester) -> None:
    user.makepyfile(
        """
        import pytest

        def test_hosts(lab, counted):
            assert counted("hosts", len(lab.hosts)) == 2

        @pytest.mark.parametrize("legs", [3, 4])
        def test_legs(counted, legs):
            assert counted("legs", legs) == 4

        def test_plain():
            pass
        """
    )
    for options in ((), ("-n", "2")):
        done = run(user, *options)
        done.assert_outcomes(passed=3, failed=1)
        done.stdout.fnmatch_lines([" * hosts * 2 * 2 *passed", " * legs * 3 * 4 *failed", " * legs * 4 * 4 *passed"])
        found = {test.nodeid.split("::")[1]: test for test in results(user).tests}
        assert {test.behaviour for test in found.values()} == {None}
        (hosts,), (legs,) = found["test_hosts"].measurements, found["test_legs[3]"].measurements
        assert (hosts.name, hosts.value, legs.value, legs.low) == ("hosts", 2, 3, 4)
        assert [host.name for host in results(user).run.hosts] == ["left", "right"]
        latest = user.path / "reports" / "latest"
        stories = [json.loads(path.read_text()) for path in (latest / "allure-results").glob("*-result.json")]
        assert any("legs" in story.get("descriptionHtml", "") for story in stories)
        assert not (latest / "certificate.html").exists(), "nothing was stated that could be accepted"


CHAIN = """
from channover.model.topology import Topology, node
from channover.testing import Lab, Multipath, TrafficGenerator, at_least, behaviour, near, on

CHAIN = Topology.of(
    "chain",
    node("beta", "abcd"),
    node("alpha", "ab", role="client"),
    node("gamma", "ab", role="server"),
    cables="alpha.a-beta.a alpha.b-beta.b beta.c-gamma.a beta.d-gamma.b",
)
"""


@pytest.mark.lab
def test_a_lag_joins_any_two_hosts_of_a_lab_whatever_their_names(user: pytest.Pytester) -> None:
    """Three hosts, two LAGs: one host is an end of both, as is so for any driver."""
    user.makepyfile(
        test_chain=CHAIN
        + """

@on(CHAIN)
def test_two_lags(lab: Lab, bond, counted) -> None:
    assert (lab.left.name, lab.right.name) == ("alpha", "gamma")
    first = bond(lab["alpha"], lab["beta"], policy="layer2")
    second = bond(lab["beta"], lab["gamma"])
    assert counted("links of the first", len(first.left.status().members)) == 2
    assert counted("links of the second", len(second.right.status().members)) == 2
    assert first.right.host is second.left.host and first.right.device != second.left.device
    for lag in (first, second):
        near, far = lag.ends
        answers = near.host.run("ping", "-c", "1", "-W", "5", str(far.address.ip)).stdout.count("bytes from")
        assert counted("answers", answers) == 1

@on(CHAIN)
def test_none(lab: Lab, bond, counted) -> None:
    bond(lab["alpha"], lab["gamma"])

@on(CHAIN)
def test_unknown(lab: Lab, bond, counted) -> None:
    bond(lab["alpha"], lab["delta"])

@on(CHAIN)
def test_policy(lab: Lab, bond, counted) -> None:
    bond(lab["alpha"], lab["beta"], policy="layer9")
"""
    )
    done = run(user)
    reasons = {test.nodeid.split("::")[1]: (test.outcome, test.reason) for test in results(user).tests}
    assert reasons["test_two_lags"] == ("passed", ""), said(done)
    assert reasons["test_none"][1].endswith("topology chain: no cable lies between alpha and gamma")
    assert reasons["test_unknown"][1].endswith("topology chain has no host 'delta'; it has: beta, alpha, gamma")
    assert "has no hash policy layer9; it has: layer2" in reasons["test_policy"][1]
    page = (user.path / "reports" / "latest" / "report.html").exists()
    assert page or "report: not made" in said(done) or "--no-report" in os.environ.get("PYTEST_ADDOPTS", "")


@pytest.mark.lab
def test_fixtures_look_for_roles_and_not_for_names(user: pytest.Pytester) -> None:
    user.makepyfile(
        test_roles="""
from channover.model.topology import Topology, node
from channover.testing import Lab, Lag, Multipath, on

PAIR = Topology.of(
    "own", node("server1", "xy", role="server"), node("client1", "xy", role="client"),
    cables="server1.x-client1.x server1.y-client1.y",
)

@on(PAIR)
def test_lag(lab: Lab, lag: Lag, counted) -> None:
    assert (lag.left.host.name, lag.right.host.name) == ("client1", "server1")
    assert counted("links", lag.links) == 2

@on(PAIR)
def test_multipath(multipath: Multipath, counted) -> None:
    assert (multipath.left.host.name, multipath.right.host.name) == ("client1", "server1")
    assert multipath.nics == ["x", "y"]
    assert counted("endpoints", len(multipath.left.host.state().endpoints)) == 2
"""
    )
    run(user).assert_outcomes(passed=2)


BOND = """
from channover.testing import Lag, behaviour

@behaviour("ACME-3")
def test_bond(lag: Lag, counted) -> None:
    left, right = lag.ends
    answers = left.host.run("ping", "-c", "1", "-W", "5", str(right.address.ip)).stdout.count("bytes from")
    assert counted("answers", answers) == 1
"""


@pytest.mark.lab
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "workers"])
def test_own_driver_and_own_target_with_its_options(user: pytest.Pytester, options: tuple[str, ...]) -> None:
    install(ACME, site(user))
    user.makepyfile(test_acme=BOND)
    user.makeini("[pytest]\naddopts = --channover-acme-pod 7")
    done = run(user, "--target", "acme", "--lag-driver", "acme", *options)
    done.assert_outcomes(passed=1)
    found = results(user).run
    assert (found.target, found.lag_driver, found.link_rate) == ("acme", "acme", 50e6)


def test_what_an_own_target_refuses_is_one_line(user: pytest.Pytester) -> None:
    install(ACME, site(user))
    user.makepyfile(test_acme=BOND)
    for words, line in {
        ("--target=acme", "--acme-pod", "x"): "--acme-pod: 'x' is no number",
        ("--target=acme", "--acme-pod=13"): "--target=acme: pod 13 is closed: take another with --acme-pod",
        ("--target=moon",): "--target: there is no target 'moon'; there are: netns, physical, vm, acme",
        ("--lag-driver=team",): "--lag-driver: there is no driver 'team'; there are: auto, bonding, openvswitch, acme",
    }.items():
        done = run(user, "-q", *words)
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        assert [told for told in done.stderr.lines if told.strip()] == [f"ERROR: {line}"]


def test_own_options_are_in_the_help_and_are_the_doctors_too(user: pytest.Pytester) -> None:
    install(ACME, site(user))
    done = user.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--help")
    done.stdout.fnmatch_lines(["*--channover-acme-pod=NUMBER*"])
    doctor = [sys.executable, "-m", "channover.cli.main", "doctor", "--target", "acme", "--acme-pod", "13"]
    told = subprocess.run(doctor, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1 and "pod 13 is closed" in told.stdout


def test_a_broken_package_is_named_where_a_target_is_looked_for(user: pytest.Pytester) -> None:
    broken(user, "1 / 0")
    done = run(user, "--target", "acme", "-q")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    words = "ERROR: odd-bonds 0.1 (entry point 'odd' of the group channover): ZeroDivisionError: division by zero"
    assert [told for told in done.stderr.lines if told.strip()] == [words]


VALUES = """
from itertools import count

from channover.testing import Source, at_most, near

class Camera(Source):
    '''Frames that somebody's camera has counted, ten a second.'''

    fixed = False

    def __init__(self):
        self.frames = []

    def samples(self): return self.frames
    def calm(self): return self.frames
    def more(self):
        self.frames.append(30.0 + len(self.frames) % 2)
        return len(self.frames) < 500
    def extend(self): return False
    def finish(self): pass
    def disturbed(self, settled): return ""

def test_own_source(observe):
    assert observe("frames", Camera(), "frames/s") == near(30.5, 0.05)

def test_own_unit(observe):
    assert observe("temperature", 41.5, "°C") == at_most(70)
"""


def test_own_units_and_own_sources_are_in_results_table_and_report(user: pytest.Pytester) -> None:
    user.makepyfile(test_values=VALUES)
    done = run(user)
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines([" * frames * 30.* frames/s *passed", " * temperature * 41.5 °C * ≤ 70 *passed"])
    found = {test.nodeid.split("::")[1]: test.measurements[0] for test in results(user).tests}
    frames, heat = found["test_own_source"], found["test_own_unit"]
    assert (frames.unit, heat.unit, heat.value) == ("frames/s", "°C", 41.5)
    assert frames.settled and frames.samples and frames.uncertainty
    latest = user.path / "reports" / "latest" / "allure-results"
    (story,) = [
        one
        for path in latest.glob("*-result.json")
        if (one := json.loads(path.read_text()))["name"] == "test_own_source"
    ]
    (samples,) = [one for one in story["attachments"] if one["name"] == "samples of frames (frames/s)"]
    assert len((latest / samples["source"]).read_text().splitlines()) == frames.samples
