"""A clip that cannot be read, or not in time, is a value."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import read_clip
from extract.decoding.read_or_failure import found_or_failure, read_or_failure
from extract.errors import ClipError, InputError
from extract.settings import FrameSettings

FRAMES = FrameSettings(keep_every=1, resize=16, crop=16)


def clip(source: str) -> Clip:
    return Clip("c", "train", source, 0, 25.0, "text", "de_DE")


@pytest.mark.parametrize("seconds", [None, 60])
def test_frames_or_the_failure(tmp_path: Path, seconds: float | None) -> None:
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/1.png"), np.zeros((20, 20, 3), np.uint8))
    found = read_or_failure(tmp_path, clip("a"), FRAMES, seconds=seconds)
    np.testing.assert_array_equal(found, read_clip(tmp_path, clip("a"), FRAMES))
    absent = read_or_failure(tmp_path, clip("b"), FRAMES, seconds=seconds)
    assert isinstance(absent, ClipError)
    assert absent.kind == "missing"


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(116, "stale"), cv2.error("x"), MemoryError()])
def test_what_a_system_says_of_one_file_is_its_failure(error: Exception) -> None:
    def work() -> None:
        raise error

    found = found_or_failure(work, "root, a.mp4", 60)
    assert isinstance(found, ClipError)
    assert str(found).startswith(f"decode: root, a.mp4: {type(error).__name__}")


def test_what_is_wrong_with_all_clips_is_raised() -> None:
    def work() -> None:
        raise InputError("pack", expected="a", found="b", remedy="c")

    with pytest.raises(InputError):
        found_or_failure(work, "a", 60)


def test_one_that_hangs_names_itself() -> None:
    began = time.monotonic()
    found = found_or_failure(lambda: time.sleep(30), "root, a.mp4", 0.05)
    assert time.monotonic() - began < 10
    assert isinstance(found, ClipError)
    assert str(found) == "timeout: root, a.mp4: not read within 0.05 s"
