"""Augmentation of frames: one rotation, scaling and shift for all frames of a clip, so that only the camera moves."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from extract.decoding.frame_folders import Frame
from train.settings import WarpSettings

_STREAM = 0x77617270
"""Sets these draws apart from those of crop and sampled frames, which are the same with and without augmentation."""


@dataclass(frozen=True, slots=True)
class Warp:
    """What happens to every frame of a clip."""

    degrees: float
    """Counter-clockwise, around the middle."""
    scale: float
    """Above 1 the signer is larger."""
    right: float
    down: float
    """Pixels of the resized frame."""

    def __call__(self, frame: Frame) -> Frame:
        """A square frame to one of the same size, in one interpolation; black where there was nothing."""
        side = frame.shape[0]
        middle = (side - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), self.degrees, self.scale)
        matrix[:, 2] += (self.right, self.down)
        moved: Frame = cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        return moved


def draw_warp(settings: WarpSettings, seed: int, epoch: int, clip: int) -> Warp | None:
    """The warp of a clip in an epoch, from these numbers alone; None: frames stay as they are."""
    rng = np.random.default_rng([seed, epoch, clip, _STREAM])
    drawn = (rng.random(3) < settings.probability).tolist()
    # Always all of them, so that a setting of one does not move the others.
    angle, scale, right, down = rng.uniform(-1, 1, size=4).tolist()
    if not any(drawn):
        return None
    return Warp(
        degrees=settings.rotation * angle * drawn[0],
        scale=1 + settings.scale * scale * drawn[1],
        right=settings.translation * right * drawn[2],
        down=settings.translation * down * drawn[2],
    )
