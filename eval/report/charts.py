"""Curves, values with intervals and histograms as inline SVG, drawn by matplotlib in the colours of their page."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eval.results.scores import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, RIGHT, BOTTOM, TOP = 340, 16, 26, 10
"""Of a drawing, and its margins beside the plotting area, in pixels. The margin at the left depends on the kind."""
ROW = 30
"""Pixels of a legend's line and of a value's row: half of it, and all of it."""
MARKED, BINS = 40, 24
"""Points of a series that are marked one by one, and bins of a histogram, at most."""
SERIES = [f"#0000f{number}" for number in range(6)]
SOFT, LINE = "#0000e0", "#0000e1"
PAGE = {**{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
        SOFT: "var(--soft)", LINE: "var(--line)"}  # fmt: skip
"""What is drawn in colours that nothing else has gets the page's, so that it is as readable on a dark page."""
STEPS = [1, 2, 5, 10]
"""Between the ticks of an axis, times a power of ten."""
DASHES = ["-", (0, (3, 1.5)), (0, (1, 1.5)), (0, (4.5, 1.5, 1, 1.5)), (0, (6, 2)), (0, (0.5, 2))]
"""Lines differ in them too: colour is not needed."""
STYLE = {
    "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 11, "text.parse_math": False,
    "text.color": SOFT, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT, "xtick.bottom": False, "ytick.left": False,
    "xtick.minor.bottom": False, "ytick.minor.left": False,
    "axes.spines.left": False, "axes.spines.bottom": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": LINE, "grid.linewidth": 1, "lines.linewidth": 2,
    "lines.markersize": 5, "axes.facecolor": "none", "figure.facecolor": "none", "axes.xmargin": 0.01,
    "legend.frameon": False, "legend.borderpad": 0, "legend.borderaxespad": 0.2, "legend.columnspacing": 1.2,
    "legend.handlelength": 1.8, "legend.handletextpad": 0.5, "legend.labelspacing": 0.3,
}  # fmt: skip

Points = Sequence[tuple[float, float]]
"""(step, value) pairs."""


@dataclass(frozen=True)
class Chart:
    """A drawing, ready for the page."""

    name: str
    words: str
    """What it shows, for those who cannot see it."""
    height: float
    """Pixels, at a width of ``WIDTH``."""
    svg: str
    """What stands inside the ``svg`` element."""


class Value(NamedTuple):
    """One measured value, its interval where it has one, and of how many clips or words."""

    label: str
    value: float
    interval: Interval | None = None
    n: int | None = None


def draw_curve(name: str, series: Mapping[str, Points], logarithmic: bool = False) -> Chart:
    """Series in one plotting area; a value that has no place, such as NaN, or 0 on a logarithmic axis, interrupts it.

    Args:
        series: label to points.
        logarithmic: of the values' axis.
    """
    lines: dict[str, np.ndarray] = {}
    for label, points in series.items():
        line = np.asarray(points, np.float64).reshape(-1, 2)
        usable = np.isfinite(line).all(1) & ((line[:, 1] > 0) | (not logarithmic))
        lines[label] = np.where(usable[:, None], line, np.nan)
    found = {label: line[np.isfinite(line[:, 1]), 1] for label, line in lines.items()}

    def draw(axes: Axes) -> list[Any]:
        from matplotlib.ticker import LogLocator, MaxNLocator

        drawn = [
            axes.plot(*line.T, color=SERIES[number % 6], linestyle=DASHES[(number + number // 6) % 6],
                      marker="o" if len(line) <= MARKED else "")[0]
            for number, line in enumerate(lines.values())
        ]  # fmt: skip
        if not any(map(len, found.values())):
            axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
            axes.set_axis_off()
            return drawn
        if logarithmic:
            axes.set_yscale("log")
        low, high = axes.get_ylim()
        powers = logarithmic and high > 20 * low  # within a narrow span, whatever is round
        axes.yaxis.set_major_locator(LogLocator(numticks=6) if powers else MaxNLocator(6, steps=STEPS))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        axes.grid(axis="x", visible=False)
        return drawn

    words = [
        f"{name if len(found) == 1 else f'{name}, {label}'}: "
        + (f"{len(lines[label])} points, first {values[0]:.4g}, last {values[-1]:.4g}, lowest {values.min():.4g}, "
           f"highest {values.max():.4g}" if len(values) else "no values")
        for label, values in found.items()
    ]  # fmt: skip
    return _chart(name, "; ".join(words), 200, 52, draw, list(series))


def draw_dots(name: str, values: Sequence[Value]) -> Chart | None:
    """Rows from top to bottom in the order given, a dot and a bar each; None without any finite value."""
    values = [value for value in values if np.isfinite(value.value)]
    if not values:
        return None

    def draw(axes: Axes) -> list[Any]:
        for place, (_, value, interval, _) in enumerate(values):
            if interval:
                axes.plot([interval.low, interval.high], [place, place], color=SERIES[0], solid_capstyle="butt")
            axes.plot(value, place, "o", color=SERIES[0], markersize=8)
        lines = [
            [_short(label, 17), f"n = {n:,}"] if n is not None
            else textwrap.wrap(_short(label, 99), 17, max_lines=2, placeholder="…")
            for label, *_, n in values
        ]  # fmt: skip
        axes.set_yticks(range(len(values)), map("\n".join, lines), fontsize=10.5, linespacing=1)
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.margins(x=0.03)
        axes.set_xlim(left=min(0, axes.get_xlim()[0]), right=None if axes.get_xlim()[1] > 0.1 else 1)
        axes.grid(axis="y", visible=False)
        return []

    words = [
        f"{label} {value:.1f}"
        + (f" ({interval.low:.1f} to {interval.high:.1f})" if interval else "")
        + ("" if n is None else f", n {n}")
        for label, value, interval, n in values
    ]
    return _chart(name, f"{name}: {'; '.join(words)}", TOP + BOTTOM + ROW * len(values), 118, draw)


def draw_histogram(name: str, series: Mapping[str, Sequence[int]]) -> Chart | None:
    """Counts of whole numbers in bins of equal, whole width, the series side by side; None without any number."""
    given = {label: np.asarray(values, np.int64) for label, values in series.items() if len(values)}
    if not given:
        return None
    low, high = min(values.min() for values in given.values()), max(values.max() for values in given.values())
    width = -(-(high - low + 1) // BINS)
    edges = np.arange(low, high + width + 1, width) - 0.5

    def draw(axes: Axes) -> list[Any]:
        from matplotlib.ticker import MaxNLocator

        bar = width * 0.92 / len(given)
        drawn = []
        for number, values in enumerate(given.values()):
            counts, _ = np.histogram(values, edges)
            places = edges[:-1][counts > 0] + (number + 0.5) * bar + 0.04 * width
            drawn.append(axes.bar(places, counts[counts > 0], bar, color="none" if number else SERIES[0],
                                  edgecolor=SERIES[number], linewidth=1.5 if number else 0))  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
        axes.grid(axis="x", visible=False)
        return drawn

    words = [
        f"{name}, {label}: {len(values)} clips, shortest {values.min()}, median {np.median(values):g}, "
        f"longest {values.max()}"
        for label, values in given.items()
    ]
    return _chart(name, "; ".join(words), 200, 52, draw, list(given))


def _chart(
    name: str, words: str, height: float, left: float, draw: Callable[[Axes], list[Any]], labels: Sequence[str] = ()
) -> Chart:
    import matplotlib.style
    from matplotlib.figure import Figure

    columns = max(1, WIDTH // (45 + 7 * min(40, max(map(len, labels), default=0))))
    top = TOP + (ROW / 2 * -(-len(labels) // columns) if len(labels) > 1 else 0)
    height += top - TOP
    file = io.StringIO()
    with matplotlib.style.context(["default", STYLE, {"svg.hashsalt": ascii(name)}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has other fonts
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        axes = figure.add_axes((left / WIDTH, BOTTOM / height, 1 - (left + RIGHT) / WIDTH, 1 - (top + BOTTOM) / height))
        drawn = draw(axes)
        for axis in (axes.xaxis, axes.yaxis) if len(labels) else (axes.xaxis,):
            axis.set_major_formatter("{x:g}")
        if len(labels) > 1:
            figure.legend(drawn, [_short(label, 40) for label in labels], loc="upper left", ncols=columns)
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<g id=") : svg.rindex("</g>") + len("</g>")]  # without head, style sheet and clip paths
    svg = re.sub(r'(?<=<g) id="[^"]*"| clip-path="[^"]*"| transform="rotate\(-0 [^"]*"| font-family: [^;]*;', "", svg)
    svg = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(?<=\.\d)\d+", "", path[0]), svg)  # to tenths of a pixel
    svg = re.sub(r"(?<=: )#0000[ef]\d", lambda colour: PAGE[colour[0]], svg)
    return Chart(name, words, height, svg)


def _short(label: str, most: int) -> str:
    """A label in as many characters, which can be encoded."""
    label = " ".join(label.encode(errors="replace").decode().split())
    return label if len(label) <= most else f"{label[: most - 1]}…"
