"""The How2Sign adapter on hand-written trees of its layout: recordings and cut clips, with the release's traps."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from extract.dataset.adapters.how2sign import COLUMNS
from extract.dataset.clip_index import Clip, ClipIndex
from extract.dataset.index_remarks import Remark, read_remarks
from extract.dataset.manifest import Dataset, locate
from extract.decoding.read_clip import read_clip
from extract.errors import InputError
from extract.jobs.index_job import index_dataset, remarks_path
from extract.settings import DataSettings, FrameSettings

SPLITS = {"train": "train", "val": "dev", "test": "test"}


def write_video(path: Path, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (32, 32))
    for number in range(frames):
        video.write(np.full((32, 32, 3), 4 * number, np.uint8))
    video.release()


def row(video: str, sentence: int, start: float, end: float, text: str) -> str:
    id = video.split("-")[0]
    name = f"{id}_{sentence}-{video.split('-')[1]}-rgb_front"
    return "\t".join([id, video, f"{id}_{sentence}", name, str(start), str(end), text])


def write_rows(root: Path, split: str, rows: list[str]) -> None:
    (root / f"how2sign_realigned_{split}.csv").write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "How2Sign"
    for split in SPLITS:
        video = f"{split}a-5-rgb_front"
        write_video(root / "raw_videos" / f"{video}.mp4", 50)
        rows = [
            row(video, 0, 0.0, 0.8, 'She said "hello" to me.'),
            row(video, 1, 0.8, 1.6, '"Quoted" first, and a lone " after it'),
            row(video, 2, 1.6, 9.75, "This one ends too late."),
        ]
        write_rows(root, split, rows)
        for number, frames in ((0, 20), (1, 20), (2, 10)):
            write_video(root / f"{split}_realigned" / f"{split}a_{number}-5-rgb_front.mp4", frames)
    return root


def dataset(root: Path, **options: Any) -> Dataset:
    return locate(DataSettings(dataset="how2sign", root=str(root), options=options))


def index(root: Path, path: Path, **options: Any) -> tuple[list[Clip], list[Remark]]:
    index_dataset(dataset(root, **options), path)
    return ClipIndex(path).clips(), read_remarks(remarks_path(path))


def test_recordings_cut_by_the_realigned_times(tree: Path, tmp_path: Path) -> None:
    clips, remarks = index(tree, tmp_path / "index.parquet")
    assert [clip.split for clip in clips] == ["train"] * 3 + ["dev"] * 3 + ["test"] * 3
    first = clips[3]
    assert (first.id, first.source) == ("vala_0-5-rgb_front", "raw_videos/vala-5-rgb_front.mp4")
    assert (first.start, first.end, first.n_frames, first.signer) == (0.0, 0.8, 20, "5")
    assert [clip.text for clip in clips[:2]] == ['She said "hello" to me.', '"Quoted" first, and a lone " after it']
    assert first.language == "en_XX"
    assert all(clip.problem is None for clip in clips)
    assert [(remark.kind, remark.id) for remark in remarks] == [
        ("time_clamped", f"{split}a_2-5-rgb_front") for split in SPLITS
    ]


def test_a_clamped_clip_ends_with_its_recording(tree: Path, tmp_path: Path) -> None:
    clips, remarks = index(tree, tmp_path / "index.parquet")
    late = clips[2]
    assert late.end == pytest.approx(2.0)
    assert late.n_frames == 10
    assert "9.75 s, ends at 2.000 s" in remarks[0].detail
    assert len(read_clip(tree, late, FrameSettings(keep_every=1, resize=16, crop=16))) == 10


def test_cut_clips(tree: Path, tmp_path: Path) -> None:
    clips, remarks = index(tree, tmp_path / "index.parquet", clips="cut")
    assert clips[3].source == "val_realigned/vala_0-5-rgb_front.mp4"
    assert [(clip.start, clip.end, clip.n_frames) for clip in clips[:3]] == [(None, None, n) for n in (20, 20, 10)]
    assert not remarks


def test_clips_without_text_and_text_without_clips_are_listed(tree: Path, tmp_path: Path) -> None:
    gone = tree / "test_realigned/testa_1-5-rgb_front.mp4"
    gone.rename(tree / "test_realigned/other_7-5-rgb_front.mp4")
    clips, remarks = index(tree, tmp_path / "cut.parquet", clips="cut")
    assert {(remark.kind, remark.id) for remark in remarks} == {
        ("text_without_clip", "testa_1-5-rgb_front"),
        ("clip_without_text", "test_realigned/other_7-5-rgb_front.mp4"),
    }
    assert str(clips[7].problem).startswith("missing: ")
    assert len(clips) == 9
    write_video(tree / "raw_videos/new-1-rgb_front.mp4", 5)
    video = "testa-5-rgb_front"
    write_rows(
        tree, "test", [row(video, 0, 0, 1, "Yes."), row(video, 3, 0, 1, " "), row("gone-2-rgb_front", 0, 0, 1, "No")]
    )
    clips, remarks = index(tree, tmp_path / "recordings.parquet")
    assert {(remark.kind, remark.id) for remark in remarks if remark.kind != "time_clamped"} == {
        ("text_without_clip", "gone_0-2-rgb_front"),
        ("clip_without_text", "testa_3-5-rgb_front"),
        ("clip_without_text", "raw_videos/new-1-rgb_front.mp4"),
    }
    assert [clip.id for clip in clips[6:]] == ["testa_0-5-rgb_front", "gone_0-2-rgb_front"]


def test_a_clip_that_begins_after_the_end_cannot_be_used(tree: Path, tmp_path: Path) -> None:
    write_rows(tree, "test", [row("testa-5-rgb_front", 0, 5, 6, "Late."), row("testa-5-rgb_front", 1, 0, 1, "Yes.")])
    clips, remarks = index(tree, tmp_path / "index.parquet")
    assert "of a recording of 2.00 s" in str(clips[6].problem)
    assert clips[7].problem is None
    assert "testa_0-5-rgb_front" not in {remark.id for remark in remarks}


GOOD = row("testa-5-rgb_front", 0, 0, 1, "Yes.")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([GOOD, GOOD], r"realigned_test\.csv, row 3: expected every clip once, .* first in row 2"),
        ([GOOD + "\tx"], r"row 2: expected 7 fields, found 8"),
        ([GOOD.rsplit("\t", 1)[0]], r"row 2: expected 7 fields, found 6"),
        (
            [row("testa-5-rgb_front", 0, float("nan"), 1, "Yes.")],
            r"row 2: expected seconds in START_REALIGNED, found 'nan'",
        ),
        ([GOOD.replace("0\t1", "0\tone")], r"row 2: expected seconds in END_REALIGNED, found 'one'"),
        ([GOOD.replace("testa-5", "../testa-5")], r"row 2: expected a clip name, found '\.\./testa"),
        ([], r"expected clips of split 'test', found none"),
    ],
)
@pytest.mark.parametrize("kind", ["recordings", "cut"])
def test_bad_rows_are_one_line_and_leave_nothing(tree: Path, rows: list[str], says: str, kind: str) -> None:
    write_rows(tree, "test", rows)
    out = tree.parent / "out"
    with pytest.raises(InputError, match=says) as raised:
        index_dataset(dataset(tree, clips=kind), out / "index.parquet")
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_another_header_and_no_file(tree: Path, tmp_path: Path) -> None:
    path = tree / "how2sign_realigned_val.csv"
    path.write_text(path.read_text().replace("\t", ","))
    with pytest.raises(InputError, match=r"val\.csv, row 1: .* Column VIDEO_ID is absent"):
        index_dataset(dataset(tree), tmp_path / "index.parquet")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"val\.csv: expected UTF-8, found byte 0"):
        index_dataset(dataset(tree), tmp_path / "index.parquet")
    path.unlink()
    with pytest.raises(InputError, match=r"no such file\. Set the dataset's root"):
        index_dataset(dataset(tree), tmp_path / "index.parquet")
    shutil.rmtree(tree)
    with pytest.raises(InputError, match="which does not exist"):
        index_dataset(dataset(tree), tmp_path / "index.parquet")
    assert not list(tmp_path.glob("index*"))
