"""pytest's hooks: the order of what happens when a test and a session end, and what a run costs that does not use them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

import channover
from channover.pytest_plugin import failures, hooks, phases
from channover.pytest_plugin.allure import pages
from channover.pytest_plugin.live import lines
from channover.pytest_plugin.results import artifacts, judging

ROOMS = Path(channover.__file__).parent
HEAVY = {"fabric", "jinja2", "jsonschema", "matplotlib", "paramiko", "pydantic", "pyroute2", "rich", "yaml"}
"""What channover needs and takes long to import."""
LIGHT = 30
"""Modules of channover that a run may load which does not use it."""


@dataclass
class Noted:
    """Whatever is called, its name is noted, and nothing done."""

    calls: list[str]
    name: str = ""

    def __getattr__(self, name: str) -> Any:
        return Noted(self.calls, f"{self.name}.{name}".lstrip("."))

    def __call__(self, *_: object) -> None:
        self.calls.append(self.name)


@dataclass
class Session:
    """The hooks among pytest's, between a plugin that came before and one that came after."""

    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        made = hooks.Hooks.__new__(hooks.Hooks)
        for part in ("testbed", "live", "lines", "planning", "beginning", "witness", "results", "report"):
            setattr(made, part, Noted(self.calls, part))
        self.manager = pytest.PytestPluginManager()
        self.manager.register(self._other("early"))
        self.manager.register(made)
        self.manager.register(self._other("late"))

    def _other(self, when: str) -> object:
        def note(*_: object) -> None:
            self.calls.append(f"{when} plugin")

        other = SimpleNamespace()
        for name in ("pytest_sessionfinish", "pytest_runtest_teardown", "pytest_keyboard_interrupt"):
            setattr(other, name, pluggy.HookimplMarker("pytest")(_named(note, name)))
        return other


def _named(note: Callable[..., None], name: str) -> Callable[[], None]:
    def hook() -> None:
        note()

    hook.__name__ = name
    return hook


def test_a_session_ends_with_hosts_given_back_before_the_report_is_made() -> None:
    environment = Session()
    environment.manager.hook.pytest_sessionfinish(session=Noted([]), exitstatus=0)
    ours = ["results.write", "testbed.give_back", "results.mend_junit", "report.finish_plots", "report.make"]
    assert environment.calls == ["late plugin", "early plugin", *ours]


def test_ctrl_c_is_remembered_before_anything_else_is_done() -> None:
    environment = Session()
    environment.manager.hook.pytest_keyboard_interrupt(excinfo=Noted([]))
    assert environment.calls == ["results.stop", "live.close", "testbed.interrupt", "late plugin", "early plugin"]


def test_a_test_ends_with_a_look_at_its_lab_before_the_lab_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Session()
    monkeypatch.setattr(pages, "look", Noted(environment.calls, "pages.look"))
    monkeypatch.setattr(pages, "tell", Noted(environment.calls, "pages.tell"))
    monkeypatch.setattr(judging, "judge_teardown", Noted(environment.calls, "judging.judge_teardown"))
    monkeypatch.setattr(phases, "judge", Noted(environment.calls, "phases.judge"))
    monkeypatch.setattr(failures, "hide_own_frames", Noted(environment.calls, "failures.hide_own_frames"))
    monkeypatch.setattr(failures, "add_commands", Noted(environment.calls, "failures.add_commands"))
    monkeypatch.setattr(lines, "note", Noted(environment.calls, "lines.note"))
    for name in ("claim", "take", "finish"):
        monkeypatch.setattr(artifacts, name, Noted(environment.calls, f"artifacts.{name}"))
    monkeypatch.setattr(phases, "leave", Noted(environment.calls, "phases.leave"))
    item, report = Noted([]), Noted([])
    environment.manager.hook.pytest_runtest_teardown(item=item, nextitem=None)
    assert environment.calls == [
        "artifacts.take",
        "testbed.keep_lab",
        "pages.look",
        "late plugin",
        "early plugin",
        "judging.judge_teardown",
    ]
    environment.calls.clear()

    class Making:
        def pytest_runtest_makereport(self) -> Noted:
            environment.calls.append("pytest")
            return report

    environment.manager.register(Making())
    environment.manager.hook.pytest_runtest_makereport(item=item, call=Noted([]))
    assert environment.calls == [
        "failures.hide_own_frames",
        "pytest",
        "witness.note",
        "testbed.skip_dry",
        "phases.judge",
        "failures.add_commands",
        "artifacts.claim",
        "lines.note",
        "phases.leave",
        "pages.tell",
        "artifacts.finish",
    ]
    environment.calls.clear()
    environment.manager.hook.pytest_runtest_logreport(report=report)
    assert environment.calls == ["live.give_way", "results.take", "lines.tell", "witness.forget"]


def test_hooks_stand_in_one_file() -> None:
    found = {
        path.relative_to(ROOMS).as_posix()
        for path in ROOMS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("pytest_")
    }
    assert found == {"pytest_plugin/hooks.py"}


def test_a_run_that_does_not_use_channover_loads_little_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "conftest.py").write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "def pytest_unconfigure():\n"
        "    Path('loaded.json').write_text(json.dumps(sorted(sys.modules)))\n"
    )
    for words in (["--co"], []):
        subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider", *words],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOMS.parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            check=True,
            capture_output=True,
        )
        loaded = set(json.loads((tmp_path / "loaded.json").read_text()))
        assert "channover.pytest_plugin.hooks" in loaded
        assert not loaded & HEAVY
        ours = sorted(name for name in loaded if name.startswith("channover"))
        assert len(ours) <= LIGHT, ours


def test_the_package_has_twelve_rooms_at_most_and_each_of_them_twelve_modules() -> None:
    package = Path(channover.__file__).parent
    rooms = [one for one in package.iterdir() if (one / "__init__.py").exists()]
    assert len(rooms) <= 12
    for room in rooms:
        modules = [
            one.name
            for one in room.iterdir()
            if (one / "__init__.py").exists() or (one.suffix == ".py" and one.stem != "__init__")
        ]
        assert len(modules) <= 12, f"{room.name}: {sorted(modules)}"
