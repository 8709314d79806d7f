"""Frame folders: numbered images of one clip, decoded by OpenCV, or what is the same and quicker."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.decoding.image_end import has_hole, image_end, is_begun
from extract.decoding.png_decoder import decode_png
from extract.decoding.stopwatch import Stopwatch
from extract.errors import ClipError

SUFFIXES = (".png", ".jpg", ".jpeg")
_INTERPOLATION = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}

# One decoding thread a process: workers and torch already fill the cores.
cv2.setNumThreads(1)

READING = Stopwatch()
"""Waiting for the bytes of images, in this process. Video decoders read by themselves, within decoding."""

Frame = NDArray[np.uint8]
"""(height, width, 3) uint8."""


def list_frames(folder: Path) -> list[str]:
    """Names of a frame folder's images in order of their numbers.

    Raises:
        ClipError: ``missing`` folder, ``empty`` folder, a gap in the numbering (``missing`` frames), or an image
            without a number or with another one's (``decode``).
    """
    try:
        with os.scandir(folder) as entries:
            images = [entry for entry in entries if is_image(entry.name)]
            odd = next((entry.name for entry in images if not entry.is_file()), None)
    except FileNotFoundError:
        raise ClipError("missing", f"{folder}: no such frame folder") from None
    except NotADirectoryError:
        raise ClipError("missing", f"{folder}: a file where a frame folder was expected") from None
    if odd is not None:  # a pipe would be waited for, a link may lead nowhere
        raise ClipError("decode", f"{folder}/{odd}: not a file")
    if not images:
        raise ClipError("empty", f"{folder}: no png or jpg frames")
    by_number: dict[int, str] = {}
    for name in sorted(entry.name for entry in images):
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


def is_image(name: str) -> bool:
    """Whether a file of that name is a frame; hidden ones are not, such as ``._1.png`` that a Mac leaves."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def check_folder(folder: Path) -> int:
    """Number of frames in a folder, after decoding each.

    Once, while indexing, so that no training stops hours later at a damaged file.

    Raises:
        ClipError: as ``list_frames``, and ``decode`` for a truncated or damaged file.
    """
    names = list_frames(folder)
    for _ in read_images(folder, names):
        pass
    return len(names)


def read_images(folder: Path, names: Iterable[str]) -> Iterator[Frame]:
    """The images one by one, RGB, whatever their files hold: grey, palette, alpha, 16 bits, CMYK, EXIF rotation.

    Raises:
        ClipError: ``decode``, a truncated or damaged file, or one that declares too many pixels.
    """
    for name in names:
        yield _read_image(folder / name)


def resize(image: Frame, side: int, interpolation: str) -> Frame:
    """To a square, by OpenCV's filter of that name."""
    if image.shape[:2] == (side, side):
        return image
    square: Frame = cv2.resize(image, (side, side), interpolation=_INTERPOLATION[interpolation])
    return square


def cut_rows(path: Path, image: Frame, rows: tuple[int, int] | None) -> Frame:
    """The rows of a frame that are kept (``FrameSettings.crop_rows``).

    Raises:
        ClipError: ``decode``, the frame does not have them.
    """
    if rows is None:
        return image
    if rows[1] > image.shape[0]:
        raise ClipError("decode", f"{path}: a frame of {image.shape[0]} rows, frames.crop_rows ends at {rows[1]}")
    return image[rows[0] : rows[1]]


def _read_image(path: Path) -> Frame:
    with READING:
        data = path.read_bytes()
    # OpenCV fills what a truncated file lacks with grey and only warns.
    if (end := image_end(data)) is None:
        reason = f"truncated ({len(data)} bytes, no end mark)" if is_begun(data) else "neither a png nor a jpg image"
        raise ClipError("decode", f"{path}: {reason}")
    if (plain := decode_png(data)) is not None:
        return plain
    try:
        image: Frame | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:  # it declares more than OPENCV_IO_MAX_IMAGE_PIXELS
        raise ClipError("decode", f"{path}: OpenCV refuses it: {error.err}") from None
    if image is None:
        raise ClipError("decode", f"{path}: not a readable image")
    if has_hole(data, end, image):
        raise ClipError("decode", f"{path}: damaged, zeros stand where pixels were")
    return image.astype(np.uint8, copy=False)


def _number(name: str) -> int | None:
    stem = name.rsplit(".", 1)[0]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return int(digits) if digits else None
