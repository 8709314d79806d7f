"""The clip index: one Parquet file that says which clips a dataset has, where they lie and what they mean."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from extract.errors import InputError

SPLITS = ("train", "dev", "test")

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("n_frames", pa.int64(), nullable=False),
        pa.field("fps", pa.float64(), nullable=False),
        pa.field("signer", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
    ],
    metadata={"schema": "fla-slt clip index 1"},
)


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """One row of the index: a clip and its sentence."""

    id: str
    split: str
    source: str
    """Frame folder or video file, relative to the dataset's root, with forward slashes."""
    n_frames: int
    """Frames on disk before sampling; 0 when unknown or unreadable. Never trusted for allocation."""
    fps: float
    text: str
    language: str
    """mBART code of the text, e.g. ``de_DE``."""
    signer: str | None = None
    start: float | None = None
    end: float | None = None
    """Seconds within ``source`` when the clip is a part of a recording."""
    problem: str | None = None
    """Why the clip cannot be read, ``kind: detail``, found while indexing; None when nothing was found."""


class ClipIndex:
    """The clips of one split, or of all, in the order of the annotation files."""

    def __init__(self, path: str | os.PathLike[str], split: str | None = None) -> None:
        self.path = Path(path)
        self.split = split
        if not self.path.is_file():
            raise InputError(self.path, expected="a clip index", found="no such file", remedy="Run `slt index` first.")
        try:
            file = pq.ParquetFile(self.path)
        except pa.ArrowInvalid as error:
            raise InputError(
                self.path, expected="a Parquet file", found=str(error).splitlines()[0],
                remedy="Delete it and run `slt index` again.",
            ) from error  # fmt: skip
        if not file.schema_arrow.equals(SCHEMA):
            raise InputError(
                self.path, expected=f"columns {SCHEMA.names}", found=f"{file.schema_arrow.names}",
                remedy="It was written by another version: run `slt index` again.",
            )  # fmt: skip
        self._file = file

    @property
    def about(self) -> dict[str, Any]:
        """The dataset as the manifest declared it when the index was written: adapter, language, text convention."""
        found: dict[str, Any] = json.loads((self._file.schema_arrow.metadata or {}).get(b"dataset", b"{}"))
        return found

    def __iter__(self) -> Iterator[Clip]:
        """Reads lazily, one row group at a time."""
        for batch in self._file.iter_batches():
            for row in batch.to_pylist():
                if self.split is None or row["split"] == self.split:
                    yield Clip(**row)

    def __len__(self) -> int:
        if self.split is None:
            return int(self._file.metadata.num_rows)
        return sum(1 for clip in self if clip.split == self.split)

    def clips(self) -> list[Clip]:
        """All clips, in memory.

        Raises:
            InputError: the split has no clip.
        """
        found = list(self)
        if not found:
            present = sorted({clip.split for clip in ClipIndex(self.path)})
            raise InputError(
                self.path, expected=f"clips in split {self.split!r}", found="none",
                remedy=f"Splits in this index: {', '.join(present) or 'none'}.",
            )  # fmt: skip
        return found


def write_index(path: str | os.PathLike[str], clips: Iterable[Clip], about: Mapping[str, Any] | None = None) -> Path:
    """Write clips to ``path`` atomically: a reader sees the old file or the whole new one.

    Args:
        about: the dataset, as plain JSON values; kept in the file's metadata.

    Raises:
        InputError: two clips share an id.
    """
    rows = [dataclasses.asdict(clip) for clip in clips]
    repeated = [id for id, times in Counter(row["id"] for row in rows).items() if times > 1]
    if repeated:
        raise InputError(
            path, expected="every clip id once", found=f"{repeated[0]!r} and {len(repeated) - 1} more repeated",
            remedy="Remove the duplicate rows from the annotation file.",
        )  # fmt: skip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    known = json.dumps(about or {}, sort_keys=True, ensure_ascii=False)
    schema = SCHEMA.with_metadata({**SCHEMA.metadata, b"dataset": known.encode()})
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial, row_group_size=65536)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
