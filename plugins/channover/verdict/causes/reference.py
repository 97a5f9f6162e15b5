"""The page docs/causes.md, made of the kinds of causes: ``python -m channover.verdict.causes.reference > docs/causes.md``."""

from __future__ import annotations

from channover.model.registry import OWN
from channover.verdict.causes.catalogue import CAUSES
from channover.verdict.causes.cause import UNEXPLAINED
from channover.verdict.causes.kind import CauseKind

_HEAD = f"""# The causes

Where a comparison does not hold, channover asks the lab, which is still alive, for what may explain it, and names causes, the
likeliest first. A cause has an id, a statement with the figures of the case, the evidence, a remedy, and how sure it is:

- *shown*: a counter or a probe shows it at work;
- *likely*: it is there, and fits what was seen;
- *possible*: it fits, and other causes would look alike.

What may come of another cause (*follows* below) comes after what does not; of equally sure ones, the one further up on this
page comes first. The causes of a
failure are in its text, in `results.json` (`tests[].causes`), on the test's page and in the certificate. `{UNEXPLAINED}` is
the last resort; it lists what was ruled out.

What the proof of a lab and the reading back of what was asked find is an error of the testbed, and stands there too, as
*shown*: `cable-rate`, `cable-loss`, `cable-delay`, `cable-duplex`, `cable-size`, `cable-crossed`, `cable-unheard`,
`cable-carrier`, `cable-duplicates`, `cable-foreign`, `cable-refused`; `processors`, where this machine had too little time;
`not-as-asked`, a setting that is not in force.

This page is made from `plugins/channover/verdict/causes/` by `python -m channover.verdict.causes.reference`. A new cause is a
function there; of another package: [Extending channover](extending.md).

| id | what is wrong | found by | remedy | |
|---|---|---|---|---|
"""


def reference() -> str:
    """Return the page."""
    own = [kind for kind in CAUSES.entries.values() if CAUSES.origin(kind.id) == OWN]
    return _HEAD + "".join(map(_row, own))


def _row(kind: CauseKind) -> str:
    return f"| `{kind.id}` | {kind.title} | {kind.shows} | {kind.remedy} | {'follows' if kind.follows else ''} |\n"


if __name__ == "__main__":
    print(reference(), end="")
