"""The dominance figure (Figure 2 of the paper): norms of gradients and parameters, per group, over training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.report.charts import Chart, Points, draw_curve
from extract.errors import InputError

COLUMNS = {"step": pa.int64(), "group": pa.string(), "gradient_norm": pa.float64(), "parameter_norm": pa.float64()}
UPDATES = "update_ratio"
"""A column that may be there besides: the norm of a step's change over the norm before it."""
LAST = ".last"
"""End of the groups that the paper's figure compares: the last layers of encoder and language model."""
POINTS = 300
"""Most points of a line: of more, equal numbers of neighbours are replaced by their median."""

Norms = dict[str, dict[str, list[tuple[float, float]]]]
"""Column to group to points, groups in order of appearance."""


def draw_dominance(stage: str, path: Path) -> list[Chart]:
    """The figure of one stage's log: gradient norms, parameter norms, how far these moved and, where it was measured,
    the size of updates; first of the last layers, as in the paper, then of all other groups.

    Args:
        stage: as people know it.
        path: Parquet with a row per step and group: ``step``, ``group``, ``gradient_norm``, ``parameter_norm``, and
            ``update_ratio`` or not; null where something was not measured.

    Raises:
        InputError: no such table.
    """
    norms = _read(path)
    groups = list(norms["gradient_norm"])
    last = [group for group in groups if group.endswith(LAST)]
    drawn: list[Chart] = []
    for part, chosen in (("last layers", last), ("groups", [group for group in groups if group not in last])):
        if not chosen:
            continue
        of = {column: {group: found[group] for group in chosen} for column, found in norms.items()}
        moved = {group: _moved(points) for group, points in of["parameter_norm"].items()}
        name = f"{stage}, {part}"
        drawn += [
            draw_curve(f"{name}: gradient norm", _thinned(of["gradient_norm"]), logarithmic=True),
            draw_curve(f"{name}: parameter norm", _thinned(of["parameter_norm"])),
            draw_curve(f"{name}: parameter norm, change since the start in %", _thinned(moved)),
        ]
        if UPDATES in of:
            updates = {
                group: [point for point in points if not np.isnan(point[1])] for group, points in of[UPDATES].items()
            }
            drawn.append(draw_curve(f"{name}: update over parameter norm", _thinned(updates), logarithmic=True))
    return drawn


def _read(path: Path) -> Norms:
    try:
        columns = {**COLUMNS, **({UPDATES: pa.float64()} if UPDATES in pq.read_schema(path).names else {})}
        table = pq.read_table(path, columns=list(columns)).cast(pa.schema(columns.items()))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(
            path, expected=f"a Parquet table with the columns {', '.join(COLUMNS)}",
            found=str(error).splitlines()[0], remedy="Delete it, or train again: the report is made without it.",
        ) from error  # fmt: skip
    steps, groups = table.column("step").to_pylist(), table.column("group").to_pylist()
    norms: Norms = {}
    for column in list(columns)[2:]:
        found: dict[str, list[tuple[float, float]]] = {}
        for step, group, value in zip(steps, groups, table.column(column).to_pylist(), strict=True):
            found.setdefault(group, []).append((float(step), float("nan") if value is None else value))
        norms[column] = found
    return norms


def _moved(points: Points) -> Points:
    start = points[0][1]
    return [(step, 100 * (value / start - 1) if start else np.nan) for step, value in points]


def _thinned(series: Mapping[str, Points]) -> dict[str, Points]:
    return {label: points if len(points) <= POINTS else _medians(points) for label, points in series.items()}


def _medians(points: Points) -> Points:
    measured = [point for point in points if not np.isnan(point[1])]
    parts = [part for part in np.array_split(np.asarray(measured, np.float64).reshape(-1, 2), POINTS) if len(part)]
    return [(float(part[len(part) // 2, 0]), float(np.median(part[:, 1]))) for part in parts]
