"""A table of sentences and their glosses, to be drawn: what is said in which clip, and for how long."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipeline.corpus.released import Utterance

COLUMNS = ("id", "split", "frames", "gloss", "text")
SIGNERS = 9
MAX_FRAMES = 5000
_REMEDY = f"A table has the columns {', '.join(COLUMNS)}, separated by tabs, and a row for each clip."


def read_text_table(path: Path, seed: int) -> list[Utterance]:
    """The clips of a table, in its order, each by one of nine signers that is drawn from its id and the seed.

    Args:
        path: UTF-8, columns ``COLUMNS`` separated by tabs, without quoting. ``frames`` are those of the clip at
            25 fps, ``gloss`` its signs, separated by spaces.

    Raises:
        InputError: not such a table; names the row.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, expected="a table of sentences", found=str(error), remedy=_REMEDY) from error
    if not rows or not set(COLUMNS) <= rows[0].keys():
        found = ", ".join(filter(None, rows[0])) if rows else "no row"
        raise InputError(path, expected=f"columns {', '.join(COLUMNS)}", found=found, remedy=_REMEDY)
    said: dict[str, Utterance] = {}
    for line, row in enumerate(rows, start=2):
        _require(path, line, row, said)
        signer = int(np.random.default_rng([seed, 0x5369676E, *row["id"].encode()]).integers(SIGNERS))
        signs = tuple(row["gloss"].split())
        said[row["id"]] = Utterance(row["id"], row["split"], signer, signs, row["text"].strip(), int(row["frames"]))
    return list(said.values())


def _require(path: Path, line: int, row: dict[str, str], said: dict[str, Utterance]) -> None:
    """Refuse a row that cannot be drawn, or that the layout of a release cannot hold."""
    values = [row[name] or "" for name in COLUMNS]
    id, split, frames, gloss, text = values
    wrong = None
    if not re.fullmatch(r"\w[\w.+-]*", id):
        wrong = "an id of letters, digits, . _ + and -", repr(id)
    elif id in said:
        wrong = "each id once", f"{id} again"
    elif split not in ("train", "dev", "test"):
        wrong = "the split train, dev or test", repr(split)
    elif not re.fullmatch(r"[0-9]{1,4}", frames) or not 1 <= int(frames) <= MAX_FRAMES:
        wrong = f"1 to {MAX_FRAMES} frames", repr(frames)
    elif not text.strip() or any(mark in value for value in (gloss, text) for mark in "|\r\n"):
        wrong = "a sentence, without |", repr(text)
    if wrong is not None:
        raise InputError(f"{path}, row {line}", expected=wrong[0], found=wrong[1], remedy=_REMEDY)
