"""``channover doctor``: its command line, what it says, and that it agrees with what a run would do."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from channover.cli import doctor
from channover.cli import main as cli
from channover.cli.doctor import examine
from channover.cli.doctor_findings import Ability, Findings, Prospect
from channover.cli.doctor_text import render
from channover.cli.stated import STATED
from channover.errors import TestbedError, UsageError
from channover.model.catalogue import CATALOGUE
from channover.model.link import Link
from channover.run.environment import Environment
from channover.run.settings import Settings
from channover.run.target_choice import Place
from channover.targets.netns import NetnsTarget

PLUGINS = Path(__file__).parents[2] / "plugins"
ONE_CABLE = """
labs:
  bench:
    hosts:
      left: {ssh: {address: 127.0.0.1, port: 1}, management: eth0, nics: {a: eth1}}
      right: {ssh: {address: 127.0.0.1, port: 2}, management: eth0, nics: {a: eth1}}
    cables:
      - {ends: [left.a, right.a], rate: 100mbit}
"""
GAP = "left has no openvpn: apt-get install openvpn"
SETTINGS = Settings(Place(), Link(), "auto", None, 10.0, False, Path("reports"))


def findings(missing: str | None = None) -> Findings:
    return Findings(
        {"kernel": "6.1.0 x86_64", "LAG driver": "bonding"},
        {"iperf3": "3.12"},
        None,
        (Ability("iperf3", "traffic", None), Ability("openvpn", "OpenVPN", missing)),
        (
            Prospect(CATALOGUE["LAG-1"], (), None),
            Prospect(CATALOGUE["TUN-2"], ("openvpn",) if missing else (), missing),
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["doktor"], "invalid choice"),
        (["doctor", "--target"], "expected one argument"),
        (["doctor", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["doctor", "--target", "moon"], "--target: there is no target 'moon'; there are: netns"),
        (["doctor", "--lag-driver", "team"], "--lag-driver: there is no driver 'team'"),
        (["doctor", "--link-rate", "fast"], "--link-rate: 'fast' is not a rate"),
        (["doctor", "--link-rate", "1tbit"], "--link-rate:"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = cli.main(arguments)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("channover") and said in err


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"]])
def test_help_says_options_and_exit_codes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 0
    text = capsys.readouterr().out
    wanted = ["doctor"] if len(arguments) == 1 else ["--target", "--link-rate", "--lag-driver", "exit codes", "  2  "]
    assert all(word in text for word in wanted)


def test_plain_lines_stand_alone() -> None:
    lines = render(findings(GAP), terminal=False).splitlines()
    assert "LAG-1  yes" in lines
    assert f"TUN-2  no: {GAP}" in lines
    assert any(line.startswith("openvpn") and GAP in line for line in lines)
    assert lines[-1].startswith("1 of 2 behaviours can be tried here")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_tables_fit_and_name_the_gap_once(width: int) -> None:
    text = render(findings(GAP), terminal=True, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "no: openvpn" in text and "\x1b" not in text
    assert " ".join(text.split()).count("apt-get") == 1


def test_colour_only_where_it_is_asked_for() -> None:
    assert "\x1b[32m" in render(findings(), terminal=True, colour=True)


def test_words_of_the_machine_cannot_steer_the_terminal() -> None:
    for terminal in (True, False):
        assert "\x1b" not in render(findings("a\x1b[2Jgap"), terminal=terminal)


@pytest.mark.parametrize(("missing", "code"), [(None, 0), (GAP, 1)])
def test_exit_code_says_whether_all_can_run(
    missing: str | None, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: findings(missing))
    assert cli.main(["doctor"]) == code
    assert "behaviours can be tried here" in capsys.readouterr().out


def test_a_file_that_cannot_hold_every_sign_gets_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: findings("no …"))
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    doctor.main(SETTINGS, file)
    file.seek(0)
    assert "no: no ?" in file.read()


def test_no_namespaces_at_all_is_said_of_every_behaviour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NetnsTarget, "unmet", lambda *_: "namespaces are refused here: run as root")
    found = examine(SETTINGS)
    assert {each.missing for each in found.prospects} == {"namespaces are refused here: run as root"}
    assert not found.complete and len(found.prospects) == len(CATALOGUE)
    assert "namespaces are refused here" in render(found, terminal=True)


def test_a_probe_that_breaks_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> str:
        raise TestbedError("the lab is\ngone")

    monkeypatch.setattr(NetnsTarget, "unmet", broken)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "channover: this machine could not be probed: the lab is gone\n"


def test_a_run_probes_once_and_real_hosts_that_fail_then_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def broken(*_: object) -> str:
        tries.append("a lab")
        raise TestbedError("left: the SSH connection is lost")

    monkeypatch.setattr(NetnsTarget, "unmet", lambda *_: None)
    monkeypatch.setattr(NetnsTarget, "lab", broken)
    run = Environment(replace(SETTINGS, place=Place("physical")), NetnsTarget())
    with pytest.raises(
        TestbedError, match="--target=physical: the hosts could not be probed: left: the SSH connection"
    ):
        run.ready()
    assert {run.unmet(each) for each in CATALOGUE.values() if each.needs} == {
        "this machine could not be probed: left: the SSH connection is lost"
    }
    assert run.kernel and tries == ["a lab"]


def test_what_has_no_test_cannot_be_tried() -> None:
    untold = Prospect(CATALOGUE["LAG-5"], (), None, stated=False)
    found = replace(findings(), prospects=(*findings().prospects, untold))
    assert found.complete
    assert found.closing == "2 of 3 behaviours can be tried here: all that have a test; 1 has no test yet."
    assert "LAG-5  has no test yet" in render(found, terminal=False).splitlines()
    assert "has no test yet" in render(found, terminal=True, width=140)


def test_what_can_be_tried_in_part_is_not_all() -> None:
    some = replace(findings().prospects[0], in_part="the topology trio needs a third cable")
    found = replace(findings(), prospects=(some,))
    assert not found.complete
    assert "LAG-1  yes, in part: the topology trio needs a third cable" in render(found, terminal=False).splitlines()
    assert found.closing.startswith("1 of 1 behaviours can be tried here, some of them in part")


def test_a_lab_of_one_cable_is_good_for_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = tmp_path / "labs.yaml"
    inventory.write_text(ONE_CABLE)
    assert cli.main(["doctor", "--target", "physical", "--inventory", str(inventory)]) == 1
    told = capsys.readouterr().out
    for name in ("LAG-1", "MP-1", "TUN-6", "LAG-7"):
        (line,) = [line for line in told.splitlines() if line.startswith(f"{name} ")]
        assert line.split()[1] == "no:" and len(line) > 40
    assert f"0 of {len(CATALOGUE)} behaviours can be tried" in told


def test_a_driver_by_name_that_cannot_be_had_forbids_the_run(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channover.run.environment.lag_driver", lambda *_: (None, "no bonding: modprobe bonding"))
    settings = replace(SETTINGS, lag_driver="bonding")
    with pytest.raises(UsageError, match="--lag-driver=bonding: no bonding: modprobe bonding"):
        Environment(settings, environment.target).ready()
    found = examine(settings)
    assert {each.missing for each in found.prospects if each.stated} == {
        "--lag-driver=bonding: no bonding: modprobe bonding"
    }
    assert found.closing.startswith(
        f"0 of {len(CATALOGUE)} behaviours can be tried here; tests of {len(STATED)} are skipped"
    )


@pytest.fixture
def environment() -> Iterator[Environment]:
    target = NetnsTarget()
    environment = Environment(SETTINGS, target)
    if environment.target_unmet:
        pytest.skip(environment.target_unmet)
    yield environment
    target.close()


def test_it_agrees_with_what_a_run_would_skip(environment: Environment) -> None:
    found = examine(SETTINGS)
    assert {each.behaviour.id: each.missing for each in found.prospects} == {
        name: environment.unmet(behaviour) for name, behaviour in CATALOGUE.items()
    }
    for each in found.prospects:
        assert bool(each.lacks) == bool(each.missing)
    assert found.facts["LAG driver"].startswith(environment.lag[0] or "none")


def test_a_driver_that_is_not_there_is_a_gap(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channover.run.environment.lag_driver", lambda *_: (None, "no bonding: modprobe bonding"))
    found = examine(SETTINGS)
    lag = next(each for each in found.prospects if each.behaviour.id == "LAG-1")
    assert (lag.lacks, lag.missing) == (("lag",), "no bonding: modprobe bonding")
    assert found.facts["LAG driver"] == "none"
    assert environment.lag is not None


def test_the_command_runs_without_pytest_around_it(environment: Environment) -> None:
    assert environment.target_unmet is None
    command = [sys.executable, "-m", "channover.cli.main", "doctor"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(PLUGINS), "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    assert all(f"\n{name}" in done.stdout for name in CATALOGUE)


def test_a_usage_error_of_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> int:
        raise UsageError("first\nsecond")

    monkeypatch.setattr(doctor, "main", broken)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "channover: first second\n"


def test_it_says_what_each_behaviour_s_lab_is_and_where_else_it_can_be_had(environment: Environment) -> None:
    found = examine(environment.settings)
    assert found.facts["elsewhere"].startswith("--target=vm: ") and "--target=physical" in found.facts["elsewhere"]
    rows = {name: (of, needed) for name, of, needed in found.topologies}
    assert rows["unequal-20"] == ("APP-1", "left–right 1 cable, left–right 1 cable slower")
    assert "unequal-10" in rows and rows["pair"][1] == "left–right 2 cables"
    plain = render(found, terminal=False)
    assert "\ngateway " in plain and "a lab of real hosts needs left–right 2 cables, right–beyond 1 cable" in plain
    assert "right–beyond" in render(found, terminal=True, width=100)
