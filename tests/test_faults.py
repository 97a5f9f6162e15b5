"""The fault matrix: each behaviour's test fails, with the right words, in a lab broken on purpose."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MATRIX = [
    ("LAG-1", "test_one_tcp_flow_rides", "slow-cables", r"goodput of 4\d.* expected 93.2"),
    ("LAG-2", "test_one_udp_flow_rides", "slow-cables", r"goodput of 4\d.* expected 94.7"),
    ("LAG-3", "test_one_nic_carries", "chatter", r"bytes of idle left.*every frame is a LACP frame"),
    ("LAG-4", "test_lacp_has_converged", "pulled-trunk", r"LACP on bond0 has not converged.*eth2 has no link"),
    ("LAG-6", "test_one_file_copy_stays_within_one_link[HTTP]", "fast-cables", r"HTTP goodput of 1\d\d.*one link"),
    ("LAG-6", "test_one_file_copy_stays_within_one_link[FTP]", "fast-cables", r"FTP goodput of 1\d\d.*one link"),
    ("LAG-6", "test_one_file_copy_stays_within_one_link[SFTP]", "fast-cables", r"SFTP goodput of 1\d\d.*one link"),
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
    ("MP-2", "test_the_full_mesh", "seven-extra-subflows", r"subflows of 8, expected"),
    ("MP-3", "test_the_application_is_unchanged", "no-endpoints", r"HTTP goodput of [89]\d.* expected at least 125"),
    ("MP-4", "test_with_multipath_off", "multipath-stays-on", r"goodput of 1\d\d.* expected 91"),
    ("MP-6", "test_without_source_rules", "rules-stay", r"goodput of 1\d\d.*all subflows leave by one NIC"),
    ("MP-7", "test_all_nics_are_full", "no-endpoints", r"left has no MPTCP endpoint 10.94.94.1"),
    ("TUN-1", "test_ssh_over_mptcp", "pulled-cable", r"NIC b .* its cable is pulled"),
    ("TUN-2", "test_openvpn_over_mptcp", "pulled-cable", r"expected at least 120.*NIC b .* its cable is pulled"),
    (
        "TUN-3",
        "test_a_tunnel_that_feeds_on_itself",
        "latent-loop",
        r"inside the loop of 1\d\d.*waits for what it carries",
    ),
    ("TUN-3", "test_a_loop_that_is_still_pending", "joined-loop", r"SOURCE"),
    (
        "TUN-4",
        "test_the_articles_guard",
        "toothless-source-guard",
        r"rate behind the guard of .* expected at least 110",
    ),
    (
        "TUN-4",
        "test_the_guard_for_both_directions",
        "toothless-guard",
        r"time to recover of 2|no packet has met the guard",
    ),
    ("TUN-5", "test_udp_through_the_tunnel", "pulled-cable", r"expected at least 130.*NIC b .* its cable is pulled"),
    ("TUN-6", "test_udp_to_a_host_beyond", "pulled-cable", r"expected at least 130.*NIC b .* its cable is pulled"),
]


@pytest.mark.lab
@pytest.mark.parametrize(("behaviour", "test", "fault", "words"), MATRIX, ids=[f"{row[0]}-{row[2]}" for row in MATRIX])
def test_behaviour_fails_with_the_right_words(
    tmp_path: Path, behaviour: str, test: str, fault: str, words: str
) -> None:
    command = [
        *(sys.executable, "-m", "pytest", "-p", "faults", "--fault", fault, "-p", "no:cacheprovider", "-q"),
        *(
            "--measure-limit",
            "4",
            "--reports",
            str(tmp_path),
            "suites",
            "-k",
            re.sub(r"\W+", " and ", test).strip(" and"),
        ),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT / 'tests'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    results = json.loads((tmp_path / "latest" / "results.json").read_text())
    found = next(each for each in results["tests"] if each["nodeid"].rpartition("::")[2].startswith(test))
    assert found["behaviour"] == behaviour
    assert found["outcome"] == "failed", f"{found['reason']}\n{done.stdout[-3000:]}"
    assert re.search(words, found["reason"], re.DOTALL), found["reason"]
    assert done.returncode == 1


def test_every_test_of_a_behaviour_was_seen_failing() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "suites"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    collected = [line.partition("::")[2] for line in done.stdout.splitlines() if line.startswith("suites/")]
    assert collected, done.stdout + done.stderr
    missing = [name for name in collected if not any(name.startswith(test) for _, test, _, _ in MATRIX)]
    assert missing == []
