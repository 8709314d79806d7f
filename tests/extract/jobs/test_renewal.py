"""Clips whose files were replaced: dropped from the store, and nothing else."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.jobs.renewal import drop_changed
from extract.jobs.source_check import look_at
from extract.store import upkeep
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

CLIPS = [Clip(f"c{number}", "train", "x", 1, 25.0, "t", "de_DE", files=f"f{number}") for number in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "train.zarr", {"a": 1}, 4, "float32")
    arrays = [(clip.id, np.full((2 + number, 4), number, np.float32)) for number, clip in enumerate(CLIPS)]
    store.write_block("a", arrays[:3], {"bad": Failure("decode", "x")})
    store.write_block("b", arrays[1:4])  # of another job: c1 and c2 again
    store.write_block("c", arrays[4:])
    return FeatureStore.open(store.location)


@pytest.mark.parametrize("compacted", [False, True])
def test_changed_clips_are_dropped_wherever_they_are(store: FeatureStore, compacted: bool) -> None:
    if compacted:
        compact(store)
    assert drop_changed(store.location, CLIPS) == []  # it learns what it was made of
    assert len(FeatureStore.open(store.location)) == 5
    other = [dataclasses.replace(clip, files="new") if clip.id in ("c1", "c4") else clip for clip in CLIPS]
    assert drop_changed(store.location, other) == ["c1", "c4"]
    again = FeatureStore.open(store.location)
    assert sorted(again) == ["c0", "c2", "c3"]
    for number in (0, 2, 3):
        np.testing.assert_array_equal(again[f"c{number}"], np.full((2 + number, 4), number, np.float32))
    assert upkeep.verify(again) == []
    assert drop_changed(store.location, other) == []
    again.write_block("d", [("c1", np.ones((1, 4), np.float32))])
    assert drop_changed(store.location, other) == []
    assert "c1" in FeatureStore.open(store.location)


def test_a_failure_is_tried_again_when_its_files_are_others(store: FeatureStore) -> None:
    bad = Clip("bad", "train", "x", 1, 25.0, "t", "de_DE", files="f")
    drop_changed(store.location, [bad])
    assert list(FeatureStore.open(store.location).failures()) == ["bad"]
    assert drop_changed(store.location, [dataclasses.replace(bad, files="g")]) == ["bad"]
    assert FeatureStore.open(store.location).failures() == {}


def test_what_is_not_known_is_unchanged(store: FeatureStore, tmp_path: Path) -> None:
    unknown = [dataclasses.replace(clip, files=None) for clip in CLIPS]
    assert drop_changed(store.location, unknown) == []
    assert drop_changed(tmp_path / "none.zarr", CLIPS) == []
    assert not (tmp_path / "none.zarr").exists()
    Path(store.location, "sources.json").write_text("{")
    with pytest.raises(InputError, match="expected a record of files"):
        drop_changed(store.location, CLIPS)


def test_a_look_identifies_files_by_name_size_and_date(tmp_path: Path) -> None:
    import cv2

    (tmp_path / "a").mkdir()
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"a/{number}.png"), np.full((8, 8, 3), number, np.uint8))
    first = look_at(tmp_path, "a", "opencv")
    assert first.files == look_at(tmp_path, "a", "opencv", first).files
    (tmp_path / "a/0.png").write_bytes((tmp_path / "a/1.png").read_bytes())
    second = look_at(tmp_path, "a", "opencv", first)
    assert second.files != first.files
    assert second.at(tmp_path, CLIPS[0], clamp=False).files == second.files
