"""Features that stand for perfect sight: of each gloss a vector that depends on its name alone, under noise."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import SPLITS, Clip
from extract.decoding.sampling import sampled
from extract.errors import InputError
from extract.fingerprint import digest
from extract.store.feature_store import FeatureStore
from pipeline.experiment.config import Experiment

COLUMNS = ("id", "split", "frames", "gloss", "text")
LANGUAGE = "de_DE"
NOISE = 0.5
"""Standard deviation, of vectors whose own is one."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A clip of the table."""

    clip: Clip
    glosses: tuple[str, ...]


def read_table(path: Path) -> list[Row]:
    """
    Raises:
        InputError: no such table, or a row that is not like the others.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise InputError(path, expected="a table", found=error.strerror or "none", remedy="Check the path.") from error
    rows = []
    for number, line in enumerate(lines, start=2):
        if None in line.values() or not set(COLUMNS) <= set(line) or not line["frames"].isdigit():
            raise InputError(f"{path}, row {number}", expected=f"{', '.join(COLUMNS)}, separated by tabs",
                             found=", ".join(map(str, line.values())), remedy="Mend the table.")  # fmt: skip
        clip = Clip(line["id"], line["split"], "", int(line["frames"]), 25.0, line["text"], LANGUAGE)
        rows.append(Row(clip, tuple(line["gloss"].split())))
    absent = set(SPLITS) - {row.clip.split for row in rows}
    if absent:
        raise InputError(path, expected="clips of train, dev and test", found=f"none of {', '.join(sorted(absent))}",
                         remedy="Give the whole table.")  # fmt: skip
    return rows


def vector(name: str, width: int) -> NDArray[np.float32]:
    """(width,) of a gloss, from its name alone."""
    return np.random.default_rng(int(digest(name)[:16], 16)).standard_normal(width, np.float32)


def sight(row: Row, keep_every: int, width: int) -> NDArray[np.float32]:
    """(steps, width) features of a clip; one without glosses is noise."""
    steps = len(sampled(row.clip.n_frames, keep_every))
    features = np.random.default_rng(int(digest(row.clip.id)[:16], 16)).standard_normal((steps, width), np.float32)
    features *= NOISE
    if row.glosses:
        signs = np.stack([vector(name, width) for name in row.glosses])
        features += signs[np.arange(steps) * len(signs) // steps]
    return features


def write_stores(rows: Sequence[Row], experiment: Experiment, folder: Path) -> dict[str, FeatureStore]:
    """A feature store for each split; made once."""
    width, dtype, keep_every = experiment.encoder.width, experiment.extract.dtype, experiment.frames.keep_every
    made = {"made by": "gloss oracle", "noise": NOISE, "keep_every": keep_every, "table": digest([*map(repr, rows)])}
    stores = {}
    for split in SPLITS:
        path = folder / f"{split}.zarr"
        store = FeatureStore.create(path, made, width, dtype)
        clips = [row for row in rows if row.clip.split == split]
        if not len(store):
            store.write_block(split, [(row.clip.id, sight(row, keep_every, width).astype(dtype)) for row in clips])
        stores[split] = FeatureStore.open(path)
    return stores
