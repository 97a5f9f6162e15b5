"""What the documents say can be done: examples run, options are there, links lead somewhere."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import pytest
import yaml

import channover
from channover.cli import main as cli
from channover.hosts.host import Host, Journal
from channover.model.link import Link
from channover.model.topology import pair, trio, two_switches
from channover.report.deciding import waivers
from channover.targets.base import Target
from channover.targets.inventory.schema import load
from tests.support.packages import install

ROOT = Path(__file__).parents[2]
PLUGINS = Path(channover.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*(?![\w…-])(?<!-)")


@dataclass(frozen=True)
class Block:
    """An example: the page that it stands on, its place there, its language, its text."""

    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}-{self.number}"


BLOCKS = [
    Block(page, number, *found.groups())
    for page in PAGES
    for number, found in enumerate(FENCE.finditer(page.read_text()), start=1)
]


def blocks(language: str, words: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.language == language and words in block.text]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PLUGINS), "COLUMNS": "200", **more}


def pytest_run(folder: Path, *options: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "channover.pytest_plugin.hooks",
        "-p",
        "no:cacheprovider",
        "-rA",
        *options,
    ]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---------------------------------------------------------------------------------------------------------- examples


def test_examples_in_python_are_typed(tmp_path: Path) -> None:
    files = []
    for number, block in enumerate(blocks("python")):
        files.append(tmp_path / f"example_{number}.py")
        files[-1].write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_an_example_in_python_is_whole(block: Block) -> None:
    """It can be run as it stands: other tests run suites, targets and what a package adds; what is neither is read as used."""
    kinds = [words for words in ("\ndef test_", "\nclass ", "results = ", "behaviours.add(") if words in block.text]
    assert len(kinds) == 1, "an example is a suite, a target, what a package adds, or a script that reads results"


@pytest.mark.parametrize(
    "block", [one for one in blocks("python", "\ndef test_") if one.page.name != "extending.md"], ids=str
)
def test_an_example_of_a_suite_knows_all_that_it_uses(block: Block, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(block.text)
    tests = block.text.count("\ndef test_")
    assert len(re.findall("^SKIPPED", pytest_run(tmp_path, "--dry-run"), re.MULTILINE)) >= 1
    said = pytest_run(tmp_path, "--collect-only", "-q")
    assert said.count("test_example.py::test_") - said.count("would skip") == tests


@pytest.mark.lab
@pytest.mark.parametrize(
    "block", [*blocks("python", "one_tcp_flow_rides_one_link"), *blocks("python", "host.applied(")], ids=str
)
def test_an_example_of_a_suite_runs(block: Block, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(block.text)
    assert " 1 passed" in pytest_run(tmp_path, "--target=netns")
    (results,) = blocks("python", "results = ")
    subprocess.run([sys.executable, "-c", results.text], cwd=tmp_path, env=environment(), check=True)


@pytest.mark.lab
@pytest.mark.parametrize("block", blocks("python", "def unmet("), ids=str)
def test_an_example_of_a_target_is_one(block: Block) -> None:
    names: dict[str, object] = {}
    exec(compile(block.text, str(block), "exec"), names)
    (kind,) = [one for one in names.values() if isinstance(one, type) and one.__module__ == "builtins"]
    target: Target = kind()
    try:
        assert not [name for name in vars(Target) if not name.startswith("_") and not hasattr(target, name)]
        assert target.unmet(pair()) is None and "--target" in str(target.unmet(two_switches()))
        with target.lab(trio(), Link(), Journal()) as lab:
            assert list(lab.left.nics) == ["a", "b", "c"]
            lab.cabling.cut(lab.topology.cables[0])
            assert lab.right.run("uname", "-s").stdout.strip() == "Linux"
    finally:
        target.close()
    assert target.remarks == []


@pytest.mark.lab
def test_the_package_of_the_page_on_extending_adds_what_it_says(tmp_path: Path) -> None:
    """Its module, its entry point and its suite, as they stand on the page."""
    on_page = [block for block in BLOCKS if block.page.name == "extending.md"]
    project, module, suite = (block.text for block in on_page)
    source, site = tmp_path / "source", tmp_path / "site"
    (source / "acme_bonds").mkdir(parents=True)
    (source / "pyproject.toml").write_text(project)
    (source / "acme_bonds" / "__init__.py").write_text("")
    (source / "acme_bonds" / "channover_plugin.py").write_text(module)
    install(source, site)
    (tmp_path / "test_acme.py").write_text(suite)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "channover.pytest_plugin.hooks",
            "--target=acme",
            "--acme-pod=7",
            "test_acme.py",
        ],
        cwd=tmp_path,
        env=environment(PYTHONPATH=os.pathsep.join((str(PLUGINS), str(site)))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and " 2 passed" in done.stdout, done.stdout + done.stderr
    for words in (" ACME-2 ", "round trip", " ms ", "processes"):
        assert words in done.stdout


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_an_example_in_yaml_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(block.text)
    held = yaml.safe_load(block.text)
    assert set(held) <= {"labs", "waivers"}
    if "labs" in held:
        assert load(file).labs
    if "waivers" in held:
        last = min(entry["until"] for entry in held["waivers"])
        assert isinstance(last, date) and waivers.load(file, last)


def test_the_inventory_of_the_example_is_valid() -> None:
    assert load(ROOT / "inventory" / "example.yaml").labs


# ----------------------------------------------------------------------------------------------------- command lines


DUMP = """
import pytest
from channover.pytest_plugin.options import names as words

class Dump:
    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config):
        parser = config._parser
        groups = [*parser._groups, parser._anonymous]
        print(*words._words(parser), *(name for group in groups for option in group.options for name in option.names()))
        return 0

pytest.main(["-p", "channover.pytest_plugin.hooks", "tests"], plugins=[Dump()])
"""


@cache
def pytest_options() -> frozenset[str]:
    """All options of pytest with the plugin, and those of this project's own tests."""
    done = subprocess.run(
        [sys.executable, "-c", DUMP], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    return frozenset(done.stdout.split())


def channover_parser(words: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the command that these words begin with."""
    parser: argparse.ArgumentParser = cli._parser()
    for word in words:
        commands = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        if not commands or word.startswith("-"):
            break
        if word != "COMMAND":
            assert word in commands[0].choices, f"there is no command {word}"
            parser = commands[0].choices[word]
    return parser


@cache
def channover_options() -> frozenset[str]:
    found: set[str] = set()
    open_ = [cli._parser()]
    while open_:
        parser = open_.pop()
        found |= set(parser._option_string_actions)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                open_ += action.choices.values()
    return frozenset(found)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the command lines of a shell's text as words, without comments and what they are piped to."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\|?|;|(?<!\S)>", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # a quoted programme of another tool, cut in two
                continue
            while words and (words[0] == "sudo" or "=" in words[0].partition("/")[0]):
                words = words[1:]
            if words:
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def check_command(words: list[str], *, whole: bool) -> None:
    """Check the options of a command of ours; ``whole``: of one that can be typed as it stands."""
    program, rest = words[0], words[1:]
    if program == "pytest":
        unknown = set(OPTION.findall(" ".join(rest))) - pytest_options()
        assert not unknown, f"pytest has no {', '.join(unknown)}: {' '.join(words)}"
    elif program == "channover":
        parser = channover_parser(rest)
        unknown = set(OPTION.findall(" ".join(rest))) - {*parser._option_string_actions, "--help"}
        assert not unknown, f"{parser.prog} has no {', '.join(unknown)}"
        if whole and "--help" not in rest and "COMMAND" not in rest:
            cli._parser().parse_args(rest)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert not whole or rest[0] in targets
        for word in rest:
            if word.startswith("ARGS="):
                check_command(["pytest", *shlex.split(word.removeprefix("ARGS="))], whole=False)


@pytest.mark.parametrize("block", [*blocks("sh"), *blocks("bash"), *blocks("console")], ids=str)
def test_an_example_for_the_shell_can_be_typed(block: Block) -> None:
    for words in commands(block.text.replace("…", "x")):
        check_command(words, whole=True)


def inline(page: Path) -> list[str]:
    """Return what stands between single backticks on a page."""
    return [" ".join(words.split()) for words in INLINE.findall(FENCE.sub("", page.read_text()))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_a_page_names_are_there(page: Path) -> None:
    known = pytest_options() | channover_options()
    for words in inline(page):
        if words.startswith("--"):
            assert set(OPTION.findall(words)) <= known, f"{page.name}: {words}"
        elif words.split()[0] in ("pytest", "channover", "make"):
            check_command(words.split(), whole=False)


def test_the_example_workflow_is_one() -> None:
    held = yaml.safe_load((ROOT / "docs" / "example-workflow.yml").read_text())
    assert set(held) == {"name", True, "jobs"}, "YAML 1.1 reads 'on' as true"
    for job in held["jobs"].values():
        assert job["runs-on"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            for words in commands(step.get("run", "")):
                check_command(words, whole=True)
    for comment in re.findall(r"as in: (make [^,\n]+)", (ROOT / "docs" / "example-workflow.yml").read_text()):
        check_command(shlex.split(comment), whole=True)


# -------------------------------------------------------------------------------------------------- names and links


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in headings(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_are_where_a_page_says(page: Path) -> None:
    text = " ".join(page.read_text().split())
    for name, file in re.findall(r"`([A-Za-z_]\w*)` in `([a-z_/]+\.py)`", text):
        (found,) = [one for one in ROOT.glob(f"plugins/channover/{file}") if one.exists()]
        assert re.search(rf"^(def {name}\b|class {name}\b|{name}\b.* =)", found.read_text(), re.MULTILINE), name
    for words in inline(page):
        if re.fullmatch(r"channover(\.\w+)+", words):
            done = subprocess.run(
                [sys.executable, "-c", f"import pkgutil; pkgutil.resolve_name({words!r})"],
                env=environment(),
                check=False,
            )
            assert done.returncode == 0, f"{page.name}: {words}"


def test_a_host_has_what_a_target_has_to_give_it() -> None:
    text = (ROOT / "docs" / "adding-a-target.md").read_text()
    said = re.search(r"is the protocol: (.*?)\. Everything", text, re.DOTALL)
    assert said
    members = {name for name in vars(Host) if not name.startswith("_")}
    assert set(re.findall(r"`(\w+)`", said[1])) == members
