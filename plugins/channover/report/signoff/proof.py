"""Whether a certificate, and the words that were signed with it, follow from the results and waivers beside them.

Whoever signs can write anything into a certificate before. So the decision is made again, and with it the whole page: that
is the same to the byte where the same source makes it. Of another source's page nobody here can say whether it says more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import channover
from channover.report.deciding.decision import decide
from channover.report.deciding.waivers import parse
from channover.report.results import Results
from channover.report.signoff import certificate
from channover.report.signoff import signature as ssh
from channover.text import printable

RESULTS, WAIVERS, ABOUT = "results.json", "waivers.yaml", "signoff.json"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was signed: where (a member's name, or a part of the bundle), and what."""

    place: str
    what: str


@cache
def maker() -> str:
    """Return the version that makes certificates here, with a digest of its source: pages of the same are the same."""
    root = Path(channover.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *(root / "report" / "templates").iterdir()]):
        digest.update(path.read_bytes())
    return f"channover {channover.__version__} ({digest.hexdigest()[:12]})"


def signer(who: str, fingerprint: str) -> str:
    """Return how a certificate names who is about to sign."""
    return f"{who}, key {fingerprint}"


def decided(members: Mapping[str, bytes], key: ssh.Key | None) -> tuple[list[Finding], str]:
    """Decide again, by the results and waivers of a bundle; say what of the certificate and of the signed word differs."""
    if wrong := consistent(members):
        return wrong, ""
    raw, said = members[RESULTS], about(members[ABOUT])
    try:
        results = Results.from_json(raw.decode("utf-8"))
        signed = datetime.fromisoformat(said.get("signed", "").replace("Z", "+00:00")).astimezone(timezone.utc)
        waived = parse(members[WAIVERS], Path(WAIVERS), signed.date()) if WAIVERS in members else ()
        decision = decide(results, waived)
        page = certificate.render(
            raw,
            results,
            decision,
            waived,
            lab=said.get("lab", ""),
            signer=signer(said.get("signer", ""), said.get("key", "")),
            now=signed,
        )
    except Exception as error:  # of what others wrote: whatever it does to the page, it is no certificate
        words = printable(" ".join(str(error).split())) or type(error).__name__
        return [Finding("the decision", f"cannot be made again: {words}")], ""
    should = {
        "run": results.run.id,
        "target": results.run.target,
        "certificate": certificate.identify(raw, waived),
        "decision": decision.text,
        "key": key.fingerprint if key else "",
    }
    found = [
        Finding(ABOUT, printable(f"says {name} '{said.get(name, '')}', and by results and waivers it is '{right}'"))
        for name, right in should.items()
        if said.get(name) != right
    ]
    if said.get("made_by") != maker():
        by = printable(said.get("made_by", "another version"))
        found.append(Finding(certificate.NAME, f"was made by {by}; {maker()} cannot tell whether it says more"))
    elif members[certificate.NAME] != page.encode("utf-8"):
        found.append(Finding(certificate.NAME, "does not say what its results and waivers say: it was not made so"))
    return found, decision.text


def consistent(members: Mapping[str, bytes]) -> list[Finding]:
    """Say whether the certificate was made from the results beside it."""
    digest = hashlib.sha256(members[RESULTS]).hexdigest()
    if f'data-results-sha256="{digest}"'.encode() not in members[certificate.NAME]:
        return [Finding(certificate.NAME, "was not made from the results.json beside it")]
    return []


def about(text: bytes) -> dict[str, str]:
    """Return what ``signoff.json`` says; what is none says nothing."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
