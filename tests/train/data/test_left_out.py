"""Clips that fail first while training: their places are taken, they are counted, too many of them are an error."""

from pathlib import Path

import cv2
import numpy as np

from extract.dataset.clip_index import Clip
from extract.jobs.job_account import FailureRateError
from extract.settings import ExtractSettings, FrameSettings
from train.data.clip_dataset import ClipDataset, FailedBatch, collate_clips
from train.data.left_out import LeftOut

FRAMES = FrameSettings(keep_every=1, resize=16, crop=16)


def some(root: Path, damaged: set[int]) -> list[Clip]:
    clips = [Clip(f"c{number}", "train", f"c{number}", 0, 25.0, "text", "de_DE") for number in range(4)]
    for number, clip in enumerate(clips):
        (root / clip.source).mkdir()
        cv2.imwrite(str(root / clip.source / "1.png"), np.full((20, 20, 3), 40 * number, np.uint8))
        if number in damaged:
            (root / clip.source / "1.png").write_bytes(b"")
    return clips


def learnt(root: Path, rate: float, damaged: set[int]) -> tuple[ClipDataset, LeftOut]:
    left_out = LeftOut(root / "work/left_out.jsonl", 4, ExtractSettings(max_failure_rate=rate))
    targets = [[number] for number in range(4)]
    return ClipDataset(root, some(root, damaged), targets, FRAMES, random=True, left_out=left_out), left_out


def test_the_next_clip_takes_the_place(tmp_path: Path) -> None:
    data, left_out = learnt(tmp_path, 0.5, {1, 3})
    found = [data[number] for number in range(4)]
    assert [example["labels"] for example in found] == [[0], [2], [2], [0]]
    assert [int(example["frames"][0, 0, 0, 0]) for example in found] == [0, 80, 80, 0]
    assert [data[number]["labels"] for number in range(4)] == [[0], [2], [2], [0]]
    assert list(left_out.read()) == ["c1", "c3"]
    assert left_out.read()["c1"].startswith("decode: ")


def test_a_clip_that_failed_is_not_read_again(tmp_path: Path) -> None:
    """Nor by those that go on after a kill: what a network disk keeps waiting would be waited for in every epoch."""
    data, left_out = learnt(tmp_path, 0.5, {1})
    assert data[1]["labels"] == [2]
    (tmp_path / "c1/1.png").write_bytes((tmp_path / "c0/1.png").read_bytes())
    later = ClipDataset(tmp_path, data.clips, data.targets, FRAMES, random=True, left_out=left_out)
    assert [data[1]["labels"], later[1]["labels"]] == [[2], [2]]


def test_too_many_are_an_error_and_one_alone_never_is(tmp_path: Path) -> None:
    data, left_out = learnt(tmp_path, 0.0, {1, 3})
    assert data[1]["labels"] == [2]
    batch = collate_clips([data[2], data[3]])
    assert isinstance(batch, FailedBatch)
    assert isinstance(batch.error, FailureRateError)
    assert str(left_out.path) in str(batch.error)


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    data, _ = learnt(tmp_path, 1.0, {0, 1, 2, 3})
    assert [data[2]["error"].kind for _ in range(2)] == ["decode", "decode"]


def test_a_line_that_a_kill_cut_off_does_not_count(tmp_path: Path) -> None:
    data, left_out = learnt(tmp_path, 1.0, {1})
    assert "error" not in data[1]
    with left_out.path.open("ab") as file:
        file.write(b'\n["c9", "dec')
    assert list(left_out.read()) == ["c1"]
    assert "error" not in data[1]
