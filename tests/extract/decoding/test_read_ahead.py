"""Files are asked for before they are read, and never are the reason for an error."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.dataset.clip_index import Clip
from extract.decoding.read_ahead import read_ahead


def clip(source: str, **fields: float) -> Clip:
    return Clip("a", "train", source, 9, 25.0, "", "de_DE", **fields)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that the system was told of; it is told all the same."""
    names: list[str] = []
    advise = os.posix_fadvise

    def note(file: int, *rest: int) -> None:
        names.append(Path(f"/proc/self/fd/{file}").readlink().name)
        advise(file, *rest)

    monkeypatch.setattr(os, "posix_fadvise", note)
    return names


def test_only_sampled_frames_are_asked_for(tmp_path: Path, asked: list[str]) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(9):
        cv2.imwrite(str(folder / f"images{number:04d}.png"), np.zeros((8, 8, 3), np.uint8))
    read_ahead(tmp_path, clip("a"), 4)
    assert asked == ["images0000.png", "images0004.png", "images0008.png"]
    asked.clear()
    read_ahead(tmp_path, clip("a"), 4, {0, 2})
    assert asked == ["images0000.png", "images0002.png", "images0004.png", "images0006.png", "images0008.png"]


def test_a_video_is_asked_for_as_a_whole_and_not_where_it_holds_other_clips(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    read_ahead(tmp_path, clip("a.mp4"), 4)
    assert asked == ["a.mp4"]
    read_ahead(tmp_path, clip("a.mp4", start=1.0, end=2.0), 4)
    assert asked == ["a.mp4"]


@pytest.mark.parametrize("content", [None, "empty", "gap"])
def test_what_cannot_be_read_is_left_to_the_reader(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "a").mkdir()
    if content == "gap":
        for number in (1, 3):
            (tmp_path / f"a/images{number:04d}.png").write_bytes(b"")
    before = len(list(Path("/proc/self/fd").iterdir()))
    read_ahead(tmp_path, clip("a"), 4)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
