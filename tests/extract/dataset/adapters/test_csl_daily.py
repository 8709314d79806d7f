"""The CSL-Daily adapter on hand-written trees of its layout, whole and damaged."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from extract.dataset.clip_index import ClipIndex
from extract.dataset.index_remarks import read_remarks
from extract.dataset.manifest import Dataset, locate
from extract.errors import InputError
from extract.jobs.index_job import index_dataset, remarks_path
from extract.settings import DataSettings

PICKLE, SPLITS, FRAMES = "sentence_label/csl2020ct_v2.pkl", "sentence_label/split_1.txt", "sentence/frames_512x512"
NAMES = {"S000000_P0000_T00": "train", "S000001_P0004_T00": "dev", "S000002_P0001_T00": "test"}
LACKING = "S000005_P0004_T00"


def entry(name: str) -> dict[str, Any]:
    return {
        "name": name, "length": 3, "signer": int(name[9:12]), "label_gloss": ["明天", "雨"],
        "label_char": list("明天下雨。"), "label_word": ["明天", "下雨", "。"], "label_postag": ["t", "v", "w"],
    }  # fmt: skip


def write_tree(root: Path) -> Path:
    (root / "sentence_label").mkdir(parents=True)
    held = {"info": [entry(name) for name in NAMES], "gloss_map": ["明天", "雨"], "char_map": {"明": 1}}
    (root / PICKLE).write_bytes(pickle.dumps(held))
    rows = [f"{name}|{split}" for name, split in NAMES.items()]
    (root / SPLITS).write_text("\n".join(["name|split", *rows, f"{LACKING}|train"]) + "\n")
    for name in NAMES:
        (root / FRAMES / name).mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(str(root / FRAMES / name / f"{number:06d}.jpg"), np.full((16, 16, 3), 40 * number, np.uint8))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "CSL-Daily")


def dataset(root: Path, **options: Any) -> Dataset:
    return locate(DataSettings(dataset="csl_daily", root=str(root), options=options))


def test_a_whole_tree(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    assert index_dataset(dataset(tree), path) == {"train": {None: 1}, "dev": {None: 1}, "test": {None: 1}}
    first = ClipIndex(path).clips()[0]
    assert (first.id, first.text, first.language, first.fps) == ("S000000_P0000_T00", "明天下雨。", "zh_CN", 30.0)
    assert (first.n_frames, first.signer, first.source) == (3, "0", f"{FRAMES}/S000000_P0000_T00")
    about = ClipIndex(path).about
    assert (about["name"], about["level"], about["text"]) == (
        "csl_daily",
        "char",
        {"case": "keep", "final_dot": "keep"},
    )


def test_the_clip_that_the_release_lacks_is_listed(tree: Path, tmp_path: Path) -> None:
    index_dataset(dataset(tree), tmp_path / "index.parquet")
    (remark,) = read_remarks(remarks_path(tmp_path / "index.parquet"))
    assert (remark.kind, remark.id) == ("known_missing", LACKING)


def test_it_is_used_where_it_is_there(tree: Path, tmp_path: Path) -> None:
    held = pickle.loads((tree / PICKLE).read_bytes())  # noqa: S301  (written above)
    (tree / PICKLE).write_bytes(pickle.dumps({"info": [*held["info"], entry(LACKING)]}))
    shutil.copytree(tree / FRAMES / "S000000_P0000_T00", tree / FRAMES / LACKING)
    assert index_dataset(dataset(tree), tmp_path / "index.parquet")["train"] == {None: 2}
    assert not remarks_path(tmp_path / "index.parquet").exists()


def test_frames_without_a_text_and_a_text_without_frames_are_listed(tree: Path, tmp_path: Path) -> None:
    (tree / FRAMES / "S000001_P0004_T00").rename(tree / FRAMES / "S000009_P0000_T00")
    path = tmp_path / "index.parquet"
    assert index_dataset(dataset(tree), path)["dev"] == {"missing": 1}
    found = {(remark.kind, remark.id) for remark in read_remarks(remarks_path(path))}
    assert ("text_without_clip", "S000001_P0004_T00") in found
    assert ("clip_without_text", f"{FRAMES}/S000009_P0000_T00") in found
    assert str(ClipIndex(path, "dev").clips()[0].problem).startswith("missing: ")


class Touch:
    """What a malicious pickle holds: a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def malicious(root: Path) -> None:
    (root / PICKLE).write_bytes(pickle.dumps({"info": [Touch(root.parent / "out")]}))


def an_array(root: Path) -> None:
    (root / PICKLE).write_bytes(pickle.dumps({"info": np.zeros(3, np.float32)}))


def truncated(root: Path) -> None:
    (root / PICKLE).write_bytes((root / PICKLE).read_bytes()[:-20])


def held(value: Any) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / PICKLE).write_bytes(pickle.dumps(value))

    return write


def splits(text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / SPLITS).write_text(text)

    return write


def no_pickle(root: Path) -> None:
    (root / PICKLE).unlink()


FIRST = "S000000_P0000_T00|train\n"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (malicious, r"csl2020ct_v2\.pkl: expected a pickle of plain values only, found .*a call of posix\.mkdir"),
        (an_array, r"expected a pickle of plain values only, found .*a call of numpy"),
        (truncated, r"expected a pickle of plain values only"),
        (no_pickle, r"csl2020ct_v2\.pkl: .*no such file\. Set the dataset's root"),
        (held([1]), r"expected a dict with a list `info`, found a list"),
        (held({"info": {}}), r"expected a dict with a list `info`, found a dict"),
        (held({"info": ["x"]}), r"entry 0: expected a dict with name and label_char, found 'x'"),
        (held({"info": [entry("../x" + "0" * 12)]}), r"entry 0: expected a clip name, found '\.\./x"),
        (held({"info": [entry("S000000_P0000_T00") | {"label_char": []}]}), r"entry 0: expected label_char"),
        (held({"info": [entry("S000000_P0000_T00") | {"label_char": [1]}]}), r"entry 0: expected label_char"),
        (held({"info": [entry("S000000_P0000_T00") | {"label_char": ["雨" * 99] * 9999}]}), r"entry 0: expected label"),
        (
            held({"info": [entry("S000000_P0000_T00")]}),
            r"split_1\.txt, row 3: expected a sentence of S000001_P0004_T00",
        ),
        (splits("name|part\n" + FIRST), r"split_1\.txt, row 1: expected name\|split, .*Column split is absent"),
        (splits("name|split\n" + FIRST * 2), r"row 3: expected every clip once, .* first in row 2"),
        (splits("name|split\n" + FIRST + "a\n"), r"row 3: expected 2 fields, found 1"),
        (splits("name|split\n" + FIRST + "a/b|dev\n"), r"row 3: expected a clip name, found 'a/b'"),
        (splits("name|split\n" + FIRST + "a|val\n"), r"row 3: expected train, dev or test, found 'val'"),
        (splits("name|split\n" + FIRST), r"expected clips of split 'dev', found none"),
        (splits(""), r"row 1: expected name\|split"),
    ],
)
def test_bad_annotations_are_one_line_and_leave_nothing(tree: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(tree)
    out = tree.parent / "out"
    with pytest.raises(InputError, match=says) as raised:
        index_dataset(dataset(tree), out / "index.parquet")
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_options_say_where_things_lie_and_never_outside(tree: Path, tmp_path: Path) -> None:
    (tree / "sentence").rename(tree / "moved")
    moved = dataset(tree, frames="moved/frames_512x512")
    assert index_dataset(moved, tmp_path / "index.parquet")["train"] == {None: 1}
    with pytest.raises(InputError, match=r"options of csl_daily, frames: .*below the dataset's root\. It has: annot"):
        index_dataset(dataset(tree, frames="../elsewhere"), tmp_path / "index.parquet")
    with pytest.raises(InputError, match="options of csl_daily, frmaes: expected options of the adapter csl_daily"):
        index_dataset(dataset(tree, frmaes="x"), tmp_path / "index.parquet")
