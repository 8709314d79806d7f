"""How long ago the folders of a store were last written to, by the clock of the disk or service that holds them.

The machines of a cluster do not agree on the time, so a folder's age is never the difference of two machines' clocks.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from extract.store import json_records

_NAMES = ("LastModified", "updated", "last_modified", "mtime", "created")
"""What fsspec's file systems call the time of a file's last change: S3, Google, Azure, SFTP, memory."""


def ages(storage: Store, folders: Iterable[str]) -> dict[str, float]:
    """Seconds since something in each folder was last written. A file that is being written counts at its last byte.

    A folder is left out when it is gone by now, or the storage does not say when it was written.

    Raises:
        InputError: the storage cannot be written to, which takes a look at its clock.
    """
    probe = f"clock-{uuid.uuid4().hex}.partial"
    json_records.put(storage, probe, b"now")
    try:
        now = _written(storage, probe)
        found = {folder: _written(storage, folder) for folder in folders}
    finally:
        json_records.delete(storage, probe)
    return {folder: now - time for folder, time in found.items() if now is not None and time is not None}


def _written(storage: Store, key: str) -> float | None:
    """When a file, or the youngest of a folder's, was written, in seconds since 1970."""
    with json_records.reaching(storage):
        if isinstance(storage, LocalStore):
            return max(_local(storage.root / key), default=None)
        if isinstance(storage, FsspecStore):
            entries = sync(storage.fs._find(f"{storage.path}/{key}", detail=True))
            times = [_time(entry) for entry in entries.values()]
            return max((time for time in times if time is not None), default=None)
    return None


def _local(path: Path) -> Iterator[float]:
    for entry in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
            yield entry.stat().st_mtime


def _time(entry: Mapping[str, Any]) -> float | None:
    time: Any = next((entry[name] for name in _NAMES if entry.get(name) is not None), None)
    return float(time.timestamp() if hasattr(time, "timestamp") else time)
