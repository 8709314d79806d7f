"""What a container says of its pictures beside what a decoder tells: when they begin, how long an edit list shows them.

OpenCV knows neither, and both decoders must cut at the same times. Only the few bytes that say it are read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MOST = 2**26
"""Bytes of the part of an MP4 that describes it, 40 times what a recording of an hour needs."""
_SEGMENT, _CLUSTER, _TIME, _SCALE, _INFO = 0x18538067, 0x1F43B675, 0xE7, 0x2AD7B1, 0x1549A966
_LEVEL_ONE = {_CLUSTER, _INFO, 0x114D9B74, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770, 0xEC, 0xBF}
"""All elements that a Matroska segment may hold."""


def mp4_edits(path: Path) -> tuple[float, float]:
    """Of the pictures of an MP4: seconds after which a player shows the first one, and how many seconds it shows.

    A cut without encoding leaves the frames before it in the file, and an edit list that hides them.

    Returns:
        0 for what the file does not say.
    """
    with path.open("rb") as file:
        movie = _movie(file)
    delays: dict[bool, list[float]] = {True: [], False: []}
    shown = 0.0
    try:
        scale = _movie_scale(movie)
        for track in _named(movie, b"trak"):
            pictures = b"vide" in next(_named(next(_named(track, b"mdia"), b""), b"hdlr"), b"")[8:12]
            edits = list(_edits(next(_named(next(_named(track, b"edts"), b""), b"elst"), b"")))
            leading = next((i for i, (_, begins) in enumerate(edits) if begins >= 0), len(edits))
            delays[pictures].append(sum(length for length, _ in edits[:leading]) / scale)
            if pictures and not shown:
                shown = sum(length for length, begins in edits if begins >= 0) / scale
    except (struct.error, ZeroDivisionError):  # damaged: the decoder says of what
        return 0.0, 0.0
    if not delays[True]:
        return 0.0, 0.0
    first = delays[True][0]
    return first - min(first, *delays[False]) if delays[False] else 0.0, shown


def matroska_start(path: Path) -> float:
    """Time stamp, in seconds, at which a Matroska file begins: that of its first cluster, of pictures or sound."""
    scale = 1_000_000
    with path.open("rb") as file:
        for name, at, size in _elements(file):
            if name == _INFO:
                file.seek(at)
                info = file.read(min(size, 4096))
                place = info.find(_SCALE.to_bytes(3))
                if 0 <= place < len(info) - 3 and (length := info[place + 3] & 0x7F) <= 8:
                    scale = int.from_bytes(info[place + 4 : place + 4 + length]) or scale
            elif name == _CLUSTER:
                file.seek(at)
                for _ in range(4):  # a checksum and such may come first
                    inner, long = _number(file, keep=True), _number(file)
                    if inner is None or long is None or long > 4096:
                        break
                    held = file.read(long)
                    if inner == _TIME:
                        return int.from_bytes(held[:8]) * scale / 1e9
                break
    return 0.0


def matroska_is_whole(path: Path) -> bool:
    """Whether all elements of a Matroska file are there to the last byte of its segment; False where it does not say.

    Its duration is that of its longest track: pictures may well end before.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        end = 0
        for name, at, length in _elements(file):
            if length < 0 or at + length > size:
                return False
            if name == _SEGMENT:
                end = at + length
            elif name not in _LEVEL_ONE:
                return False
            elif at + length == end:
                return True
    return False


def _movie(file: BinaryIO) -> bytes:
    at, whole = 0, os.fstat(file.fileno()).st_size
    while len(head := file.read(16)) >= 8:
        size, name = struct.unpack(">I4s", head[:8])
        start = 8
        if size == 1 and len(head) == 16:
            size, start = struct.unpack(">Q", head[8:])[0], 16
        if name == b"moov":
            file.seek(at + start)
            return file.read(min(size - start, _MOST)) if size > start else b""
        at += size
        if size < start or at > whole:  # damaged
            break
        file.seek(at)
    return b""


def _named(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """The contents of the boxes of that name, right below."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        if name == wanted:
            yield data[at + 8 : at + size]
        at += size


def _movie_scale(movie: bytes) -> int:
    header = next(_named(movie, b"mvhd"), b"")
    return int(struct.unpack_from(">I", header, 20 if header[:1] == b"\1" else 12)[0])


def _edits(listed: bytes) -> Iterator[tuple[int, int]]:
    """Length in the movie's time, and where it begins in the track's; -1: nothing is shown."""
    form = ">QqI" if listed[:1] == b"\1" else ">IiI"
    most = (len(listed) - 8) // struct.calcsize(form)
    for number in range(min(struct.unpack_from(">I", listed, 4)[0], most) if listed else 0):
        length, begins, _ = struct.unpack_from(form, listed, 8 + number * struct.calcsize(form))
        yield length, begins


def _elements(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Name, place and length of the segment's contents and of the elements in it; -1: no length is said."""
    whole = os.fstat(file.fileno()).st_size
    while (name := _number(file, keep=True)) is not None and (length := _number(file)) is not None:
        at = file.tell()
        if name == 0x1A45DFA3:  # the header of the file
            file.seek(min(at + length, whole))
            continue
        unknown = length in {2 ** (7 * width) - 1 for width in range(1, 9)}
        yield name, at, -1 if unknown else length
        if name != _SEGMENT:
            if unknown or at + length > whole:  # no file has a place beyond 2 ** 63, where damage may point
                return
            file.seek(at + length)


def _number(file: BinaryIO, keep: bool = False) -> int | None:
    """A number of 1 to 8 bytes, whose leading zeros say how many; of a name, the mark of the length is kept."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    if len(rest) < width - 1:
        return None
    return int.from_bytes(first + rest) if keep else int.from_bytes(bytes([first[0] ^ 1 << (8 - width)]) + rest)
