"""Allure's files as a run writes them: without secrets, each whole or not at all, and none is worth a test.

A disk that is full or a folder that is gone is no fault of the test that was running: it is told once, at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import allure_commons
from allure_commons.logger import AllureFileLogger
from attr import asdict

from channover.report.signoff.masking import Masker


class AllureFiles:
    """Writes what Allure has to keep into a folder, in place of Allure's own writer."""

    def __init__(self, folder: Path, masker: Masker, failed: Callable[[OSError], None]) -> None:
        self._folder = folder
        self._masker = masker
        self._failed = failed
        self._replaced: list[Any] = []

    def register(self) -> None:
        """Take the place of Allure's writers into the folder."""
        plugins = allure_commons.plugin_manager
        for one in list(plugins.get_plugins()):
            if isinstance(one, AllureFileLogger) and Path(one._report_dir) == self._folder:
                plugins.unregister(one)
                self._replaced.append(one)
        plugins.register(self)

    def unregister(self) -> None:
        """Give the place back: Allure takes its writers away itself."""
        plugins = allure_commons.plugin_manager
        plugins.unregister(self)
        for one in self._replaced:
            plugins.register(one)

    @allure_commons.hookimpl
    def report_result(self, result: Any) -> None:
        """Keep a test's result."""
        self._item(result)

    @allure_commons.hookimpl
    def report_container(self, container: Any) -> None:
        """Keep what was set up for tests, and taken down."""
        self._item(container)

    @allure_commons.hookimpl
    def report_globals(self, globals_item: Any) -> None:
        """Keep what belongs to no test."""
        self._item(globals_item)

    @allure_commons.hookimpl
    def report_attached_file(self, source: str, file_name: str) -> None:
        """Keep a copy of a file."""
        self._write(file_name, Path(source).read_bytes())

    @allure_commons.hookimpl
    def report_attached_data(self, body: str | bytes, file_name: str) -> None:
        """Keep a text, or data."""
        self._write(file_name, body.encode("utf-8", "backslashreplace") if isinstance(body, str) else bytes(body))

    def _item(self, item: Any) -> None:
        self._masker.learn()
        plain = self._masker.of(asdict(item, filter=lambda _, value: value or value is False))
        text = json.dumps(plain, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._put(item.file_pattern.format(prefix=uuid4()), text)

    def _write(self, name: str, data: bytes) -> None:
        self._masker.learn()
        self._put(name, self._masker.data(data, name))

    def _put(self, name: str, data: bytes) -> None:
        temporary = self._folder / f"{name}.tmp"
        try:
            temporary.write_bytes(data)
            os.replace(temporary, self._folder / name)
        except OSError as error:
            self._failed(error)
            with contextlib.suppress(OSError):  # the same again: it has been told
                temporary.unlink(missing_ok=True)
