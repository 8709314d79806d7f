"""``predictions.jsonl``: one JSON object per clip with its hypothesis and reference."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from eval.predictions.text_lines import LONGEST, SAVE, read_bytes
from eval.settings import ScoreSettings
from extract.atomic_write import write_atomic
from extract.errors import InputError, suggestion
from extract.strict_json import strict_json

REWRITE = "Write the file again with 'slt translate'."


@dataclass(frozen=True)
class Prediction:
    """One clip's translation."""

    id: str
    hypothesis: str
    """Text; empty where the clip could not be translated."""
    reference: str
    n_frames: int | None = None
    """Frames of the clip before sampling."""
    score: float | None = None
    """The decoder's log probability of the hypothesis, as ``generate`` normalises it."""


class Predictions(list[Prediction]):
    """The predictions of one system, and how its dataset is scored."""

    def __init__(self, rows: Iterable[Prediction], scoring: ScoreSettings) -> None:
        super().__init__(rows)
        self.scoring = scoring

    def __repr__(self) -> str:
        return f"<{len(self)} predictions, scored by {self.scoring.level}>"


KEYS = tuple(field.name for field in fields(Prediction))
LARGEST = sys.float_info.max
REQUIRED = ("id", "hypothesis", "reference")


def write_predictions(path: str | Path, rows: Iterable[Prediction]) -> Path:
    """Write one JSON object per line, UTF-8, atomically and in the order given.

    Raises:
        InputError: what ``read_predictions`` would refuse: no rows, a duplicate id, a wrong type.
    """
    path = Path(path)
    seen: dict[str, int] = {}
    lines: list[str] = []
    for number, row in enumerate(rows, start=1):
        _check_row(asdict(row), f"{path}, row {number}", seen, number)
        lines.append(json.dumps(asdict(row), ensure_ascii=False, allow_nan=False))
    if not lines:
        _refuse(str(path), "at least one prediction", "none", "Translate a split first.")
    return write_atomic(path, "\n".join(lines) + "\n")


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read a predictions file, in its order. ``n_frames`` and ``score`` may be absent or null.

    Raises:
        InputError: naming file and line: missing or empty file, byte order mark, not UTF-8, NUL bytes,
            empty or endless line, invalid JSON, missing or unknown key, wrong type, duplicate id.
    """
    path = Path(path)
    seen: dict[str, int] = {}
    rows: list[Prediction] = []
    # Split at line feeds only: str.splitlines would also cut at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(read_bytes(path, REWRITE).removesuffix(b"\n").split(b"\n"), start=1):
        where = f"{path}, line {number}"
        row = _parse_line(line, where)
        _check_row(row, where, seen, number)
        rows.append(Prediction(**row))
    return rows


def _parse_line(line: bytes, where: str) -> dict[str, Any]:
    if not line.strip():
        _refuse(where, "a JSON object", "an empty line", "Remove the line.")
    if len(line) > LONGEST:
        _refuse(where, f"a line of at most {LONGEST:,} bytes", f"{len(line):,}", "Is it the right file?")
    if b"\0" in line:
        # A file system fills unwritten space with zeros after a crash.
        _refuse(where, "a JSON object", "NUL bytes", f"The file was cut off while it was written. {REWRITE}")
    try:
        row = strict_json(line.decode())
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        _refuse(where, "UTF-8", found, SAVE)
    except ValueError as error:
        _refuse(where, "a JSON object", f"invalid JSON ({error})", REWRITE)
    if not isinstance(row, dict):
        _refuse(where, "a JSON object", f"a JSON {type(row).__name__}", REWRITE)
    return row


def _check_row(row: Mapping[str, Any], where: str, seen: dict[str, int], number: int) -> None:
    """Check one row's keys, types and id, and note its id in ``seen`` (id to row number)."""
    for key in row:
        if key not in KEYS:
            _refuse(where, "known keys", f"{key!r}", suggestion(key, KEYS))
    for key in REQUIRED:
        if key not in row:
            _refuse(where, f"the key {key!r}", "none", REWRITE)
        _check_text(row[key], key, where)
    if not row["id"]:
        _refuse(where, "a clip's id", "an empty one", REWRITE)
    n_frames, score = row.get("n_frames"), row.get("score")
    if n_frames is not None and (type(n_frames) is not int or n_frames < 0):
        _refuse(where, "'n_frames' a whole number or null", repr(n_frames), REWRITE)
    if score is not None and (type(score) not in (int, float) or not abs(score) <= LARGEST):
        _refuse(where, "'score' a finite number or null", repr(score), REWRITE)
    if row["id"] in seen:
        found = f"{row['id']!r} again, the first is number {seen[row['id']]}"
        _refuse(where, "every id once", found, "Keep one of the two: each clip is scored once.")
    seen[row["id"]] = number


def _check_text(value: object, key: str, where: str) -> None:
    if not isinstance(value, str):
        _refuse(where, f"{key!r} a text", f"{type(value).__name__}", REWRITE)
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON's escapes can spell half a surrogate pair, which no UTF-8 file can hold
        _refuse(where, f"{key!r} valid Unicode", "half a surrogate pair", REWRITE)


def _refuse(where: str, expected: str, found: str, remedy: str) -> NoReturn:
    raise InputError(where, expected=expected, found=found, remedy=remedy)
