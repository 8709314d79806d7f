"""The clip index: one Parquet file that says which clips a dataset has, where they lie and what they mean."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extract.atomic_write import replacing
from extract.errors import InputError
from extract.key_set import KeySet, key

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
        pa.field("counted", pa.bool_(), nullable=False),
        pa.field("files", pa.string()),
    ],
    metadata={"schema": "fla-slt clip index 3"},
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
    counted: bool = False
    """Whether ``n_frames`` was counted: images in a folder, or frames of a video that was decoded to its end. Otherwise
    it is an estimate, from what the container or the annotations state and from the clip's times."""
    files: str | None = None
    """What identifies the source's files: a digest of their names, sizes and dates; None where they were not looked
    at."""


_COLUMNS = [field.name for field in dataclasses.fields(Clip)]
_BATCH = 4096
"""Clips that are read together."""
_GROUP = 65536
"""Clips that are written together: a row group of the file."""


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
        """Reads lazily, some thousand clips at a time, and of a split only the row groups that may have it."""
        groups = [group for group, (least, most) in enumerate(self._bounds()) if self._within(least, most)]
        for batch in self._batches([*_COLUMNS, "split"], groups):
            if self.split is not None:
                batch = batch.filter(pc.equal(batch["split"], self.split))
            for row in zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True):
                yield Clip(*row)

    def __len__(self) -> int:
        """Counted from the metadata, and from the column where a row group has clips of several splits."""
        if self.split is None:
            return int(self._file.metadata.num_rows)
        total, mixed = 0, []
        for group, (least, most) in enumerate(self._bounds()):
            if least is not None and least == most == self.split:
                total += self._file.metadata.row_group(group).num_rows
            elif self._within(least, most):
                mixed.append(group)
        for batch in self._batches(["split"], mixed):
            total += pc.sum(pc.equal(batch["split"], self.split)).as_py() or 0
        return total

    def digest(self) -> str:
        """SHA-256 of its clips in their order: of a split, the same whatever the other splits hold, and whatever dates
        the files have (``files_digest``)."""
        return self._digest([name for name in _COLUMNS if name != "files"])

    def files_digest(self) -> str:
        """SHA-256 of what identifies its clips' files."""
        return self._digest(["id", "files"])

    def _digest(self, columns: list[str]) -> str:
        total = hashlib.sha256()
        for clip in self:
            total.update(json.dumps([getattr(clip, name) for name in columns]).encode() + b"\n")
        return total.hexdigest()

    def _batches(self, columns: list[str], groups: Iterable[int]) -> Iterator[pa.RecordBatch]:
        """
        Raises:
            InputError: the file is damaged.
        """
        try:
            yield from self._file.iter_batches(_BATCH, row_groups=list(groups), columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                self.path, expected="a Parquet file as it was written", found=str(error).splitlines()[0],
                remedy="Delete it and run `slt index` again.",
            ) from error  # fmt: skip

    def _bounds(self) -> Iterator[tuple[str | None, str | None]]:
        """The least and the greatest split of each row group; None where it does not say."""
        column = SCHEMA.get_field_index("split")
        for group in range(self._file.metadata.num_row_groups):
            statistics = self._file.metadata.row_group(group).column(column).statistics
            told = statistics is not None and statistics.has_min_max
            yield (statistics.min, statistics.max) if told else (None, None)

    def _within(self, least: str | None, most: str | None) -> bool:
        return self.split is None or least is None or most is None or least <= self.split <= most

    def filled(self) -> ClipIndex:
        """This index itself.

        Raises:
            InputError: the split has no clip.
        """
        if not len(self):
            groups = range(self._file.metadata.num_row_groups)
            splits = (batch["split"].unique().to_pylist() for batch in self._batches(["split"], groups))
            present = sorted(set().union(*splits))
            raise InputError(
                self.path, expected=f"clips in split {self.split!r}", found="none",
                remedy=f"Splits in this index: {', '.join(present) or 'none'}.",
            )  # fmt: skip
        return self

    def clips(self) -> list[Clip]:
        """All clips, in memory. Errors as ``filled``."""
        return list(self.filled())


def write_index(
    path: str | os.PathLike[str],
    clips: Iterable[Clip],
    about: Mapping[str, Any] | None = None,
    where: object = None,
) -> Path:
    """Write clips to ``path`` atomically: a reader sees the old file or the whole new one.

    They are read once, and a row group of them is in memory at a time.

    Args:
        about: the dataset, as plain JSON values; kept in the file's metadata.
        where: what holds the clips, for messages; default: ``path``.

    Raises:
        InputError: two clips share an id.
    """
    path = Path(path)
    known = json.dumps(about or {}, sort_keys=True, ensure_ascii=False)
    schema = SCHEMA.with_metadata({**SCHEMA.metadata, b"dataset": known.encode()})
    seen, repeated, example = KeySet(), KeySet(), ""
    with replacing(path) as new:
        with pq.ParquetWriter(new, schema) as writer:
            remaining = iter(clips)
            while rows := list(islice(remaining, _GROUP)):
                keys = [key(clip.id) for clip in rows]
                again = [not fresh for fresh in seen.add(keys)]
                if any(again) and not len(repeated):
                    example = next(compress(rows, again)).id
                repeated.add(list(compress(keys, again)))
                columns = [pa.array([getattr(clip, field.name) for clip in rows], field.type) for field in SCHEMA]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        if len(repeated):
            raise InputError(
                where or path, expected="every clip id once",
                found=f"{example!r} and {len(repeated) - 1} more repeated",
                remedy="Remove the duplicate rows from the annotation file.",
            )  # fmt: skip
    return path
