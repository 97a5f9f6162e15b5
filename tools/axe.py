"""Gets axe-core, which finds what keeps people from reading a page: python -m tools.axe prints where it is.

Only tests need it. It is one file of JavaScript from npm, which the report's own Node fetches into Python's environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from channover import isolated
from channover.report.allure import generator

VERSION = "4.14.1"
PLACE = Path(sys.prefix) / "share" / "channover" / f"axe-core-{VERSION}"


def script() -> Path | None:
    """Return the file that a page is to run, or None where it is not there."""
    found = PLACE / "node_modules" / "axe-core" / "axe.min.js"
    return found if found.is_file() else None


def main() -> int:
    if script() is None:
        node = generator.node()
        if node is None:
            print("axe-core cannot be fetched: there is no Node: channover report --set-up")
            return 1
        npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        words = ["install", "--prefix", str(PLACE), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        PLACE.mkdir(parents=True, exist_ok=True)
        more = {"PATH": f"{node.parent}:{isolated.search_path()}"}
        if generator.AUTHORITIES.exists():
            more["NODE_EXTRA_CA_CERTS"] = os.environ.get("NODE_EXTRA_CA_CERTS", str(generator.AUTHORITIES))
        command = [str(node), str(npm), *words, f"axe-core@{VERSION}"]
        done = subprocess.run(
            command, cwd=PLACE, env=isolated.environment(**more), capture_output=True, text=True, check=False
        )
        if script() is None:
            print(f"axe-core cannot be fetched: {' '.join((done.stderr or done.stdout).split())[-300:]}")
            return 1
    print(script())
    return 0


if __name__ == "__main__":
    sys.exit(main())
