"""Causes in packet filters of the hosts: what they drop, limit, strip or rewrite."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import Case, FilterView
from channover.verdict.causes.cause import Certainty
from channover.verdict.causes.kind import Found, cause

_SHOWS = "`nft list ruleset` and `tc filter show` at each host, with the packets that each rule met"


def _found(case: Case, *kinds: str) -> Iterator[tuple[str, FilterView]]:
    """Yield rules that do so, with their host; not those that have a counter and met nothing."""
    for host in case.hosts:
        for one in host.filters:
            if one.does in kinds and one.packets != 0:
                yield host.name, one


def _told(host: str, one: FilterView, does: str, remedy: str) -> Found:
    certainty: Certainty = "shown" if one.packets else "possible" if one.rule == "policy drop" else "likely"
    return Found(
        f"{host}: a filter {does}: `{one.rule}`",
        (f"table {one.table}, chain {one.chain}: {one.met}",),
        certainty,
        remedy,
    )


@cause(
    "filter-strips-option",
    "A packet filter of a host strips or rewrites an option of TCP.",
    shows=_SHOWS,
    remedy="`nft delete table FAMILY NAME`, or the rule alone",
)
def _strips(case: Case) -> Iterator[Found]:
    for host, one in () if case.fallbacks else _found(case, "strip", "mangle"):
        found = _told(host, one, "takes options from TCP" if one.does == "strip" else "rewrites packets", "")
        shown = bool(case.fallbacks) and "mptcp" in one.rule
        yield Found(
            found.statement,
            (*found.evidence, *case.fallbacks),
            "shown" if shown else found.certainty,
            f"nft delete table {one.table}",
        )


@cause(
    "filter",
    "A packet filter of a host drops or rejects packets, or lets through only so many a second.",
    shows=_SHOWS,
    remedy="`nft delete table FAMILY NAME`, or the rule alone",
)
def _takes(case: Case) -> Iterator[Found]:
    words = {"drop": "drops packets", "reject": "rejects packets", "limit": "lets through only so many packets"}
    for host, one in _found(case, *words):
        yield _told(host, one, words[one.does], f"nft delete table {one.table}")
