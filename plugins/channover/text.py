"""Text that anybody may have written, as terminals, XML and people can read it; addresses as programs do."""

from __future__ import annotations

import re
import unicodedata


def printable(text: str) -> str:
    """Return text with control characters and lone surrogates spelt out, so that terminals and XML can hold it.

    Line ends and tabs stay; directional overrides and isolates (Unicode, UAX 9) are spelt out as well.
    """
    return "".join(
        character
        if character in "\n\t" or not (_hidden(character) or unicodedata.category(character) in ("Cc", "Cs"))
        else character.encode("unicode-escape").decode("ascii")
        for character in text
    )


_ESCAPED = re.compile(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})|\\x([0-9a-f]{2})")


def readable(nodeid: str) -> str:
    """Return a test's name as it was written: pytest spells out what is not ASCII in the values of parameters."""
    return printable(_ESCAPED.sub(_written, nodeid))


def _written(match: re.Match[str]) -> str:
    code = int(match[1] or match[2] or match[3], 16)
    return chr(code) if 0xA1 <= code < 0x110000 else match[0]


def authority(address: str, port: int) -> str:
    """Return address and port as URLs have them: one of IPv6 stands in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _hidden(character: str) -> bool:
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069" or character in "\ufffe\uffff"
