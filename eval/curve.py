"""Training curves as geometry for an inline SVG: no script, and the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 340.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 328.0, 14.0, 172.0
"""The plotting area inside the drawing, in SVG units; what is outside it holds the labels of the ticks."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in SVG units from the left or the top."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """One series of (step, value), ready to be drawn."""

    name: str
    path: str
    """SVG path data; a value that is not finite interrupts the line. Empty where nothing can be drawn."""
    dots: tuple[tuple[float, float], ...]
    """Points to be marked one by one, in SVG units: all of a short series, none of a long one."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str
    """The curve in words, for those who cannot see it."""


def draw_curve(name: str, points: Sequence[tuple[float, float]]) -> Curve:
    """Lay out a series of (step, value) in the plotting area."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return Curve(name, "", (), (), (), f"{name}: no values")
    x_range, y_range = _range([x for x, _ in finite]), _range([y for _, y in finite])
    commands: list[str] = []
    dots: list[tuple[float, float]] = []
    pen = "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        across, down = _place(x, x_range, LEFT, RIGHT), _place(y, y_range, BOTTOM, TOP)
        commands.append(f"{pen}{across:.1f} {down:.1f}")
        dots.append((round(across, 1), round(down, 1)))
        pen = "L"
    values = [y for _, y in finite]
    return Curve(
        name=name,
        path="".join(commands),
        dots=tuple(dots) if len(dots) <= 40 else (),
        x_ticks=tuple(Tick(_place(x, x_range, LEFT, RIGHT), f"{x:g}") for x in _tick_values(*x_range)),
        y_ticks=tuple(Tick(_place(y, y_range, BOTTOM, TOP), f"{y:g}") for y in _tick_values(*y_range)),
        summary=f"{name}: {len(points)} points, first {values[0]:.4g}, last {values[-1]:.4g}, "
        f"lowest {min(values):.4g}, highest {max(values):.4g}",
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value, held apart where they coincide."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    return low, high


def _place(value: float, span: tuple[float, float], start: float, end: float) -> float:
    low, high = span
    return start + (value - low) / (high - low) * (end - start)


def _tick_values(low: float, high: float) -> list[float]:
    """Two to six round values in low..high, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    # Rounding takes the noise off a product such as 3 * 0.1, which would show in the label.
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]
