"""Print certificates of sample runs, and of real ones, to PDF and grey PNG, to be looked at.

    python -m tools.look_certificate [OUT] [RUN …]

OUT (default: /tmp/channover-certificates) takes a folder a sample; RUN is a folder of reports/. Needs Chromium; the pages
of a PDF become pictures where pdftoppm (poppler-utils) is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from tests.support import runs

from channover.model.catalogue import CATALOGUE
from channover.report.signoff import certificate
from channover.report.signoff import pdf as printing

WAIVERS = """\
waivers:
  - behaviour: LAG-8
    who: A. Engineer, network operations
    why: the switches' firmware 4.32 is slow to notice a lost link; 4.33 is ordered (ticket 4711)
    until: 2026-12-31
"""


def main(out: Path, real: list[Path]) -> int:
    """Print all samples. Return 1 where one could not be printed."""
    out.mkdir(parents=True, exist_ok=True)
    waivers = out / "waivers.yaml"
    waivers.write_text(WAIVERS, "utf-8")
    samples = {
        "accepted": (runs.results(*(runs.test(each) for each in CATALOGUE)), None),
        "four": (runs.four_states(), None),
        "physical": (runs.physical(), waivers),
        "odd": (runs.odd(), None),
        "large": (runs.large(), None),
    }
    folders = {name: (runs.saved(results, out / name), file) for name, (results, file) in samples.items()}
    for folder in real:
        copy = out / folder.resolve().name
        copy.mkdir(exist_ok=True)
        shutil.copy(folder / "results.json", copy)
        folders[copy.name] = (copy, None)
    failed = 0
    for name, (folder, file) in folders.items():
        made = certificate.write(folder, waivers=file, now=datetime(2026, 2, 1, 9, 30, tzinfo=timezone.utc))
        print(f"{name}: {made.decision.text}; {made.page}; {made.pdf or made.note}")
        screen = folder / "screen.png"
        reason = printing.run(
            [f"--screenshot={screen}", "--window-size=900,2400", "--hide-scrollbars", made.page.as_uri()]
        )
        if made.pdf is None or reason:
            print(f"  not printed: {made.note or reason}")
            failed = 1
        elif shutil.which("pdftoppm"):
            subprocess.run(["pdftoppm", "-gray", "-r", "80", "-png", made.pdf, folder / "sheet"], check=True)
    return failed


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    sys.exit(main(arguments[0] if arguments else Path("/tmp/channover-certificates"), arguments[1:]))
