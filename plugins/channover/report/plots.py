"""Plots as SVG text that stands alone: no script, no reference to anything outside.

They are drawn with matplotlib's artists and SVG renderer, without its axes: those measure every label several times
and take most of the time that a plot of this size needs.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from channover.report.drawing import fitted
from channover.report.results import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = tuple[str, Sequence[float], Sequence[float]]
"""A label such as ``left.a rx``, times (s) and rates (bit/s), equally many, the times ascending."""
_Side = Literal["left", "center", "right"]
Phase = tuple[str, float, float]
"""A label, and when it begins and ends (s). One whose label begins with ``fault`` is hatched."""

WIDTH, HEIGHT = 640, 276
"""Of a plot, in CSS pixels."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 490, 226, 36
"""The frame within the plot; y grows upwards."""
_POINTS = 1600
"""Of all series together: what keeps a plot below 40 kB."""
_MOST_TIME, _MOST_RATE = 1e12, 1e15
"""Beyond, a sample is a mistake, and is left out."""
_INK, _GREY, _FAINT = "#222222", "#666666", "#dddddd"
_PHASES = ("#ececec", "#ffffff")
_HATCH = "#9a9a9a"
# Okabe and Ito's colours, told apart by most colour-blind readers; ordered so that neighbours differ in grey as well
_COLOURS = ("#0072b2", "#e69f00", "#000000", "#cc79a7", "#009e73", "#d55e00", "#56b4e9", "#7f7f7f")
_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 2),
    (1.5, 1.5),
    (7, 2, 1.5, 2),
    (10, 3),
    (3, 1),
    (7, 2, 1, 2, 1, 2),
    (1, 3),
)
_LINK_DASHES = (4.0, 3.0)
_LABEL, _TITLE = 18, 78
"""Letters that there is room for; a letter of Chinese or Japanese, or an emoji, takes the room of two."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "channover",
    "path.simplify": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "text.parse_math": False,
    "text.usetex": False,
}


class _Scale(NamedTuple):
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, about: int) -> Iterator[float]:
        step = _step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        yield from (number * step for number in range(first, last + 1))


def _step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * 0.999)


def nic_rates_svg(series: Sequence[Series], *, title: str, link_rate: float, phases: Sequence[Phase] = ()) -> str:
    """Return a plot of NICs' rates over time as an SVG text of 640 x 276 pixels.

    ``link_rate`` (bit/s) is drawn as a dashed line, each phase as a vertical band. Samples that are not finite are
    left out, as are phases that end before they begin; long series are thinned to their extremes, so that a short
    stall stays visible. Raises ValueError where a series has not as many times as rates, or the link rate is not
    between 1 and 1e15.
    """
    if not 1 <= link_rate <= _MOST_RATE:
        raise ValueError(f"a link rate of {link_rate} bit/s cannot be drawn")
    lines = [(label, *_usable(label, times, rates)) for label, times, rates in series]
    most = max(2, _POINTS // max(len(lines), 1))
    lines = [(label, *_thinned(times, rates, most)) for label, times, rates in lines]
    moments = [moment for _, times, _ in lines for moment in times]
    phases = [(label, begin, end) for label, begin, end in phases if begin <= end]
    edges = [edge for _, begin, end in phases for edge in (begin, end) if abs(edge) < _MOST_TIME]
    begin, end = (min(moments), max(moments)) if moments else (min(edges, default=0.0), max(edges, default=1.0))
    x = _Scale(begin, end if end - begin > 1e-3 else begin + 1.0, _LEFT, _RIGHT)
    top = max([link_rate, *(rate for _, _, rates in lines for rate in rates)])
    y = _Scale(0.0, top * 1.06, _BOTTOM, _TOP)
    return _svg(lines, x, y, title, link_rate, phases)


def _usable(label: str, times: Sequence[float], rates: Sequence[float]) -> tuple[list[float], list[float]]:
    if len(times) != len(rates):
        raise ValueError(f"series {label} has {len(times)} times and {len(rates)} rates")
    pairs = [
        (time, rate)
        for time, rate in zip(times, rates, strict=True)
        if abs(time) < _MOST_TIME and abs(rate) < _MOST_RATE
    ]
    return [time for time, _ in pairs], [rate for _, rate in pairs]


def _thinned(times: list[float], rates: list[float], most: int) -> tuple[list[float], list[float]]:
    """Return about ``most`` samples: both ends, and the lowest and highest of each of ``most`` / 2 equal stretches."""
    if len(times) <= most:
        return times, rates
    stretches = max(most // 2, 1)
    width = (times[-1] - times[0]) / stretches
    kept: list[int] = []
    start = 0
    for number in range(1, stretches + 1):
        end = len(times) if number == stretches else bisect_right(times, times[0] + number * width)
        if end > start:
            indices = range(start, end)
            kept += sorted({min(indices, key=rates.__getitem__), max(indices, key=rates.__getitem__)})
        start = end
    kept = sorted({0, *kept, len(times) - 1})
    return [times[index] for index in kept], [rates[index] for index in kept]


def _svg(
    lines: Sequence[tuple[str, list[float], list[float]]],
    x: _Scale,
    y: _Scale,
    title: str,
    link_rate: float,
    phases: Sequence[Phase],
) -> str:
    import matplotlib  # here: its import takes longer than most tests
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the text stays text: the viewer has the glyph
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        FigureCanvasSVG(figure)
        pen = _Pen(figure)
        for number, (label, begin, end) in enumerate(phases):
            pen.band(x(begin), x(end), number, hatched=label.startswith("fault"))
        for number, (label, begin, _) in enumerate(phases):
            pen.name(x(begin), number, label)
        pen.frame(x, y, link_rate)
        pitch = min(17.0, (_TOP - 4 - _BOTTOM) / (len(lines) + 1))
        pen.key(_TOP - 4, f"link rate {link_rate / 1e6:g}", _INK, _LINK_DASHES)
        for number, (label, times, rates) in enumerate(lines):
            dashes, colour = _DASHES[number % len(_DASHES)], _COLOURS[number % len(_COLOURS)]
            pen.line([x(time) for time in times], [y(rate) for rate in rates], colour, 1.4, dashes)
            pen.key(_TOP - 4 - (number + 1) * pitch, fitted(label, _LABEL), colour, dashes)
        pen.text(_LEFT, _TOP + 36, fitted(title, _TITLE), "left", size=12, weight="bold")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _alone(buffer.getvalue(), title)


class _Pen:
    """Draws on a figure in pixels, the origin at the lower left."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self._order = 0

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: str, width: float, dashes: tuple[float, ...] = ()
    ) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.transforms import IdentityTransform

        style: Any = (0, dashes) if dashes else "-"
        # one sample alone has no extent: a marker shows it
        marker = "o" if len(xs) == 1 else ""
        self._add(
            Line2D(
                xs,
                ys,
                color=colour,
                linewidth=width,
                linestyle=style,
                marker=marker,
                markersize=3,
                solid_joinstyle="round",
                transform=IdentityTransform(),
            )
        )

    def band(self, begin: float, end: float, number: int, *, hatched: bool) -> None:
        """Mark a phase: every other one is grey, a fault hatched, and each begins with a line up to its name."""
        from matplotlib.patches import Rectangle
        from matplotlib.transforms import IdentityTransform

        area = Rectangle((begin, _BOTTOM), end - begin, _TOP - _BOTTOM, facecolor=_PHASES[number % 2], linewidth=0)
        area.set_transform(IdentityTransform())
        if hatched:
            area.set(hatch="////", edgecolor=_HATCH)
        self._add(area)
        self.line([begin, begin], [_BOTTOM, self._row(number) + 4], _INK, 0.6, (2, 2))

    def name(self, begin: float, number: int, label: str) -> None:
        """Write a phase's name above the frame, neighbours in two rows."""
        self.text(begin + 3, self._row(number), fitted(label, max(int((_RIGHT - begin) / 5.5), 12)), "left", size=9)

    @staticmethod
    def _row(number: int) -> float:
        return _TOP + (18 if number % 2 == 0 else 6)

    def frame(self, x: _Scale, y: _Scale, link_rate: float) -> None:
        for tick in y.ticks(4):
            self.line([x.start, x.end], [y(tick), y(tick)], _FAINT, 0.7)
            self.text(x.start - 5, y(tick), f"{tick / 1e6:g}", "right")
        for tick in x.ticks(6):
            self.line([x(tick), x(tick)], [y.start, y.start - 3], _INK, 0.7)
            self.text(x(tick), y.start - 11, f"{round(tick, 9):g}", "center")
        self.line([x.start, x.start, x.end], [y.end, y.start, y.start], _INK, 0.8)
        self.line([x.start, x.end], [y(link_rate), y(link_rate)], _INK, 1.0, _LINK_DASHES)
        self.text(x.start, y.end + 4, "Mbit/s", "right", size=9, colour=_GREY)
        self.text((x.start + x.end) / 2, 10, "seconds", "center", colour=_GREY)

    def key(self, height: float, label: str, colour: str, dashes: tuple[float, ...]) -> None:
        self.line([_RIGHT + 10, _RIGHT + 38], [height, height], colour, 1.4, dashes)
        self.text(_RIGHT + 44, height, label, "left")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        side: _Side,
        *,
        size: float = 10,
        colour: str = _INK,
        weight: str = "normal",
    ) -> None:
        from matplotlib.text import Text
        from matplotlib.transforms import IdentityTransform

        self._add(
            Text(
                x,
                y,
                printable(text.replace("\n", " ").replace("\t", " ")),
                fontsize=size,
                color=colour,
                fontweight=weight,
                horizontalalignment=side,
                verticalalignment="center_baseline",
                transform=IdentityTransform(),
                parse_math=False,
            )
        )

    def _add(self, artist: object) -> None:
        from matplotlib.artist import Artist

        assert isinstance(artist, Artist)
        self._order += 1
        artist.set_zorder(self._order)
        self._figure.add_artist(artist)


def _alone(svg: str, title: str) -> str:
    """Return the SVG without its document type and metadata (they name outside addresses), shorter, and in pixels."""
    from xml.sax.saxutils import escape

    svg = re.sub(r"<!DOCTYPE[^>]*>\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<path [^>]*?\bd="[^"]*"', _shorter, svg)
    svg = svg.replace(f'width="{WIDTH}pt" height="{HEIGHT}pt"', f'width="{WIDTH}" height="{HEIGHT}" role="img"', 1)
    head, opening, body = svg.partition("<svg ")
    attributes, end, content = body.partition(">\n")
    return f"{head}{opening}{attributes}{end} <title>{escape(printable(title))}</title>\n{content}"


def _shorter(path: re.Match[str]) -> str:
    return re.sub(r"(\d\.\d)\d+", r"\1", path[0].replace("\n", ""))
