"""Values with intervals as geometry for an inline SVG: a row with a dot and a bar for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval.report.curve import Tick, place_at, tick_values
from eval.results.scores import Interval

WIDTH, LEFT, RIGHT, TOP, ROW = 340.0, 118.0, 328.0, 10.0, 24.0
"""Of the drawing and of its plotting area, in SVG units; left of it stand the labels, below it the ticks."""


@dataclass(frozen=True)
class Value:
    """One measured value, its interval where it has one, and of how many clips or words."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """A value in its place, in SVG units."""

    label: str
    n: str
    down: float
    at: float
    low: float
    high: float
    """Ends of the bar; where there is no interval, the place of the dot."""


@dataclass(frozen=True)
class Dots:
    """Rows over one axis, ready to be drawn."""

    name: str
    rows: tuple[Row, ...]
    x_ticks: tuple[Tick, ...]
    height: float
    bottom: float
    """Where the rows end."""
    summary: str
    """The drawing in words, for those who cannot see it."""


def draw_dots(name: str, values: Sequence[Value]) -> Dots | None:
    """Rows from top to bottom in the order given; None without any finite value."""
    values = [value for value in values if math.isfinite(value.value)]
    if not values:
        return None
    ends = [end for value in values for end in (value.value, value.low, value.high) if end is not None]
    low, high = min(0.0, *ends), max(ends)
    span = (low, high if high > low else low + 1)
    bottom = TOP + ROW * len(values)

    def at(value: float) -> float:
        return round(place_at(value, span, LEFT, RIGHT), 1)

    rows = [
        Row(
            value.label,
            f"n = {value.n:,}" if value.n is not None else "",
            TOP + ROW * (place + 0.5),
            at(value.value),
            at(value.value if value.low is None else value.low),
            at(value.value if value.high is None else value.high),
        )
        for place, value in enumerate(values)
    ]
    ticks = tuple(Tick(at(value), f"{value:g}") for value in tick_values(*span))
    return Dots(name, tuple(rows), ticks, bottom + 26, bottom, f"{name}: {'; '.join(map(_in_words, values))}")


def value_of(label: str, value: float, interval: Interval | None, n: int | None = None) -> Value:
    """A score with its interval, where it has one."""
    return Value(label, value, n=n) if interval is None else Value(label, value, interval.low, interval.high, n)


def _in_words(value: Value) -> str:
    said = f"{value.label} {value.value:.1f}"
    if value.low is not None and value.high is not None:
        said += f" ({value.low:.1f} to {value.high:.1f})"
    return said + (f", n {value.n}" if value.n is not None else "")
