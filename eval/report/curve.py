"""Curves as geometry for an inline SVG: no script, and the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 340.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 328.0, 14.0, 172.0
"""The plotting area inside the drawing, in SVG units; what is outside it holds the labels of the ticks."""
MARKED = 40
"""Points of a series that are marked one by one, at most."""

Points = Sequence[tuple[float, float]]
"""(step, value) pairs."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in SVG units from the left or the top."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One series."""

    label: str
    path: str
    """SVG path data; a value that is not finite interrupts the line. Empty where nothing can be drawn."""
    dots: tuple[tuple[float, float], ...]
    """Points to be marked one by one, in SVG units: all of a short series, none of a long one."""


@dataclass(frozen=True)
class Curve:
    """Series over one pair of axes, ready to be drawn."""

    name: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str
    """The curve in words, for those who cannot see it."""


def draw_curve(name: str, series: Mapping[str, Points], logarithmic: bool = False) -> Curve:
    """Lay out series in one plotting area.

    Args:
        series: label to points.
        logarithmic: values on a logarithmic axis, where those up to 0 have no place.
    """
    usable = {
        label: [(x, y if math.isfinite(x) and math.isfinite(y) and (y > 0 or not logarithmic) else None)
                for x, y in points]
        for label, points in series.items()
    }  # fmt: skip
    finite = {label: [(x, y) for x, y in points if y is not None] for label, points in usable.items()}
    everything = [point for points in finite.values() for point in points]
    if not everything:
        return Curve(name, tuple(Line(label, "", ()) for label in series), (), (), f"{name}: no values")
    x_range, y_range = _range([x for x, _ in everything]), _range([_scaled(y, logarithmic) for _, y in everything])
    if logarithmic and y_range[1] - y_range[0] < 0.01:  # ticks would be alike to many digits
        y_range = y_range[0] - 0.1, y_range[1] + 0.1
    lines = []
    for label, points in usable.items():
        commands: list[str] = []
        dots: list[tuple[float, float]] = []
        pen = "M"
        for x, y in points:
            if y is None:
                pen = "M"
                continue
            across, down = place_at(x, x_range, LEFT, RIGHT), place_at(_scaled(y, logarithmic), y_range, BOTTOM, TOP)
            commands.append(f"{pen}{across:.1f} {down:.1f}")
            dots.append((round(across, 1), round(down, 1)))
            pen = "L"
        lines.append(Line(label, "".join(commands), tuple(dots) if len(dots) <= MARKED else ()))
    ticks = _powers(*y_range) if logarithmic else [(value, f"{value:g}") for value in tick_values(*y_range)]
    return Curve(
        name=name,
        lines=tuple(lines),
        x_ticks=tuple(Tick(place_at(x, x_range, LEFT, RIGHT), f"{x:g}") for x in tick_values(*x_range)),
        y_ticks=tuple(Tick(place_at(y, y_range, BOTTOM, TOP), label) for y, label in ticks),
        summary="; ".join(
            _in_words(name if len(series) == 1 else f"{name}, {label}", [y for _, y in points], len(series[label]))
            for label, points in finite.items()
        ),
    )


def _in_words(name: str, values: Sequence[float], number: int) -> str:
    if not values:
        return f"{name}: no values"
    return (
        f"{name}: {number} points, first {values[0]:.4g}, last {values[-1]:.4g}, "
        f"lowest {min(values):.4g}, highest {max(values):.4g}"
    )


def _scaled(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value, held apart where they coincide."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = abs(low) * 0.1
        return (low - margin, high + margin) if margin else (0.0, 1.0)
    return low, high


def place_at(value: float, span: tuple[float, float], start: float, end: float) -> float:
    """Where a value of a span lies between two ends of an axis."""
    low, high = span
    return start + (value - low) / (high - low) * (end - start)


def tick_values(low: float, high: float) -> list[float]:
    """Two to six round values in low..high, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    # Rounding takes the noise off a product such as 3 * 0.1, which would show in the label.
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _powers(low: float, high: float) -> list[tuple[float, str]]:
    """Exponents in low..high with their labels: whole powers of ten, or within a narrow span whatever is round."""
    first, last = math.ceil(low), math.floor(high)
    if last - first >= 1:
        step = max(1, math.ceil((last - first) / 5))
        return [(float(exponent), f"{10.0**exponent:g}") for exponent in range(first, last + 1, step)]
    return [(math.log10(value), f"{value:g}") for value in tick_values(10.0**low, 10.0**high) if value > 0]
