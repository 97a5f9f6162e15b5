"""A page as PDF, by Chromium where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from channover import isolated

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
TIMEOUT = 120.0
"""Seconds that a page may take: Chromium's start on a busy machine is most of it."""
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
"""No window, no profile of anybody's, and no name resolved: the browser has nothing to ask outside."""


def browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name, path=isolated.search_path()))), None)


def run(arguments: list[str], timeout: float = TIMEOUT) -> str | None:
    """Run Chromium with a new, empty profile. Return why that did not work, in one line, or None."""
    path = browser()
    if path is None:
        return f"no Chromium here (looked for {', '.join(BROWSERS)}): install the package chromium"
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    with tempfile.TemporaryDirectory(prefix="channover-chromium-", ignore_cleanup_errors=True) as profile:
        command = [path, *FLAGS, *root, f"--user-data-dir={profile}", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"{path} took longer than {timeout:g} s"
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return None if done.returncode == 0 else f"{path} ended with code {done.returncode}: {_last_line(done.stderr)}"


def to_pdf(page: Path, pdf: Path, timeout: float = TIMEOUT) -> str | None:
    """Print an HTML file into a PDF file. Return why there is no PDF now, in one line, or None.

    A former PDF is taken away first: it would belong to a former page.
    """
    pdf.unlink(missing_ok=True)
    temporary = pdf.with_name(f".{pdf.name}.tmp")
    try:
        target = f"--print-to-pdf={temporary.absolute()}"
        reason = run(["--no-pdf-header-footer", target, page.absolute().as_uri()], timeout)
        if reason is None and not (temporary.exists() and temporary.read_bytes().startswith(b"%PDF-")):
            reason = "Chromium wrote no PDF"
        if reason is None:
            temporary.replace(pdf)
        return reason
    finally:
        temporary.unlink(missing_ok=True)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it said nothing"
