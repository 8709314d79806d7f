"""Merging small blocks: the same features in fewer files, whatever interrupts it."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from extract.store import block_arrays, compaction, inventory, json_records, upkeep
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

WIDTH = 16
ROW_BYTES = WIDTH * 2


def new_store(path: Path) -> FeatureStore:
    return FeatureStore.create(path, {"test": "yes"}, WIDTH, "float16")


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, WIDTH)).astype(np.float16)


def contents(store: FeatureStore) -> dict[tuple[str, str], list[list[float]]]:
    found = {}
    for view in store.views():
        features = store.load(view=view)
        for id, start, end in zip(features.ids, features.offsets, features.offsets[1:], strict=False):
            found[view, id] = features.array[start:end].tolist()
    return found


@pytest.mark.long
@settings(deadline=None, max_examples=50)
@given(
    blocks=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=8),
    target=st.integers(1, 200),
)
def test_the_same_features_in_blocks_of_the_size_asked_for(tmp_path_factory, blocks, target) -> None:
    store = new_store(tmp_path_factory.mktemp("s") / "s.zarr")
    number = 0
    for name, lengths in enumerate(blocks):
        clips = []
        for length in lengths:
            clips.append((f"clip {number}", rows(length, number)))
            number += 1
        views = ["plain" if i % 3 else "phase=1" for i in range(len(clips))]
        store.write_block(str(name), clips, {f"broken {name}": Failure("empty", "")}, views=views)
    before = contents(store)
    fewer = compact(store, target * ROW_BYTES)
    again = FeatureStore.open(store.location)
    assert contents(store) == contents(again) == before
    assert upkeep.verify(again) == []
    assert inventory.take(again)[0].orphans == 0
    commits = again.commits()
    assert len(commits) == len(blocks) - fewer
    assert {id for commit in commits for id in commit.failures} == {f"broken {name}" for name in range(len(blocks))}
    sizes = [sum(commit.lengths) for commit in commits]
    assert max(sizes) <= max(target, *map(sum, blocks), 0)
    assert sum(size < target / 2 for size in sizes) <= 1 + sum(sum(lengths) < target / 2 for lengths in blocks) // 2
    compact(store, target * ROW_BYTES)
    assert contents(store) == before


def three_blocks(path: Path) -> FeatureStore:
    store = new_store(path)
    for name in "abc":
        store.write_block(name, [(f"{name}{i}", rows(3 + i, i)) for i in range(4)])
    return store


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_step_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    store = three_blocks(tmp_path / "s.zarr")
    before = contents(store)
    steps = 0

    def dying(real):
        def step(*arguments):
            nonlocal steps
            if steps == moment:
                raise KeyboardInterrupt
            steps += 1
            return real(*arguments)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(compaction.json_records, "delete", dying(json_records.delete))
        patch.setattr(compaction.json_records, "delete_folder", dying(json_records.delete_folder))
        patch.setattr(json_records, "put", dying(json_records.put))
        with pytest.raises(KeyboardInterrupt):
            compact(store)
    again = FeatureStore.open(store.location)
    assert contents(again) == before
    assert upkeep.verify(again) == []
    compact(again)
    upkeep.gc(again, grace_seconds=-1)
    assert contents(again) == before
    assert len(again.commits()) == 1
    assert inventory.take(again)[0].orphans == 0


def test_a_block_that_a_killed_compaction_wrote_is_not_taken_for_superseded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the merged commit and the removal of its parts, and run again, with several packs."""
    store = new_store(tmp_path / "s.zarr")
    for name in ("0a", "0b", "0c"):
        store.write_block(name, [(f"{name}{i}", rows(3 + i, i)) for i in range(4)])
    before = contents(store)
    target = 40 * ROW_BYTES  # two of the three

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compaction.json_records, "delete", dying)
        with pytest.raises(KeyboardInterrupt):
            compact(store, target)
    merged, *parts = store.commits()
    assert [commit.block for commit in parts] == ["0a", "0b", "0c"]
    assert merged.clips == parts[0].clips + parts[1].clips
    again = FeatureStore.open(store.location)
    compact(again, target)
    assert contents(FeatureStore.open(store.location)) == before
    assert upkeep.verify(again) == []
    assert len(again.commits()) == 2
    upkeep.gc(again, grace_seconds=-1)
    assert contents(FeatureStore.open(store.location)) == before


def test_two_jobs_that_merge_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes when the merged block is committed and its parts are still there. It has one commit more,
    packs differently and leaves a part alone: it must not take the merged block for what the parts supersede."""
    store = new_store(tmp_path / "s.zarr")
    for name in ("0a", "0b", "0c"):
        store.write_block(name, [(f"{name}{i}", rows(3 + i, i)) for i in range(4)])  # 18 rows
    target = 60 * ROW_BYTES
    expected = contents(store)
    delete, others = json_records.delete, []

    def interrupted(*arguments: object) -> None:
        if not others:
            others.append(FeatureStore.open(store.location))
            others[0].write_block("05", [("05", rows(20, 5))])
            expected.update(contents(FeatureStore.open(store.location)))
            compact(others[0], target)
        delete(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction.json_records, "delete", interrupted)
    compact(store, target)
    again = FeatureStore.open(store.location)
    assert len(expected) == 13
    assert contents(again) == expected
    assert upkeep.verify(again) == []


def test_a_block_that_is_merged_again_comes_before_its_parts(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr")
    merged: list[str] = []
    for number in range(4):
        store.write_block(f"{number}a", [(f"clip {number}", rows(2, number))])
        store.write_block(f"{number}b", [(f"other {number}", rows(2, number))])
        assert compact(store) == (2 if number else 1)
        (commit,) = store.commits()
        merged.append(commit.block)
    assert [name[:8] for name in merged] == ["-999999-", "-999998-", "-999997-", "-999996-"]
    assert merged == sorted(merged, reverse=True)
    assert len(store.load().ids) == 8


def test_commits_are_read_while_they_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more records at once than are fetched together and belong to one pack."""
    monkeypatch.setattr(json_records, "_AT_ONCE", 2)
    store = new_store(tmp_path / "s.zarr")
    for number in range(12):
        store.write_block(f"{number:02d}", [(f"clip {number}", rows(5, number))])
    before = contents(store)
    events: list[str] = []
    parse, commit = json_records.Commit.parse, FeatureStore.commit

    def parsed(where: str, data: bytes) -> json_records.Commit:
        events.append("read")
        return parse(where, data)

    def committed(*arguments: object, **named: object) -> None:
        events.append("merged")
        return commit(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(json_records.Commit, "parse", parsed)
    monkeypatch.setattr(FeatureStore, "commit", committed)
    assert compact(store, 20 * ROW_BYTES) == 12 - 3
    assert "".join(event[0] for event in events) == "r" * 5 + "m" + "r" * 4 + "m" + "r" * 3 + "m"
    assert contents(FeatureStore.open(store.location)) == before


def test_what_others_committed_since_is_not_taken_for_superseded(tmp_path: Path) -> None:
    """The driver looks at the store before the workers write to it."""
    driver = new_store(tmp_path / "s.zarr")
    assert driver.lengths() == {}
    workers = three_blocks(tmp_path / "s.zarr")
    assert compact(driver) == 2
    assert contents(driver) == contents(FeatureStore.open(workers.location))
    assert len(driver.lengths()) == 12


def test_a_reader_that_was_open_finds_its_clips(tmp_path: Path) -> None:
    reader = FeatureStore.open(three_blocks(tmp_path / "s.zarr").location)
    assert len(reader.lengths()) == 12
    expected = rows(4, 1)
    assert compact(FeatureStore.open(reader.location)) == 2
    np.testing.assert_array_equal(reader["b1"], expected)


def test_a_damaged_part_is_not_merged_away(tmp_path: Path) -> None:
    store = three_blocks(tmp_path / "s.zarr")
    (chunk,) = (tmp_path / "s.zarr").glob("blocks/b-*/features/c/0/0")
    data = bytearray(chunk.read_bytes())
    data[40] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(InputError, match="expected what was written"):
        compact(store)
    assert len(store.commits()) == 3


def test_the_merged_record_adds_up(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr")
    store.write_block("a", [("x", rows(2, 0))], timings={"decode": 1.0}, versions={"torch": "2.8", "device": "cpu"})
    store.write_block("b", [("y", rows(2, 1))], timings={"decode": 0.5}, versions={"torch": "2.9", "device": "cpu"})
    compact(store)
    (commit,) = store.commits()
    assert commit.timings == {"decode": 1.5}
    assert (commit.versions["torch"], commit.versions["device"]) == ("2.8, 2.9", "cpu")
    (path,) = (tmp_path / "s.zarr/commits").iterdir()
    assert json.loads(path.read_text())["block"] == path.stem


def _read(location: str) -> None:
    assert len(FeatureStore.open(location).load().ids) == 12


def test_reading_after_a_fork(tmp_path: Path) -> None:
    """Decoding threads of the parent do not live in the child, which must not wait for them."""
    store = three_blocks(tmp_path / "s.zarr")
    _read(store.location)
    assert block_arrays._quick
    child = multiprocessing.get_context("fork").Process(target=_read, args=(store.location,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
