"""Decoding: a clip on disk to the sampled, resized and cropped frames that the encoder sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.errors import ClipError
from extract.index import Clip
from extract.settings import FrameSettings, View

DECODER = f"opencv {cv2.__version__}"
"""Part of the feature fingerprint: decoders and resize filters differ in the last bits, and features with them."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_TAIL = 64
"""Bytes at the end of an image file that hold its end mark: a JPEG may carry a few more bytes after it."""
_INTERPOLATION = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}

# One decoding thread a process: workers and torch already fill the cores.
cv2.setNumThreads(1)

_PLAIN_VIEW = View()

Frame = NDArray[np.uint8]


def list_frames(folder: Path) -> list[str]:
    """Names of a frame folder's images in order of their numbers.

    Raises:
        ClipError: ``missing`` folder, ``empty`` folder, a gap in the numbering (``missing`` frames), or an image
            without a number or with another one's (``decode``).
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES)]
    except FileNotFoundError:
        raise ClipError("missing", f"{folder}: no such frame folder") from None
    except NotADirectoryError:
        raise ClipError("missing", f"{folder}: a file where a frame folder was expected") from None
    if not found:
        raise ClipError("empty", f"{folder}: no png or jpg frames")
    by_number: dict[int, str] = {}
    for name in sorted(found):
        number = _number(name)
        if number is None:
            raise ClipError("decode", f"{folder}/{name}: an image without a frame number")
        if number in by_number:
            raise ClipError("decode", f"{folder}: frame number {number} twice, {by_number[number]} and {name}")
        by_number[number] = name
    first, last = min(by_number), max(by_number)
    absent = next((number for number in range(first, last) if number not in by_number), None)
    if absent is not None:
        raise ClipError("missing", f"{folder}: frame number {absent} of {first}..{last} is absent")
    return [by_number[number] for number in range(first, last + 1)]


def _end_mark(name: str) -> bytes:
    return b"IEND\xaeB`\x82" if name.lower().endswith(".png") else b"\xff\xd9"


def _number(name: str) -> int | None:
    stem = name.rsplit(".", 1)[0]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return int(digits) if digits else None


def check_frames(folder: Path) -> int:
    """Number of frames in a folder, after decoding each.

    Once, while indexing, so that no training stops hours later at a damaged file.

    Raises:
        ClipError: as ``list_frames``, and ``decode`` for a truncated or damaged file.
    """
    names = list_frames(folder)
    for name in names:
        _read_image(folder / name)
    return len(names)


def sampled(n_frames: int, every: int, rng: np.random.Generator | None = None, phase: int = 0) -> list[int]:
    """Which frames of a clip are kept: one of every ``every``.

    The one at ``phase`` of each group (the last of a shorter group), or with ``rng`` (training only) one drawn from
    each group, so that all frames are seen over the epochs while the order and the rate stay.

    >>> sampled(10, 4)
    [0, 4, 8]
    """
    starts = range(0, n_frames, every)
    if rng is None:
        return [min(start + phase, n_frames - 1) for start in starts]
    return [int(rng.integers(start, min(start + every, n_frames))) for start in starts]


def read_clip(
    root: Path,
    clip: Clip,
    settings: FrameSettings,
    rng: np.random.Generator | None = None,
    view: View = _PLAIN_VIEW,
) -> NDArray[np.uint8]:
    """The frames of a clip as the encoder sees them.

    Args:
        root: the dataset's root, which ``clip.source`` is relative to.
        settings: sampling, resize and crop.
        rng: draws the sampled frames and one crop for the whole clip; None (extraction, evaluation) samples the
            first of each group and crops the centre, so that the result depends on the clip alone.
        view: which frames and which crop instead, deterministic as well; not together with ``rng``.

    Returns:
        (T, 3, crop, crop) uint8 RGB.

    Raises:
        ClipError: the clip is missing, empty or cannot be decoded.
    """
    path = root / clip.source
    if path.is_dir():
        names = list_frames(path)
        chosen = sampled(len(names), settings.keep_every, rng, view.phase)
        pixels = [_read_image(path / names[i]) for i in chosen]
    else:
        pixels = _read_video(path, clip, settings.keep_every, rng, view.phase)
    whole = round(settings.resize * view.scale)
    resized = [_resize(image, whole, settings) for image in pixels]
    top, left = _crop_corner(whole - settings.crop, view, rng)
    side = settings.crop
    stacked = np.stack([image[top : top + side, left : left + side] for image in resized])  # (T, crop, crop, 3) BGR
    return np.ascontiguousarray(stacked[..., ::-1].transpose(0, 3, 1, 2))


def _read_image(path: Path) -> Frame:
    data = np.fromfile(path, dtype=np.uint8)
    # OpenCV fills what a truncated file lacks with grey and only warns.
    if _end_mark(path.name) not in data[-_TAIL:].tobytes():
        raise ClipError("decode", f"{path}: truncated ({data.size} bytes, no end mark)")
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise ClipError("decode", f"{path}: not a readable image")
    return image.astype(np.uint8, copy=False)


def _read_video(path: Path, clip: Clip, every: int, rng: np.random.Generator | None, phase: int) -> list[Frame]:
    if not path.exists():
        raise ClipError("missing", f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ClipError("empty", f"{path}: zero bytes")
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise ClipError("decode", f"{path}: not a video that OpenCV can open")
        fps = video.get(cv2.CAP_PROP_FPS) or clip.fps
        first = round(clip.start * fps) if clip.start is not None else 0
        end = round(clip.end * fps) if clip.end is not None else None
        kept: list[Frame] = []
        offset = phase if rng is None else int(rng.integers(every))
        position = 0
        while (end is None or position < end) and video.grab():
            if position >= first:
                step = position - first
                if step % every == 0 and rng is not None:
                    offset = int(rng.integers(every))
                if step % every == offset:
                    done, image = video.retrieve()
                    if not done:
                        raise ClipError("decode", f"{path}: frame {position} cannot be decoded")
                    kept.append(image)
            position += 1
    finally:
        video.release()
    if not kept:
        raise ClipError("empty", f"{path}: no frames between {clip.start} and {clip.end} s")
    return kept


def _resize(image: Frame, side: int, settings: FrameSettings) -> Frame:
    if image.shape[:2] == (side, side):
        return image
    return cv2.resize(image, (side, side), interpolation=_INTERPOLATION[settings.interpolation])


def _crop_corner(slack: int, view: View, rng: np.random.Generator | None) -> Sequence[int]:
    """Top and left of the crop in a frame that is ``slack`` pixels larger."""
    if rng is None:
        left, top = view.crop
        return int(slack * top), int(slack * left)
    return [int(v) for v in rng.integers(0, slack + 1, size=2)]
