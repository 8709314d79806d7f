"""People's own data: videos or frame folders below a root, and a table that says what they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from extract.dataset.annotations import Ids, InsidePath, inside, read_text, require_once, seconds
from extract.dataset.clip_index import SPLITS, Clip
from extract.dataset.index_remarks import Remark
from extract.errors import InputError, suggestion
from extract.settings import Settings
from extract.strict_json import strict_json

_REMEDY = "Set options.file of the dataset to the name of the table below its root."


class ColumnNames(Settings):
    """What the table calls them."""

    id: str = "id"
    path: str = "path"
    """Video file or frame folder, relative to the root, with forward slashes."""
    text: str = "text"
    start: str = "start"
    """Optional, as all that follow: seconds within the video."""
    end: str = "end"
    signer: str = "signer"
    split: str = "split"
    """train, dev or test; not needed when each split has a file of its own."""


class FolderOptions(Settings):
    """The table of a dataset."""

    file: InsidePath = "clips.csv"
    """``.csv``, ``.tsv`` or ``.jsonl``; with ``{split}`` in its name, one file per split."""
    columns: ColumnNames = ColumnNames()
    quotes: bool | None = Field(None, description="whether fields may stand in quotation marks; default: in csv files")

    @model_validator(mode="after")
    def _known_format(self) -> FolderOptions:
        if Path(self.file).suffix.lower() not in (".csv", ".tsv", ".jsonl"):
            raise ValueError(f"file must end in .csv, .tsv or .jsonl, found {self.file}")
        return self

    @property
    def format(self) -> Literal["csv", "tsv", "jsonl"]:
        return Path(self.file).suffix.lower()[1:]  # type: ignore[return-value]  # validated above


class Folder:
    """A table with id, path and text of each clip; and start, end, signer and split where there are such columns."""

    Options = FolderOptions

    def __init__(self, root: Path, language: str, fps: float, options: FolderOptions | None = None) -> None:
        self.root, self.language, self.fps = root, language, fps
        self.options = options or FolderOptions.model_validate({})
        self.remarks: list[Remark] = []

    def annotation_files(self, split: str) -> list[Path]:
        return [self.root / self.options.file.replace("{split}", split)]

    def clips(self, split: str) -> Iterator[Clip]:
        (path,) = self.annotation_files(split)
        names, ids = self.options.columns, Ids(path)
        own_file = "{split}" in self.options.file
        for where, row in _rows(path, self.options) if own_file else self._shared:
            if not own_file:
                found = _field(where, row, names.split, path)
                if found not in SPLITS:
                    raise InputError(where, expected="split train, dev or test", found=repr(found)[:80],
                                     remedy=f"Mend the row in {path}.")  # fmt: skip
                if found != split:
                    continue
            start, end = self._times(where, row, path)
            id = _field(where, row, names.id, path)
            ids.add(id, where)
            yield Clip(
                id=id, split=split, source=self._source(where, row, path), n_frames=0, fps=self.fps,
                text=_field(where, row, names.text, path), language=self.language,
                signer=_word(where, row, names.signer, path), start=start, end=end,
            )  # fmt: skip

    @cached_property
    def _shared(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The rows of the one table of all splits."""
        return _rows(self.root / self.options.file, self.options)

    def _source(self, where: str, row: Mapping[str, Any], path: Path) -> str:
        given = _field(where, row, self.options.columns.path, path)
        try:
            return inside(given)
        except ValueError:
            remedy = f"Write it relative to {self.root}, or set the root higher up."
            raise InputError(where, expected="a path below the dataset's root", found=repr(given)[:80],
                             remedy=remedy) from None  # fmt: skip

    def _times(self, where: str, row: Mapping[str, Any], path: Path) -> tuple[float | None, float | None]:
        names = self.options.columns
        start, end = (
            None if (value := _optional(row, name)) is None else seconds(where, name, value, path)
            for name in (names.start, names.end)
        )
        if (start or 0) < 0 or (end is not None and end <= (start or 0)):
            raise InputError(where, expected="0 <= start < end", found=f"{start} to {end}",
                             remedy=f"Mend the row in {path}.")  # fmt: skip
        if (start, end) != (None, None) and (self.root / self._source(where, row, path)).is_dir():
            raise InputError(where, expected="start and end of video files only", found="those of a frame folder",
                             remedy="Put the clip's frames into a folder of their own.")  # fmt: skip
        return start, end


def _rows(path: Path, options: FolderOptions) -> list[tuple[str, Mapping[str, Any]]]:
    """Where each row stands, for messages, and its fields by name."""
    text = read_text(path, _REMEDY)
    names = options.columns
    needed = [names.id, names.path, names.text, *([] if "{split}" in options.file else [names.split])]
    if options.format == "jsonl":
        return list(_json_rows(path, text, needed))
    quoted = options.quotes if options.quotes is not None else options.format == "csv"
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="," if options.format == "csv" else "\t",
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True,
    )  # fmt: skip
    found: list[tuple[str, Mapping[str, Any]]] = []
    header: list[str] | None = None
    try:
        for row in reader:
            where = f"{path.name}, row {reader.line_num}"
            if header is None:
                header = row
                _require_columns(where, needed, header, path)
                require_once(where, header, path)
            elif len(row) != len(header) and row:
                raise InputError(where, expected=f"{len(header)} fields", found=f"{len(row)}",
                                 remedy=f"Mend the row in {path}.")  # fmt: skip
            elif row:
                found.append((where, dict(zip(header, row, strict=True))))
    except csv.Error as error:
        remedy = f"Mend the row in {path}, or set options.quotes of the dataset."
        raise InputError(f"{path.name}, row {reader.line_num}", expected=f"a row of {options.format}",
                         found=str(error), remedy=remedy) from error  # fmt: skip
    if header is None:
        raise InputError(path, expected=f"a header with {', '.join(needed)}", found="an empty file", remedy=_REMEDY)
    return found


def _json_rows(path: Path, text: str, needed: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, row {number}"
        try:
            row = strict_json(line)
        except ValueError as error:
            raise InputError(where, expected="a JSON object", found=str(error),
                             remedy=f"Mend the row in {path}.") from error  # fmt: skip
        if not isinstance(row, dict):
            raise InputError(where, expected="a JSON object", found=f"a {type(row).__name__}",
                             remedy=f"Mend the row in {path}.")  # fmt: skip
        _require_columns(where, needed, list(row), path)
        yield where, row


def _require_columns(where: str, needed: list[str], found: list[str], path: Path) -> None:
    if absent := [name for name in needed if name not in found]:
        raise InputError(where, expected=f"a column {absent[0]!r}", found=", ".join(found)[:120] or "none",
                         remedy=f"Name it in options.columns of the dataset, or add it to {path}. "
                         f"{suggestion(absent[0], found)}")  # fmt: skip


def _field(where: str, row: Mapping[str, Any], name: str, path: Path) -> str:
    """A word or sentence, which must be there."""
    value = _word(where, row, name, path)
    if value is None:
        raise InputError(where, expected=f"a value of {name!r}", found=repr(row.get(name))[:80],
                         remedy=f"Mend the row in {path}.")  # fmt: skip
    return value


def _word(where: str, row: Mapping[str, Any], name: str, path: Path) -> str | None:
    """A text, or a whole number as people name clips and signers; None when it is absent or empty."""
    value = _optional(row, name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, str))):
        raise InputError(where, expected=f"a text in {name!r}, in quotation marks", found=repr(value)[:80],
                         remedy=f"Mend the row in {path}: pandas makes 3.0 of 3 where a value is absent.")  # fmt: skip
    return None if value is None else str(value)


def _optional(row: Mapping[str, Any], name: str) -> Any:
    """A field, None when it is absent or empty."""
    value = row.get(name)
    if isinstance(value, str):
        value = value.strip()
    return None if value in (None, "") else value
