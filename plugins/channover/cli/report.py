"""The commands for what is signed: ``certificate``, ``sign-off``, ``verify``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from channover.cli.runs.reading import RUN, folder_of, say

_CERTIFICATE = """\
Write the certificate of a run: certificate.html in its folder, and certificate.pdf where Chromium is present. It says
ACCEPTED, CONDITIONAL or NOT ACCEPTED, the rule that decided, and all that the decision rests on. A former certificate that
says anything else is kept under another name."""
_CERTIFICATE_CODES = """\
exit codes:
  0  ACCEPTED or CONDITIONAL
  1  NOT ACCEPTED
  2  there is no certificate: no results, or a waiver that is not valid"""
_SIGN_OFF = """\
Write the certificate of a run anew, pack results, raw data, report and certificate with their SHA-256 checksums, and sign
these with an SSH key (ssh-keygen -Y sign). No private key, token or copy of the environment gets in: what looks like one is
refused by name. A run that is NOT ACCEPTED is signed with --anyway only, one in which no test was run never."""
_SIGN_OFF_CODES = """\
exit codes:
  0  signed
  2  not signed; one line says why

example:
  channover sign-off reports/latest --key ~/.ssh/id_ed25519 --waivers waivers.yaml"""
_VERIFY = """\
Say what of a bundle is not as it was signed, by name: changed, missing, added. The decision is made again from its results
and waivers, and the certificate and the signed word are compared with that. With --allowed-signers (ssh-keygen(1), ALLOWED
SIGNERS) also who signed; without, only that nothing changed since somebody signed."""
_VERIFY_CODES = """\
exit codes:
  0  all is as it was signed (and by an allowed signer, where they were given), and follows from the results
  1  something is not or does not; each line names it
  2  this is no bundle, or one that is not safe to open"""


def add_parsers(subparsers: Any) -> None:
    """Add the commands to the parser of ``channover``."""
    command = add_command(subparsers, "certificate", "write the certificate of a run", _CERTIFICATE, _CERTIFICATE_CODES)
    _run_argument(command)
    _certificate_options(command)
    command.set_defaults(run=_certificate)

    command = add_command(subparsers, "sign-off", "pack and sign a run's evidence", _SIGN_OFF, _SIGN_OFF_CODES)
    _run_argument(command)
    command.add_argument(
        "--key", required=True, type=Path, metavar="KEY", help="private SSH key, or public one of an agent"
    )
    command.add_argument("--identity", default="", metavar="NAME", help="who signs (default: the key's comment)")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="the bundle (default: signoff-….zip in the run's folder)"
    )
    command.add_argument("--anyway", action="store_true", help="sign a run that is NOT ACCEPTED")
    _certificate_options(command)
    command.set_defaults(run=_sign_off)

    command = add_command(subparsers, "verify", "say what was changed in a signed bundle", _VERIFY, _VERIFY_CODES)
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="what channover sign-off wrote")
    command.add_argument("--allowed-signers", type=Path, metavar="FILE", help="whose signature is accepted")
    command.set_defaults(run=_verify)


def add_command(subparsers: Any, name: str, text: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return a new command of these subparsers, whose description and epilog keep their lines."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=text,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reported", metavar="RUN", help=RUN)


def _certificate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--waivers", type=Path, metavar="FILE", help="YAML: who waives which behaviour, why, until when"
    )
    parser.add_argument("--lab", default="", metavar="NAME", help="the lab's name, where the results do not have it")
    parser.add_argument("--no-pdf", action="store_true", help="write no certificate.pdf")


def _certificate(arguments: argparse.Namespace) -> int:
    from channover.report import front_page
    from channover.report.signoff import certificate

    folder = folder_of(arguments.reported)
    made = certificate.write(folder, waivers=arguments.waivers, lab=arguments.lab, pdf=not arguments.no_pdf)
    page = front_page.write(folder, waivers=made.waivers)
    say(f"{made.decision.text}: {made.decision.rule}")
    for reason in made.decision.reasons:
        say(f"  {reason}")
    if made.kept:
        say(f"the former certificate is kept: {made.kept}")
    say(f"index: {page}")
    say(f"certificate: {made.page}")
    if made.pdf:
        say(f"printable: {made.pdf}")
    elif not arguments.no_pdf:
        say(made.note)
    return 1 if made.decision.verdict == "NOT ACCEPTED" else 0


def _sign_off(arguments: argparse.Namespace) -> int:
    from channover.report import front_page
    from channover.report.signoff import bundle

    folder = folder_of(arguments.reported)
    made = bundle.sign_off(
        folder,
        arguments.key,
        waivers=arguments.waivers,
        identity=arguments.identity,
        lab=arguments.lab,
        out=arguments.output,
        pdf=not arguments.no_pdf,
        anyway=arguments.anyway,
    )
    front_page.write(folder, waivers=made.certificate.waivers)
    if made.certificate.kept:
        say(f"the former certificate is kept: {made.certificate.kept}")
    if made.certificate.note and not arguments.no_pdf:
        say(made.certificate.note)
    say(f"{made.certificate.decision.text}: certificate {made.certificate.id}")
    say(f"signed by {made.identity}, key {made.fingerprint}")
    say(f"bundle: {made.path}")
    say(f"SHA-256: {made.sha256}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from channover.report.signoff import bundle

    found = bundle.verify(arguments.bundle, arguments.allowed_signers)
    for finding in found.findings:
        say(f"{finding.place}: {finding.what}")
    if not found.good:
        if found.decision:
            say(f"decided again from its results and waivers: {found.decision}")
        say(f"NOT good: {arguments.bundle}")
        return 1
    about = found.about
    say(f"all {found.members} files are as they were signed, key {found.fingerprint}")
    said = [f"{name} {about[name]}" for name in ("run", "target", "certificate", "decision") if name in about]
    say("it holds: " + ", ".join(said))
    say("decided again from its results and waivers: the same, and the certificate says no more")
    if "signed" in about:
        say(f"signed at {about['signed']} by the signer's clock")
    if found.principal:
        say(f"signed by {found.principal}, an allowed signer")
    else:
        say(
            f"it says that {found.claimed or 'somebody'} signed it. Warning: this shows integrity, not identity: anybody can"
        )
        say("make such a key. Give --allowed-signers with the keys that you know.")
    return 0
