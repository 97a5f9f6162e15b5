"""What behaviours need of a host, and what set-up installs."""

from __future__ import annotations

from pathlib import Path

from channover.model.catalogue import CATALOGUE
from channover.targets.capabilities import CAPABILITIES, LAG

SETUP = Path(__file__).parents[2] / "tools" / "setup"
EVERYWHERE = {"bash", "python3"}
"""Programs that set-up itself runs by."""


def test_setup_installs_the_packages_of_every_capability() -> None:
    there = {line.split()[1] for line in SETUP.read_text().splitlines() if len(line.split()) == 2}
    wanted = {pair for one in CAPABILITIES.entries.values() for pair in one.programs.items()}
    assert {package for program, package in wanted if program not in EVERYWHERE} - there == set()


def test_applications_need_the_programs_that_they_are() -> None:
    programs = {
        name: {
            program for need in CATALOGUE[name].needs if need != LAG for program in CAPABILITIES.entries[need].programs
        }
        for name in ("APP-1", "APP-2", "APP-3")
    }
    assert programs["APP-1"] >= {"nginx", "curl", "mptcpize", "python3"}
    assert programs["APP-2"] >= {"sipp", "stunnel", "openssl", "mptcpize"}
    assert programs["APP-3"] >= {"ffmpeg", "nginx", "openvpn", "mptcpize", "python3"}
