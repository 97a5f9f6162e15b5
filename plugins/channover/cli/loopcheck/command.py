"""The command ``channover loopcheck``: its words, its answer as text and as JSON."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from channover.errors import TestbedError, UsageError
from channover.text import printable

if TYPE_CHECKING:
    from channover.cli.loopcheck.reading import Ask, Reading
    from channover.hosts.host import Host
    from channover.targets.inventory.schema import Ssh
    from channover.verdict.loop.check import Judgement

    Reach = Callable[[str, Ssh], AbstractContextManager[tuple[Host, str]]]
    """Connects to a host, given its name and how it is reached."""

_WHAT = """\
Say of each tunnel (tun or tap) of a host, this one or one behind SSH, whether its carrier rides within the tunnel, or could:
an MPTCP connection does as soon as the tunnel's own addresses count as paths, and then waits for data that it carries itself.
With the guard to load where it could. The host need not belong to a lab, and nothing is changed on it. One end is looked at:
do the same at the other. Run it as root, or with --sudo: others see neither who holds a tunnel nor what guards it."""
_CODES = """\
exit codes:
  0  no tunnel there can feed on itself
  1  one does, is trying to, or could
  2  the command line is wrong, the host did not answer, or a tunnel cannot be judged

examples:
  channover loopcheck
  channover loopcheck admin@192.0.2.11 --sudo --json"""
MOST = 8
"""The most connections of one tunnel that the text has."""
_TIMEOUT = 60.0
"""Seconds that a host may take to say what it is asked: one with many processes."""


def add_parser(subparsers: Any, reach: Callable[[bool], Reach]) -> None:
    """Add ``loopcheck``. ``reach`` returns what connects to a host, by ``sudo`` where that is said."""
    parser = subparsers.add_parser(
        "loopcheck",
        help="say whether a tunnel over MPTCP feeds on itself, or could, on any host",
        description=_WHAT,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "where SSH connects to; an IPv6 HOST in brackets (default: this host)"
    parser.add_argument("host", nargs="?", metavar="[USER@]HOST[:PORT]", help=text)
    parser.add_argument("--key", metavar="FILE", help="private key's file")
    parser.add_argument("--known-hosts", metavar="FILE", help="file with the host keys that are trusted")
    parser.add_argument("--jump", metavar="USER@HOST:PORT", help="host to go through")
    parser.add_argument("--sudo", action="store_true", help="become root there by sudo")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda arguments: _loopcheck(arguments, reach(arguments.sudo)))


def _loopcheck(arguments: argparse.Namespace, reach: Reach) -> int:
    from channover.cli.loopcheck.reading import read
    from channover.verdict.loop.check import Verdict, judge

    with _asked(arguments, reach) as (name, ask):
        reading = read(name, ask)
    judgements = judge(reading.sight)
    text = _as_json(name, reading, judgements) if arguments.json else _as_text(name, reading, judgements)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(printable(text).encode(encoding, "replace").decode(encoding))
    verdicts = {one.verdict for one in judgements}
    if verdicts & {Verdict.FEEDS, Verdict.TRIES, Verdict.COULD}:
        return 1
    return 2 if Verdict.UNKNOWN in verdicts else 0


@contextmanager
def _asked(arguments: argparse.Namespace, reach: Reach) -> Iterator[tuple[str, Ask]]:
    """Yield a host's name, and what asks it."""
    if arguments.host is None:
        for option in ("key", "known_hosts", "jump"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} is for a host behind SSH: name one")
        yield "this host", _local(["sudo", "-n", "--"] if arguments.sudo else [])
        return
    from channover.targets.inventory.schema import ssh_from

    ssh = ssh_from(arguments.host, key=arguments.key, known_hosts=arguments.known_hosts, jump=arguments.jump)
    with reach(str(ssh.address), ssh) as (host, _):
        yield (
            str(ssh.address),
            lambda script, words: host.run("sh", "-c", script, input=words, timeout=_TIMEOUT, check=False).stdout,
        )


def _local(prefix: Sequence[str]) -> Ask:
    from channover import isolated

    def ask(script: str, words: str) -> str:
        environment = isolated.environment(PATH=isolated.search_path("/usr/sbin", "/sbin"))
        try:
            done = subprocess.run(
                [*prefix, "/bin/sh", "-c", script],
                input=words,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TestbedError(f"this host did not say within {_TIMEOUT:g} s what it was asked") from None
        except OSError as error:
            raise UsageError(f"cannot run {prefix[0] if prefix else '/bin/sh'}: {error.strerror}") from None
        if done.returncode != 0 and not done.stdout:
            raise TestbedError(f"this host does not answer: {' '.join(done.stderr.split())[:300]}")
        return done.stdout

    return ask


def _guard(reading: Reading, judgement: Judgement) -> str | None:
    """Return the guard for a tunnel that could feed on itself, as ``nft -f`` takes it."""
    from channover.model.inner_network import Inner
    from channover.network.loop_guard import both_ruleset
    from channover.verdict.loop.check import Verdict

    tunnel = judgement.tunnel
    carriers = [one for one in tunnel.carriers if one.mptcp]
    if judgement.verdict not in (Verdict.FEEDS, Verdict.TRIES, Verdict.COULD) or not carriers:
        return None
    inner = Inner(tunnel.device, tunnel.networks, carriers[0].port)
    return both_ruleset(inner, serving=carriers[0].serving, option=reading.option)


def _as_json(name: str, reading: Reading, judgements: Sequence[Judgement]) -> str:
    return (
        json.dumps(
            {
                "host": name,
                "tunnels": [
                    {
                        "device": one.tunnel.device,
                        "addresses": [str(address) for address in one.tunnel.addresses],
                        "networks": [str(network) for network in one.tunnel.networks],
                        "program": one.tunnel.program or None,
                        "pid": one.tunnel.pid or None,
                        "carriers": [
                            {
                                "protocol": "mptcp" if carrier.mptcp else "tcp",
                                "port": carrier.port,
                                "server": carrier.serving,
                                "subflows": [str(flow) for flow in carrier.subflows],
                            }
                            for carrier in one.tunnel.carriers
                        ],
                        "verdict": one.verdict.name.lower(),
                        "signs": [{"form": sign.form.value, "sentence": sign.sentence} for sign in one.signs],
                        "reasons": list(one.reasons),
                        "guard": _guard(reading, one),
                    }
                    for one in judgements
                ],
            },
            indent=2,
        )
        + "\n"
    )


def _as_text(name: str, reading: Reading, judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return f"{name}: there is no tunnel (no device of the kinds tun and tap)\n"
    return "".join(f"{line}\n" for one in judgements for line in _lines(name, reading, one))


def _lines(name: str, reading: Reading, judgement: Judgement) -> Iterator[str]:
    tunnel = judgement.tunnel
    held = f", held by {tunnel.program} (pid {tunnel.pid})" if tunnel.program else ""
    yield f"{name}: {tunnel.device}{held} {judgement.verdict.value}"
    for carrier in tunnel.carriers[:MOST]:
        kind, role = ("MPTCP" if carrier.mptcp else "TCP"), ("server" if carrier.serving else "client")
        number = len(carrier.subflows)
        flows = f", {number} subflow{'' if number == 1 else 's'}" if carrier.mptcp else ""
        yield f"  carried by {kind}, port {carrier.port}, this host is the {role}{flows}"
    if len(tunnel.carriers) > MOST:
        yield f"  and by {len(tunnel.carriers) - MOST} more connections"
    for sign in judgement.signs:
        yield f"  {sign}"
    for reason in judgement.reasons:
        yield f"  {reason}"
    if guard := _guard(reading, judgement):
        yield "  the guard to load here, which ends a loop that is there, too; ask the other end for its own:"
        yield "nft -f - <<'END'"
        yield from guard.splitlines()
        yield "END"
