"""`slt extract` onto a disk that is full or that it may not write to: real file systems, mounted for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extract.dataset.clip_index import ClipIndex
from extract.store import inventory, upkeep
from extract.store.feature_store import FeatureStore
from pipeline.corpus.layout import DATASET_FOLDER
from pipeline.experiment.freshness import Record, Records

pytestmark = pytest.mark.slow

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 kB: some clips of the tiny corpus fit, not all."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or mount("-t", "tmpfs", "-o", "size=32k", "tmpfs", folder) != 0:
        pytest.skip("file systems can only be mounted by root, outside of a container that forbids it")
    yield folder
    mount("-o", "remount,rw", folder)
    subprocess.run(["umount", "-l", folder], check=True)


def mount(*words: str | Path) -> int:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode


@pytest.fixture
def extract(tmp_path: Path, tiny_corpus: Path, tiny_index: ClipIndex, tiny_encoder: Path):  # type: ignore[no-untyped-def]
    """Runs `slt extract` with an index and an encoder that are there already."""
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(tiny_index.path, out / "index.parquet")
    shutil.copytree(tiny_encoder, out / "encoder")
    for stage in ("index", "stage1"):
        Records(out).write(stage, Record({}, {}, []))

    def run(store: Path, *words: str, code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*SLT, "extract", "tiny", "--out", str(out), "--set", f"data.root={tiny_corpus / DATASET_FOLDER}",
             "--set", f"extract.store={store}", "--set", "extract.block_frames=16", "--set", "extract.workers=1",
             *words], capture_output=True, text=True, check=False, timeout=200,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.endswith(line + "\n")
    return line


def stores(folder: Path) -> dict[str, FeatureStore]:
    return {path.name: FeatureStore.open(path) for path in sorted(folder.glob("*/*.zarr")) if any(path.iterdir())}


def test_a_full_disk(disk: Path, tmp_path: Path, extract, tiny_index: ClipIndex) -> None:  # type: ignore[no-untyped-def]
    for _ in range(2):  # again: nothing of the failed try fills the disk further
        line = error_line(extract(disk, code=2))
        assert "No space left on device" in line
        assert "the space that is left" in line
        for store in stores(disk).values():
            assert upkeep.verify(store) == []
            assert inventory.take(store)[0].orphans == 0
            assert store.load().ids == list(store.lengths())
            assert store.failures() == {}
    kept = sum(len(store.lengths()) for store in stores(disk).values())
    assert 0 < kept < len(list(tiny_index.clips()))

    assert mount("-o", "remount,size=20m", disk) == 0
    done = extract(disk, code=0)
    assert f"({len(list(tiny_index.clips())) - kept} new" in done.stderr
    assert "next stage" in done.stderr
    extract(tmp_path / "elsewhere", "--force", code=0)
    here, there = stores(disk), stores(tmp_path / "elsewhere")
    assert here.keys() == there.keys() == {"train.zarr", "dev.zarr", "test.zarr"}
    for name, store in here.items():
        assert upkeep.verify(store) == []
        assert store.digests() == there[name].digests()


def test_a_disk_that_may_only_be_read(disk: Path, extract) -> None:  # type: ignore[no-untyped-def]
    assert mount("-o", "remount,size=20m", disk) == 0
    assert mount("-o", "remount,ro", disk) == 0
    assert "Read-only file system" in error_line(extract(disk, code=2))
    assert list(disk.iterdir()) == []
    assert mount("-o", "remount,rw", disk) == 0
    extract(disk, code=0)
    assert mount("-o", "remount,ro", disk) == 0
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    assert "to be written" in error_line(extract(disk, "--force", code=2))
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before


def test_a_share_of_failures_that_is_allowed(tmp_path: Path, tiny_corpus: Path, extract) -> None:  # type: ignore[no-untyped-def]
    root = Path(shutil.copytree(tiny_corpus / DATASET_FOLDER, tmp_path / "damaged"))
    next(root.glob("features/*/test/*/images0002.png")).unlink()
    words = ["--set", f"data.root={root}"]
    refused = extract(tmp_path / "store", *words, "--max-failure-rate", "0", code=2)
    assert "more than max_failure_rate = 0 allows" in error_line(refused)
    assert "missing 1" in extract(tmp_path / "store", *words, "--max-failure-rate", "0.5", code=3).stderr
    assert "extract.max_failure_rate" in error_line(extract(tmp_path / "store", "--max-failure-rate", "1.5", code=2))
