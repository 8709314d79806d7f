"""Texts by clip id, hypotheses or references, in the forms that systems leave them in.

| file | form |
|---|---|
| ``.jsonl`` | one object per line; ours, or with other names of the keys |
| ``.json`` | an object of ids to texts, or to objects; or a list of objects |
| ``.csv`` ``.tsv`` | a header and rows; comma, semicolon, tab or ``|`` (the releases of PHOENIX14T and How2Sign) |
| ``.pkl`` | TwoStreamNetwork's results: a dict of names to ``txt_hyp`` and ``txt_ref``; read without running it |
| other | one text per line (GFSLT-VLP, sacreBLEU), or in a frame: see ``framed_lines`` |
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.predictions.framed_lines import frame_of
from eval.predictions.prediction_file import REQUIRED, read_predictions
from eval.predictions.text_lines import LONGEST, read_bytes, read_lines, refuse
from extract.safe_pickle import read_pickle
from extract.strict_json import strict_json, twice

Role = Literal["hypothesis", "reference"]

IDS = ("id", "clip_id", "clip", "name", "sentence_name", "video_id", "key", "sample")
HYPOTHESES = ("hypothesis", "hyp", "txt_hyp", "prediction", "pred", "translation", "text")
BESIDE = ("reference", "ref", "txt_ref", "target", "ground-truth", "ground_truth", "gt")
"""Of a reference that stands beside a hypothesis."""
REFERENCES = (*BESIDE, "translation", "sentence", "text", "label")
"""Names of keys and columns, in small letters; the first of them that a file has counts."""


@dataclass(frozen=True)
class Text:
    """One clip's text and where it stands."""

    id: str | None
    """None in files of lines without ids."""
    text: str
    where: str
    reference: str | None = None
    """Where the file of hypotheses holds them too."""
    n_frames: int | None = None
    score: float | None = None


def read_texts(path: Path, role: Role, ids: Path | None = None, plain: bool = False) -> list[Text]:
    """All texts of a file, in its order.

    Args:
        role: whose names of keys and columns are looked for first.
        ids: a file of one id per line, for a file of one text per line; a file that has ids of its own keeps them.
        plain: lines are sentences, whatever they look like.

    Raises:
        InputError: naming file and line: what ``read_lines`` and ``frame_of`` refuse, damaged JSON or rows, no known
            key or column, an empty id, an id twice, another number of ids than texts.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        texts = _json_lines(path, role)
    elif suffix == ".json":
        texts = list(_json_document(path, role))
    elif suffix in (".csv", ".tsv"):
        texts = list(_table(path, role))
    elif suffix in (".pkl", ".pickle"):
        texts = list(_objects(path, read_pickle(path, plain=True), role))
    else:
        texts = list(_lines(path, role, plain))
    if ids is not None and all(text.id is None for text in texts):
        texts = _with_ids(path, texts, ids)
    _check_ids(texts)
    return texts


def _lines(path: Path, role: Role, plain: bool) -> Iterator[Text]:
    lines = read_lines(path)
    frame = None if plain else frame_of(path, lines, (*IDS, *HYPOTHESES, *REFERENCES))
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if frame is None:
            yield Text(None, line, where)
        elif (row := frame(line, where)).keys() & set(IDS):
            yield _object(row, where, role)
        else:
            yield Text(None, row[_known(row, HYPOTHESES if role == "hypothesis" else REFERENCES, where)], where)


def _with_ids(path: Path, texts: list[Text], ids: Path) -> list[Text]:
    given = read_lines(ids)
    if len(given) != len(texts):
        short, long = sorted((len(given), len(texts)))
        longer = ids if len(given) > len(texts) else path
        refuse(f"{longer}, line {short + 1}", f"as many ids in {ids} as lines in {path}: {short}", f"{long}",
               "Take the list of ids that the lines were written from.")  # fmt: skip
    pairs = enumerate(zip(given, texts, strict=True), start=1)
    return [Text(id.strip(), text.text, f"{ids}, line {number}") for number, (id, text) in pairs]


def _json_lines(path: Path, role: Role) -> list[Text]:
    lines = read_lines(path)
    first = _parsed(lines[0], f"{path}, line 1")
    if isinstance(first, dict) and all(key in first for key in REQUIRED):
        # Ours: read as strictly as they are written.
        rows = read_predictions(path)
        return [
            Text(row.id, _checked(row.hypothesis if role == "hypothesis" else row.reference, where), where,
                 row.reference, row.n_frames, row.score)
            for where, row in ((f"{path}, line {number}", row) for number, row in enumerate(rows, start=1))
        ]  # fmt: skip
    rows_ = ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1))
    return [_object(_parsed(line, where), where, role) for where, line in rows_]


def _json_document(path: Path, role: Role) -> Iterator[Text]:
    data = read_bytes(path)
    if b"\0" in data:
        refuse(f"{path}, line {data[: data.index(0)].count(10) + 1}", "JSON", "a NUL byte", "Write the file again.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        refuse(f"{path}, line {line}", "UTF-8", f"byte 0x{data[error.start]:02x}", "Save the file as UTF-8.")
    yield from _objects(path, _parsed(text, str(path)), role)


def _objects(path: Path, data: Any, role: Role) -> Iterator[Text]:
    """Of an object of ids to texts or to objects, or of a list of objects."""
    if isinstance(data, dict) and data:
        for number, (id, value) in enumerate(data.items(), start=1):
            where = f"{path}, entry {number} ({str(id)[:60]!r})"
            if isinstance(value, dict):
                yield _object({"id": str(id), **{key: value[key] for key in value if key != "id"}}, where, role)
            else:
                yield Text(str(id), _checked(value, where), where)
    elif isinstance(data, list) and data:
        for number, value in enumerate(data, start=1):
            yield _object(value, f"{path}, entry {number}", role)
    else:
        refuse(path, "an object of ids to texts, or a list of objects", f"{data!r}"[:80], "See docs/scores.md.")


def _object(row: Any, where: str, role: Role) -> Text:
    if not isinstance(row, dict):
        refuse(where, "an object with an id and a text", type(row).__name__, "See docs/scores.md.")
    names = {str(key).lower(): key for key in row}
    if repeated := twice([str(key).lower() for key in row]):
        refuse(where, "every key once", f"{repeated!r} twice", "Rename one of them: which counts is not known.")
    texts = HYPOTHESES if role == "hypothesis" else REFERENCES
    id, text = (row[names[_known(names, known, where)]] for known in (IDS, texts))
    reference = next((row[names[name]] for name in BESIDE if name in names), None)
    if not isinstance(id, str):
        refuse(where, "an id that is a text", repr(id)[:80], "Write ids in quotation marks.")
    return Text(id, _checked(text, where), where, None if reference is None else _checked(reference, where))


def _known(names: Mapping[str, Any], known: tuple[str, ...], where: str) -> str:
    for name in known:
        if name in names:
            return name
    refuse(where, f"one of {', '.join(known)}", ", ".join(names) or "none", "Rename the column or key.")


def _checked(value: Any, where: str) -> str:
    if not isinstance(value, str):
        refuse(where, "a text", repr(value)[:80], "An empty translation is an empty text.")
    if len(value) > LONGEST:
        refuse(where, f"a text of at most {LONGEST:,} characters", f"{len(value):,}", "Is it the right file?")
    if "\0" in value:
        refuse(where, "a text", "a NUL character", "Write the file again.")
    try:
        value.encode()
    except UnicodeEncodeError:
        refuse(where, "valid Unicode", "half a surrogate pair", "Write the file again.")
    return value


def _table(path: Path, role: Role) -> Iterator[Text]:
    lines = read_lines(path)
    separator = next((mark for mark in "|\t;," if mark in lines[0]), ",")
    where = f"{path}, line 1"
    # The releases quote nothing, and quotation marks occur within their fields.
    # (A quotation mark alone would begin a field there and swallow the rows that follow.)
    plain = separator in "|\t"
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True,
                      quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL)  # fmt: skip
    header = next(rows)
    columns = [name.strip().lower() for name in header]
    if repeated := twice(columns):
        refuse(where, "every column once", f"{repeated!r} twice", "Rename one of them: which counts is not known.")
    names = {name: place for place, name in enumerate(columns)}
    texts = HYPOTHESES if role == "hypothesis" else REFERENCES
    id, text = (names[_known(names, known, where)] for known in (IDS, texts))
    reference = next((names[name] for name in BESIDE if name in names), None) if role == "hypothesis" else None
    began = rows.line_num + 1
    try:
        for row in rows:
            where, began = f"{path}, line {began}", rows.line_num + 1
            if not any(row):
                refuse(where, "a row", "an empty line", "Remove the line.")
            if len(row) != len(header):
                refuse(where, f"{len(header)} fields", f"{len(row)}", "Mend the row.")
            yield Text(row[id].strip(), row[text], where, None if reference is None else row[reference])
    except csv.Error as error:
        refuse(f"{path}, line {began}", "a row", str(error), "Mend the quotation marks of the row.")


def _parsed(text: str, where: str) -> Any:
    try:
        return strict_json(text)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) and not re.search(r", line \d+$", where):
            where = f"{where}, line {error.lineno}"
        refuse(where, "JSON", f"{error}"[:200], "Write the file again.")


def _check_ids(texts: list[Text]) -> None:
    seen: dict[str, str] = {}
    for text in texts:
        if text.id is None:
            continue
        if not text.id.strip():
            refuse(text.where, "a clip's id", "an empty one", "Every text needs the id of its clip.")
        if text.id in seen:
            first = seen[text.id].rpartition(", ")[2]
            refuse(text.where, "every id once", f"{text.id!r} again, first in {first}",
                   "Keep one of the two: each clip is scored once.")  # fmt: skip
        seen[text.id] = text.where
