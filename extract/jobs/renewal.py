"""Features of clips whose files are others than when they were extracted: dropped, so that the job makes them anew."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.store import json_records
from extract.store.compaction import drop
from extract.store.feature_store import FeatureStore

_RECORD = "sources.json"


def drop_changed(path: str | os.PathLike[str], clips: Iterable[Clip]) -> list[str]:
    """Compare the files of clips, as the index has them, with those that a store's features were made of.

    A clip of which the store does not know it, because it is of a version that did not tell, counts as unchanged.

    Returns:
        Ids of the clips that are dropped, in order.

    Raises:
        InputError: the store, or its record of files, is damaged.
    """
    storage = json_records.storage_at(path)
    told = {clip.id: clip.files for clip in clips if clip.files is not None}
    if not told or json_records.attributes(path, storage) is None:
        return []
    data = json_records.get(storage, _RECORD)
    try:
        known: dict[str, str] = dict(json.loads(data or b"{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{os.fspath(path)}/{_RECORD}", expected="a record of files", found=str(error),
                         remedy="Delete it: the features then count as those of the files.") from error  # fmt: skip
    changed = [id for id, files in told.items() if known.get(id, files) != files]
    if changed:
        drop(FeatureStore.open(path), frozenset(changed))
    if known != (known := known | told):  # after the drop: a kill in between drops again what is dropped
        json_records.put(storage.with_read_only(False), _RECORD, json.dumps(known).encode())
    return changed
