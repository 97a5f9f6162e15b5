"""Certificates of sample runs, and their pages."""

from __future__ import annotations

from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

from channover.report.results import Results
from channover.report.signoff import certificate
from tests.support import runs

NOW = datetime(2026, 2, 1, 9, 30, tzinfo=timezone.utc)


class Page(HTMLParser):
    """A page's text, its tags, and every attribute that could ask for something outside."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self._muted = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._muted = tag in ("style", "script")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "background") or name.startswith("on"):
                self.references.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self._muted = self._muted and tag not in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._muted:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(results: Results, folder: Path, **options: object) -> tuple[certificate.Certificate, str]:
    made = certificate.write(runs.saved(results, folder), now=NOW, pdf=False, **options)  # type: ignore[arg-type]
    return made, made.page.read_text("utf-8")
