"""PNG frames by kornia-rs, where the extra ``fast`` brings it: OpenCV's pixels in little more than half of its time."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from extract.clip_limits import MAX_PIXELS

try:
    import kornia_rs
except ModuleNotFoundError:
    kornia_rs = None  # type: ignore[assignment]

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
    if kornia_rs is None or (size := _plain_size(data)) is None:
        return None
    try:
        image: NDArray[np.uint8] = kornia_rs.io.decode_image_png_u8(data, size, "rgb")
    except Exception:  # it has no class of its own; a wrong checksum is among the reasons
        return None
    return image


def _plain_size(data: bytes) -> tuple[int, int] | None:
    """Height and width, if there are pixels and nothing else that matters."""
    if not data.startswith(_SIGNATURE):
        return None
    place, size = len(_SIGNATURE), None
    while place + _CHUNK.size + 4 <= len(data):
        length, name = _CHUNK.unpack_from(data, place)
        if name in _OPENCVS:
            return None
        if size is None:
            if name != b"IHDR" or length != _HEADER.size or len(data) < place + _CHUNK.size + length:
                return None
            width, height, *form = _HEADER.unpack_from(data, place + _CHUNK.size)
            if tuple(form) != _PLAIN_RGB or width * height > MAX_PIXELS:
                return None
            size = height, width
        if name == b"IEND":
            return None if length else size  # kornia-rs takes it with any length
        place += _CHUNK.size + length + 4
    return None
