"""Reading features of many clips out of a store's blocks, each clip checked against its digest."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from extract.store import block_arrays, json_records
from extract.store.block_arrays import Reader
from extract.store.json_records import Place

_RUN_BYTES = 2**24
"""Of a run that is read at once: its digests are checked while the next one is read."""
_GAP_BYTES = 2**18
"""Rows between two wanted clips that are read and thrown away rather than asked for twice."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    """Clips that lie close together in one block."""

    group: str
    first: int
    last: int
    """Rows from ``first`` to before ``last``."""
    positions: list[int]
    """Of the clips among those that are asked for."""


def load_places(
    reader: Reader, location: str, names: Sequence[str], places: Sequence[Place], array: NDArray[np.generic]
) -> None:
    """Read every place's rows into ``array``, one after the other.

    Args:
        location: the store's, for messages.
        names: of the clips, for messages.
        array: (sum of lengths, C) in the store's dtype, to be filled.

    Raises:
        InputError: stored bytes are missing or changed.
    """
    offsets = np.cumsum([0, *(place.length for place in places)], dtype=np.int64)
    row_bytes = array.shape[1] * array.itemsize

    def read(run: _Run) -> None:
        rows = reader.rows(f"{run.group}/features", run.first, run.last)
        for i in run.positions:
            start = places[i].start - run.first
            clip = rows[start : start + places[i].length]
            check(location, names[i], clip, places[i], array)
            array[offsets[i] : offsets[i + 1]] = clip

    runs = list(_runs(places, row_bytes))
    if len(runs) <= 1:
        for run in runs:
            read(run)
        return
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(read, runs):
            pass


def check(location: str, name: str, rows: NDArray[np.generic], place: Place, like: NDArray[np.generic]) -> None:
    """
    Raises:
        InputError: other rows than those that were written.
    """
    whole = rows.dtype == like.dtype and rows.shape == (place.length, like.shape[1])
    if not whole or block_arrays.sha256(rows) != place.sha256.hex():
        where = f"{location}/{place.group}/features, clip {name}"
        raise json_records.damaged(where, "other bytes than those of its digest")


def _runs(places: Sequence[Place], row_bytes: int) -> Iterator[_Run]:
    by_group: dict[str, list[int]] = defaultdict(list)
    for position, place in enumerate(places):
        by_group[place.group].append(position)
    for group, positions in by_group.items():
        positions.sort(key=lambda position: places[position].start)
        first = last = places[positions[0]].start
        members: list[int] = []
        for position in positions:
            start, length = places[position].start, places[position].length
            far = (start - last) * row_bytes > _GAP_BYTES or (last - first) * row_bytes >= _RUN_BYTES
            if members and far:
                yield _Run(group, first, last, members)
                first, members = start, []
            members.append(position)
            last = max(last, start + length)
        yield _Run(group, first, last, members)
