"""Planning, resuming and `slt features info` at a million clips: seconds, and the peak of memory.

    python benchmarks/scale.py            # writes docs/benchmarks/scale.json

What is synthetic: an index of clips with ids as long as PHOENIX14T's and lengths as of the published corpora, and a
store whose commits claim 95 % of the train clips, in blocks of the default size as a job that was stopped leaves
them, with one clip in a thousand recorded as a failure. There are no videos, no encoder and no arrays: planning reads
none of them. All that is measured is the product's own code, in a process of its own each time, imports included.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.page import write_report
from extract.jobs.blocks import plan_blocks
from extract.fingerprint import canonical_json
from extract.dataset.clip_index import Clip, ClipIndex, write_index
from extract.store.json_records import Commit, failure_key
from extract.settings import ExtractSettings, FrameSettings, View
from extract.store.feature_store import FeatureStore

SECONDS, MIB = 60, 2048
"""What a million clips may take."""
SHARES = {"train": 0.98, "dev": 0.01, "test": 0.01}
WIDTH = 512
WORKERS = 16
CLAIMED, FAILED_EVERY = 0.95, 1000
MEASURED = ("plan", "resume", "info")
KEEP_EVERY = FrameSettings().keep_every
BLOCK_FRAMES = 2048
"""Of workers without a GPU."""


def draw_clips(count: int) -> Iterator[Clip]:
    """For example ``18September_2010_Wednesday_tagesschau-0000017``."""
    months = ["January", "February", "September", "November"]
    frames = np.random.default_rng(0).integers(16, 300, count).tolist()
    number = 0
    for split, share in SHARES.items():
        for _ in range(round(count * share)):
            id = f"{number % 28 + 1:02d}{months[number % 4]}_2010_Wednesday_tagesschau-{number:07d}"
            text = "und nun die wettervorhersage für morgen donnerstag den zwölften august"
            yield Clip(id, split, f"{split}/{id}/1", frames[number], 25.0, text, "de_DE", f"Signer{number % 9:02d}")
            number += 1


def failed(clip: Clip) -> bool:
    return int(clip.id[-7:]) % FAILED_EVERY == 0


def write_claims(index: ClipIndex, path: Path, views: tuple[View, ...]) -> int:
    """A store whose commits are in the product's format; returns their number."""
    store = FeatureStore.create(path, {"benchmark": "scale"}, WIDTH, "float16")
    (path / "commits").mkdir()
    (path / "failures").mkdir()
    rng = np.random.default_rng(1)
    wanted = ((clip, views) for clip in index)
    blocks = 0
    for block in plan_blocks(wanted, KEEP_EVERY, BLOCK_FRAMES):
        if rng.random() > CLAIMED:
            continue
        group = path / f"blocks/{block.id}-{blocks:012x}"
        group.mkdir(parents=True)
        (group / "zarr.json").write_text('{"attributes": {"began": 0}, "zarr_format": 3, "node_type": "group"}')
        entries = [(clip, view.name) for clip in block.clips if not failed(clip) for view in views]
        lengths = [max(1, clip.n_frames // KEEP_EVERY // 4) for clip, _ in entries]
        commit = Commit(
            block=block.id,
            group=f"blocks/{group.name}",
            fingerprint=store.fingerprint,
            clips=[clip.id for clip, _ in entries],
            views=[view for _, view in entries],
            lengths=lengths,
            digests=[rng.bytes(32).hex() for _ in entries],
            failures=[clip.id for clip in block.clips if failed(clip)],
            stored_bytes=sum(lengths) * WIDTH,
            timings={"decode": 1.93, "forward": 2.41},
            versions={"numpy": np.__version__, "backend": "torch", "device": "x86_64"},
        )
        (path / f"commits/{block.id}.json").write_bytes(commit.to_json())
        blocks += 1
    for clip in index:
        if failed(clip):
            record = {"id": clip.id, "kind": "decode", "detail": f"{clip.source}/images0001.png: no image"}
            (path / failure_key(clip.id)).write_bytes(canonical_json(record))
    return blocks


def plan(index: Path, store: Path, views: tuple[View, ...]) -> dict[str, Any]:
    """What ``extract_split`` plans, block by block, without sending them anywhere."""
    from extract.jobs.extract_job import plan_split
    from extract.jobs.job_account import Tally

    clips = ClipIndex(index, "train")
    tally = Tally(len(clips), ExtractSettings().max_failure_rate, None)
    blocks = wanted = 0
    for block in plan_split(
        clips, FeatureStore.open(store), tally, views, (1, BLOCK_FRAMES), KEEP_EVERY, lambda: WORKERS
    ):
        blocks += 1
        wanted += len(block.clips)
    summary = tally.finish()
    assert summary.skipped + summary.failed.total() + wanted == summary.clips
    return {"blocks": blocks, "wanted": wanted, "skipped": summary.skipped, "failed": summary.failed.total()}


def info(store: Path) -> None:
    from pipeline.commands.cli import app

    app(["features", "info", str(store), "--json"], standalone_mode=False)


def peak_mib() -> float:
    """Of this process alone: getrusage would count what its parent held before it started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measured(what: str, index: Path, store: Path, n_views: int) -> dict[str, Any]:
    """Seconds from the start of a process to its end, and its peak."""
    began = time.perf_counter()
    call = [sys.executable, __file__, "--measure", what, str(index), str(store), "--views", str(n_views)]
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - began
    found = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": round(seconds, 2), "peak_mib": round(found.pop("peak_mib"), 1), **found}


def at_scale(clips: int, n_views: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        index = write_index(folder / "index.parquet", draw_clips(clips))
        written = time.perf_counter() - began
        empty, resumed = folder / "empty.zarr", folder / "resumed.zarr"
        FeatureStore.create(empty, {"benchmark": "scale"}, WIDTH, "float16")
        commits = write_claims(ClipIndex(index, "train"), resumed, views(n_views))
        figures: dict[str, Any] = {
            "commits": commits,
            "commit_mib": round(sum(path.stat().st_size for path in (resumed / "commits").iterdir()) / 2**20, 1),
            "index_mib": round(index.stat().st_size / 2**20, 1),
            "write_index_seconds": round(written, 2),
            "plan": measured("plan", index, empty, n_views),
            "resume": measured("plan", index, resumed, n_views),
            "info": measured("info", index, resumed, n_views),
        }
    return figures


def views(count: int) -> tuple[View, ...]:
    return (View(), *(View(phase=phase) for phase in range(1, count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--views", type=int, default=1, help="of every clip, 1 to 4")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/scale.json"))
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "INDEX", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, index, store = options.measure[0], *map(Path, options.measure[1:])
        found: dict[str, Any] = {}
        if what == "plan":
            found = plan(index, store, views(options.views))
        else:
            info(store)
        print("\n" + json.dumps({"peak_mib": peak_mib(), **found}))
        return

    scales = {str(clips): at_scale(clips, options.views) for clips in options.clips}
    largest = scales[str(max(options.clips))]
    figures, ratios = {}, {}
    for clips, found in scales.items():
        for what in MEASURED:
            figures[f"{what}_{clips}_clips_seconds"] = found[what]["seconds"]
            figures[f"{what}_{clips}_clips_mib"] = found[what]["peak_mib"]
    for what in MEASURED:
        ratios[f"{what}_seconds_per_{SECONDS}"] = round(largest[what]["seconds"] / SECONDS, 3)
        ratios[f"{what}_mib_per_{MIB}"] = round(largest[what]["peak_mib"] / MIB, 3)
    report = {
        "title": "Planning, resuming and looking into a store of a million clips",
        "command": " ".join(["python benchmarks/scale.py", *([f"--views {options.views}"] * (options.views > 1))]),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "scales": scales,
        "figures": figures,
        "ratios": ratios,
        "wanted": dict.fromkeys(ratios, "at most 1"),
    }
    write_report(report, options.out)


if __name__ == "__main__":
    main()
