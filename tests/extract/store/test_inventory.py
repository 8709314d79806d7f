"""What a store holds, counted from a stream of records, beside what a reader finds that holds them all."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract import key_set
from extract.key_set import key
from extract.settings import PLAIN
from extract.store import inventory, json_records
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

IDS = ["a", "b", "a/b", "ü", "clip with spaces"]
VIEWS = [PLAIN, "phase=1", "phase=2"]
ENTRIES = st.lists(
    st.tuples(st.sampled_from(IDS), st.sampled_from(VIEWS), st.integers(1, 3)),
    max_size=5,
    unique_by=lambda entry: entry[:2],
)
FAILURES = st.dictionaries(st.sampled_from(IDS), st.sampled_from(["decode", "empty"]), max_size=3)


@settings(deadline=None, max_examples=50)
@given(blocks=st.lists(st.tuples(ENTRIES, FAILURES), max_size=5), asked=st.sets(st.sampled_from(VIEWS)))
def test_as_a_reader_that_holds_everything(tmp_path_factory, blocks, asked):
    store = FeatureStore.create(tmp_path_factory.mktemp("s") / "s.zarr", {"test": "yes"}, 4, "float16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_AT_ONCE", 2)
        patch.setattr(key_set, "_RECENT", 3)
        for number, (entries, failed) in enumerate(blocks):
            clips = [(id, np.full((length, 4), number, "f2")) for id, _, length in entries]
            failures = {id: Failure(kind, "x") for id, kind in failed.items()}
            store.write_block(str(number), clips, failures, views=[view for _, view, _ in entries])
        reader = FeatureStore.open(store.location)
        lengths = {view: reader.lengths(view) for view in reader.views()}
        plain = lengths.get(PLAIN, {})
        failures = {id: kind for _, failed in blocks for id, kind in failed.items() if id not in plain}

        done = inventory.done(store, asked)
        for view in asked | {PLAIN}:
            assert done.committed.has([key(id, view) for id in IDS]) == [id in lengths.get(view, {}) for id in IDS]
        assert set(done.failed) == set(failures.values())
        for kind, among in done.failed.items():
            assert among.has([key(id) for id in IDS]) == [failures.get(id) == kind for id in IDS]

        info, failed_now = inventory.take(FeatureStore.open(store.location))
        assert {id: failure.kind for id, failure in failed_now.items()} == failures
        assert reader.failures() == failed_now == FeatureStore.open(store.location).failures()
        assert (info.clips, info.failures, info.orphans) == (len(plain), len(failures), 0)
        assert info.views == {view: len(found) for view, found in lengths.items()}
        assert list(info.views) == reader.views()
        assert info.steps == sum(sum(found.values()) for found in lengths.values())
        assert info.bytes == sum(commit.stored_bytes for commit in reader.commits())

        held, digest = inventory.summary(store, asked)
        assert held == len(plain)
        entries = {key(id, view, str(n)) for view in asked for id, n in lengths.get(view, {}).items()}
        assert digest == hashlib.sha256(b"".join(sorted(entries))).hexdigest()
