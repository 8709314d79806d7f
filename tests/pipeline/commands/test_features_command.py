"""Features out of a store and into one, by the commands, in real processes."""

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from extract.dataset.clip_index import Clip, write_index
from extract.store.feature_store import FeatureStore

pytestmark = pytest.mark.long

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


def slt(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 40 clips; not to be changed by a test."""
    path = tmp_path_factory.mktemp("features") / "train.zarr"
    store = FeatureStore.create(path, {"weights": "one"}, 256, "float16")
    rng = np.random.default_rng(0)
    for block in range(4):
        clips = [(f"train/clip {block}-{i}", rng.normal(size=(400, 256)).astype("f2")) for i in range(10)]
        store.write_block(str(block), clips)
    return path


def same(one: Path, two: Path) -> bool:
    return FeatureStore.open(one).digests() == FeatureStore.open(two).digests()


@pytest.mark.parametrize(("target", "format"), [("train.h5", "hdf5"), ("train", "npy")])
def test_there_and_back(store: Path, tmp_path: Path, target: str, format: str) -> None:
    planned = json.loads(slt("features", "export", store, tmp_path / target, "--dry-run", "--json").stdout)
    assert list(tmp_path.iterdir()) == []
    done = json.loads(slt("features", "export", store, tmp_path / target, "--json").stdout)
    assert done == planned | {"written": True}
    assert (done["format"], done["clips"], done["steps"]) == (format, 40, 16000)
    again = tmp_path / "again.zarr"
    planned = json.loads(
        slt("features", "import", tmp_path / target, again, "--name", "x", "--dry-run", "--json").stdout
    )
    assert (planned["imported"], planned["written"]) == (40, False)
    assert not again.exists()
    shown = slt("features", "import", tmp_path / target, again, "--name", "x")
    assert f"40 of 40 clips imported to {again} ({format}, width 256, float16)" in shown.stdout
    assert "checking and importing" in shown.stderr
    assert same(store, again)
    assert "whole" in slt("features", "verify", again).stdout
    info = json.loads(slt("features", "info", again, "--json").stdout)
    assert info["provenance"]["origin"] == "imported"
    refused = slt("features", "export", store, tmp_path / target, code=2)
    assert "expected nothing there yet" in refused.stderr
    slt("features", "export", store, tmp_path / target, "--force")


def test_what_the_index_has_and_the_source_has_not(store: Path, tmp_path: Path) -> None:
    def clip(id: str, split: str) -> Clip:
        return Clip(id=id, split=split, source=id, n_frames=0, fps=25, text="x", language="de_DE")

    ids = [f"clip {block}-{i}" for block in range(4) for i in range(10)]
    of_train = [clip(id, "train") for id in (*ids[5:], *(f"new {i}" for i in range(7)))]
    index = write_index(tmp_path / "index.parquet", [*of_train, clip("other", "dev")])
    slt("features", "export", store, tmp_path / "x.h5")
    words = ["features", "import", tmp_path / "x.h5", tmp_path / "s.zarr", "--name", "x", "--drop-prefix", "train/",
             "--index", index, "--split", "train"]  # fmt: skip
    facts = json.loads(slt(*words, "--json").stdout)
    assert facts["lacking"] == [f"new {i}" for i in range(7)]
    assert facts["besides"] == ids[:5]
    shown = slt(*words).stdout
    assert "7 (new 0, new 1, new 2, new 3, new 4, …) are lacking" in shown
    assert "besides them, the source has 5 (clip 0-0, " in shown
    assert "Splits in this index: dev, train" in slt(*words[:-1], "tset", code=2).stderr
    assert "expected both or neither" in slt(*words[:-2], code=2).stderr


class System:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


def test_wrong_input_is_one_line_and_exit_code_2(store: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "evil.gz", "wb") as file:
        pickle.dump([{"name": "a", "sign": System()}], file)
    with h5py.File(tmp_path / "nan.h5", "w") as hdf5:
        hdf5["a"] = np.full((2, 3), np.nan, "f4")
    into = [tmp_path / "s.zarr", "--name", "x"]
    for words, says in (
        (["import", tmp_path / "evil.gz", *into], "found UnpicklingError: a call of posix.system"),
        (["import", tmp_path / "nan.h5", *into], "clip 'a': expected finite values"),
        (["import", tmp_path / "none.h5", *into], "expected a file or folder with features"),
        (["import", tmp_path / "nan.h5", *into, "--dtype", "int8"], "expected float16 or float32"),
        (["export", store, tmp_path / "x.csv"], "Give --format hdf5 or --format npy"),
        (["export", store, "s3://bucket/x.h5"], "expected a local path"),
        (["export", tmp_path / "none.zarr", tmp_path / "x.h5"], "expected a feature store"),
        (["export", store, tmp_path / "x", "--format", "mat"], "expected hdf5 or npy"),
    ):
        done = slt("features", *words, code=2)
        (line,) = [line for line in done.stderr.strip().splitlines() if line.startswith("error: ")]
        assert says in line
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.gz", "nan.h5"]
    assert not Path("ran").exists()


def killed_when(path: Path, pattern: str, *words: str | Path) -> None:
    """Run a command and kill it as soon as ``pattern`` has a match."""
    run = subprocess.Popen([*SLT, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    run.wait()


def test_a_killed_import_goes_on(store: Path, tmp_path: Path) -> None:
    slt("features", "export", store, tmp_path / "x.h5")
    words = ["features", "import", tmp_path / "x.h5", tmp_path / "s.zarr", "--name", "x"]
    killed_when(tmp_path, "s.zarr/commits/*.json", *words)
    kept = FeatureStore.open(tmp_path / "s.zarr").lengths()
    assert 0 < len(kept) < 40
    assert f"{40 - len(kept)} of 40 clips imported" in slt(*words).stdout
    assert same(store, tmp_path / "s.zarr")
    assert "0 of 40 clips imported" in slt(*words).stdout


def test_a_killed_export_is_not_there(store: Path, tmp_path: Path) -> None:
    killed_when(tmp_path, "x.*.partial", "features", "export", store, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    slt("features", "export", store, tmp_path / "x")
    assert not list(tmp_path.glob("*.partial"))
    slt("features", "import", tmp_path / "x", tmp_path / "s.zarr", "--name", "x")
    assert same(store, tmp_path / "s.zarr")
