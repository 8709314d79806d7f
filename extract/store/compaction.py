"""Compaction: the many small blocks that a job commits become few large ones.

A block is one task, so it is small; file systems and readers want few, large files. A compacted store has the
features that it had, in a handful of files per hundred megabytes, whatever the size of the tasks.

Of a clip in two commits, the one that is first by name counts. A merged block's name comes before those of its parts.
So whatever is removed, because it was merged or because it counts for nothing, is covered by a commit that comes
before it; and of all that ever held a clip the first is never removed, however many jobs compact at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from extract.errors import InputError
from extract.fingerprint import digest
from extract.store import json_records
from extract.store.block_arrays import Reader
from extract.store.block_reading import load_places
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Commit, Place

TARGET_BYTES = 2**28
"""Of a merged block's features, about, before compression. Also what merging needs of memory, twice."""

_MERGED = re.compile(r"-(\d{6})-[0-9a-f]{32}")
"""The name of a merged block: a minus, which comes before every digit, and a number that is less than those of its
parts; others count as ``_UNMERGED``."""
_UNMERGED = 1_000_000


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

    Safe against kills and against others that compact: see above. Safe for readers: one that finds a part gone looks
    up where its clips are now. A commit of which nothing counts is removed as well.

    Raises:
        InputError: a part is damaged; what is merged until then stays merged.
    """
    fewer = 0
    for pack in _packs(store, target_bytes // (store.width * store.dtype.itemsize)):
        try:
            if pack.entries:
                _merge(store, pack)
        except InputError:
            store.refresh()
            if all(store.has_commit(commit) for commit in pack.commits):
                raise
            return fewer  # another job is merging them at this moment
        for commit in pack.commits:
            key = f"commits/{commit.block}.json"
            if json_records.get(store.writable, key) == commit.to_json():  # a worker may have written the block anew
                json_records.delete(store.writable, key)
        for commit in pack.commits:
            json_records.delete_folder(store.writable, commit.group)
        fewer += len(pack.commits) - bool(pack.entries)
    store.refresh()
    return fewer


def drop(store: FeatureStore, ids: frozenset[str]) -> None:
    """Take clips out of a store, as if they had never been extracted. May be killed: what remains is done by the next
    call.

    Raises:
        InputError: a block that holds one of them is damaged.
    """
    store.forget_failures(ids)
    for commit in store.commits():
        if ids.isdisjoint(commit.clips):
            continue
        kept = [entry for entry in commit.places() if entry[0] not in ids]
        if kept:
            _merge(store, _Pack([commit], kept, sum(place.length for _, _, place in kept)))
        json_records.delete(store.writable, f"commits/{commit.block}.json")
        json_records.delete_folder(store.writable, commit.group)
    store.refresh()


def _packs(store: FeatureStore, rows: int) -> Iterator[_Pack]:
    """Commits to merge, up to ``rows`` features each; and by itself each commit of which nothing counts."""
    pack = _Pack()
    # One listing decides what counts: with two, a commit that came between them would seem to count for nothing.
    for commit, entries in store.entries(again=False):
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


def _number(parts: Iterable[Commit]) -> int:
    """The least number in the names of some blocks."""
    found = (_MERGED.fullmatch(commit.block) for commit in parts)
    return min(int(name[1]) if name else _UNMERGED for name in found)


def _merge(store: FeatureStore, pack: _Pack) -> None:
    """Write and commit a pack's entries as one block."""
    ids, views, places = (list(column) for column in zip(*pack.entries, strict=True))
    array = np.empty((pack.rows, store.width), store.dtype)
    # A reader of its own, which is forgotten with all the blocks that it opened.
    load_places(Reader(store.storage), store.location, ids, places, array)
    block = f"-{_number(pack.commits) - 1:06d}-{digest([ids, views])[:32]}"
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
