"""The summary of a run in Markdown: what was decided, a row a behaviour, what did not pass and why; of any names."""

from __future__ import annotations

from dataclasses import replace

from markdown_it import MarkdownIt

from channover.report.deciding.decision import decide
from channover.report.interchange.markdown import LIMIT, plain, summary
from channover.report.results import Results
from channover.verdict.causes.cause import Cause
from tests.support import runs


def of(results: Results) -> str:
    return summary(results, decide(results))


def test_it_says_the_decision_each_behaviour_and_what_did_not_pass_with_its_cause() -> None:
    found = runs.four_states()
    cause = Cause("no-source-rule", "NIC b carried nothing", ("2 subflows",), "ip rule add from 10.94.94.1", "shown")
    tests = [replace(test, causes=(cause,)) if test.behaviour == "LAG-2" else test for test in found.tests]
    text = of(replace(found, tests=tuple(tests)))
    lines = text.splitlines()
    assert lines[0] == "## ❌ NOT ACCEPTED"
    assert "| ✅ | **LAG-1** " in text and "| goodput 94.100 ± 0.030 Mbit/s | 94.2 ±0.9 Mbit/s | passed |" in text
    failed = text.index("### ❌ LAG-2 failed: the behaviour is not there")
    assert failed < text.index(
        "- **NIC b carried nothing** (no-source-rule, shown). Remedy: `ip rule add from 10.94.94.1`"
    )
    assert failed < text.index("### 💥 MP-1 error") < text.index("### ❔ MP-2 not reported") < text.index("### Not run")
    assert "- LAG-6 skipped: no FTP server: install vsftpd" in lines
    assert "goodput of 61.2 Mbit/s ± 1.1 Mbit/s, expected 93.2 to 95.1" in lines, "the reason, whole"


def test_a_second_run_over_ipv6_says_so() -> None:
    assert "target netns, IPv6 ·" in of(runs.results(runs.test(), family=6))
    assert "IPv" not in of(runs.results(runs.test())).partition("###")[0]


def test_a_test_of_no_behaviour_is_there_too() -> None:
    text = of(runs.results(runs.test(), runs.test(None, "failed", "no", name="t.py::test_own")))
    assert "| ❌ | test\\_own | " in text and "### ❌ test\\_own failed" in text


def test_nothing_that_anybody_wrote_is_markup() -> None:
    text = of(runs.odd())
    found = MarkdownIt("commonmark").enable("table").parse(text)  # the parser that rich brings
    tokens = [token for block in found for token in (block, *(block.children or ()))]
    assert {token.content.strip() for token in tokens if token.type.startswith("html")} == {
        "<details><summary>All values</summary>",
        "</details>",
    }
    assert not {token.type for token in tokens} & {"link_open", "image", "em_open", "s_open"}
    assert any(token.type == "text" and "<script>alert(1)</script>" in token.content for token in tokens)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "behaviour" not in line]
    assert rows and all(line.replace("\\|", "").count("|") in (6, 7) for line in rows)
    assert plain("a|b\n`c` <i> *d*") == "a\\|b \\`c\\` \\<i\\> \\*d\\*"


def test_a_fence_is_longer_than_any_in_the_reason() -> None:
    text = of(runs.results(runs.test("LAG-1", "failed", "````\n## not a heading\n````")))
    assert "\n`````text\n````\n## not a heading\n````\n`````\n" in text


def test_it_is_never_larger_than_github_takes() -> None:
    for found in (
        runs.large(9000),
        runs.results(*(runs.test("LAG-1", "failed", "x" * 5000, name=f"t{n}") for n in range(400))),
    ):
        assert len(of(found).encode()) <= LIMIT
