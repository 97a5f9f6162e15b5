"""The page docs/behaviours.md, made of the catalogue: ``python -m channover.model.behaviours_page > docs/behaviours.md``."""

from __future__ import annotations

from channover.model.catalogue import CATALOGUE, PARTS, Behaviour
from channover.model.registry import OWN

_HEAD = """# The behaviours

Each test states one of these. `channover doctor` says which of them a machine can try. This page is made from
`plugins/channover/model/catalogue.py` by `python -m channover.model.behaviours_page`; clauses of IEEE 802.1AX are those of the
2014 edition. *Article* is G. Gorrotxategi, "Warriors of the net: el IP Channover Multipath TCP" (Irontec, 2016): what it
measured or wrote on its own hardware, with links of 100 Mbit/s. A dash means that it has nothing to say.
"""
_TABLE = """
## {}

| id | statement | article | source | needs |
|---|---|---|---|---|
"""
_TAIL = """
*needs* are capabilities, found out by trying: `lag` is a driver for LAGs (the kernel's bonding, or Open vSwitch), `tun`
tun devices, `http` nginx and curl, `ftp` vsftpd and curl, `sip` sipp, `tls` stunnel and
openssl, `python` Python 3 for numbered traffic; the others are what their names say.
"""


def page() -> str:
    """Return the page."""
    own = [entry for entry in CATALOGUE.entries.values() if CATALOGUE.origin(entry.id) == OWN]
    parts = [part for name, part in PARTS.entries.items() if PARTS.origin(name) == OWN]
    return _HEAD + "".join(_of_part(part.title, [one for one in own if one.part == part]) for part in parts) + _TAIL


def _of_part(title: str, entries: list[Behaviour]) -> str:
    rows = [
        f"| {one.id} | {one.statement} | {one.article_note or '–'} | {one.source} | {', '.join(one.needs)} |\n"
        for one in entries
    ]
    return _TABLE.format(title) + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
