"""Reading clips from frame packs, beside the frames of the dataset: sampled and cropped as stage 1 draws them.

    python benchmarks/pack.py             # writes docs/benchmarks/pack.json

Clips of 210 x 260 PNG frames, PHOENIX14T's size, with a camera's noise. All ways are taken in turn, in processes that
stay; medians of the rounds. Warm: the files are in the system's cache. Cold: they are taken out of it before each
round (posix_fadvise), so that this machine's disk is read; a network disk would be slower by far.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2
import h5py
import numpy as np

from benchmarks.page import write_report
from extract.jobs.cluster import local_cluster
from extract.decoding.read_clip import Source, read_clip
from extract.dataset.clip_index import Clip
from extract.packs.packed_frames import PackedFrames
from extract.jobs.pack_job import pack_split
from extract.settings import FrameSettings, PackSettings

FRAMES = FrameSettings()
WAYS = ("originals", "lossless", "jpeg95")
WIDTH, HEIGHT = 210, 260


def write_clip(root: Path, number: int, n_frames: int) -> Clip:
    rng = np.random.default_rng(number)
    scene = cv2.resize(rng.integers(0, 255, (13, 10, 3), dtype=np.uint8), (WIDTH + 40, HEIGHT), None, 0, 0, 2)
    id = f"clip-{number:03d}"
    (root / id).mkdir()
    for frame in range(n_frames):
        # The camera's noise is blurred by the video codec that every such corpus went through.
        noise = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 1.2)
        image = scene[:, frame % 40 :][:, :WIDTH] + 20 * noise
        cv2.imwrite(str(root / id / f"images{frame + 1:04d}.png"), np.clip(image, 0, 255).astype(np.uint8))
    return Clip(id, "train", id, n_frames, 25.0, "text", "de_DE")


def read(source: Source, clips: Sequence[Clip], seed: int) -> int:
    return sum(len(read_clip(source, clip, FRAMES, np.random.default_rng(seed))) for clip in clips)


def forget(paths: Iterable[Path]) -> None:
    """Take files out of the system's cache."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def rounds_of(
    pool: ProcessPoolExecutor, workers: int, sources: dict[str, Source], files: dict[str, list[Path]],
    clips: Sequence[Clip], rounds: int, cold: bool,
) -> dict[str, float]:  # fmt: skip
    """Frames per second of each way, medians of interleaved rounds; the first round warms up and does not count."""
    speeds: dict[str, list[float]] = {way: [] for way in sources}
    for seed in range(rounds + 1):
        for way, source in sources.items():
            if cold:
                forget(files[way])
            parts = [clips[worker::workers] for worker in range(workers)]
            began = time.perf_counter()
            frames = sum(pool.map(read, [source] * workers, parts, [seed] * workers))
            if seed:
                speeds[way].append(frames / (time.perf_counter() - began))
    return {way: statistics.median(found) for way, found in speeds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--frames", type=int, default=100, help="of a clip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/pack.json"))
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "root").mkdir()
        clips = [write_clip(folder / "root", number, options.frames) for number in range(options.clips)]
        sources: dict[str, Source] = {"originals": folder / "root"}
        figures: dict[str, Any] = {}
        with local_cluster(2) as client:
            for way, quality in (("lossless", None), ("jpeg95", 95)):
                settings = PackSettings(enabled=True, quality=quality)
                pack = folder / way / "train"
                summary = pack_split(clips, len(clips), folder / "root", pack, FRAMES, settings, client)
                figures[f"packing_{way}_frames_per_second"] = summary.frames / summary.seconds
                figures[f"packing_{way}_shares"] = summary.shares()
                sources[way] = PackedFrames(folder / way, settings)
        for clip in clips[:3]:
            originals, lossless = (read_clip(sources[way], clip, FRAMES) for way in ("originals", "lossless"))
            assert np.array_equal(originals, lossless)
        files = {way: files_below(folder / ("root" if way == "originals" else way)) for way in WAYS}
        for way in WAYS:
            figures[f"{way}_files"] = len(files[way])
            figures[f"{way}_bytes_per_frame"] = sum(path.stat().st_size for path in files[way]) / (
                options.clips * options.frames
            )
        ratios: dict[str, float] = {}
        for workers in (1, 2):
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                for cold in (False, True):
                    kind = f"{'cold' if cold else 'warm'}_{workers}_workers"
                    found = rounds_of(pool, workers, sources, files, clips, options.rounds, cold)
                    figures |= {f"{way}_{kind}_frames_per_second": speed for way, speed in found.items()}
                    ratios |= {f"{way}_vs_originals_{kind}": found[way] / found["originals"] for way in WAYS[1:]}
    report = {
        "title": "Frame packs, frames per second against the originals",
        "command": f"python benchmarks/pack.py --clips {options.clips}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {"opencv": cv2.__version__, "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version},
        "clips": options.clips,
        "frames_of_a_clip": options.frames,
        "rounds": options.rounds,
        "figures": figures,
        "ratios": ratios,
    }
    write_report(report, options.out)


if __name__ == "__main__":
    main()
