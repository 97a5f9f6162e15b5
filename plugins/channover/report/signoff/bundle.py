"""The sign-off bundle: a run's evidence in one file, with checksums that an engineer's SSH key has signed.

Members of the archive (:mod:`channover.report.signoff.archive`):

- ``results.json``, ``certificate.html``, and where they are there ``report.html``, ``waivers.yaml`` and all of
  ``allure-results/``;
- ``signoff.json``: the run, the certificate's id, the decision, who signed, when by the signer's clock, and with what;
- ``signer.pub``: the public key;
- ``SHA256SUMS``: a line for each of these, as sha256sum(1) writes them; ``SHA256SUMS.sig``: the signature over it.

A signature shows who answers for the files, not that they fit together. So the decision is made again, from results and
waivers, when a bundle is packed and when it is verified, and the certificate's page as well: it has to be the same to the
byte. ``certificate.pdf`` is not packed, since nobody could tell whether it says the same.

Without channover: ``unzip``, ``sha256sum -c SHA256SUMS``, and ``ssh-keygen -Y verify -n channover-signoff`` do the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets as random
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from channover.errors import UsageError
from channover.report.deciding.decision import decide
from channover.report.deciding.waivers import load
from channover.report.facts import moment
from channover.report.signoff import archive, certificate, proof
from channover.report.signoff import redaction as secrets
from channover.report.signoff import signature as ssh
from channover.report.signoff.proof import ABOUT, RESULTS, WAIVERS, Finding
from channover.text import printable

SUMS, SIGNATURE, SIGNER = "SHA256SUMS", "SHA256SUMS.sig", "signer.pub"
REPORT, RAW = "report.html", "allure-results"
NEEDED = (RESULTS, certificate.NAME, ABOUT, SIGNER)
_READ = (*NEEDED, WAIVERS, SUMS, SIGNATURE)
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Signed:
    """A bundle that was written: its file and SHA-256, the certificate in it, who signed with which key."""

    path: Path
    certificate: certificate.Certificate
    identity: str
    fingerprint: str
    sha256: str


@dataclass(frozen=True)
class Verified:
    """What a bundle is worth. ``principal`` is who signed by the allowed signers; None where none were given, or none fits.

    ``claimed`` is who the bundle says has signed, ``about`` its ``signoff.json``; neither is proof of identity.
    ``decision`` was made anew from its results and waivers; it is empty where that could not be.
    """

    findings: tuple[Finding, ...]
    principal: str | None
    claimed: str
    fingerprint: str
    about: Mapping[str, str]
    members: int
    decision: str

    @property
    def good(self) -> bool:
        """Whether all is as it was signed, and the certificate says what its results say."""
        return not self.findings


def sign_off(
    folder: Path,
    key: Path,
    *,
    waivers: Path | None = None,
    identity: str = "",
    lab: str = "",
    out: Path | None = None,
    now: datetime | None = None,
    pdf: bool = True,
    anyway: bool = False,
) -> Signed:
    """Write a run's certificate anew, pack the run, sign it, and return the bundle.

    ``waivers`` is a file of them; ``identity`` who signs (default: the key's comment); ``out`` the file (default:
    ``signoff-<run>.zip`` in the run's folder). Raises UsageError, in one line, where something is missing, looks like a
    secret, or cannot be signed, where nothing was run, and where the run is not accepted, unless it is to be signed
    ``anyway``.
    """
    now = now or datetime.now(timezone.utc)
    public, comment = ssh.public_key(key)
    _worth(folder, waivers, now, anyway=anyway)
    who = " ".join(printable(identity or comment or public.fingerprint).split())
    made = certificate.write(
        folder, waivers=waivers, lab=lab, signer=proof.signer(who, public.fingerprint), now=now, pdf=pdf
    )
    members = collect(folder)
    if waivers is not None:
        members[WAIVERS] = _content(waivers.resolve())
    run = certificate.read(folder)[1].run
    about = {
        "format": 2,
        "run": run.id,
        "target": run.target,
        "certificate": made.id,
        "decision": made.decision.text,
        "lab": lab,
        "signer": who,
        "signed": moment(now),
        "key": public.fingerprint,
        "made_by": proof.maker(),
    }
    members[ABOUT] = (json.dumps(about, indent=1) + "\n").encode("ascii")
    members[SIGNER] = f"{public.text} {who}\n".encode("utf-8", "backslashreplace")
    for name, data in members.items():
        if reason := secrets.find(name, data):
            raise UsageError(f"{folder / name}: not packed: {reason}; take it out and sign again")
        if name in _READ and len(data) > archive.MOST_READ:
            raise UsageError(f"{folder / name}: not packed: {len(data)} bytes are more than is ever read of it")
    if changed := proof.decided(members, public)[0]:
        raise UsageError(
            f"{folder / changed[0].place}: {changed[0].what}: the run's folder is being written; try again"
        )
    members[SUMS] = sums(members)
    members[SIGNATURE] = ssh.sign(members[SUMS], key)
    path = out or folder / f"signoff-{re.sub(r'[^A-Za-z0-9.-]+', '_', run.id)[:80]}.zip"
    _write(members, path)
    return Signed(path, made, who, public.fingerprint, hashlib.sha256(path.read_bytes()).hexdigest())


def _worth(folder: Path, waivers: Path | None, now: datetime, *, anyway: bool) -> None:
    """Raise UsageError where there is nothing to sign, or what nobody would want to sign."""
    results = certificate.read(folder)[1]
    if all(test.outcome == "skipped" for test in results.tests):
        raise UsageError(f"{folder / RESULTS}: there is nothing to sign: no test was run (was it a dry run?)")
    decision = decide(results, load(waivers, now.astimezone(timezone.utc).date()) if waivers else ())
    if decision.verdict == "NOT ACCEPTED" and not anyway:
        more = f" (and {len(decision.reasons) - 1} more)" * (len(decision.reasons) > 1)
        reason = certificate.clipped(printable(next(iter(decision.reasons), decision.rule)))
        raise UsageError(f"{folder}: NOT ACCEPTED: {reason}{more}; --anyway signs it all the same")


def collect(folder: Path) -> dict[str, bytes]:
    """Return a run's files by their names in the bundle. Raises UsageError for links and other things than files."""
    names = [RESULTS, certificate.NAME, *([REPORT] if (folder / REPORT).exists() else [])]
    found = {name: _content(folder / name) for name in names}
    raw = folder / RAW
    if raw.is_symlink():
        raise UsageError(f"{raw}: not packed: a link; put the folder itself there")
    for place, folders, files in os.walk(raw):
        for name in sorted([*folders, *files]):
            path = Path(place) / name
            if path.is_symlink() or (name in files and not path.is_file()):
                raise UsageError(f"{path}: not packed: a link or no regular file; take it out")
            if name in files:
                found[path.relative_to(folder).as_posix()] = _content(path)
    return found


def _content(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{path}: not packed: no regular file; take it out")
            return file.read()
    except OSError as error:
        raise UsageError(f"{path}: not packed: {error.strerror or error}") from None


def sums(members: Mapping[str, bytes]) -> bytes:
    """Return the checksums of members, in the order of their names, as sha256sum(1) writes them."""
    lines = [f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in sorted(members)]
    return "".join(lines).encode("utf-8")


def _write(members: Mapping[str, bytes], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{random.token_hex(4)}.tmp")
    try:
        archive.pack(members, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path}: the bundle cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def verify(path: Path, allowed: Path | None = None) -> Verified:
    """Say what of a bundle is not as it was signed, or does not follow from its results, and who signed.

    ``allowed`` is a file of allowed signers; without it only integrity is shown: that nothing changed since somebody, with
    the key in the bundle, signed. Raises UsageError where the file is no bundle, or one that is not safe to open.
    """
    found = archive.unpack(path, _READ)
    members = found.members
    findings = [Finding(place, what) for place, what in found.damage.items()]
    listed = _listed(members.get(SUMS, b""), findings)
    for name in sorted({*listed, *found.digests, *NEEDED, SUMS, SIGNATURE} - {*found.damage}):
        if name not in found.digests:
            findings.append(Finding(name, "missing"))
        elif name in (SUMS, SIGNATURE):
            continue
        elif name not in listed:
            findings.append(Finding(name, "added: it was not signed"))
        elif found.digests[name] != listed[name]:
            findings.append(Finding(name, "changed: it is not what was signed"))
        elif name not in (*NEEDED, WAIVERS, REPORT) and not name.startswith(f"{RAW}/"):
            findings.append(Finding(name, "is nothing that belongs into a bundle"))
    principal = None
    signer = None
    if SUMS in members and SIGNATURE in members:
        signer = ssh.signer_of(members[SIGNATURE])
        principal, reason = _who(members[SUMS], members[SIGNATURE], allowed)
        if reason:
            findings.append(Finding(SIGNATURE, reason))
    claimed, comment = ssh.parse(members.get(SIGNER, b"").decode("utf-8", "replace"))
    if signer is not None and claimed != signer and SIGNER in members:
        findings.append(Finding(SIGNER, "is not the key of the signature"))
    decision = ""
    if not findings:
        wrong, decision = proof.decided(members, signer)
        findings += wrong
    elif certificate.NAME in members and RESULTS in members:
        findings += proof.consistent(members)
    return Verified(
        tuple(dict.fromkeys(findings)),
        principal,
        printable(comment),
        signer.fingerprint if signer else "",
        {name: printable(text) for name, text in proof.about(members.get(ABOUT, b"{}")).items()},
        len(found.digests),
        decision,
    )


def _listed(text: bytes, findings: list[Finding]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            findings.append(Finding(SUMS, f"has a line that is no checksum: {printable(line)[:80]}"))
        else:
            found[match[2]] = match[1]
    return found


def _who(data: bytes, signature: bytes, allowed: Path | None) -> tuple[str | None, str]:
    if reason := ssh.check(data, signature):
        return None, f"the signature does not hold: {reason}"
    if allowed is None:
        return None, ""
    principal, reason = ssh.principal(data, signature, allowed)
    return principal, f"the signer is not allowed: {reason}" if reason else ""
