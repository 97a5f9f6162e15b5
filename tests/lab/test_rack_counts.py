"""What switches of others count by SNMP is judged too: a copy that takes both links of their LAG is found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from channover.targets.netns import NetnsTarget
from tests.support.rack import Rack, inventory_of_two, rack, run_suites, two_switches
from tests.support.rack_agent import COMMUNITY, managed, require

pytestmark = [pytest.mark.lab, pytest.mark.slow]
AGENTS = {"west": "192.0.2.246", "east": "192.0.2.250"}


def sound(made: Rack) -> None:
    pass


def dealt_frame_by_frame(made: Rack) -> None:
    """Send every other packet that leaves by a link by the other one, as a LAG that does not keep to flows."""
    east = made.switches["east"]
    for near, far, last_bit in (("t1", "t2", "0x0001"), ("t2", "t1", "0x0000")):
        east.run("tc", "qdisc", "add", "dev", near, "clsact")
        taken = ("u32", "match", "u16", last_bit, "0x0001", "at", "4")  # of IPv4's identification
        moved = ("action", "mirred", "egress", "redirect", "dev", far)
        east.run("tc", "filter", "add", "dev", near, "egress", "protocol", "ip", *taken, *moved)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (sound, ("1 passed", "links used at west, as it counts", "links used at east, as it counts")),
        (dealt_frame_by_frame, ("1 failed", "links used at west, as it counts 2 (1)")),
    ],
    ids=["sound", "frame-by-frame"],
)
def test_a_copy_stays_within_one_link_as_switches_count(
    netns: NetnsTarget, tmp_path_factory: pytest.TempPathFactory, broken: Callable[[Rack], None], words: tuple[str, ...]
) -> None:
    require()
    folder = tmp_path_factory.mktemp("rack")
    (folder / "community").write_text(f"defCommunity {COMMUNITY}\n")
    with rack(netns, folder) as made, ExitStack() as stack:
        two_switches(made, hosts=2)
        for name, address in AGENTS.items():
            stack.enter_context(managed(made.switches[name], folder, address, name))
        broken(made)
        ports = {name: stack.enter_context(server.listening()) for name, server in made.servers.items()}
        snmp = {name: f", snmp: {{address: {address}, config: {folder}/community}}" for name, address in AGENTS.items()}
        written = inventory_of_two(ports, folder, snmp)
        done = run_suites(written, folder, "suites/lacp/test_switches.py", "-k", "HTTP")
    for one in words:
        assert one in done.stdout, done.stdout + done.stderr
