"""Compaction: the many small blocks that a job commits become few large ones.

A block is one task, so it is small; file systems and readers want few, large files. A compacted store has the
features that it had, in a handful of files per hundred megabytes, whatever the size of the tasks.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container, Iterator

import numpy as np

from extract import records
from extract.arrays import Reader
from extract.errors import InputError
from extract.fingerprint import digest
from extract.loading import load_places
from extract.records import Commit, Place
from extract.store import FeatureStore

TARGET_BYTES = 2**28
"""Of a merged block's features, about, before compression. Also what merging needs of memory, twice."""


@dataclasses.dataclass(slots=True)
class _Pack:
    """Commits that become one, and those of their entries that count."""

    commits: list[Commit] = dataclasses.field(default_factory=list)
    entries: list[tuple[str, str, Place]] = dataclasses.field(default_factory=list)
    rows: int = 0

    def add(self, commit: Commit, entries: list[tuple[str, str, Place]]) -> None:
        self.commits.append(commit)
        self.entries += entries
        self.rows += sum(place.length for _, _, place in entries)


def compact(store: FeatureStore, target_bytes: int = TARGET_BYTES) -> int:
    """Merge the small blocks of a store; returns by how many there are fewer.

    Safe against kills: a merged block is committed before the commits of its parts are removed. Safe for readers: one
    that finds a part gone looks up where its clips are now. A commit of which nothing counts is removed as well.

    Raises:
        InputError: a part is damaged; what is merged until then stays merged.
    """
    fewer = 0
    merged: set[str] = set()
    for pack in _packs(store, target_bytes // (store.width * store.dtype.itemsize), merged):
        try:
            kept = _merge(store, pack) if pack.entries else None
        except InputError:
            store.refresh()
            if all(store.has_commit(commit) for commit in pack.commits):
                raise
            return fewer  # another job is merging them at this moment
        if kept:
            merged.add(kept)
        for commit in pack.commits:
            if commit.block != kept:
                records.delete(store.writable, f"commits/{commit.block}.json")
        for commit in pack.commits:
            records.delete_folder(store.writable, commit.group)
        fewer += len(pack.commits) - (kept is not None)
    store.refresh()
    return fewer


def _packs(store: FeatureStore, rows: int, merged: Container[str]) -> Iterator[_Pack]:
    """Commits to merge, up to ``rows`` features each; and by itself each commit of which nothing counts.

    Args:
        merged: blocks that were written out of earlier packs. An older try at such a block may be in the listing,
            and its entries then seem to count for nothing; but its record is the new one by now.
    """
    pack = _Pack()
    # One listing decides what counts: with two, a commit that came between them would seem to count for nothing.
    for commit, entries in store.entries():
        if commit.block in merged:
            continue
        size = sum(place.length for _, _, place in entries)
        if not entries:
            yield _Pack([commit])
        elif size < rows / 2:
            if pack.rows + size > rows:
                yield pack
                pack = _Pack()
            pack.add(commit, entries)
    if len(pack.commits) > 1:
        yield pack


def _merge(store: FeatureStore, pack: _Pack) -> str:
    """Write and commit a pack's entries as one block; returns its id."""
    ids, views, places = (list(column) for column in zip(*pack.entries, strict=True))
    array = np.empty((pack.rows, store.width), store.dtype)
    # A reader of its own, which is forgotten with all the blocks that it opened.
    load_places(Reader(store.storage), store.location, ids, places, array)
    block = digest([ids, views])[:32]
    timings: Counter[str] = Counter()
    versions: dict[str, set[str]] = {}
    for commit in pack.commits:
        timings.update(commit.timings)
        for name, version in commit.versions.items():
            versions.setdefault(name, set()).update(version.split(", "))
    store.commit(
        block,
        array,
        ids=ids,
        views=views,
        lengths=[place.length for place in places],
        failures=sorted({id for commit in pack.commits for id in commit.failures}),
        timings=timings,
        versions={name: ", ".join(sorted(found)) for name, found in versions.items()},
    )
    return block
