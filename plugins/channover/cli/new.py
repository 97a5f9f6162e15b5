"""The command ``channover new``: the beginning of a suite, of a behaviour, of an inventory, that runs as it is written."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from channover.cli.report import add_command
from channover.errors import UsageError

_SUITE = """\
Write a file of tests that states a behaviour of the catalogue, and runs. The behaviour decides what the test begins with: a
LAG, Multipath TCP, a tunnel, or bare hosts. NAME becomes NAME/test_NAME.py; a FILE that ends in .py stays what it is."""
_SUITE_END = """\
examples:
  channover new suite mine                      # mine/test_mine.py, which states MP-1
  channover new suite mine/test_bonds.py --behaviour LAG-1
  pytest mine --target=netns                    # on namespaces of this machine
  pytest mine --target=physical --inventory=lab.yaml
what a test may ask for and compare: docs/writing-a-suite.md"""
_BEHAVIOUR = """\
Write a package with a behaviour of your own, and a test that states it: what channover's catalogue does not have. ID is a part
in capitals, a hyphen and a number, such as ACME-1; the package is a folder of the part's name, acme_behaviours."""
_BEHAVIOUR_END = """\
examples:
  channover new behaviour ACME-1 --statement "a bond keeps large frames"
  pip install -e acme_behaviours
  pytest acme_behaviours --target=netns
more of what a package can add (needs, targets, LAG drivers, causes): docs/extending.md"""
_INVENTORY = """\
Write an inventory of real hosts that is valid: two hosts with two cables between them, and a comment beside each field.
Addresses and devices are examples to be replaced; no host is contacted. 'channover inventory discover [USER@]HOST' prints those
of a host."""
_INVENTORY_END = """\
examples:
  channover new inventory lab.yaml
  channover inventory validate lab.yaml
  channover doctor --target physical --inventory lab.yaml
how hosts are prepared: docs/preparing-a-lab.md"""

_HEAD = '''"""$title"""

from __future__ import annotations

'''
_OF_PART = {
    "LAG": """from channover.testing import Lag, TrafficGenerator, at_most, behaviour


@behaviour("$id")
def test_one_flow_rides_one_link(lag: Lag, tcp: TrafficGenerator) -> None:
    flow = tcp(lag.left, lag.right)  # lag: two cables made one LAG, on which LACP has converged
    assert flow.goodput == at_most(1.2 * lag.link.tcp_goodput, "a flow stays on one link")  # also near, at_least, between
    assert flow.nics_used == 1  # compared at each end: a rate alone does not show which NICs carried it
""",
    "MP": """from channover.testing import Multipath, TrafficGenerator, at_least, behaviour, require_multipath


@behaviour("$id")
def test_one_connection_passes_one_link(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)  # two cables, with addresses, rules and endpoints on each
    assert flow.goodput == at_least(1.3 * multipath.link.rate, "two paths carry one connection")
    assert flow.nics_used == 2  # compared at each end: a rate alone does not show which NICs carried it
    require_multipath(flow)  # no connection fell back to plain TCP
""",
    "TUN": """from channover.testing import Multipath, TrafficGenerator, Tunnels, behaviour, near


@behaviour("$id")
def test_datagrams_cross_a_tunnel_over_two_paths(
    multipath: Multipath, tunnels: Tunnels, udp: TrafficGenerator
) -> None:
    offered = 0.2 * multipath.link.rate
    with tunnels.openvpn() as tunnel:  # or tunnels.ssh()
        flow = udp(tunnel.client, tunnel.server, offered=offered, payload=1390)  # bytes, so that none is fragmented
        assert flow.goodput == near(offered, 0.05, "as offered")
""",
    "": """from channover.testing import Counted, Lab, behaviour


@behaviour("$id")
def test_both_hosts_have_the_nics_of_the_lab(lab: Lab, counted: Counted) -> None:
    for host in lab.hosts.values():  # a pair: @on(trio()), @on(gateway()) and others ask for more
        shown = host.run("ip", "-o", "link", "show").stdout
        found = sum(nic.device in shown for nic in host.nics.values())
        assert counted(f"NICs of {host.name}", found) == len(host.nics)  # each comparison is a row of the results
""",
}
_PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$package"
version = "0.1"
dependencies = ["channover"]

[project.entry-points.channover]
$part_ = "$package.channover_plugin"

[tool.hatch.build.targets.wheel]
packages = ["$package"]
"""
_PLUGIN = '''"""What this package adds to channover: imported once in each process that has to do with it."""

from channover.extend import Behaviour, behaviours

behaviours.part("$part", title="Behaviours of $part", layer="4 transport")
behaviours.add(
    Behaviour(
        "$id",
        "$statement",
        source="where this is specified: a document and its clause",
        needs=(),  # what hosts must be able to do, such as ("mptcp",) or ("lag",)
    )
)
'''
_LAB = """# A lab of real hosts. Replace what is an example, then check it; no host is contacted:
#
#   channover inventory validate $file
#
# Names are up to 32 letters, digits, '_' and '-'. How to prepare the hosts: docs/preparing-a-lab.md.

labs:
  bench:
    hosts:
      left:
        ssh:
          address: 192.0.2.11 # <- where SSH connects to; also a name, or a Host of your ~/.ssh/config
          user: root # with any other: sudo: true, beside ssh
          # key: ~/.ssh/lab_ed25519 # private key's file; without it the agent's and the user's own
        management: eth0 # <- carries the SSH connection; never changed
        nics: # <- the test NICs, by device or MAC address; nothing but these is ever changed
          a: eth1
          b: eth2

      right:
        ssh:
          address: 192.0.2.12 # <-
          user: root
        management: eth0 # <-
        nics: # <-
          a: eth1
          b: eth2

    cables: # both ends of each, and the rate of its link
      - ends: [left.a, right.a]
        rate: 1gbit # <-
      - ends: [left.b, right.b]
        rate: 1gbit # <-
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = subparsers.add_parser("new", help="begin a suite, a behaviour or an inventory with a file that runs")
    commands = parser.add_subparsers(title="commands", metavar="WHAT", required=True)
    suite = add_command(commands, "suite", "write a file of tests", _SUITE, _SUITE_END)
    suite.add_argument("name", metavar="NAME|FILE", help="a name, or a file test_….py")
    suite.add_argument("--behaviour", default="MP-1", metavar="ID", help="what the test states (default: %(default)s)")
    suite.set_defaults(run=_suite)
    behaviour = add_command(
        commands, "behaviour", "write a package with a behaviour of your own", _BEHAVIOUR, _BEHAVIOUR_END
    )
    behaviour.add_argument("id", metavar="ID", help="such as ACME-1")
    behaviour.add_argument(
        "--statement", default="both hosts have the NICs of the lab", metavar="TEXT", help="what it says, in a sentence"
    )
    behaviour.set_defaults(run=_behaviour)
    inventory = add_command(
        commands, "inventory", "write a valid inventory to be filled in", _INVENTORY, _INVENTORY_END
    )
    inventory.add_argument("file", type=Path, metavar="FILE", help="such as lab.yaml")
    inventory.set_defaults(run=_inventory)


def _suite(arguments: argparse.Namespace) -> int:
    from channover.model.catalogue import behaviour

    known, given = behaviour(arguments.behaviour), Path(arguments.name)
    file = given if given.suffix == ".py" else given / f"test_{given.name}.py"
    if not re.fullmatch(r"test_\w+\.py", file.name):
        raise UsageError(f"{file}: pytest finds files called test_….py, of letters, digits and '_'")
    begins = _OF_PART.get(known.id.partition("-")[0], _OF_PART[""])
    words = {"id": known.id, "title": f"{known.id}: {known.statement}."}
    _write({file: _filled(_HEAD + begins, words)})
    print(f"run it: pytest {file} --target=netns")
    return 0


def _behaviour(arguments: argparse.Namespace) -> int:
    from channover.model.catalogue import PARTS

    named = re.fullmatch(r"([A-Z][A-Z0-9]*)-[1-9][0-9]*", arguments.id)
    if named is None:
        raise UsageError(f"'{arguments.id}': an id is a part in capitals, a hyphen and a number, as in ACME-1")
    part, statement = named[1], " ".join(arguments.statement.split())
    if part in PARTS:
        raise UsageError(f"'{arguments.id}': the part {part} is {PARTS.origin(part)}; take a name of your own")
    if not statement or '"' in statement or "\\" in statement:
        raise UsageError("--statement: a sentence without double quotes and backslashes")
    package = f"{part.lower()}_behaviours"
    words = {"id": arguments.id, "part": part, "part_": part.lower(), "package": package, "statement": statement}
    words["title"] = f"{arguments.id}: {statement}."
    folder = Path(package)
    _write(
        {
            folder / "pyproject.toml": _filled(_PROJECT, words),
            folder / package / "__init__.py": f'"""Behaviours of {part}, for channover."""\n',
            folder / package / "channover_plugin.py": _filled(_PLUGIN, words),
            folder / package / f"test_{part.lower()}.py": _filled(_HEAD + _OF_PART[""], words),
        }
    )
    print(f"run it: pip install -e {folder} && pytest {folder} --target=netns")
    return 0


def _inventory(arguments: argparse.Namespace) -> int:
    _write({arguments.file: _filled(_LAB, {"file": str(arguments.file)})})
    print(f"fill it in at each <-, then: channover inventory validate {arguments.file}")
    return 0


def _filled(text: str, words: Mapping[str, str]) -> str:
    return Template(text).substitute(words)


def _write(files: Mapping[Path, str]) -> None:
    """Write files, none of which may be there. Raises UsageError."""
    for file in files:
        if file.exists() or file.is_symlink():
            raise UsageError(f"{file} is there already, and is not written over: take another name")
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as made:
                made.write(text)
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror or error}") from None
        print(f"written: {file}")
