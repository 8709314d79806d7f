"""The file of a block of a frame pack: encoded frames one after the other, their offsets and their checksums."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from extract.decoding.frame_folders import READING
from extract.fingerprint import file_sha256
from extract.store import json_records

SCHEMA = "fla-slt frame pack 1"
REBUILD = "Restore it from a copy, or delete that block's commit record and run `slt pack --force`."


class BlockFile:
    """An open block of a frame pack: one HDF5 file, for reading.

    Args:
        index_sha256: of its offsets and checksums, as committed.

    Raises:
        InputError: it is absent, no HDF5 file, or another one than was committed.
    """

    def __init__(self, path: Path, index_sha256: str) -> None:
        self.path = path
        with _reading(self.path):
            # Locks fail on many network disks, and nothing ever writes to a file that has its name.
            self._file = h5py.File(self.path, "r", locking=False)
            self._data: h5py.Dataset = self._file["data"]
            stated = sum(self._file[name].nbytes for name in ("data", "offsets", "crc32"))
            if stated > path.stat().st_size:  # compressed, or of values that are nowhere
                raise ValueError(f"{stated} bytes in a file of {path.stat().st_size}")
            self._offsets: list[int] = self._file["offsets"][:].tolist()
            self._crc32: list[int] = self._file["crc32"][:].tolist()
            found = _index_sha256(self._file["offsets"][:], self._file["crc32"][:])
        if found != index_sha256:
            raise json_records.damaged(str(self.path), "other offsets or checksums", REBUILD)

    def __getitem__(self, frame: int) -> np.ndarray:
        """(bytes,) uint8: one encoded frame, checked.

        Raises:
            InputError: its bytes are not those that were written.
        """
        with _reading(self.path), READING:
            encoded: np.ndarray = self._data[self._offsets[frame] : self._offsets[frame + 1]]
        if zlib.crc32(encoded.data) != self._crc32[frame]:
            raise json_records.damaged(str(self.path), f"other bytes in its frame {frame}", REBUILD)
        return encoded

    def close(self) -> None:
        self._file.close()


def write_file(folder: Path, block_id: str, frames: Sequence[bytes], fingerprint: str) -> tuple[str, str, str]:
    """Write encoded frames beside, then rename: the file is there as a whole or not at all.

    Its name ends in its digest: two that write the same block write the same file, and whoever is last is right.

    Args:
        folder: of the pack.

    Returns:
        Its name relative to ``folder``, its SHA-256, and that of its offsets and checksums.
    """
    offsets = np.cumsum([0, *map(len, frames)], dtype="<i8")
    crc32 = np.array([zlib.crc32(frame) for frame in frames], "<u4")
    (folder / "blocks").mkdir(parents=True, exist_ok=True)
    partial = folder / "blocks" / f"{block_id}-{uuid.uuid4().hex}.partial"
    try:
        with h5py.File(partial, "w", locking=False) as file:
            data = file.create_dataset("data", (int(offsets[-1]),), np.uint8)
            for frame, start, end in zip(frames, offsets, offsets[1:], strict=False):
                data[start:end] = np.frombuffer(frame, np.uint8)
            file["offsets"], file["crc32"] = offsets, crc32
            file.attrs["schema"], file.attrs["fingerprint"] = SCHEMA, fingerprint
        digest = file_sha256(partial)
        name = file_name(block_id, digest)
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    return name, digest, _index_sha256(offsets, crc32)


def file_name(block_id: str, sha256: str) -> str:
    """Of the file of a block, relative to the pack's folder."""
    return f"blocks/{block_id}-{sha256[:16]}.h5"


def _index_sha256(offsets: np.ndarray, crc32: np.ndarray) -> str:
    return hashlib.sha256(offsets.astype("<i8").tobytes() + crc32.astype("<u4").tobytes()).hexdigest()


class _reading:  # noqa: N801  (a context manager that is used as a function; a generator would cost more than the read)
    """Turns what h5py raises at damaged files into one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)):
            found = " ".join(f"{type(error).__name__}: {error}".split())
            raise json_records.damaged(str(self.path), found, REBUILD) from error
