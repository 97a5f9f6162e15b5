"""A run in a page of Markdown, for the summary of a job: the decision, a row a behaviour, what did not pass and why.

GitHub's dialect of it (tables), with as little HTML as a fold takes. Names and reasons may come from anywhere: nothing of them
is markup.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from channover.report.deciding.decision import Decision
from channover.report.deciding.endings import MEANING, STATES, Ended, State, ended
from channover.report.figures import lines_of
from channover.report.results import Results
from channover.report.terminal import figure
from channover.text import printable, readable

LIMIT = 900_000
"""Bytes of a summary: GitHub takes a megabyte for each step."""
_REASON = 4000
"""Characters of one reason."""
_SIGNS: dict[State, str] = {
    "failed": "❌",
    "error": "💥",
    "inconclusive": "❔",
    "not reported": "❔",
    "skipped": "⏭️",
    "passed": "✅",
}
_Tests = Sequence[tuple[str | None, Ended]]
_MARKUP = re.compile(r"([\\`*_\[\]|~<>&])")


def summary(results: Results, decision: Decision, remarks: Sequence[str] = ()) -> str:
    """Return the page; ``remarks`` are what else is against the run, such as a rate that dropped."""
    tests = [(plan.behaviour, end) for plan, end in ended(results).values()]
    head = [*_heading(results, decision, remarks), *_behaviours(decision, [end for name, end in tests if name is None])]
    tail = [*_unlucky(tests), *_not_run(tests, decision)]
    for parts in ([*head, *tail, *_values(tests)], [*head, *tail], head):
        text = "\n".join(parts) + "\n"
        if len(text.encode("utf-8")) <= LIMIT:
            return text
    return "\n".join(_heading(results, decision, remarks)) + "\nThe rest is too long for a summary: see results.json.\n"


def _heading(results: Results, decision: Decision, remarks: Sequence[str]) -> Iterator[str]:
    run = results.run
    sign = {"ACCEPTED": "✅", "CONDITIONAL": "⚠️", "NOT ACCEPTED": "❌"}[decision.verdict]
    yield f"## {sign} {plain(decision.text)}\n"
    yield f"{plain(decision.rule)}\n"
    for remark in remarks:
        yield f"- 📉 {plain(remark)}"
    for reason in decision.reasons:
        yield f"- {plain(reason)}"
    counts = Counter(test.outcome for test in results.tests)
    facts = [
        ", ".join(f"{counts[state]} {state}" for state in STATES if state != "not reported" and counts[state]),
        f"target {run.target}" + (f", IPv{run.family}" if run.family != 4 else ""),
        f"lab {run.lab}" if run.lab else "",
        f"links of {', '.join(figure(rate, 'bit/s') for rate in run.link_rates)} Mbit/s",
        f"kernel {run.kernel}",
        f"LAG by {run.lag_driver}" if run.lag_driver else "",
        f"run {run.id}",
    ]
    yield f"\n{plain(' · '.join(filter(None, facts)))}\n"


def _behaviours(decision: Decision, others: Sequence[Ended]) -> Iterator[str]:
    """Yield a row a behaviour, and one for each test of none."""
    if not decision.behaviours and not others:
        return
    yield from ("| | behaviour | measured | expected | verdict |", "|---|---|---|---|---|")
    for each in decision.behaviours:
        statement = f"**{plain(each.behaviour)}** {plain(each.statement)}"
        verdict = each.state + (" (waived)" if each.waiver else "")
        yield _row(_SIGNS[each.state], statement, *_main(each.tests), verdict)
    for test in others:
        yield _row(_SIGNS[test.state], plain(_name(test)), *_main([test]), test.state)
    yield ""


def _main(tests: Sequence[Ended]) -> tuple[str, str]:
    """Return the one value that is shown: outside its range, else beside the article's figure, else the first."""
    lines = [line for test in tests if test.result for line in lines_of(test.result)]
    beside = next((line for line in lines if line.article), next(iter(lines), None))
    line = next((line for line in lines if not line.inside), beside)
    return (f"{plain(line.name)} {plain(line.measured)}", plain(line.expected)) if line else ("–", "–")


def _name(test: Ended) -> str:
    return readable(test.nodeid.rpartition("::")[2] or test.nodeid)


def _unlucky(tests: _Tests) -> Iterator[str]:
    """Yield what did not pass, with its causes: failures first; what could not be tried stands further below."""
    found = [one for one in tests if one[1].state not in ("passed", "skipped")]
    for identifier, test in sorted(found, key=lambda one: STATES.index(one[1].state)):
        yield f"### {_SIGNS[test.state]} {plain(identifier or _name(test))} {test.state}: {MEANING[test.state]}\n"
        yield f"{_code(readable(test.nodeid))}\n"
        for cause in test.result.causes[:2] if test.result else ():
            remedy = f" Remedy: {_code(cause.remedy)}" if cause.remedy else ""
            yield f"- **{plain(cause.statement)}** ({plain(cause.id)}, {cause.certainty}).{remedy}\n"
        yield _fenced(test.reason or "no reason was given")


def _not_run(tests: _Tests, decision: Decision) -> Iterator[str]:
    skipped: dict[str, list[str]] = {}
    for identifier, test in tests:
        if test.state == "skipped":
            skipped.setdefault(test.reason or "no reason was given", []).append(identifier or _name(test))
    if skipped or decision.uncovered:
        yield "### Not run\n"
        for reason, ids in skipped.items():
            yield f"- {plain(', '.join(dict.fromkeys(ids)))} skipped: {plain(reason)}"
        if decision.uncovered:
            yield f"- not planned: {plain(', '.join(decision.uncovered))}"
        yield ""


def _values(tests: _Tests) -> Iterator[str]:
    yield "<details><summary>All values</summary>\n"
    yield from ("| behaviour | test | of | measured | expected | verdict |", "|---|---|---|---|---|---|")
    for identifier, test in tests:
        yield from (_row(plain(identifier or "–"), *cells, test.state) for cells in _cells(test))
    yield "\n</details>"


def _cells(test: Ended) -> Iterator[tuple[str, str, str, str]]:
    lines = lines_of(test.result) if test.result else []
    for line in lines:
        yield plain(line.test), plain(line.name), plain(line.measured), plain(line.expected)
    if not lines:
        yield plain(_name(test)), "–", "–", "–"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Return text as a part of a line of Markdown, not its beginning, in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", " ".join(printable(text).split()))


def _code(text: str) -> str:
    """Return text as code within a line, whatever backticks it has (CommonMark, 6.1)."""
    line = " ".join(printable(text).split())
    fence = "`" * (_longest(line) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def _fenced(text: str) -> str:
    shown = printable(text)
    shown = shown if len(shown) <= _REASON else f"{shown[: _REASON - 1]}…"
    fence = "`" * max(_longest(shown) + 1, 3)
    return f"{fence}text\n{shown}\n{fence}\n"


def _longest(text: str) -> int:
    """Return the length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)
