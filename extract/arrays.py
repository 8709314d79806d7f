"""The arrays of one block in a feature store: features and offsets, written once, by one process.

- ``blocks/<block>-<attempt>/features``: (sum of lengths, C) float16 or float32, ~1 MiB chunks, zstd + crc32c
- ``blocks/<block>-<attempt>/offsets``: (n + 1,) int64; clip i is ``features[offsets[i]:offsets[i + 1]]``
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec

from extract import records

_CHUNK_BYTES = 2**20


def write(storage: Store, block_id: str, features: NDArray[Any], lengths: Sequence[int]) -> tuple[str, int]:
    """Write a block's arrays into a new folder.

    Args:
        features: (sum of lengths, C).

    Returns:
        The folder, and the compressed size of the features in bytes.
    """
    group = f"blocks/{block_id}-{uuid.uuid4().hex[:12]}"
    folder = zarr.create_group(storage, path=group, attributes={"began": time.time()}, zarr_format=3)
    rows = max(1, _CHUNK_BYTES // (features.shape[1] * features.dtype.itemsize))
    _write_array(folder, "features", features, (min(rows, len(features)), features.shape[1]))
    _write_array(folder, "offsets", np.cumsum([0, *lengths], dtype=np.int64), (len(lengths) + 1,))
    return group, int(folder["features"].nbytes_stored())


def _write_array(folder: zarr.Group, name: str, values: NDArray[Any], chunks: tuple[int, ...]) -> None:
    array = folder.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        compressors=[ZstdCodec(), Crc32cCodec()],
        # A lost chunk reads as the fill value. NaN is never mistaken for a feature, and no chunk is left out
        # because it happens to be all fill.
        fill_value=np.nan if values.dtype.kind == "f" else -1,
        config={"write_empty_chunks": True},
    )
    array[...] = values


def read(storage: Store, key: str, start: int, stop: int) -> NDArray[Any]:
    """Rows ``start`` to ``stop`` of an array.

    Raises:
        InputError: the array is absent, or its metadata or chunks are damaged. An absent chunk gives the
            fill value instead: whoever reads checks the digests.
    """
    try:
        return np.asarray(zarr.open_array(storage, path=key, mode="r")[start:stop])
    except Exception as error:  # Zarr has no one error for damaged metadata, chunks and checksums
        raise records.damaged(f"{storage}/{key}", f"{type(error).__name__}: {error}") from error


def sha256(rows: NDArray[Any]) -> str:
    """SHA-256 of an array's values, little-endian and in C order."""
    return hashlib.sha256(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).tobytes()).hexdigest()


def began(storage: Store, group: str) -> float:
    """When a block's folder was made, in seconds since 1970; 0 when it was killed before it could say."""
    metadata = records.get(storage, f"{group}/zarr.json")
    return float(json.loads(metadata)["attributes"]["began"]) if metadata else 0.0
