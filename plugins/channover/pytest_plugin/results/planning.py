"""What pytest collects and passes over, noted as it does so: the plan of a run is made of it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import channover
from channover.pytest_plugin.results import marks

if TYPE_CHECKING:
    from channover.pytest_plugin.results.plan import Plan
    from channover.report.facts import Uncollected

_SUITES = Path(channover.__file__).parent.with_name("channover_suites")
"""Where the suites of an installed channover are; there is no such folder in a clone."""
_NEVER = ("__pycache__", "*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")
"""Folders that pytest passes over by default (``norecursedirs``): nobody has left them out."""
_REASON = 300


class Planning:
    """Notes what pytest collects and passes over, in the process that collects."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._items: list[pytest.Item] = []
        self._children: dict[pytest.Collector, list[pytest.Item | pytest.Collector]] = {}
        self._uncollected: dict[str, Uncollected] = {}
        self._ignored: list[str] = []

    def note_test(self, item: pytest.Item) -> None:
        """Note a test before anything can take it out again."""
        self._items.append(item)

    def note_children(self, collector: pytest.Collector, report: pytest.CollectReport) -> None:
        """Note what a file or class holds, before ``--lf`` leaves out a part of it."""
        if report.passed and isinstance(collector, (pytest.File, pytest.Class)):
            self._children[collector] = list(report.result)

    def note_uncollected(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if not report.passed:
            self._uncollected[report.nodeid] = uncollected(report)

    def note_ignored(self, path: Path) -> None:
        """Note a file or folder that pytest was told to pass over, where it holds tests."""
        if self._holds_tests(path):
            inner = _in_suites(path)
            self._ignored.append(inner or os.path.relpath(path, self._config.rootpath))

    def named(self, path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """Name tests of the installed suites by their package: pytest would name them by where the environment is."""
        inner = _in_suites(path)
        return pytest.Module.from_parent(parent, path=path, nodeid=inner) if inner else None

    def _holds_tests(self, path: Path) -> bool:
        patterns = self._config.getini("python_files")
        if path.is_dir():
            if any(fnmatch(path.name, never) for never in _NEVER) or (path / "pyvenv.cfg").exists():
                return False
            return any(self._holds_tests(file) for file in path.rglob("*.py"))
        return any(fnmatch(path.name, pattern) for pattern in patterns)

    def plan(self, items: Sequence[pytest.Item]) -> Plan:
        """Return the plan of the tests that are left to be run."""
        from channover.pytest_plugin.results.plan import Plan
        from channover.report.facts import LeftOut, Planned
        from channover.run import installed

        kept = set(map(id, items))
        places = [installed.place(path) for path in dict.fromkeys(item.path for item in items)]
        left = [LeftOut(*test, "deselected") for test in self._deselected(kept)]
        left += [LeftOut(*test, "not asked for") for test in self._unasked()]
        return Plan(
            tuple(
                Planned(item.nodeid, _identifier(item), xfail=item.get_closest_marker("xfail") is not None)
                for item in items
            ),
            tuple({one.nodeid: one for one in left}.values())
            + tuple(LeftOut(path, None, "ignored") for path in dict.fromkeys(self._ignored)),
            tuple(self._uncollected.values()),
            tuple(self._files()),
            tuple(dict.fromkeys(place.parts[0] for place in places if place is not None)),
            None in places,
        )

    def _deselected(self, kept: set[int]) -> Iterator[tuple[str, str | None]]:
        for item in self._items:
            if id(item) not in kept and item.nodeid not in self._uncollected:
                yield item.nodeid, _identifier(item)

    def _unasked(self) -> Iterator[tuple[str, str | None]]:
        known = {item.nodeid for item in self._items}
        for collector, children in self._children.items():
            for nodeid, behaviour in self._leaves(collector, children):
                if nodeid not in known:
                    yield nodeid, behaviour

    def _leaves(
        self, collector: pytest.Collector, children: Sequence[pytest.Item | pytest.Collector]
    ) -> Iterator[tuple[str, str | None]]:
        """Yield the tests of a file or class; what pytest did not look into is looked into now."""
        if not children and isinstance(collector, pytest.File):
            children = _looked_into(collector)
        for child in children:
            if isinstance(child, pytest.Item):
                yield child.nodeid, _identifier(child)
            elif isinstance(child, pytest.Collector) and child not in self._children:
                yield from self._leaves(child, _looked_into(child))

    def _files(self) -> Iterator[str]:
        """Yield the Python files of pytest's root folder that were loaded, but for installed packages."""
        root = self._config.rootpath
        loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        loaded += [getattr(plugin, "__file__", None) for plugin in self._config.pluginmanager.get_plugins()]
        loaded += [str(item.path) for item in self._items]
        for name in dict.fromkeys(filter(None, loaded)):
            path = Path(name)
            if path.is_relative_to(root) and not path.is_relative_to(sys.prefix) and "site-packages" not in path.parts:
                yield str(path.relative_to(root))


def _in_suites(path: Path) -> str | None:
    """Return the name of a file or folder of the suites that come with an installed channover, else None."""
    return path.relative_to(_SUITES.parent).as_posix() if path.is_relative_to(_SUITES) else None


def _identifier(item: pytest.Item) -> str | None:
    found = marks.stated(item)
    return found.id if found else None


def _looked_into(collector: pytest.Collector) -> list[pytest.Item | pytest.Collector]:
    try:
        return list(collector.collect())
    except Exception:  # whatever it is, it belongs to a file that was not asked for
        return []


def uncollected(report: pytest.CollectReport) -> Uncollected:
    """Return what a report says of a file that could not be collected, or skipped itself; the reason is one line."""
    if report.skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        text = text.removeprefix("Skipped: ")
    else:
        lines = [line for line in report.longreprtext.splitlines() if line.strip()]
        errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
        text = (errors or lines or ["no reason given"])[-1]
    from channover.report.facts import Uncollected

    return Uncollected(report.nodeid or ".", " ".join(text.split())[:_REASON], report.skipped)


def options_in_force(config: pytest.Config) -> Mapping[str, tuple[str, ...]]:
    """Return the options beside the command line, by where they come from."""
    found: dict[str, tuple[str, ...]] = {}
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        if value := os.environ.get(name):
            found[name] = tuple(shlex.split(value))
    if config.inipath is not None and (words := config.getini("addopts")):
        found[f"addopts of {os.path.relpath(config.inipath, config.rootpath)}"] = tuple(words)
    for word in (*config.invocation_params.args, *(word for words in found.values() for word in words)):
        if str(word).startswith("@"):  # argparse takes each line of such a file as a word
            with contextlib.suppress(OSError, ValueError):
                found[str(word)] = tuple(Path(str(word)[1:]).read_text("utf-8").splitlines())
    return found
