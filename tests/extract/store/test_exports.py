"""Exports: every bit of a store, in files that others can read, or nothing."""

import json
import os
import re
import shutil
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from extract.store import inventory, upkeep
from extract.store.exports import dataset_names, export_features, file_names, format_of
from extract.store.feature_store import FeatureStore
from extract.store.import_sources import open_source
from extract.store.imports import import_features

PROVENANCE = {"weights": "0123456789abcdef", "dtype": "float16"}
PAGE = Path(__file__).parents[3] / "docs" / "feature-store.md"


def store_of(path, clips, width=8, dtype="float16", blocks=2):
    store = FeatureStore.create(path, PROVENANCE, width, dtype)
    for i in range(blocks):
        store.write_block(str(i), clips[i::blocks])
    return FeatureStore.open(path)


def features(*ids, width=8, dtype="float16", seed=0):
    rng = np.random.default_rng(seed)
    return [(id, rng.normal(size=(1 + i % 5, width)).astype(dtype)) for i, id in enumerate(ids)]


@pytest.fixture
def clips():
    return features("train/a", "train/b", "c.d", "Müller")


@pytest.fixture
def store(tmp_path, clips):
    return store_of(tmp_path / "train.zarr", clips)


def test_hdf5_holds_a_dataset_per_clip(tmp_path, store, clips):
    done = export_features(store, tmp_path / "out.h5", "hdf5")
    assert (done.clips, done.steps, done.failures, done.width) == (4, 10, 0, 8)
    with h5py.File(tmp_path / "out.h5", "r") as file:
        for id, array in clips:
            np.testing.assert_array_equal(file[id][:], array, strict=True)
            assert file[id].attrs["sha256"] == store.digests()[id]
        assert file.attrs["fingerprint"] == store.fingerprint
        assert json.loads(file.attrs["provenance"]) == PROVENANCE
        assert (file.attrs["width"], file.attrs["dtype"]) == (8, "float16")


def test_npy_holds_a_file_per_clip_and_a_manifest(tmp_path, store, clips):
    export_features(store, tmp_path / "out", "npy")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["fingerprint"], manifest["provenance"]) == (store.fingerprint, PROVENANCE)
    assert {entry["id"] for entry in manifest["clips"]} == {id for id, _ in clips}
    for entry in manifest["clips"]:
        array = np.load(tmp_path / "out" / entry["file"], allow_pickle=False)
        np.testing.assert_array_equal(array, dict(clips)[entry["id"]], strict=True)
        assert entry["length"] == len(array)
    assert (tmp_path / "out/c.d.npy").is_file()
    assert len(list((tmp_path / "out").iterdir())) == 5


TEXT = st.text(max_size=12)  # slashes, dots, zeros, emoji and other alphabets included
TRICKY = st.sampled_from(
    ["..", "../x", "/etc/passwd", ".", "", "a/../../b", "A", "a", "CON", "x" * 300, "a\0b", "\\..\\x"]
)


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.one_of(TEXT, TRICKY), min_size=1, max_size=6, unique=True),
    width=st.integers(1, 40),
    dtype=st.sampled_from(["float16", "float32"]),
    format=st.sampled_from(["hdf5", "npy"]),
    data=st.data(),
)
def test_export_then_import_gives_the_same_bits(tmp_path_factory, ids, width, dtype, format, data):
    folder = tmp_path_factory.mktemp("round")
    floats = st.floats(width=16 if dtype == "float16" else 32, allow_nan=False, allow_infinity=False)
    clips = []
    for id in ids:
        steps = data.draw(st.integers(1, 3))
        row = data.draw(st.lists(floats, min_size=width, max_size=width))
        clips.append((id, np.array([row] * steps, dtype)))
    store = store_of(folder / "a.zarr", clips, width, dtype)
    target = folder / ("out.h5" if format == "hdf5" else "out")
    outside = sorted(path.name for path in folder.iterdir())
    try:
        export_features(store, target, format)
    except InputError as error:
        assert format == "hdf5"
        assert "Use --format npy" in str(error)  # noqa: PT017
        assert sorted(path.name for path in folder.iterdir()) == outside
    else:
        assert sorted(path.name for path in folder.iterdir()) == sorted([*outside, target.name])
        named = [id for id in ids if id]
        with open_source(target) as source:
            if len(named) < len(ids):  # the empty id can be stored, but nobody can mean it
                with pytest.raises(InputError, match="expected an id"):
                    import_features(source, str(folder / "b.zarr"), "x")
            else:
                import_features(source, str(folder / "b.zarr"), "x")
                again = FeatureStore.open(folder / "b.zarr")
                assert upkeep.verify(again) == []
                assert set(again.lengths()) == set(ids)
                for id, array in clips:
                    assert (again[id].dtype, again[id].tobytes()) == (array.dtype, array.tobytes())
    shutil.rmtree(folder)


@given(ids=st.lists(st.one_of(TEXT, TRICKY), unique=True))
def test_no_file_name_leaves_the_folder_or_is_used_twice(ids):
    names = file_names(ids)
    assert list(names) == ids
    assert len({name.casefold() for name in names.values()}) == len(ids)
    for name in names.values():
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.npy", name)
        assert len(name) < 200


@pytest.mark.parametrize("ids", [["a", "a/b"], ["a//b"], ["/a"], ["a/"], ["./a"], ["a\0"], [""], ["\ud800"]])
def test_ids_that_hdf5_cannot_hold_are_refused(ids):
    with pytest.raises(InputError, match="Use --format npy"):
        dataset_names(ids)


def test_what_is_there_is_not_replaced(tmp_path, store, clips):
    for target, format in ((tmp_path / "out.h5", "hdf5"), (tmp_path / "out", "npy")):
        export_features(store, target, format)
        with pytest.raises(InputError, match="expected nothing there yet"):
            export_features(store, target, format)
        other = store_of(tmp_path / f"{format}.zarr", [clips[0]])
        export_features(other, target, format, force=True)
        with open_source(target) as source:
            assert list(source.clips) == ["train/a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hdf5.zarr", "npy.zarr", "out", "out.h5", "train.zarr"]


def test_force_replaces_exports_only(tmp_path, store):
    (tmp_path / "notes.h5").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.tex").write_text("mine")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros((2, 2))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name, format in (("notes.h5", "hdf5"), ("other.h5", "hdf5"), ("folder", "npy"), ("train.zarr", "npy"),
                         ("link", "npy")):  # fmt: skip
        with pytest.raises(InputError, match="--force replaces exports only"):
            export_features(store, tmp_path / name, format, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("format", ["hdf5", "npy"])
def test_a_damaged_store_leaves_no_export(tmp_path, store, format):
    chunk = next(path for path in (tmp_path / "train.zarr").glob("blocks/*/features/c/**/*") if path.is_file())
    chunk.unlink()
    with pytest.raises(InputError, match="other bytes than those of its digest"):
        export_features(store, tmp_path / "deep" / "out", format)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_dry_run_writes_nothing_and_refuses_the_same(tmp_path, store):
    done = export_features(store, tmp_path / "deep" / "out", "npy", dry_run=True)
    assert done.clips == 4
    assert not (tmp_path / "deep").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="expected nothing there yet"):
        export_features(store, tmp_path / "out", "npy", dry_run=True)


def test_a_place_that_cannot_be_written(tmp_path, store):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a place to write"):
        export_features(store, tmp_path / "file" / "out", "npy")


def test_an_empty_store(tmp_path):
    empty = FeatureStore.create(tmp_path / "s.zarr", PROVENANCE, 8, "float16")
    with pytest.raises(InputError, match="expected features of the view 'plain', found none"):
        export_features(empty, tmp_path / "out", "npy")


def test_the_suffix_names_the_format():
    assert [format_of(Path(name)) for name in ("a.h5", "a.HDF5", "a.npy", "a")] == ["hdf5", "hdf5", "npy", "npy"]
    assert format_of(Path("phoenix.v2"), "npy") == "npy"
    with pytest.raises(InputError, match=r"found the suffix '\.v2'"):
        format_of(Path("phoenix.v2"))
    with pytest.raises(InputError, match="expected hdf5 or npy, found 'h5'"):
        format_of(Path("a.h5"), "h5")


@pytest.mark.long
@pytest.mark.parametrize("format", ["hdf5", "npy"])
def test_memory_is_flat(tmp_path, format):
    """160 MiB of features, out and in again, in less than half of that."""
    store = FeatureStore.create(tmp_path / "s.zarr", PROVENANCE, 1024, "float32")
    rng = np.random.default_rng(0)
    for i in range(40):
        store.write_block(str(i), [(f"{i} {j}", rng.normal(size=(128, 1024)).astype("f4")) for j in range(8)])
    store = FeatureStore.open(tmp_path / "s.zarr")
    target = tmp_path / "out"
    tracemalloc.start()
    try:
        export_features(store, target, format)
        with open_source(target) as source:
            import_features(source, str(tmp_path / "again.zarr"), "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert inventory.take(store)[0].steps * 4096 == 160 * 2**20
    assert peak < 80 * 2**20  # two blocks, and those of Zarr while one is compressed


def test_the_page_reads_exports(tmp_path, store, clips, monkeypatch):
    """The snippets in the documentation do what it says."""
    export_features(store, tmp_path / "train.h5", "hdf5")
    export_features(store, tmp_path / "train", "npy")
    snippets = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "train.h5" in code]
    assert len(snippets) == 1
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(snippets[0], scope)
    for name in ("from_hdf5", "from_npy"):
        found = scope[name]
        assert isinstance(found, dict)
        assert set(found) == {id for id, _ in clips}
        for id, array in clips:
            np.testing.assert_array_equal(found[id], array, strict=True)


def test_permissions_are_those_of_new_files(tmp_path, store):
    export_features(store, tmp_path / "out", "npy")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "out/c.d.npy").stat().st_mode & 0o777 == 0o666 & ~mask
