"""Show that a lab's hosts come back by themselves, whatever fails. As root: ``python tools/fault_trials.py``.

Boots two micro-VMs with two cables between them. Their owner has given them settings of his own, an inventory names them,
and for each trial a controller is started as a user does: ``python -m pytest SUITE --target=physical --inventory FILE``. Its
tests keep changing the hosts. At a random moment after it has taken them one of these faults is done:

none     nothing: the suite ends by itself
kill     the controller is killed (SIGKILL)
term     the controller is ended (SIGTERM)
int      Ctrl-C: SIGINT to the controller's process group
cut      the management link of a host is cut, until the host has restored itself, or, every second time, until the
         controller has ended
reboot   a host reboots
sshd     a host's sshd is killed with its sessions, until the host has restored itself
full     a host's /run runs full, until the controller has ended
sudo     the controller logs in as a user with sudo; a host withdraws that, until the controller has ended

Then the host must be free again within the time that docs/safety.md states, and show itself as before, line by line: the
guardian's state, and past it devices, addresses, routes, rules, MPTCP, nftables, kernel parameters, files and programs.
The controller must end by itself, without a traceback. Nothing is left on this machine, however this script ends.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

from channover.errors import TestbedError  # noqa: E402
from channover.hosts.vm.pool import unmet  # noqa: E402
from tools.trial_hosts import TrialHost, prepare_all, room, two_hosts  # noqa: E402
from tools.trials import CLOCKS, FAULTS, HANG, Trial  # noqa: E402

LONGEST = 2 * HANG
"""Seconds that one trial can take with all that belongs to it."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--kernel", default="6.1", help="6.1 or 6.12 as 'channover kernel fetch' fetched it, or a vmlinuz (%(default)s)"
    )
    add("--faults", default=",".join(FAULTS), metavar="NAMES", help="which, by commas (all of them)")
    add("--moments", type=int, default=5, metavar="N", help="trials of each fault (%(default)s)")
    add("--span", type=float, default=40.0, metavar="SECONDS", help="moments are drawn from this time (%(default)s)")
    add("--seed", type=int, default=None, help="of the moments; a random one by default, printed")
    add("--logs", type=Path, default=None, metavar="FOLDER", help="keep there what each controller wrote")
    add("--markdown", action="store_true", help="print the table at the end as docs/ has it")
    options = parser.parse_args()
    options.names = options.faults.split(",")
    if unknown := set(options.names) - set(FAULTS):
        parser.error(f"--faults: there is no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    if options.moments < 1 or options.span <= 0:
        parser.error("--moments and --span are more than 0")
    if reason := unmet():
        parser.error(reason)
    if "sudo" in options.names and shutil.which("sudo") is None:
        parser.error("the fault sudo needs sudo, which the hosts see as it is here: apt-get install sudo")
    return options


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def too_long(_number: int, _frame: FrameType | None) -> None:
    print("fault_trials: the trials took longer than they can", file=sys.stderr)
    raise KeyboardInterrupt


def ended(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def all_trials(options: argparse.Namespace, seed: int, folder: Path, done: list[Trial]) -> None:
    """Boot the hosts, make the trials, a line each, and add them to those that are done. Raises TestbedError."""
    with two_hosts(options.kernel, folder, say) as hosts:
        say("left and right are set up")
        for name in options.names:
            chance = random.Random(f"{seed} {name}")  # so that each fault has its moments, whatever the others are
            for number in range(1, options.moments + 1):
                hit = chance.choice(hosts)
                moment = chance.uniform(0, options.span)
                where = folder / f"{name}-{number}"
                one = Trial(FAULTS[name], moment, hosts, hit, where, options.span, name == "cut" and number % 2 == 0)
                _make(one, hosts)
                say(f"{name:6} {number}/{options.moments} {one.told()}")
                for fault in one.faults:
                    say(f"    FAULT {fault}")
                if one.faults:
                    _again(hosts)
                if options.logs:
                    options.logs.mkdir(parents=True, exist_ok=True)
                    (options.logs / f"{name}-{number}.txt").write_text(one.output)
                shutil.rmtree(where, ignore_errors=True)
                done.append(one)


def _make(one: Trial, hosts: tuple[TrialHost, TrialHost]) -> None:
    """Make one trial, and note what is wrong in ``faults``."""
    try:
        one.run()
    except TestbedError as error:
        one.faults.append(str(error))
    if any(not host.machine.alive() for host in hosts):
        one.faults += [failure for host in hosts if (failure := host.machine.failure())]


def _again(hosts: tuple[TrialHost, TrialHost]) -> None:
    """Boot both hosts for the next trial, since the last one may have left something. Raises TestbedError."""
    say("booting both hosts again, since this trial may have left something")
    for last in (False, True):
        try:
            for host in hosts:
                host.machine.reboot(120)
            prepare_all(hosts)
        except TestbedError as error:
            say(str(error))
            if last:
                raise
        else:
            return


HEADS = ("fault", "trials", "moments", "pytest ended with", "after", "host as before", "stated", "not as stated")


def table(trials: Sequence[Trial], *, markdown: bool) -> str:
    """Return the results, a row a fault: for people, or as docs/safety.md has them."""
    rows = [HEADS]
    for fault in FAULTS.values():
        some = [trial for trial in trials if trial.fault is fault]
        if not some:
            continue
        free = [seconds for trial in some for seconds in trial.seconds.values()]
        codes = sorted({str(trial.code) for trial in some})
        early = fault.from_end and not fault.limit
        span = f"{statistics.median(free):.1f} s, at most {max(free):.1f} s" if free else "untouched"
        rows.append(
            (
                fault.words,
                str(len(some)),
                " ".join(f"{trial.moment:.0f}" for trial in some) + " s",
                ", ".join(codes),
                f"{statistics.median(trial.took for trial in some):.0f} s, at most {max(trial.took for trial in some):.0f} s",
                "before pytest ended" if early and free and max(free) <= CLOCKS else span,
                fault.promise,
                str(sum(bool(trial.faults) for trial in some)),
            )
        )
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|" + "---|" * len(HEADS), *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> int:
    """Make the trials and return the exit status."""
    options = parse()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10_000)
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, ended)
    signal.alarm(int(300 + len(options.names) * options.moments * (options.span + LONGEST)))
    say(f"seed {seed}, {len(options.names)} faults, {options.moments} moments each; about a minute a trial")
    done: list[Trial] = []
    status = 1
    try:
        all_trials(options, seed, room(), done)
        status = 1 if any(one.faults for one in done) else 0
    except TestbedError as error:
        print(f"fault_trials: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("fault_trials: interrupted", file=sys.stderr)
        status = 130
    print("\n" + table(done, markdown=options.markdown))
    bad = sum(bool(one.faults) for one in done)
    wanted = len(options.names) * options.moments
    words = f"{bad} of {len(done)} trials show a fault" if bad else f"{len(done)} trials are as promised"
    print(f"\n{words}" + (f"; {wanted - len(done)} were not made" if len(done) < wanted else ""))
    return status


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
