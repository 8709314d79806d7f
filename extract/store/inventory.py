"""What a feature store holds, counted in one pass over its commit records: a few bytes per clip are in memory."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection

from extract.key_set import Done, KeySet, key
from extract.settings import PLAIN
from extract.store import json_records
from extract.store.feature_store import FeatureStore, plain_first
from extract.store.json_records import Failure


@dataclasses.dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds."""

    clips: int
    failures: int
    views: dict[str, int]
    """Clips per view."""
    steps: int
    """Features over all clips and views."""
    bytes: int
    """Compressed features of the committed blocks."""
    orphans: int
    """Tries at blocks that no commit names: interrupted, superseded, or running now."""
    width: int
    dtype: str
    fingerprint: str


def take(store: FeatureStore) -> tuple[StoreInfo, dict[str, Failure]]:
    """Counts and sizes of what is committed, and the failures as ``FeatureStore.failures``."""
    # Before the commits: what is committed in between is then neither a failure nor an orphan.
    failures = dict(json_records.failures(store.storage, store.location))
    groups = set(store.groups())
    views: Counter[str] = Counter()
    steps = size = 0
    for commit, entries in store.entries():
        size += commit.stored_bytes
        groups.discard(commit.group)
        for id, view, place in entries:
            views[view] += 1
            steps += place.length
            if view == PLAIN:
                failures.pop(id, None)
    info = StoreInfo(
        clips=views[PLAIN],
        failures=len(failures),
        views={view: views[view] for view in sorted(+views, key=plain_first)},
        steps=steps,
        bytes=size,
        orphans=len(groups),
        width=store.width,
        dtype=str(store.dtype),
        fingerprint=store.fingerprint,
    )
    return info, failures


def done(store: FeatureStore, views: Collection[str]) -> Done:
    """What has features in these views, and what has failed."""
    failures = json_records.failures(store.storage, store.location)
    recorded = [(kind, key(id), key(id, PLAIN)) for id, (kind, _) in failures]
    committed = KeySet()
    for commit in store.stream():
        pairs = zip(commit.clips, commit.views, strict=True)
        committed.add([key(id, view) for id, view in pairs if view in views or view == PLAIN])
    failed: dict[str, KeySet] = defaultdict(KeySet)
    succeeded = committed.has([plain for _, _, plain in recorded])
    for (kind, clip, _), later in zip(recorded, succeeded, strict=True):
        if not later:
            failed[kind].add([clip])
    return Done(committed, dict(failed))


def summary(store: FeatureStore, views: Collection[str]) -> tuple[int, str]:
    """Number of clips in the plain view, and a digest of which clips have how many features in these views."""
    contents = KeySet()
    clips = 0
    for _, entries in store.entries():
        contents.add([key(id, view, str(place.length)) for id, view, place in entries if view in views])
        clips += sum(view == PLAIN for _, view, _ in entries)
    return clips, contents.digest()
