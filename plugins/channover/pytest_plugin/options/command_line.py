"""channover's options on pytest's command line: what they are called and say, and how a run comes by sudo's password.

Every run of pytest reads this, also one without a test of channover's.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from channover.errors import UsageError
from channover.pytest_plugin.options import names as words
from channover.run.defaults import FAMILIES, KERNEL, LINK_RATES, MACHINES, PACKET_HEAD

LAB, WAIT, PASSWORD = "channover_lab", "channover_wait", "channover_sudo_password"
"""What xdist's controller tells a worker: the name of its lab, the least seconds to wait for the hosts, sudo's password."""
VARIABLE = "CHANNOVER_SUDO_PASSWORD"
"""As :mod:`channover.hosts.ssh.sudo` has it, which a run that does not use channover does without."""


def add_options(parser: pytest.Parser) -> None:
    """Add channover's options to pytest's command line."""
    group = parser.getgroup(words.GROUP, "channover: documented behaviours of aggregated links")
    _add_target(group)
    words.add(
        group,
        "--link-rate",
        default=None,
        metavar="RATE",
        help="rate of a lab's cables in tc's notation: 100mbit, 1gbit, … (default: "
        + ", ".join(f"{rate} for {target}" for target, rate in LINK_RATES.items())
        + f" (more than {MACHINES} machines: less in proportion); physical: the inventory's)",
    )
    words.add(
        group,
        "--members",
        default="2",
        metavar="NUMBER",
        help="how many links a LAG has that a test makes of two hosts' cables, or between two switches: 2 (default) to 8",
    )
    words.add(
        group,
        "--mtu",
        default=None,
        metavar="BYTES",
        help="MTU of a lab's cables: 9000 for jumbo frames (default: 1500); physical: the inventory's",
    )
    words.add(
        group,
        "--family",
        default=FAMILIES[0],
        metavar="VERSION",
        help="the version of IP that labs have: 4 (default), or 6 for a second run; tests about families themselves, or "
        "about IPv4 alone, are left out then",
    )
    words.add(
        group,
        "--lag-driver",
        default="auto",
        metavar="NAME",
        help="what makes LAGs: bonding (the kernel's), openvswitch, or auto: bonding where the kernel has it",
    )
    words.add(
        group,
        "--duration",
        default=None,
        metavar="SECONDS",
        help="measure each flow for so long; without it a flow ends when its verdict is settled, at 99 %% confidence",
    )
    words.add(
        group,
        "--measure-limit",
        default="10",
        metavar="SECONDS",
        help="the longest that a flow is measured when its verdict does not settle (default: %(default)s); three times as "
        "long where it has not settled by then, six times in machines without KVM",
    )
    words.add(
        group,
        "--soak",
        default=None,
        metavar="SECONDS",
        help="how long the long run (LAG-5) lasts: 1200 in the article (default: 20); with it LAG-8 also waits for LACP's slow "
        "timer",
    )
    words.add(group, "--no-skips", action="store_true", help="what cannot be tried here fails instead of being skipped")
    words.add(
        group,
        "--variants",
        action="store_true",
        help="run also the tests that are one more variant of a behaviour: minutes more; without it they are deselected",
    )
    words.add(
        group,
        "--rivals",
        action="store_true",
        help="measure also the rivals of Multipath TCP (suites/rivals); they are not judged",
    )
    words.add(
        group,
        "--reports",
        default=None,
        metavar="FOLDER",
        help="where runs leave their reports (default: reports/ in pytest's root folder)",
    )
    words.add(
        group,
        "--no-report",
        action="store_true",
        help="end without certificate and HTML report; 'channover report' and 'channover certificate' make them later",
    )
    words.add(
        group,
        "--summary",
        default=None,
        metavar="FILE",
        help="write the run's summary in Markdown to a file: the decision, a row a behaviour, failures with their cause; jobs "
        "of GitHub ($GITHUB_STEP_SUMMARY) and GitLab (summary.md in the run's folder) have one by themselves",
    )
    words.add(
        group,
        "--gate-regression",
        action="store_true",
        help="end with exit code 8 where all passed, but a value is worse than former runs of the same lab had it, by more "
        "than runs differ; 'channover history' shows them",
    )
    words.add(
        group,
        "--pcap",
        default="never",
        metavar="WHEN",
        help="attach the packets of every NIC to a test's report: never, on-failure or always (default: %(default)s); "
        "tcpdump runs beside the traffic and costs processor time",
    )
    words.add(
        group,
        "--pcap-size",
        default=str(PACKET_HEAD),
        metavar="BYTES",
        help="how much of each packet is kept, from its Ethernet header on (default: %(default)s)",
    )


def _add_target(group: pytest.OptionGroup) -> None:
    """Add the options that choose where labs come from."""
    words.add(
        group,
        "--target",
        default="netns",
        metavar="NAME",
        help="where labs come from: netns, network namespaces of this machine; physical, hosts of an --inventory over SSH; "
        "vm, virtual machines with a --kernel of their own (default: %(default)s)",
    )
    words.add(
        group,
        "--inventory",
        default=None,
        metavar="FILE",
        help="the YAML file that describes physical labs; or labgrid://COORDINATOR[:PORT]?TAG=VALUE&…: a place of a labgrid "
        "coordinator that has these tags, reserved for the run",
    )
    words.add(
        group,
        "--lab",
        default=None,
        metavar="NAME",
        help="the lab of the inventory (default: its only one; -n N: each)",
    )
    words.add(
        group,
        "--lease-wait",
        default=None,
        metavar="SECONDS",
        help="wait so long for a lab that another run holds (default: 0, which is not at all)",
    )
    words.add(
        group,
        "--ask-sudo-password",
        action="store_true",
        help="ask for the password of sudo on the hosts at once; without it a run asks when a host first does, and workers "
        f"of -n cannot (without a terminal: the variable {VARIABLE})",
    )
    words.add(
        group,
        "--kernel",
        default=None,
        metavar="NAME",
        help="the kernel of virtual machines: a version that 'channover kernel fetch' brought, or a folder with a vmlinuz "
        f"and its modules (default: {KERNEL})",
    )
    words.add(
        group,
        "--keep-lab",
        action="store_true",
        help="stop after the first test that fails, or the last one, and keep its lab until Ctrl-C: 'channover shell HOST' "
        "opens a shell in it",
    )
    words.add(
        group,
        "--dry-run",
        action="store_true",
        help="print, test by test, the commands that each host would get and their undo; nothing is changed",
    )


def take_password(config: pytest.Config) -> None:
    """Take the password out of the environment, or a worker's from its controller, before anything looks at either."""
    told = getattr(config, "workerinput", None)
    if told is None and VARIABLE not in os.environ:
        return
    from channover.hosts.ssh.sudo import PASSWORDS

    PASSWORDS.take_from_environment()
    if told is not None:
        PASSWORDS.asks = False  # its terminal is the controller's, and other workers'
        PASSWORDS.give(told.pop(PASSWORD, ""))


def ask_password(config: pytest.Config) -> None:
    """Ask for the password where the command line wants that. Raises UsageError where nobody can be asked."""
    if words.value(config, "--ask-sudo-password") and not hasattr(config, "workerinput"):
        from channover.hosts.ssh.sudo import PASSWORDS, NoPassword

        try:
            PASSWORDS.ask()
        except NoPassword as error:
            raise UsageError(str(error)) from None


def tell_password(node: Any) -> None:
    """Tell a worker the password, through the pipe that starts it."""
    from channover.hosts.ssh.sudo import PASSWORDS

    if PASSWORDS.first:
        node.workerinput[PASSWORD] = PASSWORDS.first
