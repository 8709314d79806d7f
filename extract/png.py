"""PNG frames by libspng, where the extra ``fast`` brings it: OpenCV's pixels in half of its time."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from extract.limits import MAX_PIXELS

try:
    import pyspng
except ModuleNotFoundError:
    pyspng = None

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
"""Length of its content, and name; a checksum of four bytes stands after the content."""
_HEADER = struct.Struct(">IIBBBBB")
"""Content of the first chunk: width, height, bits a channel, colours, compression, filter, interlacing."""
_PLAIN_RGB = (8, 2, 0, 0, 0)
_OPENCVS = frozenset({b"eXIf", b"tRNS", b"acTL"})
"""Chunks whose meaning (rotation, transparency, animation) is OpenCV's business."""


def decode_png(data: bytes) -> NDArray[np.uint8] | None:
    """(height, width, 3) RGB of a PNG of 8 bits a channel, without loss and so the same as OpenCV's.

    Returns:
        None of any other file, and of a damaged one: what it is or what ails it is for OpenCV to say.
    """
    if pyspng is None or not _is_plain(data):
        return None
    width, height, *_ = _HEADER.unpack_from(data, len(_SIGNATURE) + _CHUNK.size)
    try:
        image: NDArray[np.uint8] = pyspng.load(data)
    except RuntimeError:
        return None
    return image if image.shape == (height, width, 3) else None


def _is_plain(data: bytes) -> bool:
    """Whether there are pixels and nothing else that matters, in chunks that have the checksums that they were written
    with: pyspng lets it pass when they were damaged since."""
    if not data.startswith(_SIGNATURE):
        return False
    place, view = len(_SIGNATURE), memoryview(data)
    while place + _CHUNK.size + 4 <= len(data):
        length, name = _CHUNK.unpack_from(data, place)
        start, end = place + _CHUNK.size, place + _CHUNK.size + length
        if name in _OPENCVS or zlib.crc32(view[place + 4 : end]).to_bytes(4, "big") != view[end : end + 4]:
            return False
        if place == len(_SIGNATURE):
            if name != b"IHDR" or length != _HEADER.size:
                return False
            width, height, *form = _HEADER.unpack_from(data, start)
            if tuple(form) != _PLAIN_RGB or width * height > MAX_PIXELS:
                return False
        if name == b"IEND":
            return True
        place = end + 4
    return False
