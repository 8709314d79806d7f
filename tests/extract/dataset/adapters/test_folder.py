"""People's own data: a table beside videos and frame folders."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.dataset.annotations import inside
from extract.dataset.clip_index import Clip, ClipIndex
from extract.dataset.index_remarks import read_remarks
from extract.dataset.manifest import Dataset, locate
from extract.errors import InputError
from extract.jobs.index_job import index_dataset, remarks_path
from extract.settings import DataSettings

ROWS: list[dict[str, Any]] = [
    {"id": "a", "path": "videos/long.mp4", "text": 'One, "two",\nthree', "start": 0.0, "end": 0.4, "signer": "s1",
     "split": "train"},
    {"id": "b", "path": "videos/long.mp4", "text": "Four", "start": 0.4, "end": 1.0, "signer": "s1", "split": "dev"},
    {"id": "c", "path": "frames/c", "text": "Fünf", "start": None, "end": None, "signer": None, "split": "test"},
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "own"
    (root / "videos").mkdir(parents=True)
    (root / "frames/c").mkdir(parents=True)
    video = cv2.VideoWriter(str(root / "videos/long.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (32, 32))
    for number in range(25):
        image = np.full((32, 32, 3), 8 * number, np.uint8)
        video.write(image)
        cv2.imwrite(str(root / f"frames/c/{number}.png"), image)
    video.release()
    return root


def write(path: Path, rows: list[dict[str, Any]], names: dict[str, str] | None = None) -> None:
    named = [{(names or {}).get(key, key): value for key, value in row.items()} for row in rows]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in named))
        return
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        dialect = {"delimiter": "," if path.suffix == ".csv" else "\t"}
        table = csv.DictWriter(file, list(named[0]), **dialect)  # type: ignore[arg-type]
        table.writeheader()
        table.writerows(named)


def dataset(root: Path, **options: Any) -> Dataset:
    return locate(DataSettings(dataset="folder", root=str(root), language="de_DE", fps=30, options=options))


def indexed(data: Dataset, path: Path) -> list[Clip]:
    index_dataset(data, path)
    return ClipIndex(path).clips()


@pytest.mark.parametrize("file", ["clips.csv", "clips.tsv", "clips.jsonl"])
def test_every_format(root: Path, tmp_path: Path, file: str) -> None:
    write(root / file, ROWS)
    clips = indexed(dataset(root, file=file, quotes=None if file == "clips.csv" else True), tmp_path / "index.parquet")
    assert [(clip.id, clip.split, clip.n_frames) for clip in clips] == [
        ("a", "train", 10),
        ("b", "dev", 15),
        ("c", "test", 25),
    ]
    assert clips[0].text == 'One, "two", three'
    assert [(clip.start, clip.end, clip.signer) for clip in clips[1:]] == [(0.4, 1.0, "s1"), (None, None, None)]
    assert [clip.fps for clip in clips] == [25.0, 25.0, 30.0]
    assert {clip.language for clip in clips} == {"de_DE"}
    assert all(clip.problem is None for clip in clips)


def test_column_names_and_a_file_per_split(root: Path, tmp_path: Path) -> None:
    names = {"id": "clip", "path": "video", "text": "translation"}
    for row in ROWS:
        own = {key: row[key] for key in names}
        write(root / f"{row['split']}.csv", [own], names)
    clips = indexed(dataset(root, file="{split}.csv", columns=names), tmp_path / "index.parquet")
    assert [(clip.id, clip.split) for clip in clips] == [("a", "train"), ("b", "dev"), ("c", "test")]
    assert clips[0].end is None


def test_tabs_without_quoting(root: Path, tmp_path: Path) -> None:
    rows = [f'{row["id"]}\t{row["path"]}\t"so {row["id"]}\t{row["split"]}' for row in ROWS]
    (root / "clips.tsv").write_text("\n".join(["id\tpath\ttext\tsplit", *rows]) + "\n")
    clips = indexed(dataset(root, file="clips.tsv"), tmp_path / "index.parquet")
    assert [clip.text for clip in clips] == ['"so a', '"so b', '"so c']


def test_what_no_row_names_is_listed(root: Path, tmp_path: Path) -> None:
    write(root / "clips.csv", ROWS)
    (root / "videos/other.MP4").write_bytes(b"x")
    (root / "videos/notes.txt").write_bytes(b"x")
    (root / "frames/d").mkdir()
    index_dataset(dataset(root), tmp_path / "index.parquet")
    listed = [remark.id for remark in read_remarks(remarks_path(tmp_path / "index.parquet"))]
    assert listed == ["frames/d", "videos/other.MP4"]


def test_a_time_past_the_end_is_refused_unless_the_manifest_clamps(root: Path, tmp_path: Path) -> None:
    write(root / "clips.csv", [ROWS[0] | {"end": 5.0}, *ROWS[1:]])
    refused = dataset(root)
    assert "of a recording of 1.00 s" in str(indexed(refused, tmp_path / "index.parquet")[0].problem)
    entry = refused.entry.model_copy(update={"past_end": "clamp"})
    clamped = indexed(refused.model_copy(update={"entry": entry}), tmp_path / "index.parquet")[0]
    assert (clamped.problem, clamped.end) == (None, 1.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "../other/x.mp4"}, r"expected a path below the dataset's root, found '\.\./other"),
        ({"path": "/etc/passwd"}, r"expected a path below the dataset's root"),
        ({"path": "a/../../x"}, r"expected a path below the dataset's root"),
        ({"path": "C:\\x.mp4"}, r"expected a path below the dataset's root"),
        ({"path": ""}, r"expected a value of 'path'"),
        ({"id": " "}, r"expected a value of 'id'"),
        ({"text": ""}, r"expected a value of 'text'"),
        ({"split": "val"}, r"expected split train, dev or test, found 'val'"),
        ({"start": "x"}, r"expected seconds in start, found 'x'"),
        ({"start": 2, "end": 1}, r"expected 0 <= start < end, found 2\.0 to 1\.0"),
        ({"start": -1}, r"expected 0 <= start < end, found -1\.0"),
        ({"id": "b"}, r"expected every clip once, found 'b' again"),
        ({"path": "frames/c"}, r"expected start and end of video files only, found those of a frame folder"),
    ],
)
@pytest.mark.parametrize("file", ["clips.csv", "clips.jsonl"])
def test_bad_rows_are_one_line_and_leave_nothing(root: Path, change: dict[str, Any], says: str, file: str) -> None:
    write(root / file, [ROWS[1] | {"split": "train"}, ROWS[0] | change, *ROWS[2:]])
    out = root.parent / "out"
    with pytest.raises(InputError, match=says) as raised:
        index_dataset(dataset(root, file=file), out / "index.parquet")
    assert raised.value.exit_code == 2
    assert str(raised.value).startswith(f"{file}, row ")
    assert "\n" not in str(raised.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("clips.csv", "", "expected a header with id, path, text, split, found an empty file"),
        ("clips.csv", "id,path,txt,split\n", r"row 1: expected a column 'text', found id, path.* Did you mean 'txt'"),
        ("clips.csv", "id,path,text,split\na,b\n", r"row 2: expected 4 fields, found 2"),
        ("clips.csv", 'id,path,text,split\na,b,"c\n', r"expected a row of csv, found unexpected end of data"),
        ("clips.jsonl", "{}\n", r"row 1: expected a column 'id'"),
        ("clips.jsonl", "[]\n", r"row 1: expected a JSON object, found a list"),
        ("clips.jsonl", "{\n", r"row 1: expected a JSON object, found Expecting"),
    ],
)
def test_bad_tables(root: Path, tmp_path: Path, file: str, text: str, says: str) -> None:
    (root / file).write_text(text)
    with pytest.raises(InputError, match=says) as raised:
        index_dataset(dataset(root, file=file), tmp_path / "out/index.parquet")
    assert raised.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_options_that_the_adapter_does_not_have(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"options of folder, columns\.txt: .*It has: file, columns, quotes"):
        index_dataset(dataset(root, columns={"txt": "x"}), tmp_path / "index.parquet")
    with pytest.raises(InputError, match=r"must end in \.csv, \.tsv or \.jsonl, found clips\.xlsx"):
        index_dataset(dataset(root, file="clips.xlsx"), tmp_path / "index.parquet")
    with pytest.raises(InputError, match=r"clips\.csv: .*no such file\. Set options\.file"):
        index_dataset(dataset(root), tmp_path / "index.parquet")


@given(st.text(st.sampled_from("./\\aC:\0 "), max_size=12))
def test_no_path_leads_out_of_the_root(path: str) -> None:
    try:
        found = inside(path)
    except ValueError:
        return
    root = Path("/data/root")
    assert Path(*(root / found).parts[:3]) == root
    assert ".." not in Path(found).parts


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": float("nan")}, "NaN is not JSON"),
        ({"signer": 3.0}, "a text in 'signer'"),
        ({"signer": ["x"]}, "a text in 'signer'"),
        ({"text": 12.5}, "a text in 'text'"),
        ({"text": {"de": "x"}}, "a text in 'text'"),
        ({"split": True}, "a text in 'split'"),
        ({"text": "x \ud83c"}, "half a surrogate pair"),
    ],
)
def test_a_row_of_json_is_read_strictly(root: Path, tmp_path: Path, row: dict[str, Any], says: str) -> None:
    write(root / "clips.jsonl", [ROWS[0], {**ROWS[1], **row}, ROWS[2]])
    with pytest.raises(InputError, match=rf"row 2: .*{says}"):
        indexed(dataset(root, file="clips.jsonl"), tmp_path / "index.parquet")
    assert not (tmp_path / "index.parquet").exists()


def test_whole_numbers_name_clips_and_signers(root: Path, tmp_path: Path) -> None:
    write(root / "clips.jsonl", [{**row, "id": number, "signer": 7} for number, row in enumerate(ROWS)])
    found = indexed(dataset(root, file="clips.jsonl"), tmp_path / "index.parquet")
    assert [(clip.id, clip.signer) for clip in found] == [("0", "7"), ("1", "7"), ("2", "7")]


def test_a_column_that_stands_twice_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "clips.csv").write_text("id,path,text,split,text\na,frames/c,x,train,y\n")
    with pytest.raises(InputError, match="every column once, found 'text' twice"):
        indexed(dataset(root), tmp_path / "index.parquet")


def test_names_that_are_not_utf8_and_odd_texts_are_listed(root: Path, tmp_path: Path) -> None:
    """A folder of an old archive; a caption of music; one that was encoded twice."""
    Path(os.fsdecode(os.fsencode(root / "frames") + b"/gr\xfcn")).mkdir()
    (root / "frames/.hidden").mkdir()
    texts = ["♪♪", "schÃ¶n", "schön"]
    write(root / "clips.jsonl", [{**row, "text": text} for row, text in zip(ROWS, texts, strict=True)])
    index = tmp_path / "index.parquet"
    index_dataset(dataset(root, file="clips.jsonl"), index)
    assert [(remark.kind, remark.id) for remark in read_remarks(remarks_path(index))] == [
        ("clip_without_text", "frames/gr\\xfcn"), ("text_without_word", "a"), ("text_encoded_twice", "b"),
    ]  # fmt: skip
