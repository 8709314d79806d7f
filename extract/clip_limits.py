"""What a clip may cost: files that declare more are failures of their own, not the death of the worker."""

from __future__ import annotations

from pathlib import Path

from extract.errors import ClipError

MAX_PIXELS = 2**26
"""Of one frame: twice as many as 8K video has, 200 MB as RGB."""

MAX_CLIP_BYTES = 2**30
"""Of the sampled and cropped frames of one clip: 7133 of 224 x 224, a quarter of an hour at 25 fps, one of four kept.
A worker holds some clips at once."""


def require_pixels(path: Path, width: int, height: int) -> None:
    """
    Raises:
        ClipError: ``decode``, more than ``MAX_PIXELS``.
    """
    if width * height > MAX_PIXELS:
        raise ClipError("decode", f"{path}: {width} x {height} pixels, more than {MAX_PIXELS} a frame")


def require_length(path: Path, frames: int, side: int) -> None:
    """
    Raises:
        ClipError: ``decode``, the frames of ``side`` x ``side`` pixels would take more than ``MAX_CLIP_BYTES``.
    """
    if frames * side * side * 3 > MAX_CLIP_BYTES:
        detail = (
            f"{frames} sampled frames of {side} x {side} or more, over {MAX_CLIP_BYTES >> 20} MiB: cut it into clips"
        )
        raise ClipError("decode", f"{path}: {detail}")
