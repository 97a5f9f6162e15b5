"""Plots as SVG text that stands alone: no script, no reference to anything outside.

matplotlib draws them. Letters stay text, in the viewer's font, on a ground of the plot's own that is white, or dark on a dark
screen; the same data gives the same text, byte by byte.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from channover.report.drawing import theme
from channover.report.drawing.thinning import thinned
from channover.report.drawing.topology import fitted
from channover.report.facts import Bound
from channover.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = tuple[str, Sequence[float], Sequence[float]]
"""A label such as ``left.a rx``, times (s) and rates (bit/s), equally many, the times ascending."""
Line = tuple[str, list[float], list[float]]
"""A label, times (s) and values that can be drawn."""
Phase = tuple[str, float, float]
"""A label, and when it begins and ends (s). One whose label begins with ``fault`` is hatched."""

Range = tuple[float, float, float | None, float | None, float | None]
"""When it holds (s), the least and the most that is expected (None: open), and the mean that was measured."""

WIDTH, HEIGHT = 640, 276
"""Of a plot, in CSS pixels."""
_FRAME = (60 / WIDTH, 38 / HEIGHT, 436 / WIDTH, 188 / HEIGHT)
"""Where the axes stand: left, bottom, width and height as shares of the plot. Right of them is the key."""
_POINTS = 1600
"""Of all series together: what keeps a plot below 40 kB."""
_MOST_TIME, _MOST_RATE = 1e12, 1e15
"""Beyond, a sample is a mistake, and is left out."""
_INK, _GREY, _START, _HATCH = "#222222", "#666666", "#ececec", "#9a9a9a"
_STARTS = ("warm-up", "set-up")
"""Phases that no figure rests on."""
# Okabe and Ito's colours, told apart by most colour-blind readers; ordered so that neighbours differ in grey as well
_STROKES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("#0072b2", ()),
    ("#e69f00", (5, 2)),
    ("#000000", (1.5, 1.5)),
    ("#cc79a7", (7, 2, 1.5, 2)),
    ("#009e73", (10, 3)),
    ("#d55e00", (3, 1)),
    ("#56b4e9", (7, 2, 1, 2, 1, 2)),
    ("#7f7f7f", (1, 3)),
)
"""Colour and dashes of one series after the other."""
RED, GREEN, BLUE = "#b00020", "#1b6e3c", "#0072b2"
_THICK: tuple[tuple[str, tuple[float, ...], float], ...] = ((_GREY, (1, 1), 2.6), (RED, (), 0.9))
"""Colour, dashes and width of the sum of the NICs, and of the goodput."""
_LABEL, _TITLE = 18, 72
"""Letters that there is room for; a letter of Chinese or Japanese, or an emoji, takes the room of two."""
_LEVELS, _LETTER = (1.095, 1.03), 5.5
"""Where the names of phases stand, in heights of the axes, and the width of one of their letters (pixels)."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "channover",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 10,
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "ytick.left": False,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "legend.borderaxespad": 0,
    "hatch.linewidth": 1.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 3,
}


@dataclass(frozen=True)
class Judged:
    """What a verdict is seen by: the ``lines`` of the sum of the NICs and of the goodput, and the goodput's ``bounds``."""

    lines: Sequence[Series] = ()
    bounds: Sequence[Bound] = ()


def nic_rates_svg(
    series: Sequence[Series],
    *,
    title: str,
    link_rate: float,
    phases: Sequence[Phase] = (),
    judged: Judged = Judged(),
) -> str:
    """Return a plot of NICs' rates over time as an SVG text of 640 x 276 pixels.

    What is ``judged`` is drawn over them, the mean that was compared thickest. ``link_rate`` (bit/s) is drawn as a dashed
    line, each phase as a vertical band. Samples that are not finite are left out, as are phases that end before they begin;
    long series are thinned to their extremes, so that a short stall stays visible. Raises ValueError where a series has not as
    many times as rates, or the link rate is not between 1 and 1e15.
    """
    if not 1 <= link_rate <= _MOST_RATE:
        raise ValueError(f"a link rate of {link_rate} bit/s cannot be drawn")
    lines = [(label, *_usable(label, times, rates, 1e6)) for label, times, rates in series]
    thick = [(label, *_usable(label, times, rates, 1e6)) for label, times, rates in judged.lines]
    bounds = [(one.begin, one.end, _scaled(one.low), _scaled(one.high), _scaled(one.mean)) for one in judged.bounds]
    return _svg(lines, title, "Mbit/s", phases, (f"link rate {link_rate / 1e6:g}", link_rate / 1e6), thick, bounds)


def course_svg(series: Sequence[Series], *, title: str, axis: str, phases: Sequence[Phase] = ()) -> str:
    """Return a plot of values over time, what they are beside the ``axis``, as :func:`nic_rates_svg` does of rates."""
    return _svg([(label, *_usable(label, times, values)) for label, times, values in series], title, axis, phases)


def _svg(
    lines: Sequence[Line],
    title: str,
    axis: str,
    phases: Sequence[Phase],
    level: tuple[str, float] | None = None,
    thick: Sequence[Line] = (),
    bounds: Sequence[Range] = (),
) -> str:
    """Return a plot of lines, of thicker ones over them, of what those are to keep to, and of a level with its name."""
    most = max(2, _POINTS // max(len(lines) + len(thick), 1))
    lines, thick = (
        [(label, *thinned(times, values, most)) for label, times, values in some] for some in (lines, thick)
    )
    phases = [(label, begin, end) for label, begin, end in phases if begin <= end]

    import matplotlib  # here: its import takes longer than most tests
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the text stays text: the viewer has the glyph
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        FigureCanvasSVG(figure)
        axes = figure.add_axes(_FRAME)
        edges = [edge for *_, low, high, mean in bounds for edge in (low, high, mean) if edge is not None]
        _scale(axes, [*lines, *thick], axis, max([level[1] if level else 1e-3, *edges]), phases)
        _draw_phases(axes, phases)
        _draw_bounds(axes, bounds)
        _draw_lines(axes, lines, level, thick, bounds)
        axes.set_title(fitted(title, _TITLE), loc="left", y=1.0, pad=31)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _alone(buffer.getvalue(), title)


def _usable(
    label: str, times: Sequence[float], rates: Sequence[float], unit: float = 1.0
) -> tuple[list[float], list[float]]:
    """Return times (s) and values, in so large a unit, that can be drawn."""
    if len(times) != len(rates):
        raise ValueError(f"series {label} has {len(times)} times and {len(rates)} rates")
    pairs = [
        (time, rate / unit)
        for time, rate in zip(times, rates, strict=True)
        if abs(time) < _MOST_TIME and abs(rate) < _MOST_RATE
    ]
    return [time for time, _ in pairs], [rate for _, rate in pairs]


def _scale(axes: Axes, lines: Sequence[Line], axis: str, least: float, phases: Sequence[Phase]) -> None:
    """Set what the axes span, up to ``least`` at least, and their ticks: seconds and values in plain figures."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    moments = [moment for _, times, _ in lines for moment in times]
    edges = [edge for _, begin, end in phases for edge in (begin, end) if abs(edge) < _MOST_TIME]
    begin, end = (min(moments), max(moments)) if moments else (min(edges, default=0.0), max(edges, default=1.0))
    top = max([least, *(value for _, _, values in lines for value in values)])
    axes.set(xlim=(begin, end if end - begin > 1e-3 else begin + 1.0), ylim=(-0.01 * top, 1.06 * top))
    axes.set(xlabel="seconds", ylabel=axis)
    for each, about in ((axes.xaxis, 6), (axes.yaxis, 4)):
        each.set_major_locator(MaxNLocator(about, steps=[1, 2, 2.5, 5, 10]))
        each.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 9):g}"))


def _draw_phases(axes: Axes, phases: Sequence[Phase]) -> None:
    """Mark phases: a start is grey, a fault hatched; each begins with a line up to its name, neighbours in two rows.

    That line is thick where a link was lost, where it came back, and where flows were dealt anew: each has its colour and
    its sign.
    """
    left, right = axes.get_xlim()
    spans = [(label, min(max(begin, left), right), min(max(end, left), right)) for label, begin, end in phases]
    places = [axes.transData.transform((begin, 0))[0] for _, begin, _ in spans]
    ends = [*places[2:], WIDTH, WIDTH]  # a name may go on until the next one in its row
    for number, (label, begin, end) in enumerate(spans):
        if label in _STARTS:
            axes.axvspan(begin, end, facecolor=_START, linewidth=0, zorder=0)
        elif label.startswith("fault"):
            axes.axvspan(begin, end, facecolor="none", edgecolor=_HATCH, hatch="////", linewidth=0, zorder=0)
        level = _LEVELS[number % 2]
        sign, colour = _event(label, spans[number - 1][0] if number else "")
        look: Any = {"linewidth": 1.6} if sign else {"linewidth": 0.6, "dashes": (2, 2)}
        axes.axvline(begin, ymax=level + 0.03, color=colour, clip_on=False, zorder=1, **look)
        name = fitted(label, max(int((ends[number] - places[number]) / _LETTER), 4))
        beside: Any = {"xycoords": ("data", "axes fraction"), "xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(name, (begin, level), fontsize=9, va="center_baseline", color=colour, **beside)
        beside["xytext"] = (-2, 0)
        axes.annotate(sign, (begin, level), fontsize=9, va="center_baseline", ha="right", color=colour, **beside)


def _event(label: str, before: str) -> tuple[str, str]:
    """Return the sign and the colour of what happened as a phase began, by its name and that of the phase before it."""
    if label.startswith("fault"):
        return "✗", RED
    if before.startswith("fault"):
        return "↺", GREEN
    return ("⇄", BLUE) if label.startswith("dealt anew") else ("", _INK)


def _draw_bounds(axes: Axes, bounds: Sequence[Range]) -> None:
    """Draw what is expected, a shade over the range, up to the top where it is open, with its bounds; and the mean."""
    bottom, top = axes.get_ylim()
    for begin, end, low, high, mean in bounds:
        least, most = bottom if low is None else low, top if high is None else high
        axes.fill_between([begin, end], [least] * 2, [most] * 2, color=GREEN, alpha=0.13, linewidth=0, zorder=0.5)
        for edge in (low, high):
            if edge is not None:
                axes.plot([begin, end], [edge, edge], color=GREEN, linewidth=1.2, zorder=4)
        if mean is not None:
            axes.plot([begin, end], [mean, mean], color=RED, linewidth=3.0, zorder=5)


def _draw_lines(
    axes: Axes,
    lines: Sequence[Line],
    level: tuple[str, float] | None,
    thick: Sequence[Line],
    bounds: Sequence[Range],
) -> None:
    """Draw the level and each line, and the key beside them."""
    from matplotlib.lines import Line2D

    drawn = [axes.axhline(level[1], color=_INK, linewidth=1.0, dashes=(4, 3))] if level else []
    labels = [level[0]] if level else []
    strokes = [(line, *stroke, 1.4) for line, stroke in zip(lines, cycle(_STROKES), strict=False)]
    strokes += [(line, *stroke) for line, stroke in zip(thick, _THICK, strict=False)]
    for (label, times, rates), colour, dashes, width in strokes:
        # one sample alone has no extent: a marker shows it
        marker = "o" if len(times) == 1 else ""
        line: Any = {"linestyle": (0, dashes) if dashes else "-", "linewidth": width, "marker": marker}
        drawn += axes.plot(times, rates, color=colour, **line)
        labels.append(fitted(label, _LABEL))
    means = list(dict.fromkeys(f"{mean:.4g}" for *_, mean in bounds if mean is not None))
    if means:
        drawn.append(Line2D([], [], color=RED, linewidth=3.0))
        labels.append(fitted(f"mean {', '.join(means)}", _LABEL))
    for words in dict.fromkeys(_words(low, high) for *_, low, high, _ in bounds):
        drawn.append(Line2D([], [], color=GREEN, linewidth=1.2))
        labels.append(fitted(words, _LABEL))
    size = min(10.0, 150 / len(labels))  # a long key ends within the plot, too
    axes.legend(drawn, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=size, labelspacing=0.45)


def _scaled(bound: float | None) -> float | None:
    return None if bound is None else bound / 1e6


def _words(low: float | None, high: float | None) -> str:
    """Return what is expected, as the key has it."""
    if low is not None and high is not None:
        return f"bound {low:.4g}..{high:.4g}"
    return f"bound ≥ {low:.4g}" if low is not None else f"bound ≤ {high:.4g}" if high is not None else "no bound"


def _alone(svg: str, title: str) -> str:
    """Return the SVG without its document type and metadata (they name outside addresses), shorter, and in pixels."""
    from xml.sax.saxutils import escape

    svg = re.sub(r"<!DOCTYPE[^>]*>\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<path [^>]*?\bd="[^"]*"', _shorter, svg)
    svg = svg.replace(f'width="{WIDTH}pt" height="{HEIGHT}pt"', f'width="{WIDTH}" height="{HEIGHT}" role="img"', 1)
    head, opening, body = svg.partition("<svg ")
    attributes, end, content = body.partition(">\n")
    name = f"<title>{escape(printable(title))}</title>"
    return f"{head}{opening}{attributes}{end} {name}\n{theme.style(content)}{content}"


def _shorter(path: re.Match[str]) -> str:
    return re.sub(r"(\d\.\d)\d+", r"\1", path[0].replace("\n", ""))
