"""The store: what is written comes back, and what is damaged is never believed."""

import json
import os
import re
import shutil
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from extract.fingerprint import canonical_json, digest, fingerprint
from extract.store import inventory, json_records, upkeep
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

PROVENANCE = {"frames": {"resize": 256, "crop": 224}, "dtype": "float16", "weights": "0123456789abcdef"}
PAGE = Path(__file__).parents[3] / "docs" / "feature-store.md"


def new_store(path, width=8, dtype="float16"):
    return FeatureStore.create(path, PROVENANCE, width, dtype)


def features(*lengths, width=8, dtype="float16", seed=0):
    rng = np.random.default_rng(seed)
    return [(f"clip {i}", rng.normal(size=(n, width)).astype(dtype)) for i, n in enumerate(lengths)]


@pytest.fixture
def store(tmp_path):
    """Two blocks of three clips in all, and a failure."""
    store = new_store(tmp_path / "train.zarr")
    first, second, third = features(3, 1, 5)
    store.write_block("one", [first, second], {"broken/clip": Failure("decode", "frame 3")}, {"decode": 1.5})
    store.write_block("two", [third])
    return FeatureStore.open(tmp_path / "train.zarr")


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_what_is_written_comes_back(store):
    clips = dict(features(3, 1, 5))
    assert store.lengths() == {"clip 0": 3, "clip 1": 1, "clip 2": 5}
    assert store.failures() == {"broken/clip": ("decode", "frame 3")}
    assert (store.width, store.dtype, store.provenance) == (8, np.float16, PROVENANCE)
    for id, array in clips.items():
        np.testing.assert_array_equal(store[id], array, strict=True)
    loaded = store.load(["clip 2", "clip 0", "clip 2"])
    assert loaded.ids == ["clip 2", "clip 0", "clip 2"]
    assert loaded.offsets.tolist() == [0, 5, 8, 13]
    expected = np.concatenate([clips[id] for id in loaded.ids])
    np.testing.assert_array_equal(loaded.array, expected, strict=True)
    assert len(store.load().array) == 9
    assert store.load([]).array.shape == (0, 8)
    assert upkeep.verify(store) == []


def test_info(store):
    info = inventory.take(store)[0]
    assert (info.clips, info.failures, info.steps, info.orphans) == (3, 1, 9, 0)
    assert (info.width, info.dtype, info.fingerprint) == (8, "float16", fingerprint(PROVENANCE))
    assert 0 < info.bytes < 3000


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=6),
    width=st.integers(1, 600),
    dtype=st.sampled_from(["float16", "float32"]),
    data=st.data(),
)
def test_round_trip(tmp_path_factory, lengths, width, dtype, data):
    path = tmp_path_factory.mktemp("stores") / "s.zarr"
    clips = features(*lengths, width=width, dtype=dtype)
    clips[0][1][:] = 0  # a chunk of nothing but zeros is stored like any other
    cut = data.draw(st.integers(0, len(clips)))
    store = new_store(path, width, dtype)
    store.write_block("a", clips[:cut])
    store.write_block("b", clips[cut:])
    wanted = data.draw(st.permutations([id for id, _ in clips]))
    loaded = FeatureStore.open(path).load(wanted)
    arrays = dict(clips)
    np.testing.assert_array_equal(loaded.array, np.concatenate([arrays[id] for id in wanted]), strict=True)
    assert np.diff(loaded.offsets).tolist() == [len(arrays[id]) for id in wanted]
    assert upkeep.verify(store) == []
    shutil.rmtree(path)


def test_a_block_is_one_file_of_chunks_of_about_128_kib(tmp_path):
    store = new_store(tmp_path / "s.zarr", width=512)
    store.write_block("a", features(2500, width=512))
    assert len(list((tmp_path / "s.zarr").glob("blocks/*/features/c/*/*"))) == 1
    (folder,) = (tmp_path / "s.zarr/blocks").glob("a-*")
    array = zarr.open_array(folder / "features", mode="r")
    assert array.chunks[0] * 512 * 2 == 2**17


def test_an_absent_clip_is_named(store):
    with pytest.raises(InputError, match=r"clip 9: expected features of the view 'plain', found none"):
        store["clip 9"]
    with pytest.raises(InputError, match=r"broken/clip: .*, found a failure \(decode: frame 3\)"):
        store.load(["clip 0", "broken/clip"])


@pytest.mark.parametrize("array", [np.zeros((2, 7), "f2"), np.zeros((2, 8), "f4"), np.zeros((0, 8), "f2")])
def test_wrong_arrays_are_not_written(tmp_path, array):
    store = new_store(tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="not float16"):
        store.write_block("a", [("x", array)])
    with pytest.raises(ValueError, match="twice"):
        store.write_block("a", features(1) * 2)
    assert store.lengths() == {}


# Who may open what


def test_a_missing_store(tmp_path):
    with pytest.raises(InputError, match="expected a feature store, found none"):
        FeatureStore.open(tmp_path / "absent.zarr")
    assert not (tmp_path / "absent.zarr").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "without attributes"),
        ("[1]", "without attributes"),
        ('{"attributes": {"schema": "another"}}', "found 'another'"),
        ('{"zarr_format": 3, "node_type": "group", "attributes": {}}', "found None"),
    ],
)
def test_something_else_is_neither_opened_nor_overwritten(tmp_path, content, message):
    (tmp_path / "zarr.json").write_text(content)
    for attempt in (FeatureStore.open, new_store):
        with pytest.raises(InputError, match=message):
            attempt(tmp_path)
    assert (tmp_path / "zarr.json").read_text() == content


def test_changed_attributes_are_refused(store):
    path = Path(store.location, "zarr.json")
    path.write_text(path.read_text().replace("224", "225"))
    with pytest.raises(InputError, match="attributes as they were written"):
        FeatureStore.open(store.location)


def test_other_features_are_refused_and_the_difference_is_named(store):
    before = Path(store.location, "zarr.json").read_bytes()
    other = {"frames": {"resize": 256, "crop": 192}, "dtype": "float16", "weights": "fedcba9876543210"}
    message = "features of frames.crop 192, weights fedcba987654, found frames.crop 224, weights 0123456789ab"
    with pytest.raises(InputError, match=message):
        FeatureStore.create(store.location, other, 8, "float16")
    with pytest.raises(InputError, match="expected features of fingerprint"):
        store.require(fingerprint(other))
    store.require(PROVENANCE)
    store.require(fingerprint(PROVENANCE))
    assert Path(store.location, "zarr.json").read_bytes() == before


def test_a_block_of_another_store_is_not_believed(store, tmp_path):
    other = FeatureStore.create(tmp_path / "other.zarr", {"dtype": "float16"}, 8, "float16")
    other.write_block("alien", features(4))
    shutil.copytree(other.location, store.location, dirs_exist_ok=True, ignore=shutil.ignore_patterns("zarr.json"))
    again = FeatureStore.open(store.location)
    with pytest.raises(InputError, match=r"alien\.json.*found features of fingerprint"):
        again.load()
    assert len(upkeep.verify(again)) == 1


def test_creating_again_keeps_what_is_there(store):
    assert new_store(store.location).lengths() == store.lengths()


# Killed and racing writers


def test_a_block_that_was_not_committed_is_invisible_and_may_be_written_again(store, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    clips = [("clip 3", np.ones((2, 8), "f2"))]
    with monkeypatch.context() as patch:
        patch.setattr(json_records, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            store.write_block("three", clips)
    reader = FeatureStore.open(store.location)
    assert "clip 3" not in reader.lengths()
    assert upkeep.verify(reader) == []
    assert inventory.take(reader)[0].orphans == 1
    store.write_block("three", clips)
    again = FeatureStore.open(store.location)
    np.testing.assert_array_equal(again["clip 3"], clips[0][1])
    assert upkeep.gc(again, grace_seconds=3600) == []
    assert len(upkeep.gc(again, grace_seconds=0)) == 1
    assert inventory.take(again)[0].orphans == 0
    assert upkeep.verify(again) == []


def test_a_try_that_is_written_now_is_spared_whatever_the_clocks_say(store, monkeypatch):
    """Its age is by the clock of the disk: a worker's or this machine's may be years off."""
    begun = Path(store.location, "blocks", "begun-0123456789ab")  # its first file is not there yet
    begun.mkdir()
    written = Path(store.location, "blocks", "written-0123456789ab", "features", "c", "0")
    written.mkdir(parents=True)
    (written / "0.partial").write_bytes(b"x")
    day = 86400
    for path in (written, written.parent, written.parents[1], written.parents[2]):  # begun long ago, written to now
        os.utime(path, (time.time() - day, time.time() - day))
    ahead = time.time() + 400 * day
    monkeypatch.setattr(time, "time", lambda: ahead)
    again = FeatureStore.open(store.location)
    assert inventory.take(again)[0].orphans == 2
    assert upkeep.gc(again, grace_seconds=3600) == []
    monkeypatch.undo()
    os.utime(written / "0.partial", (time.time() - day, time.time() - day))
    assert upkeep.gc(again, grace_seconds=3600) == ["blocks/written-0123456789ab"]
    assert begun.is_dir()
    assert not list(Path(store.location).glob("clock-*"))


def test_a_half_written_commit_file_is_not_a_commit_and_goes_after_the_grace(store):
    # What the atomic writer of the local store leaves behind when it is killed.
    half = Path(store.location, "commits", f"three.{uuid.uuid4().hex}.partial")
    half.write_bytes(b'{"block": ')
    again = FeatureStore.open(store.location)
    assert len(again.load().ids) == 3
    assert upkeep.verify(again) == []
    assert upkeep.gc(again, grace_seconds=3600) == []
    assert upkeep.gc(again, grace_seconds=0) == [f"commits/{half.name}"]
    assert not half.exists()
    assert len(FeatureStore.open(store.location).load().ids) == 3


def test_racing_writers_of_one_block_never_mix(tmp_path):
    """Each writes its own value everywhere; a mixed block would hold two values or fail its digests."""
    new_store(tmp_path / "s.zarr")
    start = threading.Barrier(4)

    def write(value):
        store = FeatureStore.open(tmp_path / "s.zarr")
        start.wait()
        store.write_block("a", [(f"clip {i}", np.full((300, 8), value, "f2")) for i in range(3)])

    threads = [threading.Thread(target=write, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert len(np.unique(store.load().array)) == 1
    assert upkeep.verify(store) == []
    assert inventory.take(store)[0].orphans == 3


def test_a_clip_in_two_commits_counts_once(store):
    store.write_block("another", features(3, 1))
    again = FeatureStore.open(store.location)
    assert len(again.load().ids) == 3
    assert upkeep.verify(again) == []


def test_success_after_a_failure_counts(store):
    store.write_block("later", [("broken/clip", np.ones((2, 8), "f2"))])
    assert FeatureStore.open(store.location).failures() == {}


def test_forgotten_failures_are_wanted_again(store):
    store.forget_failures(["broken/clip", "never heard of"])
    assert FeatureStore.open(store.location).failures() == {}


# Damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_chunk_is_an_error_never_zeros(store, harm):
    harm(only(Path(store.location), "blocks/two-*/features/c/0/0"))
    assert len(upkeep.verify(store)) == 1
    for read in (store.load, lambda: store["clip 2"]):
        with pytest.raises(InputError, match=r"blocks/two-.*/features.*expected what was written"):
            read()
    assert len(store.load(["clip 0", "clip 1"]).array) == 4  # the other block is not concerned


def test_a_changed_value_under_a_right_checksum_is_found(store):
    import zarr

    group = only(Path(store.location), "blocks/one-*")
    zarr.open_array(group / "features", mode="r+")[0, 0] = 9
    (problem,) = upkeep.verify(store)
    assert "clip 0" in problem
    with pytest.raises(InputError, match="clip 0: expected what was written"):
        store["clip 0"]
    assert len(store["clip 1"]) == 1  # its own digest is right


@pytest.mark.parametrize("name", ["features", "offsets", ""])
def test_damaged_metadata_of_a_block(store, name):
    group = only(Path(store.location), "blocks/two-*")
    if name:
        truncate(group / name / "zarr.json")
    else:
        shutil.rmtree(group)
    assert len(upkeep.verify(store)) == 1


def test_an_array_in_another_format_of_zarr_is_damage(store):
    """Format 2 knows codecs that unpickle; a store is in format 3, and nothing else is opened."""
    array = only(Path(store.location), "blocks/two-*/features")
    shutil.rmtree(array)
    zarr.create_array(array, data=np.ones((5, 8), np.float16), zarr_format=2)
    with pytest.raises(InputError, match=r"blocks/two-\w+/features: expected what was written"):
        store.load()


def test_changed_offsets_are_found(store):
    flip(only(Path(store.location), "blocks/one-*/offsets/c/0"))
    assert len(upkeep.verify(store)) == 1


@pytest.mark.parametrize("harm", [flip, truncate, lambda path: path.write_bytes(b"{}")])
def test_a_damaged_commit_is_found_and_refused(store, harm):
    harm(Path(store.location, "commits", "one.json"))
    again = FeatureStore.open(store.location)
    (problem,) = upkeep.verify(again)
    assert "commits/one.json" in problem
    for read in (again.load, again.lengths, lambda: inventory.take(again), lambda: upkeep.gc(again)):
        with pytest.raises(InputError, match=r"commits/one\.json.*Restore it"):
            read()


@pytest.mark.parametrize(
    "told",
    [
        {"group": "../../victim"},
        {"group": "/victim"},
        {"group": "blocks/one-a/../../commits"},
        {"group": "commits"},
        {"block": "../one"},
        {"block": ""},
        {"lengths": [3, 2**40]},
        {"lengths": [3, -1]},
        {"lengths": ["3", 1]},
        {"lengths": [3]},
        {"clips": ["clip 0", 5]},
        {"digests": ["x", "y"]},
        {"timings": {"read": "long"}},
        {"stored_bytes": None},
    ],
)
def test_what_a_commit_says_is_checked_however_well_it_is_sealed(store, tmp_path, told):
    (tmp_path / "victim").mkdir()
    path = Path(store.location, "commits", "one.json")
    record = {**json.loads(path.read_bytes()), **told}
    del record["sha256"]
    path.write_bytes(canonical_json({**record, "sha256": digest(record)}))
    again = FeatureStore.open(store.location)
    for use in (again.load, again.lengths, lambda: compact(again), lambda: upkeep.gc(again, 0)):
        with pytest.raises(InputError, match=r"commits/one\.json"):
            use()
    assert (tmp_path / "victim").is_dir()
    assert len(upkeep.verify(again)) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda array: array.update(zarr_format=2), "no array of Zarr v3"),
        (lambda array: array.update(data_type="object"), "an array of 'object'"),
        (lambda array: array["codecs"][0].update(name="numcodecs.pickle"), "the codec 'numcodecs.pickle'"),
        (lambda array: array["codecs"][0]["configuration"]["codecs"][1].update(name="blosc"), "the codec 'blosc'"),
        (lambda array: array["codecs"][0]["configuration"].update(chunk_shape=[10**10, 8]), "chunks of"),
        (lambda array: array["chunk_grid"]["configuration"].update(chunk_shape=[10**12, 8]), "chunks of"),
        (lambda array: array["chunk_grid"]["configuration"].update(chunk_shape=["4", 8]), "chunks of"),
        (lambda array: array.clear(), "no array"),
    ],
)
def test_arrays_of_another_make_are_refused_before_they_are_read(store, change, says):
    path = only(Path(store.location), "blocks/one-*/features/zarr.json")
    array = json.loads(path.read_bytes())
    change(array)
    path.write_text(json.dumps(array))
    with pytest.raises(InputError, match=f"features.*{says}"):
        FeatureStore.open(store.location).load(["clip 0"])


@pytest.mark.parametrize("width", [True, 0, 2**40, "8"])
def test_a_width_that_cannot_be_is_refused(store, width):
    path = Path(store.location, "zarr.json")
    group = json.loads(path.read_bytes())
    group["attributes"]["width"] = width
    path.write_text(json.dumps(group))
    with pytest.raises(InputError, match="attributes as they were written"):
        FeatureStore.open(store.location)


def test_a_damaged_failure_record_is_refused(store):
    truncate(only(Path(store.location), "failures/*.json"))
    with pytest.raises(InputError, match="expected a failure record"):
        store.failures()
    assert len(upkeep.verify(store)) == 1


# Elsewhere than on disk


def test_a_url_works_where_a_path_does():
    url = f"memory://{uuid.uuid4().hex}/train.zarr"
    store = FeatureStore.create(url, PROVENANCE, 8, "float16")
    clips = features(2, 4)
    store.write_block("a", clips, {"x": Failure("empty", "no frames")})
    again = FeatureStore.open(url)
    np.testing.assert_array_equal(again["clip 1"], clips[1][1])
    assert again.failures() == {"x": ("empty", "no frames")}
    assert upkeep.verify(again) == []
    assert inventory.take(again)[0].clips == 2
    with pytest.raises(InputError, match="found none"):
        FeatureStore.open(url + "x")


def test_reading_writes_nothing(store):
    root = Path(store.location)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    again = FeatureStore.open(root)
    assert len(again.load().ids) == 3
    again.failures(), upkeep.verify(again), inventory.take(again)[0]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_reader_on_the_documentation_page(store):
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (reader,) = [code for code in snippets if "zarr.open_group" in code]
    assert len(reader.splitlines()) <= 12
    names = {"path": store.location}
    exec(compile(reader, str(PAGE), "exec"), names)
    found = names["features"]
    assert found.keys() == {(id, "plain") for id in store.lengths()}
    for (id, _), array in found.items():
        np.testing.assert_array_equal(array, store[id], strict=True)


def test_the_commit_on_the_documentation_page_has_the_fields_of_a_commit(store):
    (example,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    written = json.loads(Path(store.location, "commits", "one.json").read_text())
    assert json.loads(example).keys() == written.keys()
