"""The dominance figure (Figure 2 of the paper): norms of gradients and parameters, per group, over training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.curve import Curve, Points, draw_curve
from extract.errors import InputError

COLUMNS = {"step": pa.int64(), "group": pa.string(), "gradient_norm": pa.float64(), "parameter_norm": pa.float64()}
POINTS = 300
"""Most points of a line: of more, equal numbers of neighbours are replaced by their median."""


def draw_dominance(stage: str, path: Path) -> list[Curve]:
    """The figure of one stage's log, three curves: gradient norm, parameter norm, and how far the latter moved.

    Args:
        stage: as people know it.
        path: Parquet with a row per step and group: ``step``, ``group``, ``gradient_norm``, ``parameter_norm``.

    Raises:
        InputError: no such table.
    """
    gradients, parameters = _read(path)
    moved = {group: _moved(points) for group, points in parameters.items()}
    return [
        draw_curve(f"{stage}: gradient norm", _thinned(gradients), logarithmic=True),
        draw_curve(f"{stage}: parameter norm", _thinned(parameters)),
        draw_curve(f"{stage}: parameter norm, change since the start in %", _thinned(moved)),
    ]


def _read(path: Path) -> tuple[dict[str, Points], dict[str, Points]]:
    """Gradient and parameter norms, group to points, groups in order of appearance."""
    try:
        table = pq.read_table(path, columns=list(COLUMNS)).cast(pa.schema(COLUMNS.items()))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(
            path, expected=f"a Parquet table with the columns {', '.join(COLUMNS)}",
            found=str(error).splitlines()[0], remedy="Delete it, or train again: the report is made without it.",
        ) from error  # fmt: skip
    norms: tuple[dict[str, list[tuple[float, float]]], ...] = ({}, {})
    rows = zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True)
    for step, group, *values in rows:
        for found, value in zip(norms, values, strict=True):
            found.setdefault(group, []).append((float(step), np.nan if value is None else value))
    return {**norms[0]}, {**norms[1]}


def _moved(points: Points) -> Points:
    start = points[0][1]
    return [(step, 100 * (value / start - 1) if start else np.nan) for step, value in points]


def _thinned(series: Mapping[str, Points]) -> dict[str, Points]:
    return {label: points if len(points) <= POINTS else _medians(points) for label, points in series.items()}


def _medians(points: Points) -> Points:
    parts = np.array_split(np.asarray(points, np.float64), POINTS)
    return [(float(part[len(part) // 2, 0]), float(np.median(part[:, 1]))) for part in parts]
