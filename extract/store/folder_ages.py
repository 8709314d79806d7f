"""How long ago the folders of a store were last written to, by the clock of the disk or service that holds them.

The machines of a cluster do not agree on the time, so a folder's age is never the difference of two machines' clocks.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from zarr.abc.store import Store

from extract.atomic_write import UNFINISHED
from extract.store import json_records
from extract.store.waiting_files import files_of


def ages(storage: Store, folders: Iterable[str]) -> dict[str, float]:
    """Seconds since something in each folder was last written. A file that is being written counts at its last byte.

    A folder is left out when it is gone by now, or the storage does not say when it was written.

    Raises:
        InputError: the storage cannot be written to, which takes a look at its clock.
    """
    probe = f"clock-{uuid.uuid4().hex}{UNFINISHED}"
    json_records.put(storage, probe, b"now")
    try:
        now = _written(storage, probe)
        found = {folder: _written(storage, folder) for folder in folders}
    finally:
        json_records.delete(storage, probe)
    return {folder: now - time for folder, time in found.items() if now is not None and time is not None}


def _written(storage: Store, key: str) -> float | None:
    with json_records.reaching(storage):
        return max(files_of(storage).times(key), default=None)
