"""Upkeep of a feature store: reading all that is committed against its digests, removing what nobody finished."""

from __future__ import annotations

import numpy as np

from extract.atomic_write import UNFINISHED
from extract.errors import InputError
from extract.store import block_arrays, json_records
from extract.store.block_reading import check
from extract.store.feature_store import FeatureStore
from extract.store.folder_ages import ages

_FOLDERS = ("commits", "failures")


def verify(store: FeatureStore) -> list[str]:
    """Read and re-hash all that is committed: one line per problem, none when the store is whole."""
    problems = []
    try:
        for _ in json_records.failures(store.storage, store.location):
            pass
    except InputError as error:
        problems.append(str(error))
    for name, data in json_records.each(store.storage, "commits"):
        reader = block_arrays.Reader(store.storage)  # opened anew: metadata may have been damaged since
        try:
            commit = store.parse(name, data)
            rows = reader.rows(f"{commit.group}/features", 0, sum(commit.lengths))
            offsets = reader.rows(f"{commit.group}/offsets", 0, len(commit.clips) + 1)
        except InputError as error:
            if json_records.get(store.storage, name) == data:  # else another process merged the block meanwhile
                problems.append(str(error))
            continue
        if offsets.tolist() != np.cumsum([0, *commit.lengths]).tolist():
            problems.append(f"{store.location}/{commit.group}/offsets: not the lengths of its commit")
        for id, _, place in commit.places():
            try:
                check(store.location, id, rows[place.start : place.start + place.length], place, rows)
            except InputError as error:
                problems.append(str(error))
    return problems


def gc(store: FeatureStore, grace_seconds: float = 3600) -> list[str]:
    """Delete what no commit names and nobody has written to for ``grace_seconds``: tries at blocks, and records that
    were never finished. Returns their keys.

    The grace must exceed the time that a chunk takes to write: a try that runs now looks like an orphan.
    """
    leftovers = _orphans(store) + _unfinished_records(store)
    old = [key for key, age in ages(store.writable, leftovers).items() if age >= grace_seconds] if leftovers else []
    for key in old:
        if key.endswith(UNFINISHED):
            json_records.delete(store.writable, key)
        else:
            json_records.delete_folder(store.writable, key)
    return old


def _orphans(store: FeatureStore) -> list[str]:
    # Folders are listed before commits: one that is committed in between must not look like an orphan.
    groups = store.groups()
    committed = {commit.group for commit in store.stream()}
    return [group for group in groups if group not in committed]


def _unfinished_records(store: FeatureStore) -> list[str]:
    """Of processes that died between writing a record and renaming it; no reader takes them for records."""
    return [
        f"{folder}/{name}"
        for folder in _FOLDERS
        for name in json_records.names(store.storage, folder)
        if name.endswith(UNFINISHED)
    ]
