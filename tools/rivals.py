#!/usr/bin/env python3
"""Make the table of rivals of a run's results: tools/rivals.py reports/RUN/results.json > docs/rivals.md.

The run is one of suites/rivals with --rivals. What it did not measure stands as a dash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from channover.report.results import Results, TestResult

ROWS = {
    "lacp": ("LACP, layer3+4", "the datagrams of any flow"),
    "multipath_tcp": ("Multipath TCP, one subflow a path", "the receiving application of a stream"),
    "a_full_mesh": ("Multipath TCP, full mesh of two addresses", "the receiving application of a stream"),
    "a_tunnel": ("OpenVPN over Multipath TCP", "the datagrams of any flow"),
    "ecmp": ("ECMP, BIRD with BFD 3 × 100 ms", "the datagrams of any flow"),
}
HEAD = """\
# What rivals give

Two links of {rate}, measured and not judged: `pytest suites/rivals --rivals`, of whose results `tools/rivals.py` made this
page (target {target}, Linux {kernel}). Rates are Mbit/s of payload; a lost link costs the longest time in ms in which nothing
arrived.

| | one TCP flow | 16 TCP flows | one UDP flow | link lost with its carrier | link lost silently | the time is of |
|---|---|---|---|---|---|---|
"""
TAIL = """
One flow passes one link by Multipath TCP alone, and UDP by a tunnel over it. The others share out flows: LACP and ECMP by a
hash of addresses and ports, so that one flow has one link, whatever it is. TCP over Multipath TCP loses nothing with a link;
datagrams that LACP or ECMP had on it are gone until a carrier or a timer tells (LACP: 3 × 1 s, its fastest; BFD: 3 × 100 ms,
as asked for).

The full mesh is the article's: a subflow for each pair of addresses, of which half go out by one link and are answered by the
other. A lost link takes three of four with it, and a stream that fills both may stand still for as long as the link is away;
what is light, as the datagrams here (16 flows of 100 a second), goes on by the fourth. Where a lost link is to cost little,
have one subflow a path: `fullmesh` off, and no address announced by the server.

Not measured, in the suite a skip that says so:

| | why not |
|---|---|
| iSCSI with multipath | namespaces share this machine's kernel, which needs target_core_mod, iscsi_target_mod, iscsi_tcp and \
dm_multipath for it; of the kernels for micro-VMs (Debian's 6.1 and 6.12) channover unpacks no driver of drivers/scsi, so that \
iscsi_tcp is missing there too |
| NFS with nconnect and session trunking | the kernel needs nfsd and nfsv4 for it: micro-VMs have them, but nothing here \
sets up a server in one yet. nconnect opens all its connections to one address: over a LAG they are flows for its hash, and \
without one they have one link |
"""


def values(tests: list[TestResult], name: str, kind: str) -> Iterator[float | None]:
    """Yield the values of the tests of a rival whose names end so."""
    for test in tests:
        if f"test_{name}_{kind}" in test.nodeid and test.outcome == "passed":
            yield from (one.value for one in test.measurements)


def cells(tests: list[TestResult], name: str) -> Iterator[str]:
    """Yield the figures of a rival's row."""
    rates = list(values(tests, name, "gives"))
    for number in range(3):
        value = rates[number] if number < len(rates) else None
        yield "–" if value is None else f"{value / 1e6:.0f}"
    for way in ("carrier", "silent"):
        found = next(values(tests, name, f"loses_a_link[{way}]"), None)
        yield "–" if found is None else f"{found * 1000:.0f}"


def main() -> None:
    """Print the page."""
    results = Results.from_json(Path(sys.argv[1]).read_text("utf-8"))
    run, tests = results.run, list(results.tests)
    head = HEAD.format(rate=f"{run.link_rate / 1e6:g} Mbit/s", target=run.target, kernel=run.kernel.split()[0])
    rows = [f"| {title} | {' | '.join(cells(tests, name))} | {of} |\n" for name, (title, of) in ROWS.items()]
    print(head + "".join(rows) + TAIL, end="")


if __name__ == "__main__":
    main()
