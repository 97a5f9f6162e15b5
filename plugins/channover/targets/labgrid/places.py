"""Labs that a labgrid coordinator gives out: ``--inventory labgrid://COORDINATOR[:PORT]?TAG=VALUE&…`` reserves a place.

A place names its lab by a resource of class ``ChannoverLab``, whose ``inventory`` is a file's path or an inventory's text (in
quotes: labgrid passes on no block of YAML), and whose ``lab`` is the lab of it where there are several.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from channover import isolated
from channover.errors import TestbedError, UsageError
from channover.targets.inventory.schema import Inventory, LabEntry, load, loaded

SCHEME = "labgrid://"
PORT = 20408
"""The coordinator's port where none is named."""
RELEASE_TIMEOUT = 20.0
"""Seconds that giving places back may take."""
_TAG = re.compile(r"[A-Za-z0-9_-]{1,}")


@dataclass(frozen=True)
class Source:
    """A coordinator, and the tags that a place must have."""

    url: str
    address: str
    tags: Mapping[str, str]

    def named(self, place: str) -> Source:
        """Return this source for one place alone."""
        return replace(self, tags={"name": place})


@dataclass
class Places:
    """Places that a run holds, each a lab; given back by :meth:`close`, or when the run's process ends."""

    source: Source
    labs: dict[str, LabEntry] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def release(self) -> None:
        """Give the places back, where that has not been done."""
        self.close()

    def close(self) -> str:
        """Give the places back; return what is to be said where that is not possible."""
        process, self._process = self._process, None
        if process is None:
            return ""
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(RELEASE_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"{self.source.url}: it did not take back {', '.join(self.labs)}: see labgrid-client who"
        lost = [line for line in map(_parsed, process.stdout) if "lost" in line]
        process.stdout.close()
        if lost and self.labs:
            return f"{self.source.url}: {lost[0]['lost']}; another run may have been given {', '.join(self.labs)} meanwhile"
        return ""


def source(text: str) -> Source:
    """Return the coordinator and the tags that a text names. Raises UsageError."""
    form = "labgrid://COORDINATOR[:PORT]?TAG=VALUE&TAG=VALUE"
    try:
        parts = urlsplit(text)
        port, host = parts.port or PORT, parts.hostname or ""
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise UsageError(f"--inventory: '{text}' is not of the form {form}") from None
    if (
        not host
        or parts.path.strip("/")
        or parts.fragment
        or parts.username
        or not all(_TAG.fullmatch(k) for k, _ in pairs)
    ):
        raise UsageError(f"--inventory: '{text}' is not of the form {form}")
    return Source(text, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", dict(pairs))


def looked_up(source: Source) -> Mapping[str, LabEntry]:
    """Return the lab of the first place that fits; nothing is reserved. Raises UsageError, TestbedError."""
    places = _asked(source, 0, lambda _: None)
    places.close()
    return places.labs


def reserved(source: Source, count: int, say: Callable[[str], None]) -> Places:
    """Wait until ``count`` places are this run's, and return them. Raises UsageError, TestbedError."""
    return _asked(source, count, say)


def _asked(source: Source, count: int, say: Callable[[str], None]) -> Places:
    if find_spec("labgrid") is None:
        raise UsageError("--inventory: labgrid:// takes the package labgrid: pip install 'channover[labgrid]'")
    command = isolated.python(
        "channover.targets.labgrid.keeper", source.address, json.dumps(dict(source.tags)), str(count)
    )
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=isolated.environment(),
        start_new_session=True,  # Ctrl-C is the run's, which then closes the input
    )
    places = Places(source, _process=process)
    assert process.stdout is not None
    try:
        for line in map(_parsed, process.stdout):
            if "waiting" in line:
                say(f"waiting for {_number(count)} of {source.url}: {', '.join(line['waiting'])}")
            elif "places" in line:
                places.labs = dict(_lab(each) for each in line["places"])
                return places
            elif "fault" in line or "lost" in line:
                raise TestbedError(f"{source.url}: {line.get('fault') or line['lost']}")
        raise TestbedError(f"{source.url}: labgrid's client ended with code {process.wait()}")
    except BaseException:
        places.labs = {}
        places.close()
        raise


def _number(count: int) -> str:
    return "a place" if count == 1 else f"{count} places"


def _parsed(line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _lab(told: Mapping[str, str]) -> tuple[str, LabEntry]:
    """Return a place's name and its lab. Raises UsageError."""
    place, text, wanted = told["place"], told.get("inventory", ""), told.get("lab", "")
    if not text:
        raise UsageError(
            f"place {place}: its resource ChannoverLab has no 'inventory': a file's path, or an inventory's text"
        )
    where = f"place {place}"
    found: Inventory = loaded(text, Path(where)) if re.search(r"\blabs\s*:", text) else load(Path(text).expanduser())
    labs: Sequence[str] = tuple(found.labs)
    if wanted and wanted not in labs:
        raise UsageError(f"{where}: its inventory has no lab '{wanted}'; it has: {', '.join(labs)}")
    if not wanted and len(labs) > 1:
        raise UsageError(
            f"{where}: its inventory has {len(labs)} labs ({', '.join(labs)}): name one in the resource's 'lab'"
        )
    return place, found.labs[wanted or labs[0]]
