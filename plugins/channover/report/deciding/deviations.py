"""What a run's certificate has to tell beside its verdict: what was left out and by what, marks, changes, second tries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from channover.report.facts import How
from channover.report.results import Results, Run

_SELECTING: dict[How, tuple[str, ...]] = {
    "deselected": (
        "-k",
        "-m",
        "--deselect",
        "--lf",
        "--last-failed",
        "--sw",
        "--stepwise",
        "--sw-skip",
        "--stepwise-skip",
        "--family",
        "--channover-family",
    ),
    "not asked for": ("--lf", "--last-failed"),
    "ignored": ("--ignore", "--ignore-glob"),
}
"""The options that leave tests out, by how these are left out."""
_FLAGS = re.compile(r"^-[hlqsvVx]+(?=[a-zA-Z])")
"""Flags that stand before another option in one word, as in ``-qk mesh``."""
_CHANGING = (
    "-p",
    "-o",
    "--override-ini",
    "-c",
    "--config-file",
    "--noconftest",
    "--runxfail",
    "--rootdir",
    "--confcutdir",
)
"""Options that change what pytest does; of ``-p`` only what takes a plugin away."""


def deviations(results: Results) -> Iterator[str]:
    """Yield the deviations that follow from results alone, those of the plan first. Names are never left out."""
    run = results.run
    yield from left_out(run)
    if marked := list(dict.fromkeys(test.nodeid for test in run.planned or () if test.xfail)):
        yield f"{len(marked)} marked as expected to fail (xfail): {by_file(marked)}"
    if run.revision and run.changes:
        yield f"the suites were not as their revision {run.revision} has them: {', '.join(run.changes)}"
    elif "dirty" in run.revision:
        yield f"the suites had changes beside their revision: {run.revision}"
    yield from _options(run)
    if several := [test for test in results.tests if test.outcomes]:
        yield "reported more than once, the worst report counts: " + "; ".join(
            f"{test.nodeid} ({', '.join(test.outcomes)})" for test in several
        )
    if run.planned is not None:
        names = {test.nodeid for test in run.planned}
        if surplus := [test.nodeid for test in results.tests if test.nodeid not in names]:
            yield f"{len(surplus)} reported and not planned: {in_words(surplus)}"
    if repeated := [test.nodeid for test in results.tests if test.repeated]:
        yield f"{len(repeated)} repeated: a machine died in the first try: {in_words(repeated)}"
    unsettled = [test.nodeid for test in results.tests if not all(each.settled for each in test.measurements)]
    if unsettled:
        yield f"{len(unsettled)} with a value that had not settled when the time was up: {in_words(unsettled)}"
    if not run.revision:
        yield "the revision of the suites was not recorded"
    if not run.hosts:
        yield "hosts and NICs were not recorded"


def left_out(run: Run) -> Iterator[str]:
    """Yield how many tests were there and not run, by what, and all their names."""
    for how, options in _SELECTING.items():
        found = [one for one in run.left_out if one.how == how]
        if not found:
            continue
        why = [f"{words}{f' of {origin}' * bool(origin)}" for origin, words in _in_force(run, options)]
        if how == "not asked for" and any("::" in word for word in run.command[1:]):
            why.append("node ids")
        causes = f" ({'; '.join(dict.fromkeys(why))})" if why else " (by a hook)" if how == "deselected" else ""
        yield f"{len(found)} {how}{causes}: {by_file([one.nodeid for one in found])}"


def _options(run: Run) -> Iterator[str]:
    if words := run.options.get("PYTEST_ADDOPTS"):
        yield f"options of PYTEST_ADDOPTS: {' '.join(words)}"
    found = [
        f"{words}{f' of {origin}' * bool(origin)}"
        for origin, words in _in_force(run, _CHANGING)
        if not words.startswith("-p") or words.removeprefix("-p").strip().startswith("no:")
    ]
    if found:
        yield f"options that change what pytest does: {', '.join(found)}"


def _in_force(run: Run, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield where each of these options stood (empty: on the command line), and its words: ``-k mesh``."""
    for origin, words in (("", run.command[1:]), *run.options.items()):
        for number, one in enumerate(words):
            word = _FLAGS.sub("-", one)
            name = next((one for one in options if _is(word, one)), None)
            if name is None:
                continue
            alone = (
                name in ("--lf", "--last-failed", "--noconftest", "--runxfail") or "stepwise" in name or "--sw" in name
            )
            value = "" if alone or word != name else " ".join(words[number + 1 : number + 2])
            yield origin, f"{word} {value}".strip()


def _is(word: str, option: str) -> bool:
    """Say whether a word is this option, alone or with its value behind it."""
    if option.startswith("--"):
        return word == option or word.startswith(f"{option}=")
    return word.startswith(option) and not word.startswith("--")


def by_file(nodeids: Iterable[str]) -> str:
    """Return all tests by name, each file's once: ``test_a.py: test_one, test_other``."""
    files: dict[str, list[str]] = {}
    for nodeid in nodeids:
        path, _, name = nodeid.partition("::")
        files.setdefault(path, []).extend([name] * bool(name))
    return "; ".join(f"{path}: {', '.join(names)}" if names else path for path, names in files.items())


def in_words(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
