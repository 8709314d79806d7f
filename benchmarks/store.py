"""Loading a split's features for training, beside the fastest way there is: one flat .npy file and its checksum.

    python benchmarks/store.py            # writes docs/benchmarks/store.json

A split of 7,000 clips of 29 sign-wise features of width 512 in float16 (205 MB), as PHOENIX14T's train split would
be; half of the values are zero, as after a ReLU. Both ways are taken in turn, medians of the rounds.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import hashlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zarr

from benchmarks.page import write_report
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore

CLIPS, STEPS, WIDTH = 7000, 29, 512
BLOCK_CLIPS = 140


def write_store(path: Path, values: np.ndarray) -> dict[str, float]:
    """As the job does: blocks of about 4,096 features, merged at the end."""
    store = FeatureStore.create(path, {"benchmark": "store"}, WIDTH, "float16")
    began = time.perf_counter()
    for block, start in enumerate(range(0, CLIPS, BLOCK_CLIPS)):
        numbers = range(start, min(start + BLOCK_CLIPS, CLIPS))
        store.write_block(f"block{block}", [(f"clip-{n:05d}", values[n * STEPS : (n + 1) * STEPS]) for n in numbers])
    written = time.perf_counter() - began
    began = time.perf_counter()
    compact(store)
    return {"write_seconds": written, "compact_seconds": time.perf_counter() - began}


def timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/store.json"))
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    values = np.maximum(rng.standard_normal((CLIPS * STEPS, WIDTH), np.float32), 0).astype(np.float16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "flat.npy", values)
        figures: dict[str, Any] = write_store(folder / "train.zarr", values)
        files = [path for path in (folder / "train.zarr").rglob("*") if path.is_file()]
        figures["files"] = len(files)
        figures["files_per_gb"] = len(files) / (sum(path.stat().st_size for path in files) / 1e9)
        figures["stored_share"] = sum(path.stat().st_size for path in files) / values.nbytes
        ids = [f"clip-{n:05d}" for n in range(CLIPS)]
        assert (FeatureStore.open(folder / "train.zarr").load(ids).array == values).all()

        rounds: dict[str, list[float]] = {"flat": [], "store": [], "random_clip": []}
        for _ in range(options.rounds):
            rounds["flat"].append(timed(lambda: hashlib.sha256(np.load(folder / "flat.npy")).hexdigest()))
            rounds["store"].append(timed(lambda: FeatureStore.open(folder / "train.zarr").load(ids)))
            store = FeatureStore.open(folder / "train.zarr")
            _ = store[ids[0]]
            chosen = [ids[n] for n in rng.integers(0, CLIPS, 200)]
            rounds["random_clip"].append(timed(lambda some=chosen, of=store: [of[id] for id in some]) / 200)

    medians = {way: statistics.median(seconds) for way, seconds in rounds.items()}
    figures |= {f"{way}_seconds": seconds for way, seconds in medians.items()}
    ratios = {
        "load_vs_flat": medians["store"] / medians["flat"],
        "random_clip_ms": medians["random_clip"] * 1000,
        "files_per_gb": figures.pop("files_per_gb"),
    }
    report = {
        "title": "Loading a split's features",
        "command": "python benchmarks/store.py",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "zarr": zarr.__version__,
        "rounds": options.rounds,
        "figures": figures,
        "ratios": ratios,
        "wanted": {"load_vs_flat": "at most 2", "random_clip_ms": "at most 1", "files_per_gb": "at most 100"},
    }
    write_report(report, options.out)


if __name__ == "__main__":
    main()
