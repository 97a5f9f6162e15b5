"""What a test that did not pass leaves as plain files: ``artifacts/<test>/<host>/`` in the run's folder.

What was run on each host with what it said, what the host showed of itself when the test failed and at the end of what was
measured, its programs' output and logs, and its packets where they were captured. It is there without Allure, for whoever has
a shell or a continuous integration that keeps files. Secrets are taken out; of a test there are at most :data:`ROOM` bytes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from channover.pytest_plugin.results.outcomes import reason_of
from channover.pytest_plugin.results.writer import COLLECTED, not_kept
from channover.pytest_plugin.stash import LAB, RECORD, masker

if TYPE_CHECKING:
    from channover.hosts.host import Host, Started, Step
    from channover.observe.captures import Packets
    from channover.report.store import BoundedFolder

FOLDER = "channover_folder"
"""Key of a worker's input: the run's folder."""
NAME = "artifacts"
ROOM = 16 << 20
"""Bytes that a test may leave."""
LONGEST = 1 << 18
"""Bytes of a program's output, or of a log, that are kept: its beginning and its end."""
MOST = 200
"""Tests of a run that leave any."""
_LOGS = r"""
find "$1" -type f -name '*.log' -size +0 | head -n 40 | while read -r file; do
    printf '\036%s\n' "$file"; tail -c "$2" -- "$file"
done
"""
_KEPT: pytest.StashKey[BoundedFolder] = pytest.StashKey()


def claim(item: pytest.Item, report: pytest.TestReport) -> None:
    """Make the folder of a test that did not pass, and have its failure name it on the terminal."""
    record = item.stash.get(RECORD, None)
    if record is None or not (report.failed and record.failed) or _KEPT in item.stash:
        return
    if (run := _run_folder(item.config)) is None:
        return
    from channover.report.store import BoundedFolder, claimed_folder, safe_name

    nodeid = masker(item.config).text(item.nodeid)
    name = safe_name(nodeid.rpartition("/")[2].replace(".py::", "-"), nodeid)
    try:
        folder = claimed_folder(run / NAME, name, MOST)
    except OSError as error:
        not_kept(item.config, f"artifacts cannot be kept in {run / NAME}: {error.strerror or error}")
        return
    if folder is None:
        report.sections.append((NAME, f"none: {MOST} tests of this run have left some already"))
        return
    item.stash[_KEPT] = BoundedFolder(folder, ROOM)
    report.sections.append((NAME, os.path.relpath(folder, item.config.invocation_params.dir)))


def left(item: pytest.Item) -> str:
    """Return the folder of what a test has left, within the run's; nothing where it passed."""
    return f"{NAME}/{item.stash[_KEPT].path.name}" if _KEPT in item.stash else ""


def _run_folder(config: pytest.Config) -> Path | None:
    told: dict[str, Any] = getattr(config, "workerinput", {})
    if FOLDER in told:
        return folder if (folder := Path(told[FOLDER])).is_dir() else None
    collected = config.stash.get(COLLECTED, None)
    return collected.folder if collected is not None and collected.opened else None


def take(item: pytest.Item) -> None:
    """Take what only a lab that is there can show: each host's state, and the logs that programs have written there."""
    lab = item.stash.get(LAB, None)
    if _KEPT not in item.stash or lab is None:
        return
    hosts = list(lab.hosts.values())
    with ThreadPoolExecutor(max(min(len(hosts), 16), 1)) as pool:
        for host, found in zip(hosts, pool.map(_shown, hosts), strict=True):
            _put(item, {f"{_safe(host.name)}/{name}": text for name, text in found.items()})


def _shown(host: Host) -> dict[str, str]:
    """Return what a host shows of itself now, by file; one that does not answer says so."""
    from channover.errors import TestbedError
    from channover.observe import evidence

    try:
        found = {f"state/{name}.txt": text for name, text in _sections(evidence.collect(host)).items()}
        said = host.run("sh", "-c", _LOGS, "sh", host.folder, str(LONGEST), check=False, quiet=True).stdout
    except TestbedError as error:
        return {"state/not-taken.txt": f"{error}\n"}
    for part in said.split("\036")[1:]:
        path, _, text = part.partition("\n")
        found[f"logs/{_safe(os.path.relpath(path, host.folder))}"] = text
    return found


def _sections(shown: Mapping[str, str]) -> dict[str, str]:
    """Return what a host showed, each section below the command that shows the same."""
    from channover.observe.evidence import SECTIONS

    return {name: f"$ {SECTIONS.get(name, name)}\n{text.rstrip()}\n" for name, text in shown.items() if text.strip()}


def take_packets(item: pytest.Item, packets: Packets) -> None:
    """Keep what was captured at a NIC (``pcap-savefile(5)``)."""
    if _KEPT in item.stash:
        _put(item, {f"{_safe(packets.host)}/packets/{_safe(packets.nic)}.pcap": packets.content})


def finish(item: pytest.Item, report: pytest.TestReport) -> None:
    """Write the rest, now that the test is over: what was run, what programs said, what was measured, and why it failed."""
    record = item.stash.get(RECORD, None)
    if record is None or report.when != "teardown":
        return
    if _KEPT in item.stash:
        journal = record.journal
        files = {"failure.txt": _reason(item, report)}
        named = [*(one.host for one in (*journal.steps, *journal.looks)), *(one.host for one in journal.started)]
        for host in dict.fromkeys(named):
            steps = [(one, False) for one in journal.steps if one.host == host]
            looks = [(one, True) for one in journal.looks if one.host == host]
            done = sorted((*steps, *looks), key=lambda pair: pair[0].start)
            files[f"{_safe(host)}/commands.txt"] = "".join(_command(step, look) for step, look in done)
            for number, one in enumerate((one for one in journal.started if one.host == host), start=1):
                files[f"{_safe(host)}/programs/{number:02}-{_safe(_program(one))}.log"] = _output(one)
        for number, (title, shown) in enumerate(record.seen, start=1):
            for host, sections in shown.items():
                place = f"{_safe(host)}/traffic/{number:02}-{_safe(title)}"
                files |= {f"{place}/{name}.txt": text for name, text in _sections(sections).items()}
        _put(item, files)
        kept = item.stash[_KEPT]
        if kept.left_out:
            words = "\n".join(kept.left_out)
            kept.room += 1 << 16
            _put(item, {"left-out.txt": f"No room was left ({ROOM >> 20} MiB a test) for:\n{words}\n"})
    record.journal.forget()
    record.seen.clear()


def _reason(item: pytest.Item, report: pytest.TestReport) -> str:
    from channover.pytest_plugin.results.outcomes import outcome_of
    from channover.pytest_plugin.stash import PHASES

    phases = item.stash.get(PHASES, None) or [report]
    outcome, reason = outcome_of([*phases, report] if report not in phases else phases)
    return f"{item.nodeid}\n{outcome}: {reason or reason_of(report)}\n"


def _put(item: pytest.Item, files: Mapping[str, str | bytes]) -> None:
    """Keep files without secrets, each by its path in the test's folder."""
    hidden, kept = masker(item.config), item.stash[_KEPT]
    hidden.learn()
    try:
        for name, content in files.items():
            kept.put(name, hidden.text(content) if isinstance(content, str) else hidden.data(content, name))
    except OSError as error:
        not_kept(item.config, f"artifacts cannot be kept in {kept.path}: {error.strerror or error}")
        kept.room = 0


def _safe(text: str) -> str:
    from channover.report.store import safe_name

    return safe_name(text)


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%H:%M:%S.%f")[:-3]


def _command(step: Step, look: bool) -> str:
    """Return a step, or a look that changed nothing, with what it said."""
    title = " ".join(step.title.split()) if look else step.title
    sign = "?" if look else "$"
    said = f"{step.output.rstrip()}\n" if step.output.strip() else ""
    return f"[{_clock(step.start)}, {step.duration:.3f} s] {sign} {title[:2000]}\n{said}"


def _program(one: Started) -> str:
    """Return the name by which a program is known: what ``mptcpize run`` starts, and not itself."""
    words = [word for word in one.process.argv if not word.startswith("-")]
    if words[:2] == ["mptcpize", "run"] and len(words) > 2:
        words = words[2:]
    return os.path.basename(words[0]) if words else "program"


def _output(one: Started) -> str:
    """Return what a program has written, and how it ended."""
    from channover.errors import TestbedError
    from channover.hosts.host import middle_left_out

    ended: object = None
    with contextlib.suppress(TestbedError):
        ended = one.process.poll()
    words = "ran as long as its lab" if ended is None else f"ended with code {ended}"
    texts: Iterable[tuple[str, str]] = (("output", one.process.stdout), ("errors", one.process.stderr))
    said = "".join(f"--- {name}\n{middle_left_out(text, LONGEST).rstrip()}\n" for name, text in texts if text.strip())
    return (
        f"$ {shlex.join(one.process.argv)}\nstarted {_clock(one.start)} UTC, process {one.process.pid}; {words}\n{said}"
    )
