"""The colours of pictures, on light ground and on dark.

A picture is written in its light colours, which any viewer shows. Rules of CSS, in the picture or in the page that holds it,
turn them for whoever reads on a dark screen; paper is light.
"""

from __future__ import annotations

from collections.abc import Mapping

DARK: Mapping[str, str] = {
    "#ffffff": "#16181c",
    "#f4f4f4": "#24272d",
    "#ececec": "#2a2d33",
    "#dddddd": "#3a3e46",
    "#9a9a9a": "#7d828b",
    "#1a1a1a": "#e8e8e8",
    "#222222": "#e8e8e8",
    "#000000": "#ffffff",
    "#5a5a5a": "#b4b8bf",
    "#666666": "#b4b8bf",
    "#7f7f7f": "#a0a0a0",
    "#b00020": "#ff8a8a",
    "#b3001b": "#ff8a8a",
    "#1b6e3c": "#6fd39a",
    "#0072b2": "#4db2ec",
    "#009e73": "#3fd0a4",
    "#d55e00": "#ff9147",
}
"""What each colour of a light picture is on a dark screen; others are seen on both."""
QUERY = "screen and (prefers-color-scheme:dark)"


def rules(text: str) -> str:
    """Return the rules of CSS that darken a picture, of those colours that its text has."""
    found = []
    for light, dark in DARK.items():
        for paint in ("fill", "stroke"):
            if f'{paint}="{light}"' in text:
                found.append(f'svg [{paint}="{light}"]{{{paint}:{dark}}}')
            if f"{paint}: {light}" in text:  # matplotlib's way
                found.append(f'svg [style*="{paint}: {light}"]{{{paint}:{dark}!important}}')
    return "".join(found)


def style(text: str) -> str:
    """Return the same as an element of the picture itself."""
    found = rules(text)
    return f"<style>@media {QUERY}{{{found}}}</style>" if found else ""
