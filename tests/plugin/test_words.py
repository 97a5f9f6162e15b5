"""The names of options beside other plugins: short where nobody else has the word, and long always."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import channover
from channover.pytest_plugin.options import names as words

OWN_WORDS = {long: short for short, long in words.OWN_WORDS.items()}
PLUGINS = str(Path(channover.__file__).parent.parent)
OTHER = """
def pytest_addoption(parser):
    parser.addoption("--target", default="nobody", help="a chip")
    parser.getgroup("testbeds").addoption("--lab", action="store_true")


def pytest_report_header(config):
    return f"the chip is {config.getoption('--target')}"
"""
SUITE = """
from channover.testing import behaviour

@behaviour("MP-8")
def test_target(request, counted):
    assert counted("ports", 1) == 1
    from channover.pytest_plugin.testbed import TESTBED
    settings = request.config.stash[TESTBED].settings
    print(f"target {settings.target}, rate {settings.link.rate}, chip {request.config.option.target}")
"""
NEEDS = """
from channover.targets import capabilities
from channover.testing import behaviour

capabilities.CAPABILITIES.entries["openvpn"] = capabilities.Capability("OpenVPN", {"no-such-program": "openvpn"})

@behaviour("TUN-2")
def test_vpn():
    pass
"""
REMARK = "channover: not its own here: --lab, --target; use --channover-lab, --channover-target"
STRICT = "channover: --strict is pytest's own and lets tests be skipped; --no-skips (or --channover-strict) forbids it"


@pytest.fixture
def user(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", f"{PLUGINS}:{pytester.path}")
    monkeypatch.setenv("COLUMNS", "200")
    return pytester


def run(user: pytest.Pytester, *options: str) -> pytest.RunResult:
    done = user.runpytest_subprocess(*options)
    assert "Traceback (most" not in done.stdout.str() + done.stderr.str()
    return done


def installed(user: pytest.Pytester, name: str) -> None:
    """Make the other plugin one that pytest loads by itself, as it loads one that pip has installed."""
    user.makepyfile(**{name: OTHER})
    found = user.path / f"{name}-1.0.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text(f"[pytest11]\n{name} = {name}\n")


@pytest.mark.parametrize(
    ("way", "workers"),
    [
        ("before", ()),
        ("after", ()),
        ("installed", ()),
        ("conftest", ()),
        pytest.param("after", ("-n", "2"), marks=pytest.mark.slow),
        ("conftest", ("-n", "2")),
    ],
)
def test_another_plugins_word_stays_its_own_and_the_long_name_works(
    user: pytest.Pytester, way: str, workers: tuple[str, ...]
) -> None:
    user.makepyfile(SUITE)
    options = {
        "before": ("-p", "other", "-p", "channover.pytest_plugin.hooks"),
        "after": ("-p", "channover.pytest_plugin.hooks", "-p", "other"),
    }.get(way, ("-p", "channover.pytest_plugin.hooks"))
    if way == "installed":
        installed(user, "other")
    elif way == "conftest":
        user.makeconftest(OTHER)
    else:
        user.makepyfile(other=OTHER)
    asked = ("--target=esp32", "--channover-target", "netns", "--link-rate", "10mbit", "-rP", *workers)
    done = run(user, *options, *asked)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["the chip is esp32", "*target netns, rate 10000000, chip esp32*", REMARK])


def test_errors_name_the_word_that_works(user: pytest.Pytester) -> None:
    user.makepyfile(SUITE, other=OTHER)
    done = run(user, "-p", "other", "--channover-target=physical")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --channover-target=physical needs --inventory FILE: *"])
    done = run(user, "-p", "other", "--target=netns", "--channover-target=moon", "--channover-lab=x")
    done.stderr.fnmatch_lines(["ERROR: --channover-target: there is no target 'moon'; *"])


def test_a_conftest_deep_down_may_have_the_same_word(user: pytest.Pytester) -> None:
    user.mkdir("deep").joinpath("conftest.py").write_text(OTHER)
    (user.path / "deep" / "test_deep.py").write_text(
        "def test_chip(request): assert request.config.option.target == 'nobody'"
    )
    done = run(user, "-p", "channover.pytest_plugin.hooks", "--target=netns")
    done.assert_outcomes(passed=1)


@pytest.mark.parametrize("way", ["ini", "environment", "file", "line", "long"])
def test_the_words_are_known_wherever_options_may_stand(
    user: pytest.Pytester, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.makepyfile(SUITE.replace(", chip {request.config.option.target}", ""))
    asked = ["--target=netns", "--link-rate", "20mbit"]
    options = ["-p", "channover.pytest_plugin.hooks", "-rP"]
    if way == "ini":
        user.makeini(f"[pytest]\naddopts = {' '.join(asked)}")
    elif way == "environment":
        monkeypatch.setenv("PYTEST_ADDOPTS", f"--no-report {' '.join(asked)}")
    elif way == "file":
        if pytest.version_tuple < (8, 2):
            pytest.skip("this pytest takes no words from files: install 8.2")
        (user.path / "words").write_text("\n".join(asked))
        options += ["@words"]
    else:
        options += asked if way == "line" else [word.replace("--", "--channover-") for word in asked]
    done = run(user, *options)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["target netns, rate 20000000"])
    done.stdout.no_fnmatch_line("channover: not its own*")


def test_a_words_value_is_no_folder_of_tests(user: pytest.Pytester) -> None:
    user.mkdir("netns").joinpath("conftest.py").write_text("raise SystemExit('loaded')")
    user.makepyfile(test_it="def test_it(): pass")
    run(user, "-p", "channover.pytest_plugin.hooks", "--target", "netns", "test_it.py").assert_outcomes(passed=1)


def test_what_stands_behind_two_dashes_is_a_path(user: pytest.Pytester) -> None:
    done = run(user, "-p", "channover.pytest_plugin.hooks", "--", "--target=netns")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*: --target=netns"])


@pytest.mark.parametrize("word", ["--no-skips", "--channover-strict"])
def test_skips_can_be_forbidden(user: pytest.Pytester, word: str) -> None:
    user.makepyfile(NEEDS)
    done = run(user, "-p", "channover.pytest_plugin.hooks", word)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["*--no-skips forbids to skip it: *"])


@pytest.mark.filterwarnings("ignore")
def test_pytests_own_strict_is_left_to_pytest_and_this_is_said(user: pytest.Pytester) -> None:
    user.makepyfile(NEEDS)
    for options in [("-q",), ("-n", "2")]:
        done = run(user, "-p", "channover.pytest_plugin.hooks", "--strict", *options)
        assert done.ret == pytest.ExitCode.OK
        done.stdout.fnmatch_lines([STRICT])
    done = run(user, "-p", "channover.pytest_plugin.hooks", "--strict", "--no-skips")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.no_fnmatch_line(STRICT)


def test_help_has_both_names_of_each_option_and_says_which_is_taken(user: pytest.Pytester) -> None:
    user.makepyfile(other=OTHER)
    for options, taken in ((), set()), (("-p", "other"), {"--target", "--lab"}):
        shown = run(user, "-p", "channover.pytest_plugin.hooks", *options, "--help").stdout.str()
        text = " ".join(shown.split()).replace("- ", "-")  # pytest 8 breaks lines within words
        told = re.split(r"(?<= )--channover-(?=[\w-]+(?:=\S+)? )", text.partition("channover: documented")[2])[1:]
        assert len(told) == 25
        for entry in told:
            short = OWN_WORDS.get(f"--channover-{entry.split()[0]}", f"--{re.split('[= ]', entry)[0]}")
            ending = f"({short} is not channover's here)" if short in taken else f"(short: {short})"
            assert ending in entry
