"""A clip by itself, without an index: a video file, a folder of frames, or an array of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import Frame, cut_rows, resize
from extract.decoding.read_clip import read_clip
from extract.decoding.sampling import sampled
from extract.errors import InputError
from extract.settings import FrameSettings

FORMS = "a video file, a folder of frames, or a (T, H, W, 3) uint8 array of RGB"


class FrameArray:
    """Frames in memory, as a source of ``read_clip``.

    Args:
        frames: (T, H, W, 3) uint8 RGB, every frame of the clip.
    """

    quality = None

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self.frames = frames

    def squares(
        self, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None = None, phase: int = 0
    ) -> Iterator[Frame]:
        """As ``read_squares``."""
        for number in sampled(len(self.frames), settings.keep_every, rng, phase):
            rows = cut_rows(Path(clip.source), self.frames[number], settings.crop_rows)
            yield resize(rows, settings.resize, settings.interpolation)

    def failures(self, split: str) -> Mapping[str, Any]:
        """None."""
        return {}


def prepare(clip: str | os.PathLike[str] | NDArray[np.uint8], settings: FrameSettings) -> NDArray[np.uint8]:
    """A clip as an encoder with these settings sees it: sampled, resized, cropped in the centre.

    Args:
        clip: a video file, a folder of frames, or (T, H, W, 3) uint8 RGB of any size, all frames of the clip.

    Returns:
        (sampled frames, 3, crop, crop) uint8 RGB.

    Raises:
        InputError: no such file, or an array of another shape or type.
        ClipError: the file or folder cannot be decoded, or is too large.
    """
    if isinstance(clip, str | os.PathLike):
        path = Path(clip).absolute()
        if not path.exists():
            raise InputError(clip, expected=FORMS, found="nothing there", remedy="Check the path.")
        return read_clip(path.parent, _named(path.name), settings)
    frames = np.asarray(clip)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        found = f"{type(clip).__name__} {frames.shape} {frames.dtype}"
        raise InputError("frames", expected=FORMS, found=found, remedy="Give all frames of one clip, not normalised.")
    return read_clip(FrameArray(frames), _named("frames"), settings)


def _named(source: str) -> Clip:
    return Clip(id=source, split="", source=source, n_frames=0, fps=0.0, text="", language="")
