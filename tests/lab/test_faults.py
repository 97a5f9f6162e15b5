"""The fault matrix: each behaviour's test fails, with the right words, in a lab broken on purpose."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

ROOT = Path(__file__).parents[2]
Ended = subprocess.CompletedProcess[str]
Runs = dict[tuple[str, str], tuple[Path, "Future[Ended]"]]

MATRIX = [
    ("LAG-1", "test_one_tcp_flow_rides", "slow-cables", r"goodput of 4\d.* expected 93.2"),
    ("LAG-1", "test_one_tcp_flow_rides", "pulled-cable", r"links at work at left of 1, expected exactly 2"),
    ("LAG-2", "test_one_udp_flow_rides", "slow-cables", r"goodput of 4\d.* expected 94.7"),
    ("LAG-2", "test_one_udp_flow_rides", "pulled-cable", r"links at work at left of 1, expected exactly 2"),
    ("LAG-3", "test_one_nic_carries", "chatter", r"data of idle left.* of \d+, expected exactly 0.*0x88b5"),
    ("LAG-3", "test_one_nic_carries", "pulled-cable", r"LACP frames of idle left.b of 0, expected at least 1"),
    (
        "LAG-4",
        "test_lacp_has_converged",
        "slow-lacp",
        r"left: the LAG bond0: its LACP rate is slow, and fast was asked",
    ),
    ("LAG-4", "test_lacp_has_converged", "pulled-trunk", r"LACP on bond0 has not converged.*eth2 has no link"),
    ("LAG-6", "test_one_file_copy_stays_within_one_link[HTTP]", "fast-cables", r"HTTP goodput of 1\d\d.*one link"),
    ("LAG-6", "test_one_file_copy_stays_within_one_link[FTP]", "fast-cables", r"FTP goodput of 1\d\d.*one link"),
    ("LAG-6", "test_one_file_copy_stays_within_one_link[SFTP]", "fast-cables", r"SFTP goodput of 1\d\d.*one link"),
    (
        "LAG-6",
        "test_one_file_copy_stays_within_one_link[HTTP]",
        "pulled-cable",
        r"links at work at west of 1, expected exactly 2",
    ),
    (
        "LAG-7",
        "test_many_hosts_fill_the_lag",
        "pulled-cable",
        r"expected at least 175.*west's NIC b .* its cable is pulled",
    ),
    (
        "MP-1",
        "test_one_connection_passes_one_link_over_two",
        "no-source-rules",
        r"NIC b carried .* no rule `from 10.94.94.1`",
    ),
    ("MP-1", "test_one_connection_passes_one_link_over_two", "no-endpoints", r"left has no MPTCP endpoint 10.94.94.1"),
    ("MP-1", "test_one_connection_passes_one_link_over_two", "middlebox", r"fell back to TCP"),
    (
        "MP-1",
        "test_one_connection_nears_three_links",
        "pulled-cable",
        r"expected at least 260.*NIC b .* its cable is pulled",
    ),
    ("MP-2", "test_the_full_mesh", "seven-extra-subflows", r"subflows at left of 8, expected"),
    (
        "MP-2",
        "test_the_full_mesh",
        "nine-on-one-path",
        r"address pairs of the mesh at left of 1, expected .*no subflow from 10.93.93.1 to 10.94.94.2",
    ),
    ("MP-3", "test_the_application_is_unchanged", "no-endpoints", r"HTTP goodput of [89]\d.* expected at least 150"),
    ("MP-3", "test_the_application_is_unchanged", "fast-middlebox", r"fell back to TCP.*is a fallback"),
    (
        "MP-3",
        "test_the_application_is_unchanged",
        "own-curl",
        r"programs as their distribution made them of 1, expected .*curl is of no package, or was changed",
    ),
    ("MP-4", "test_with_multipath_off", "multipath-stays-on", r"goodput of 1\d\d.* expected 91"),
    ("MP-6", "test_without_source_rules", "rules-stay", r"goodput of 1\d\d.*all subflows leave by one NIC"),
    ("MP-6", "test_without_source_rules", "much-slower-cables", r"goodput of [789]\.\d.* expected 83.33 Mbit/s to"),
    ("MP-6", "test_without_source_rules", "loud-chatter", r"tx bytes of idle left.b of .* expected at most .*no data"),
    (
        "MP-7",
        "test_all_nics_are_full",
        "full-in-turns",
        r"lesser rx rate of right's NICs of \d.* expected 93 Mbit/s to",
    ),
    ("MP-7", "test_all_nics_are_full", "no-endpoints", r"left has no MPTCP endpoint 10.94.94.1"),
    ("TUN-1", "test_ssh_over_mptcp", "pulled-cable", r"NIC b .* its cable is pulled"),
    ("TUN-2", "test_openvpn_over_mptcp", "pulled-cable", r"expected at least 140.*NIC b .* its cable is pulled"),
    (
        "TUN-3",
        "test_a_tunnel_that_feeds_on_itself",
        "latent-loop",
        r"inside the loop of 1\d\d.*waits for what it carries",
    ),
    (
        "TUN-3",
        "test_a_tunnel_that_feeds_on_itself",
        "crashed-tunnel",
        r"programs that run of 1, expected.*left: .*ended",
    ),
    (
        "TUN-3",
        "test_a_loop_that_is_still_pending",
        "joined-loop",
        r"by pending .* of 0, expected at least 1.*source: subflow",
    ),
    (
        "TUN-4",
        "test_the_articles_guard",
        "toothless-source-guard",
        r"packets that the guard of left refused of 0, expected at least 1",
    ),
    (
        "TUN-4",
        "test_the_guard_for_both_directions",
        "toothless-guard",
        r"packets that the guard of left refused of 0, expected at least 1",
    ),
    (
        "TUN-4",
        "test_the_guard_for_both_directions",
        "guard-at-the-client-only",
        r"packets that the guard of right refused of 0, expected at least 1",
    ),
    ("TUN-5", "test_udp_through_the_tunnel", "pulled-cable", r"expected at least 130.*NIC b .* its cable is pulled"),
    ("TUN-6", "test_udp_to_a_host_beyond", "pulled-cable", r"expected at least 130.*NIC b .* its cable is pulled"),
]

NAMED_BEFORE = ("slow-lacp",)
"""Faults that are a setting which is not as it was asked for: the lab's error by name, before anything is judged."""

TOGETHER = 2
"""How many runs are under way at a time: only one of them measures, the others start, set up and report meanwhile."""


def suite_test(test: str, fault: str, reports: Path) -> Ended:
    """Run one test of the suites in a broken lab."""
    selected = re.sub(r"\W+", " and ", test).strip(" and")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.support.faults",
        "--fault",
        fault,
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    command += ["--measure-limit", "4", "--reports", str(reports), "suites", "-k", selected]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The run of each row that was selected, with its reports, under way since the first one was asked for."""
    slow = request.config.getoption("--slow")
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    items = [item for item in items if slow or not item.get_closest_marker("slow")]
    selected = [(item.callspec.params.get("test"), item.callspec.params.get("fault")) for item in items]
    with ThreadPoolExecutor(TOGETHER) as pool:
        found: Runs = {}
        for _, test, fault, _ in MATRIX:
            if (test, fault) in selected:
                reports = tmp_path_factory.mktemp("fault")
                found[test, fault] = reports, pool.submit(suite_test, test, fault, reports)
        yield found
        pool.shutdown(cancel_futures=True)


def differs(ended: Ended, reports: Path, behaviour: str, test: str, words: str, outcome: str = "failed") -> str:
    """Say how a run differs from one that failed, or had an error, as it should."""
    results = json.loads((reports / "latest" / "results.json").read_text())
    found = next(each for each in results["tests"] if each["nodeid"].rpartition("::")[2].startswith(test))
    seen = (found["behaviour"], found["outcome"], ended.returncode)
    if seen == (behaviour, outcome, 1) and re.search(words, found["reason"], re.DOTALL):
        return ""
    return f"{seen}: {found['reason']}\n{ended.stdout[-3000:]}"


def _rows() -> Iterator[ParameterSet]:
    """Give the rows; of those of one test, all but the first wait for ``--slow``."""
    seen: set[str] = set()
    for behaviour, test, fault, words in MATRIX:
        marks = [pytest.mark.slow] if test in seen else []
        seen.add(test)
        yield pytest.param(behaviour, test, fault, words, id=f"{behaviour}-{fault}", marks=marks)


@pytest.mark.lab
@pytest.mark.timed
@pytest.mark.parametrize(("behaviour", "test", "fault", "words"), list(_rows()))
def test_behaviour_fails_with_the_right_words(
    runs: Runs, tmp_path: Path, behaviour: str, test: str, fault: str, words: str
) -> None:
    outcome = "error" if fault in NAMED_BEFORE else "failed"
    if started := runs.pop((test, fault), None):
        reports, run = started
        if not differs(run.result(), reports, behaviour, test, words, outcome):
            return
    wait([run for _, run in runs.values()])  # beside another run it did something else: what it does alone counts
    assert differs(suite_test(test, fault, tmp_path), tmp_path, behaviour, test, words, outcome) == ""


def test_every_test_of_a_behaviour_was_seen_failing() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "suites"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    collected = [line.partition("::")[2] for line in done.stdout.splitlines() if line.startswith("suites/")]
    assert collected, done.stdout + done.stderr
    missing = [name for name in collected if not any(name.startswith(test) for _, test, _, _ in MATRIX)]
    assert missing == []
