"""Rows that are cut off before the resize: the same in frame folders and videos, and part of the fingerprint."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import resize
from extract.decoding.read_clip import read_clip
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import ClipError
from extract.fingerprint import differences
from extract.settings import Decoder, EncoderSettings, FrameSettings, View

ROWS = (16, 64)


def halves(number: int) -> np.ndarray:
    """Red above row 16, a ramp of blue below; 64 rows."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:16, :, 2] = 255
    image[16:, :, 0] = np.linspace(40, 200, 64)[None, :] + number
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    video = cv2.VideoWriter(str(tmp_path / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (64, 64))
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"frames/{number:06d}.png"), halves(number))
        video.write(halves(number))
    video.release()
    return tmp_path


def clip(source: str) -> Clip:
    return Clip(id="a", split="train", source=source, n_frames=6, fps=25.0, text="x", language="zh_CN")


def settings(decoder: Decoder = "opencv", rows: tuple[int, int] | None = ROWS) -> FrameSettings:
    return FrameSettings(decoder=decoder, keep_every=2, resize=32, crop=32, crop_rows=rows)


def test_of_frame_folders(root: Path) -> None:
    frames = read_clip(root, clip("frames"), settings())
    expected = [resize(halves(n)[16:], 32, "area")[..., ::-1].transpose(2, 0, 1) for n in (0, 2, 4)]
    np.testing.assert_array_equal(frames, expected)
    assert read_clip(root, clip("frames"), settings(rows=None))[:, 0].max() == 255
    assert frames[:, 0].max() == 0


@pytest.mark.parametrize("decoder", ["opencv", "pyav"])
@pytest.mark.parametrize("phase", [0, 1])
def test_of_videos(root: Path, decoder: Decoder, phase: int) -> None:
    seen = read_clip(root, clip("video.mp4"), settings(decoder), view=View(phase=phase)).astype(int)
    drawn = read_clip(root, clip("frames"), settings(), view=View(phase=phase)).astype(int)
    assert seen.shape == drawn.shape
    assert np.abs(seen - drawn)[:, :, 2:].max() < 24  # compression; the edge of the red part bleeds into the first rows
    assert np.abs(seen - drawn).mean() < 6


@pytest.mark.parametrize("source", ["frames", "video.mp4"])
def test_rows_that_a_frame_does_not_have(root: Path, source: str) -> None:
    with pytest.raises(ClipError, match=r"a frame of 64 rows, frames\.crop_rows ends at 512"):
        read_clip(root, clip(source), settings(rows=(80, 512)))


def test_no_row_is_refused() -> None:
    with pytest.raises(ValidationError, match="holds no row"):
        settings(rows=(64, 64))


def test_the_fingerprint_has_it_when_it_is_set() -> None:
    backbone = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]}
    encoder = VisualEncoder.from_settings(EncoderSettings(backbone=backbone, width=8), settings(rows=None))
    plain = feature_provenance(encoder, "float16")
    assert "crop_rows" not in plain["frames"]  # features from before there was such a setting stay valid
    encoder.config.frames = settings().model_dump(mode="json")
    assert differences(plain, feature_provenance(encoder, "float16")) == ["frames.crop_rows.0", "frames.crop_rows.1"]
