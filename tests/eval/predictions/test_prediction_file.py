"""The predictions file: round trip, and what it refuses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.predictions.prediction_file import Prediction, read_predictions, write_predictions
from extract.atomic_write import write_atomic
from extract.errors import InputError

predictions = st.lists(
    st.builds(
        Prediction,
        id=st.text(min_size=1),
        hypothesis=st.text(),
        reference=st.text(),
        n_frames=st.none() | st.integers(min_value=0),
        score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    min_size=1,
    max_size=10,
    unique_by=lambda row: row.id,
)
GOOD = '{"id": "a", "hypothesis": "schön", "reference": "schön", "n_frames": 12, "score": -0.5}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@settings(deadline=None)  # each example waits for the disk
@given(rows=predictions)
def test_round_trip(folder: Path, rows: list[Prediction]) -> None:
    assert read_predictions(write_predictions(folder / "predictions.jsonl", rows)) == rows


def test_file_is_one_readable_object_per_line(tmp_path: Path) -> None:
    rows = [Prediction("a", "schön\nkühl", "schön", 12, -0.5), Prediction("b", "", "一 \u2028 二")]
    text = write_predictions(tmp_path / "new" / "predictions.jsonl", rows).read_bytes().decode()
    assert text.count("\n") == 2
    assert text.endswith("\n")
    assert "schön" in text
    assert list(json.loads(text.split("\n")[0])) == ["id", "hypothesis", "reference", "n_frames", "score"]


def test_frames_and_score_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "other_system.jsonl"
    path.write_text('{"id": "a", "hypothesis": "x", "reference": "y"}', encoding="utf-8")
    assert read_predictions(path) == [Prediction("a", "x", "y", None, None)]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes((GOOD + "\r\n" + GOOD.replace('"a"', '"b"') + "\r\n").encode())
    assert [row.id for row in read_predictions(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"id": "b", "hypothesis": "x"', "invalid JSON"),
        ("", "an empty line"),
        ("[1]", "a JSON list"),
        ("[" * 100_000, "invalid JSON"),
        ('{"id": "b", "hypothesis": "x"}', "expected the key 'reference', found none"),
        ('{"id": "b", "hypothesis": null, "reference": "y"}', "expected 'hypothesis' a text, found NoneType"),
        ('{"id": 7, "hypothesis": "x", "reference": "y"}', "expected 'id' a text, found int"),
        ('{"id": "", "hypothesis": "x", "reference": "y"}', "an empty one"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "n_frames": 1.5}', "found 1.5"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "n_frames": true}', "found True"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "n_frames": -1}', "found -1"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "score": "high"}', "found 'high'"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "score": NaN}', "NaN is not JSON"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "score": 1e999}', "found inf"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "score": 1' + "0" * 400 + "}", "a finite number"),
        ('{"id": "b", "hypothesis": "x", "reference": "y", "nframes": 1}', "Did you mean 'n_frames'"),
        ('{"id": "b", "id": "c", "hypothesis": "x", "reference": "y"}', "the key 'id' stands twice"),
        ('{"id": "b", "hypothesis": "\\ud800", "reference": "y"}', "half a surrogate pair"),
        ('{"id": "a", "hypothesis": "x", "reference": "y"}', "'a' again, the first is number 1"),
        (b"\0\0\0\0", "NUL bytes"),
        ('{"id": "b", "hypothesis": "' + "x" * 2**20 + '", "reference": "y"}', "at most 100,000 bytes"),
        ('{"id": "b", "hypothesis": "kühl", "reference": "y"}'.encode("latin-1"), "byte 0xfc at column 29"),
    ],
)
def test_names_file_and_line_of_what_is_wrong(tmp_path: Path, line: str | bytes, found: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    assert caught.value.where == f"{path}, line 2"
    assert found in str(caught.value)


def test_byte_order_mark_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(GOOD, encoding="utf-8-sig")
    with pytest.raises(InputError, match=r"line 1: .* a byte order mark of UTF-8\. Save the file as UTF-8 without"):
        read_predictions(path)


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n"])
def test_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="an empty file"):
        read_predictions(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_absent_file_or_folder_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "predictions.jsonl"
    make(path)
    with pytest.raises(InputError, match="expected a readable file"):
        read_predictions(path)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Prediction("a", "x", "y"), Prediction("a", "z", "y")],
        [Prediction("", "x", "y")],
        [Prediction("a", "x", "y", score=math.nan)],
        [Prediction("a", "\ud800", "y")],
        [Prediction("a", "x", None)],  # type: ignore[arg-type]
    ],
)
def test_writer_refuses_what_the_reader_would_and_keeps_the_earlier_file(
    tmp_path: Path, rows: list[Prediction]
) -> None:
    path = write_predictions(tmp_path / "predictions.jsonl", [Prediction("old", "x", "y")])
    with pytest.raises(InputError):
        write_predictions(path, rows)
    assert read_predictions(path) == [Prediction("old", "x", "y")]
    assert list(tmp_path.iterdir()) == [path]


def test_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    occupied = tmp_path / "predictions.jsonl"
    occupied.mkdir()
    with pytest.raises(OSError, match=r"predictions\.jsonl"):
        write_atomic(occupied, b"text")
    assert list(tmp_path.iterdir()) == [occupied]


def test_written_file_follows_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        path = write_predictions(tmp_path / "predictions.jsonl", [Prediction("a", "x", "y")])
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o644
