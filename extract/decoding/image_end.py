"""Whether an image file is whole: decoders fill what is not there with grey, and only warn.

Cameras pad files and tools append to them, so the end is looked for where it must be, not at the end of the file.
"""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In a JPEG's pixels: the end of them. A zero or the number of a restart after 0xff is part of them."""
_PIXELS = b"\xff\xda"
_HOLE = bytes(64)
"""Zeros that a JPEG has among its pixels only where the picture is flat."""
_ODD = b"\x55" * 16


def is_begun(data: bytes) -> bool:
    """Whether it begins as a PNG or JPEG does, or not at all."""
    return data[:2] in (b"", _PNG[:2], b"\xff\xd8")


def image_end(data: bytes) -> int | None:
    """Where the end mark of a PNG or JPEG begins, whatever follows it; None: it has none, or is neither."""
    if data.startswith(_PNG):
        at = len(_PNG)
        while at + 12 <= len(data):
            if data[at + 4 : at + 12] == _PNG_END:
                return at + 4
            at += 12 + int.from_bytes(data[at : at + 4])
        return None
    at = 2
    while data[:2] == b"\xff\xd8" and (mark := _MARK.search(data, at)) is not None:
        if data[mark.start() + 1] == 0xD9:
            return mark.start()
        # The rest of a part of a header, a thumbnail with an end mark of its own among them; pixels follow the last.
        at = mark.start() + 2 + int.from_bytes(data[mark.start() + 2 : mark.start() + 4])
    return None


def has_hole(data: bytes, end: int, image: NDArray[np.uint8]) -> bool:
    """Whether a JPEG has zeros where pixels were, as after a crash: what the decoder needs then ends before or after
    what the file has. Only a file with many zeros in a row is decoded again, twice.

    Args:
        end: of ``image_end``.
        image: (height, width, 3) uint8 RGB, as OpenCV decodes it.
    """
    if data.startswith(_PNG) or data.find(_HOLE, data.find(_PIXELS), end) < 0:
        return False
    if (image == image[0, 0]).all():  # of one colour: its pixels may take no bit that means anything
        return False

    def same(pixels: bytes) -> bool:
        again = cv2.imdecode(np.frombuffer(pixels + data[end:], np.uint8), cv2.IMREAD_COLOR_RGB)
        return again is not None and np.array_equal(again, image)

    return not same(data[:end] + _ODD) or same(data[: end - len(_ODD)] + _ODD)
