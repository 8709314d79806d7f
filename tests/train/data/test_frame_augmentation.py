"""Augmentation of frames: where a point goes, the same for a whole clip, drawn from seed, epoch and clip alone."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.dataset.clip_index import Clip
from extract.settings import FrameSettings
from train.data.clip_dataset import ClipDataset
from train.data.frame_augmentation import Warp, draw_warp
from train.settings import WarpSettings

WHOLE = FrameSettings(keep_every=1, resize=96, crop=96)


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """Six frames with the same white disc, 30 pixels right of the middle."""
    (tmp_path / "c").mkdir()
    image = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(image, (78, 48), 5, (255, 255, 255), -1)
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"c/{number:03d}.png"), image)
    return Clip("c", "train", "c", 6, 25.0, "text", "de_DE")


def disc(frame: np.ndarray) -> tuple[float, float]:
    """Centre of what is white: right of and below the middle of the frame."""
    rows, columns = np.nonzero(frame > 127)
    middle = (frame.shape[0] - 1) / 2
    return columns.mean() - middle, rows.mean() - middle


@pytest.mark.parametrize(
    "warp", [Warp(30, 1, 0, 0), Warp(0, 1.2, 0, 0), Warp(0, 1, -10, 7.5), Warp(-25, 0.85, 4, -3)], ids=str
)
def test_a_point_goes_where_trigonometry_says(warp: Warp) -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(image, (78, 48), 5, (255, 255, 255), -1)
    x, y = disc(image[..., 0])
    turn = math.radians(-warp.degrees)  # rows count downwards
    expected = (
        warp.scale * (math.cos(turn) * x - math.sin(turn) * y) + warp.right,
        warp.scale * (math.sin(turn) * x + math.cos(turn) * y) + warp.down,
    )
    assert disc(warp(image)[..., 0]) == pytest.approx(expected, abs=0.3)


def test_draws_stay_in_their_bounds_and_happen_as_often_as_asked() -> None:
    settings = WarpSettings()
    drawn = [draw_warp(settings, 0, epoch, clip) for epoch in range(20) for clip in range(200)]
    warps = [warp for warp in drawn if warp is not None]
    assert len(warps) / len(drawn) == pytest.approx(7 / 8, abs=0.03)
    for values, low, high in (
        ([warp.degrees for warp in warps], -30, 30),
        ([warp.scale - 1 for warp in warps], -0.2, 0.2),
        ([warp.right for warp in warps], -10, 10),
        ([warp.down for warp in warps], -10, 10),
    ):
        assert low <= min(values) < 0.95 * low
        assert 0.95 * high < max(values) <= high
        assert np.count_nonzero(values) / len(drawn) == pytest.approx(0.5, abs=0.04)


def test_a_clip_moves_as_one_and_anew_in_every_epoch(tmp_path: Path, clip: Clip) -> None:
    def seen(epoch: int, seed: int = 3, random: bool = True) -> np.ndarray:
        data = ClipDataset(
            tmp_path, [clip], [[1]], WHOLE, random=random, seed=seed, warp=WarpSettings(probability=1)
        )  # fmt: skip
        data.set_epoch(epoch)
        return data[0]["frames"].numpy()

    first = seen(0)
    assert all(np.array_equal(first[0], frame) for frame in first)
    np.testing.assert_array_equal(first, seen(0))
    places = [disc(frames[0][0]) for frames in (first, seen(1), seen(0, seed=4))]
    assert all(math.dist(a, b) > 0.5 for a, b in zip(places, places[1:] + places[:1], strict=True))
    assert disc(seen(0, random=False)[0][0]) == pytest.approx((30.5, 0.5), abs=0.3)


def test_it_leaves_the_draws_of_crop_and_sampling_alone(tmp_path: Path, clip: Clip) -> None:
    frames = FrameSettings(keep_every=2, resize=110, crop=96)
    still = WarpSettings(probability=1, rotation=0, scale=0, translation=0)
    plain, warped = (
        ClipDataset(tmp_path, [clip], [[1]], frames, random=True, warp=warp)[0]["frames"] for warp in (None, still)
    )
    np.testing.assert_array_equal(plain, warped)
