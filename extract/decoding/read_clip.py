"""What the encoder sees of a clip: sampled, resized and cropped frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.clip_limits import require_length
from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import Frame, cut_rows, list_frames, read_images, resize
from extract.decoding.sampling import sampled
from extract.decoding.video_files import read_video
from extract.settings import FrameSettings, View


class FrameSource(Protocol):
    """Frames that lie elsewhere than in a dataset's own files: packs of them."""

    @property
    def quality(self) -> int | None:
        """Of JPEG; None: the pixels are those of the originals."""

    def squares(
        self, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None = None, phase: int = 0
    ) -> Iterator[Frame]:
        """As ``read_squares``, which reads the originals."""

    def failures(self, split: str) -> Mapping[str, Any]:
        """Clips of a split that it could not take, and why."""


Source = Path | FrameSource
"""Where frames come from: a dataset's root, or what stands for it."""

_PLAIN = View()


def read_clip(
    source: Source,
    clip: Clip,
    settings: FrameSettings,
    rng: np.random.Generator | None = None,
    view: View = _PLAIN,
    warp: Callable[[Frame], Frame] | None = None,
) -> NDArray[np.uint8]:
    """The frames of a clip as the encoder sees them.

    Args:
        source: the dataset's root, which ``clip.source`` is relative to, or packs of its frames.
        settings: decoder, sampling, resize and crop.
        rng: draws one crop for the whole clip and the sampled frames; None (extraction, evaluation) samples the
            first of each group and crops the centre, so that the result depends on the clip alone.
        view: which frames and which crop instead, deterministic as well; not together with ``rng``.
        warp: what is done to each frame before the crop, in training; it keeps the frame's size.

    Returns:
        (T, 3, crop, crop) uint8 RGB.

    Raises:
        ClipError: the clip is missing, empty, cannot be decoded or is too large (``extract.clip_limits``).
        InputError: PyAV is asked for and not installed; or the pack lacks the clip, was made for other settings, or
            is damaged.
    """
    side = settings.crop
    scaled = settings.model_copy(update={"resize": round(settings.resize * view.scale)})
    top, left = crop_corner(scaled.resize - side, view, rng)
    read = functools.partial(read_squares, source) if isinstance(source, Path) else source.squares
    kept: list[Frame] = []
    for square in read(clip, scaled, rng, view.phase):
        if warp is not None:
            square = warp(square)
        planes = np.empty((3, side, side), np.uint8)
        cv2.split(square[top : top + side, left : left + side], list(planes))  # numpy's transposed copy is slower
        kept.append(planes)
        require_length(Path(clip.source), len(kept), side)
    return np.stack(kept)


def read_squares(
    root: Path, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None = None, phase: int = 0
) -> Iterator[Frame]:
    """The sampled frames of a clip's own files as squares of ``settings.resize`` pixels, RGB, one by one.

    Raises:
        ClipError, InputError: as ``read_clip``.
    """
    path = root / clip.source
    read = _read_folder if path.is_dir() else read_video
    yield from read(path, clip, settings, rng, phase)


def _read_folder(
    path: Path, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None, phase: int
) -> Iterator[Frame]:
    names = list_frames(path)
    for image in read_images(path, [names[i] for i in sampled(len(names), settings.keep_every, rng, phase)]):
        yield resize(cut_rows(path, image, settings.crop_rows), settings.resize, settings.interpolation)


def crop_corner(slack: int, view: View, rng: np.random.Generator | None) -> Sequence[int]:
    """Top and left of the crop in a frame that is ``slack`` pixels larger."""
    if rng is None:
        left, top = view.crop
        return int(slack * top), int(slack * left)
    return [int(v) for v in rng.integers(0, slack + 1, size=2)]
