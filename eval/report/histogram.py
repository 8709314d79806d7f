"""Histograms as geometry for an inline SVG, in the drawing area of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report.curve import BOTTOM, LEFT, RIGHT, TOP, Tick, place_at, tick_values

BINS = 24


@dataclass(frozen=True)
class Bar:
    """A bin that is not empty, in SVG units."""

    x: float
    y: float
    width: float
    height: float
    count: int
    label: str
    """The numbers of the bin."""


@dataclass(frozen=True)
class Bars:
    """One series."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Histogram:
    """Series of whole numbers over one pair of axes, ready to be drawn."""

    name: str
    series: tuple[Bars, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str
    """The histogram in words, for those who cannot see it."""


def draw_histogram(name: str, series: Mapping[str, Sequence[int]]) -> Histogram | None:
    """Counts of whole numbers in bins of equal, whole width, the series side by side; None without any number."""
    given = {label: np.asarray(values, np.int64) for label, values in series.items() if len(values)}
    if not given:
        return None
    low, high = min(int(v.min()) for v in given.values()), max(int(v.max()) for v in given.values())
    width = -(-(high - low + 1) // BINS)
    edges = np.arange(low, high + width + 1, width)
    counts = {label: np.histogram(values, edges)[0] for label, values in given.items()}
    most = max(int(found.max()) for found in counts.values())
    span, across = (float(edges[0]), float(edges[-1])), (RIGHT - LEFT) / (len(edges) - 1)
    bar = across * 0.92 / len(given)
    drawn = []
    for number, (name_of, found) in enumerate(counts.items()):
        bars = []
        for place, count in enumerate(found.tolist()):
            if count:
                top = place_at(count, (0, most), BOTTOM, TOP)
                left = LEFT + (place + 0.04) * across + number * bar
                first = int(edges[place])
                label = f"{first}" if width == 1 else f"{first}–{first + width - 1}"
                bars.append(Bar(round(left, 1), round(top, 1), round(bar, 2), round(BOTTOM - top, 1), count, label))
        drawn.append(Bars(name_of, tuple(bars)))
    half = across / 2 if width == 1 else 0.0  # a bin of one number is labelled in its middle
    whole = [value for value in tick_values(*span) if value == int(value) and value < span[1]]
    return Histogram(
        name,
        tuple(drawn),
        tuple(Tick(place_at(value, span, LEFT, RIGHT) + half, f"{value:g}") for value in whole),
        tuple(Tick(place_at(v, (0, most), BOTTOM, TOP), f"{v:g}") for v in tick_values(0, most) if v == int(v)),
        "; ".join(
            f"{name}, {label}: {len(values)} clips, shortest {values.min()}, median {np.median(values):g}, "
            f"longest {values.max()}"
            for label, values in given.items()
        ),
    )
