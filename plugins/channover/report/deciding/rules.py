"""The rules by which a run is accepted, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Verdict = Literal["ACCEPTED", "CONDITIONAL", "NOT ACCEPTED"]


@dataclass(frozen=True)
class Rule:
    """One rule: the verdict of a run that it applies to, whether a waiver helps, its words, and an example of it."""

    verdict: Verdict
    waiver: bool
    words: str
    example: str


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "no plan": Rule(
            "NOT ACCEPTED",
            False,
            "Results without a plan do not show which tests there should have been.",
            "results of a version that recorded no plan",
        ),
        "nothing planned": Rule(
            "NOT ACCEPTED",
            False,
            "A run that planned no mandatory behaviour shows nothing.",
            "a suite whose tests state no behaviour",
        ),
        "stopped": Rule(
            "NOT ACCEPTED",
            False,
            "A run that was stopped before its end shows only a part of what it planned.",
            "Ctrl-C, `-x` or `--maxfail` after a failure, a process that was killed",
        ),
        "not collected": Rule(
            "NOT ACCEPTED",
            False,
            "Of a file that could not be collected nobody knows which behaviours it tests.",
            "an import error with `--continue-on-collection-errors`; a behaviour mark that is malformed or unknown",
        ),
        "skipped whole": Rule(
            "NOT ACCEPTED",
            False,
            "Of a file that skipped itself as a whole nobody knows which behaviours it tests.",
            "`pytest.skip(allow_module_level=True)`, `pytest.importorskip` outside a test",
        ),
        "no body": Rule(
            "NOT ACCEPTED",
            False,
            "A test that was only set up and torn down has shown nothing.",
            "`--setup-only`, `--setup-plan`",
        ),
        "other failure": Rule(
            "NOT ACCEPTED",
            False,
            "A test of no behaviour that failed, or was lost, puts the testbed in doubt, and no waiver names it.",
            "a test of a project's own, without a behaviour mark, that fails",
        ),
        "hosts not named": Rule(
            "NOT ACCEPTED",
            False,
            "A run on physical hosts that does not name them holds for nothing.",
            "results of a version that recorded no hosts",
        ),
        "not passed": Rule(
            "NOT ACCEPTED",
            True,
            "A mandatory behaviour that failed, was inconclusive, ended in an error of the testbed, was skipped, or was "
            "collected and not reported is not accepted without a waiver.",
            "one failure among several reports of a test (`--keep-duplicates`, reruns, `--dist each`); a test marked xfail "
            "that failed",
        ),
        "nothing passed": Rule(
            "NOT ACCEPTED",
            False,
            "Waivers alone accept nothing: one mandatory behaviour at least has to pass.",
            "a run of which every behaviour is waived",
        ),
        "waived": Rule(
            "CONDITIONAL",
            True,
            "Each mandatory behaviour passed or is waived by name, for a reason, until a day.",
            "LAG-8 failed and is waived, all others passed",
        ),
        "passed": Rule(
            "ACCEPTED",
            True,
            "Each mandatory behaviour passed in every test of it that was planned, and in every report of these.",
            "all planned tests passed",
        ),
    }
)
"""In the order in which they are asked: the first that applies decides."""
