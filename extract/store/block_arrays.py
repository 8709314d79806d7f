"""The arrays of one block in a feature store: features and offsets, written once, by one process.

- ``blocks/<block>-<attempt>/features``: (sum of lengths, C) float16 or float32, one file (a shard) of chunks of about
  128 KiB, each compressed by zstd and checksummed by crc32c
- ``blocks/<block>-<attempt>/offsets``: (n + 1,) int64; clip i is ``features[offsets[i]:offsets[i + 1]]``
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from extract.errors import InputError
from extract.store import json_records

_CHUNK_BYTES = 2**17
"""Small, so that one clip is read quickly; the file is one whatever their number."""


def write(storage: Store, block_id: str, features: NDArray[Any], lengths: Sequence[int]) -> tuple[str, int]:
    """Write a block's arrays into a new folder. When that fails, what was written of them is removed.

    Args:
        features: (sum of lengths, C).

    Returns:
        The folder, and the compressed size of the features in bytes.

    Raises:
        InputError: no space, no permission, no answer.
    """
    group = f"blocks/{block_id}-{uuid.uuid4().hex[:12]}"
    try:
        with json_records.reaching(storage):
            folder = zarr.create_group(storage, path=group, zarr_format=3)
            rows = min(len(features), max(1, _CHUNK_BYTES // (features.shape[1] * features.dtype.itemsize)))
            shard = -(-len(features) // rows) * rows
            _write_array(folder, "features", features, (rows, features.shape[1]), (shard, features.shape[1]))
            _write_array(folder, "offsets", np.cumsum([0, *lengths], dtype=np.int64), (len(lengths) + 1,))
            return group, int(folder["features"].nbytes_stored())
    except InputError:
        with contextlib.suppress(InputError):
            json_records.delete_folder(storage, group)
        raise


def _write_array(
    folder: zarr.Group,
    name: str,
    values: NDArray[Any],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
) -> None:
    array = folder.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        compressors=[ZstdCodec(), Crc32cCodec()],
        # A lost chunk reads as the fill value. NaN is never mistaken for a feature, and no chunk is left out
        # because it happens to be all fill.
        fill_value=np.nan if values.dtype.kind == "f" else -1,
        config={"write_empty_chunks": True},
    )
    array[...] = values


class Reader:
    """Reads rows of a store's arrays, and keeps open what it has opened: no array is ever written twice."""

    def __init__(self, storage: Store) -> None:
        self.storage = storage
        self._open: dict[str, zarr.Array[Any]] = {}

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop`` of an array.

        Raises:
            InputError: the array is absent, or its metadata or chunks are damaged. An absent chunk gives the
                fill value instead: whoever reads checks the digests.
        """
        try:
            if key not in self._open:
                self._open[key] = self._opened(key)
            return np.asarray(self._open[key][start:stop])
        except Exception as error:  # Zarr has no one error for damaged metadata, chunks and checksums
            raise json_records.damaged(f"{self.storage}/{key}", f"{type(error).__name__}: {error}") from error

    def _opened(self, key: str) -> zarr.Array[Any]:
        _require_plain(json_records.get(self.storage, f"{key}/zarr.json"))
        if _quick and isinstance(self.storage, LocalStore):
            with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
                return zarr.open_array(self.storage, path=key, mode="r", zarr_format=3)
        return zarr.open_array(self.storage, path=key, mode="r", zarr_format=3)


def _require_plain(metadata: bytes | None) -> None:
    """Refuses what no block is, before Zarr and numcodecs, which may have codecs of any kind, read a byte of it.

    Raises:
        ValueError: another kind of array, a codec that this project does not write, or chunks that fill the memory.
    """
    described = json.loads(metadata or b"null")
    if not isinstance(described, dict) or (described.get("node_type"), described.get("zarr_format")) != ("array", 3):
        raise ValueError("no array of Zarr v3")
    if described["data_type"] not in _TYPES or described.get("storage_transformers"):
        raise ValueError(f"an array of {described['data_type']!r:.80}")
    chunks: list[Any] = [described["chunk_grid"]["configuration"]["chunk_shape"]]
    codecs = list(described["codecs"])
    for codec in codecs:  # of a shard, those within come after
        if codec["name"] not in _CODECS:
            raise ValueError(f"the codec {codec['name']!r:.80}, expected one of {', '.join(_CODECS)}")
        if codec["name"] == "sharding_indexed":
            if len(chunks) > 1:
                raise ValueError("shards in shards")
            chunks.append(codec["configuration"]["chunk_shape"])
            codecs += [*codec["configuration"]["codecs"], *codec["configuration"]["index_codecs"]]
    for shape, most in zip(chunks, (_SHARD_BYTES, _READ_BYTES) if len(chunks) > 1 else (_SHARD_BYTES,), strict=True):
        if not all(type(side) is int and side > 0 for side in shape) or 8 * math.prod(shape) > most:
            raise ValueError(f"chunks of {shape!r:.80}")


_TYPES = ("float16", "float32", "int64")
_CODECS = ("bytes", "zstd", "crc32c", "sharding_indexed")
_SHARD_BYTES, _READ_BYTES = 2**33, 2**27
"""Of a shard, which is a merged block, and of a chunk within, which is read at once: far above what is written."""

# The extra `fast`: decodes three times as quickly as Zarr's own. Its threads do not live through a fork.
_quick = importlib.util.find_spec("zarrs") is not None


def _plain_after_fork() -> None:
    global _quick
    _quick = False


os.register_at_fork(after_in_child=_plain_after_fork)


def sha256(rows: NDArray[Any]) -> str:
    """SHA-256 of an array's values, little-endian and in C order."""
    return hashlib.sha256(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).tobytes()).hexdigest()
