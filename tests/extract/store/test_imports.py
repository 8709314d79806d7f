"""Imports: an ordinary store that says where its features come from, or nothing at all."""

import gzip
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from extract.errors import InputError
from extract.fingerprint import SCHEMA, digest
from extract.store import upkeep
from extract.store.exports import export_features
from extract.store.feature_store import FeatureStore
from extract.store.import_sources import open_source
from extract.store.imports import import_features


def arrays(*ids, width=8, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return {id: rng.normal(size=(2 + i % 4, width)).astype(dtype) for i, id in enumerate(ids)}


def write_hdf5(path, clips):
    with h5py.File(path, "w") as file:
        for id, array in clips.items():
            file[id] = array
    return path


def write_npy(path, clips):
    path.mkdir()
    for id, array in clips.items():
        np.save(path / f"{id}.npy", array)
    return path


def write_pickle(path, clips):
    with gzip.open(path, "wb") as file:
        pickle.dump([{"name": id, "text": "x", "sign": torch.from_numpy(array)} for id, array in clips.items()], file)
    return path


WRITERS = {"hdf5": write_hdf5, "npy": write_npy, "pickle": write_pickle}


def imported(source, store, name="i3d", **options):
    with open_source(source) as opened:
        return import_features(opened, str(store), name, **options)


def commits(store):
    return [json.loads(path.read_text()) for path in sorted((store / "commits").iterdir())]


@pytest.mark.parametrize("format", WRITERS)
def test_other_peoples_features(tmp_path, format):
    clips = arrays("a", "b", "c")
    source = WRITERS[format](tmp_path / "theirs", clips)
    done = imported(source, tmp_path / "train.zarr")
    assert (done.clips, done.imported, done.steps, done.width, done.dtype) == (3, 3, 9, 8, "float32")
    store = FeatureStore.open(tmp_path / "train.zarr")
    assert store.provenance == {
        "schema": SCHEMA, "origin": "imported", "name": "i3d", "format": format, "width": 8, "dtype": "float32",
    }  # fmt: skip
    assert store.fingerprint == done.fingerprint
    assert upkeep.verify(store) == []
    for id, array in clips.items():
        np.testing.assert_array_equal(store[id], array, strict=True)
    (commit,) = commits(tmp_path / "train.zarr")
    assert commit["versions"]["source"] == "theirs"
    files = sorted(tmp_path.glob("theirs/*.npy"))
    sha256 = (
        digest([[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files])
        if files
        else hashlib.sha256(source.read_bytes()).hexdigest()
    )
    assert commit["versions"]["source sha256"] == done.sha256 == sha256


@pytest.mark.parametrize("format", WRITERS)
def test_splits_of_one_extractor_have_one_fingerprint(tmp_path, format):
    for split, seed in (("train", 0), ("dev", 1)):
        imported(WRITERS[format](tmp_path / split, arrays("a", split, seed=seed)), tmp_path / f"{split}.zarr")
    imported(tmp_path / "dev", tmp_path / "other.zarr", name="s3d")
    train, dev, other = (FeatureStore.open(tmp_path / f"{name}.zarr") for name in ("train", "dev", "other"))
    train.require(dev.provenance)
    with pytest.raises(InputError, match="expected features of name i3d, found name s3d"):
        other.require(train.provenance)
    before = snapshot(tmp_path / "train.zarr")
    with pytest.raises(InputError, match="found name i3d"):
        imported(tmp_path / "dev", tmp_path / "train.zarr", name="s3d")
    assert snapshot(tmp_path / "train.zarr") == before


@pytest.mark.parametrize(
    ("theirs", "wanted", "stored"),
    [
        ("float16", None, "float16"), ("float32", None, "float32"), ("float64", None, "float32"),
        (">f4", None, "float32"), (">f2", None, "float16"), ("float32", "float16", "float16"),
        ("float16", "float32", "float32"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format", ["hdf5", "npy"])
def test_dtypes(tmp_path, format, theirs, wanted, stored):
    clips = arrays("a", "b", dtype=theirs)
    imported(WRITERS[format](tmp_path / "theirs", clips), tmp_path / "s.zarr", dtype=wanted)
    store = FeatureStore.open(tmp_path / "s.zarr")
    for id, array in clips.items():
        np.testing.assert_array_equal(store[id], array.astype(stored), strict=True)


def test_mixed_dtypes_become_the_wider(tmp_path):
    clips = arrays("a") | arrays("b", dtype="float16")
    imported(write_npy(tmp_path / "theirs", clips), tmp_path / "s.zarr")
    assert FeatureStore.open(tmp_path / "s.zarr").dtype == np.float32


def test_compressed_datasets_in_groups(tmp_path):
    clips = arrays("train/a", "train/b", "c")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for id, array in clips.items():
            file.create_dataset(id, data=array, chunks=(1, 8), compression="gzip", fletcher32=True)
        file.attrs["schema"] = "somebody else's"
    imported(tmp_path / "x.h5", tmp_path / "s.zarr")
    assert set(FeatureStore.open(tmp_path / "s.zarr").lengths()) == set(clips)


def test_many_datasets_take_little_memory(tmp_path):
    """HDF5 keeps a buffer for each dataset that is open, outside of what Python counts."""
    rng = np.random.default_rng(0)
    write_hdf5(tmp_path / "x.h5", {f"{i}": rng.normal(size=(2, 8)).astype("f4") for i in range(4000)})
    code = (
        "import sys; from pathlib import Path; from extract.store.imports import import_features\n"
        "from extract.store.import_sources import open_source\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "with open_source(Path(sys.argv[1])) as source: import_features(source, sys.argv[2], 'x', dry_run=True)\n"
        "print(peak() - before)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "x.h5"), str(tmp_path / "s.zarr")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * 1024  # KiB; 4000 buffers are 250 MiB


def test_a_prefix_is_dropped(tmp_path):
    source = write_pickle(tmp_path / "x", arrays("train/a", "train/b"))
    imported(source, tmp_path / "s.zarr", drop_prefix="train/")
    assert list(FeatureStore.open(tmp_path / "s.zarr").lengths()) == ["a", "b"]
    with pytest.raises(InputError, match=r"expected an id that begins with 'dev/'.*Check --drop-prefix"):
        imported(source, tmp_path / "t.zarr", drop_prefix="dev/")


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def bad(**changes):
    return arrays("a", "b") | {id: np.asarray(value, "f4") for id, value in changes.items()}


NAN, INF = np.full((2, 8), np.nan), np.full((2, 8), -np.inf)


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize(
    ("clips", "says"),
    [
        (bad(c=NAN), "clip 'c': expected finite values, found 16 that are not, in float32"),
        (bad(b=INF), "clip 'b': expected finite values"),
        (bad(c=np.ones((2, 7))), r"expected at least one feature, of width 8, found shape \(2, 7\)"),
        (bad(c=np.ones((0, 8))), r"expected at least one feature, of width 8, found shape \(0, 8\)"),
        (bad(a=np.ones((2, 0))), r"found shape \(2, 0\)"),
        (bad(c=np.ones(8)), r"found float32 of shape \(8,\)"),
        (bad(c=np.ones((1, 2, 8))), r"found float32 of shape \(1, 2, 8\)"),
    ],
)
def test_bad_clips_are_refused_before_anything_is_visible(tmp_path, format, clips, says):
    source = WRITERS[format](tmp_path / "theirs", clips)
    with pytest.raises(InputError, match=says):
        imported(source, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_values_that_overflow(tmp_path):
    source = write_npy(tmp_path / "theirs", {"a": np.full((2, 3), 1e5, "f4")})
    with pytest.raises(InputError, match=r"found 6 that are not, in float16\. Import with --dtype float32"):
        imported(source, tmp_path / "s.zarr", dtype="float16")
    source = write_npy(tmp_path / "theirs 64", {"a": np.full((2, 3), 1e300)})
    with pytest.raises(InputError, match="expected finite values"):
        imported(source, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def npy_bomb(folder):
    with (folder / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 1024)})


def hdf5_bomb(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("a", shape=(10**9, 1024), dtype="f4", chunks=(1024, 1024))


def hdf5_link(folder):
    write_hdf5(folder / "secret.h5", arrays("a"))
    with h5py.File(folder / "x.h5", "w") as file:
        file["a"] = h5py.ExternalLink("secret.h5", "a")


def hdf5_external(folder):
    (folder / "secret").write_bytes(bytes(64))
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("a", shape=(2, 8), dtype="f4", external=[(str(folder / "secret"), 0, 64)])


def hdf5_virtual(folder):
    write_hdf5(folder / "secret.h5", {"a": np.ones((2, 8), "f4")})
    layout = h5py.VirtualLayout((2, 8), "f4")
    layout[:] = h5py.VirtualSource(folder / "secret.h5", "a", (2, 8))
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_virtual_dataset("a", layout)


def hdf5_text(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file["a"], file["titles"] = np.ones((2, 8), "f4"), ["one", "two"]


def hdf5_cut(folder):
    data = write_hdf5(folder / "x.h5", arrays("a", "b")).read_bytes()
    (folder / "x.h5").write_bytes(data[:-100])


def npy_pickled(folder):
    np.save(folder / "a.npy", np.array([[os.getcwd]], dtype=object), allow_pickle=True)


def npz(folder):
    with (folder / "a.npy").open("wb") as file:
        np.savez(file, a=np.ones((2, 8)))


def npy_cut(folder):
    data = write_npy(folder / "f", arrays("a")) / "a.npy"
    (folder / "a.npy").write_bytes(data.read_bytes()[:-1])


def nested(folder):
    write_npy(folder / "train", arrays("a"))


def csv(folder):
    (folder / "x.h5").write_text("a,b\n1,2\n")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (npy_bomb, "expected an array, found ValueError"),
        (hdf5_bomb, "expected at most 1024 MiB"),
        (hdf5_link, "expected a dataset, found a link to another place"),
        (hdf5_external, "expected values in this file"),
        (hdf5_virtual, "expected values in this file"),
        (hdf5_text, r"clip 'titles': expected a floating-point array"),
        (hdf5_cut, "expected an HDF5 file"),
        (npy_pickled, "expected an array, found ValueError"),
        (npz, "an archive of several arrays"),
        (npy_cut, "expected an array, found ValueError"),
        (nested, "found none. A folder has <id>.npy right in it"),
        (csv, "expected HDF5, a folder of .npy files or a gzip-packed pickle, found none of them"),
    ],
)
def test_files_that_are_something_else(tmp_path, make, says):
    folder = tmp_path / "theirs"
    folder.mkdir()
    make(folder)
    source = folder / "x.h5" if (folder / "x.h5").exists() else folder
    with pytest.raises(InputError, match=says):
        imported(source, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_a_source_or_store_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="expected a file or folder with features, found none"):
        imported(tmp_path / "nothing", tmp_path / "s.zarr")
    source = write_npy(tmp_path / "theirs", arrays("a"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("mine")
    for path in (tmp_path / "thesis", tmp_path / "thesis/chapter.tex"):
        with pytest.raises(InputError, match="expected a feature store, or nothing yet"):
            imported(source, path)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
    with pytest.raises(InputError, match="expected the name of the extractor"):
        imported(source, tmp_path / "s.zarr", name=" ")


def test_a_second_import_does_nothing(tmp_path):
    source = write_hdf5(tmp_path / "x.h5", arrays("a", "b", "c"))
    imported(source, tmp_path / "s.zarr")
    before = snapshot(tmp_path / "s.zarr")
    assert imported(source, tmp_path / "s.zarr").imported == 0
    assert snapshot(tmp_path / "s.zarr") == before


def test_a_store_may_be_filled_from_several_sources_that_agree(tmp_path):
    clips = arrays("a", "b", "c")
    first = write_hdf5(tmp_path / "1.h5", {id: clips[id] for id in "ab"})
    second = write_hdf5(tmp_path / "2.h5", {id: clips[id] for id in "bc"})
    imported(first, tmp_path / "s.zarr")
    assert imported(second, tmp_path / "s.zarr").imported == 1
    store = FeatureStore.open(tmp_path / "s.zarr")
    for id, array in clips.items():
        np.testing.assert_array_equal(store[id], array, strict=True)
    assert len({commit["versions"]["source sha256"] for commit in commits(tmp_path / "s.zarr")}) == 2

    third = write_hdf5(tmp_path / "3.h5", {"d": clips["a"], "c": clips["c"] + 1})
    before = snapshot(tmp_path / "s.zarr")
    with pytest.raises(InputError, match="clip 'c': expected the features that the store has of it, found others"):
        imported(third, tmp_path / "s.zarr")
    assert snapshot(tmp_path / "s.zarr") == before


def test_a_dry_run_checks_and_writes_nothing(tmp_path):
    source = write_hdf5(tmp_path / "x.h5", arrays("a", "b"))
    done = imported(source, tmp_path / "s.zarr", dry_run=True)
    assert (done.imported, done.fingerprint) == (2, None)
    assert not (tmp_path / "s.zarr").exists()


def test_an_export_keeps_its_fingerprint_in_the_provenance(tmp_path):
    """Features of two encoders cannot be mixed under one name when they are exports."""
    for weights in ("one", "two"):
        store = FeatureStore.create(tmp_path / f"{weights}.zarr", {"weights": weights}, 8, "float32")
        store.write_block("b", list(arrays("a").items()))
        export_features(FeatureStore.open(store.location), tmp_path / f"{weights}.h5", "hdf5")
        imported(tmp_path / f"{weights}.h5", tmp_path / f"{weights} again.zarr")
    one, two = (FeatureStore.open(tmp_path / f"{weights} again.zarr") for weights in ("one", "two"))
    assert one.provenance["exported"] == FeatureStore.open(tmp_path / "one.zarr").fingerprint
    with pytest.raises(InputError, match="expected features of exported"):
        one.require(two.provenance)


def test_views_go_out_and_in(tmp_path):
    plain, shifted = arrays("a", "b"), arrays("a", "b", seed=1)
    store = FeatureStore.create(tmp_path / "s.zarr", {"weights": "one"}, 8, "float32")
    store.write_block("1", list(plain.items()))
    store.write_block("2", list(shifted.items()), views=["phase=1"] * 2)
    store = FeatureStore.open(store.location)
    assert export_features(store, tmp_path / "plain", "npy").other_views == ["phase=1"]
    assert export_features(store, tmp_path / "shifted.h5", "hdf5", view="phase=1").view == "phase=1"
    with pytest.raises(InputError, match=r"expected features of the view 'phase=2', found plain, phase=1"):
        export_features(store, tmp_path / "x", "npy", view="phase=2")
    imported(tmp_path / "shifted.h5", tmp_path / "t.zarr")
    assert imported(tmp_path / "shifted.h5", tmp_path / "t.zarr", view="phase=3").imported == 2
    again = FeatureStore.open(tmp_path / "t.zarr")
    assert again.views() == ["phase=1", "phase=3"]
    assert upkeep.verify(again) == []
    assert again.digests("phase=1") == again.digests("phase=3") == store.digests("phase=1") != store.digests()


@pytest.fixture
def exported(tmp_path):
    """A store's exports in both formats."""
    store = FeatureStore.create(tmp_path / "s.zarr", {"weights": "one"}, 8, "float32")
    store.write_block("b", list(arrays("a", "b/c").items()))
    store = FeatureStore.open(store.location)
    export_features(store, tmp_path / "x.h5", "hdf5")
    export_features(store, tmp_path / "x", "npy")
    return tmp_path


def test_an_export_that_was_changed_is_refused(exported):
    with h5py.File(exported / "x.h5", "r+") as file:
        file["a"][0, 0] += 1
    with pytest.raises(InputError, match="clip 'a': expected the values that were exported"):
        imported(exported / "x.h5", exported / "new.zarr")
    with h5py.File(exported / "x.h5", "r+") as file:
        file.attrs["provenance"] = '{"weights": "two"}'
    with pytest.raises(InputError, match="expected fingerprint and provenance as they were exported"):
        imported(exported / "x.h5", exported / "new.zarr")
    with h5py.File(exported / "x.h5", "r+") as file:
        file.attrs["schema"] = "fla-slt features export 2"
    with pytest.raises(InputError, match="expected an export of schema 'fla-slt features export 1'"):
        imported(exported / "x.h5", exported / "new.zarr")
    assert not (exported / "new.zarr").exists()


def without_file(manifest):
    del manifest["clips"][0]["file"]


def twice(manifest):
    manifest["clips"][1]["id"] = manifest["clips"][0]["id"]


def elsewhere(manifest):
    manifest["clips"][0]["file"] = "../secret.npy"


def one_less(manifest):
    manifest["clips"].pop()


def no_text(manifest):
    manifest["clips"][0]["id"] = 3


def no_list(manifest):
    manifest["clips"] = 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_file, "expected the manifest of an export"),
        (twice, "expected every clip once, found 'a' twice"),
        (elsewhere, r"expected the file '\.\./secret\.npy' of the manifest, found none"),
        (one_less, "expected the files of its manifest only"),
        (no_text, "expected the manifest of an export"),
        (no_list, "expected the manifest of an export"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(exported, change, says):
    shutil.copy(exported / "x/a.npy", exported / "secret.npy")
    path = exported / "x/manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=says):
        imported(exported / "x", exported / "new.zarr")
    assert not (exported / "new.zarr").exists()


def test_a_source_that_changes_between_check_and_writing(tmp_path):
    """Its later clips are not written; what was written before is whole and is what was checked."""
    source = write_npy(tmp_path / "theirs", {f"{i}": np.full((3000, 8), i, "f4") for i in range(4)})

    def change(done, total):
        if done == 4:  # the last is checked, the first not yet written
            np.save(source / "3.npy", np.full((3000, 8), 7, "f4"))

    with pytest.raises(InputError, match="expected the values that were checked, found others"):
        imported(source, tmp_path / "s.zarr", on_clip=change)
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert set(store.lengths()) == {"0", "1"}
    assert upkeep.verify(store) == []
