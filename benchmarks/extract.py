"""Feature extraction beside the loops that people write, and beside the encoder's forward pass alone.

    python benchmarks/extract.py            # writes docs/benchmarks/extract.json and a table

At the paper's shapes: ResNet-18, 224 pixels, one frame of four. The corpus is the built-in one at PHOENIX14T's size
of a frame, with noise until a PNG takes somewhat more than one of PHOENIX14T (48 KB), and as 1280 x 720 h264.

1. ``field_loop``: PIL opens each PNG, resize, crop, normalise frame by frame, eager ResNet-18 clip by clip, np.save.
2. ``sampled_loop``: the same on one frame of four.
3. ``slt_png``, ``slt_video``: extract_split on a local cluster, with commits, digests and merging.
4. ``bound``: the encoder's forward pass alone (backbone, and temporal module clip by clip), on frames in memory, with
   the quickest backend: two processes of one thread.

The loops are one process with torch's own threads, as people run them. All take turns, round by round; the bound is
measured before, between and after the two of slt, in three parts. A ratio is the median of the rounds' ratios, for a
machine that is slower for some minutes slows all that a round compares; ``of_medians`` has the ratios of the medians
beside them. Loading models and starting processes is not timed: a job over a corpus takes an hour, its start seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import dataclasses
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np
from distributed import Client

from benchmarks.page import write_report
from extract.jobs.cluster import MALLOC, open_cluster
from extract.decoding.decoder_versions import decoder_versions
from extract.encoder.visual_encoder import VisualEncoder
from extract.encoder.extractor import Extractor, load_encoder
from extract.decoding.frame_folders import list_frames
from extract.dataset.clip_index import Clip
from extract.jobs.extract_job import extract_split
from extract.decoding.sampling import sampled
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings

RESNET18 = {"model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
NOISE = 0.25
"""Standard deviation, in grey values, that makes PNGs of 48 KB. PHOENIX14T's are of 41: 39 GB in 947,756 frames."""
WORKERS = 2
_PARTS = 3
"""Of the bound, so that it surrounds what is compared with it."""


def bench_corpus(folder: Path) -> Path:
    """The built-in corpus at 210 x 260, with camera noise."""
    from pipeline.corpus.layout import DATASET_FOLDER, write_corpus

    if folder.exists():
        return folder / DATASET_FOLDER
    write_corpus(folder, "bench", 0)
    rng = np.random.default_rng(0)
    for path in (folder / DATASET_FOLDER).glob("features/*/train/*/*.png"):
        image = cv2.imread(str(path)).astype(np.float32)
        noisy = np.clip(image + rng.normal(0, NOISE, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(path), noisy)
    return folder / DATASET_FOLDER


def png_clips(root: Path, count: int) -> list[Clip]:
    folders = sorted(root.glob("features/*/train/*"))[:count]
    return [
        Clip(folder.name, "train", folder.relative_to(root).as_posix(), len(list_frames(folder)), 25.0, "", "de_DE")
        for folder in folders
    ]


def video_clips(root: Path, clips: Sequence[Clip], target: Path) -> list[Clip]:
    """The same clips as 1280 x 720 h264."""
    import av

    target.mkdir(parents=True, exist_ok=True)
    found = []
    for clip in clips:
        path = target / f"{clip.id}.mp4"
        found.append(dataclasses.replace(clip, source=path.relative_to(target.parent).as_posix()))
        if path.exists():
            continue
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "23", "preset": "medium"})
            stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
            for name in list_frames(root / clip.source):
                image = cv2.imread(str(root / clip.source / name))
                scene = np.full((720, 1280, 3), 90, np.uint8)
                scene[:, 320:960] = cv2.resize(image, (640, 720), interpolation=cv2.INTER_CUBIC)
                for packet in stream.encode(av.VideoFrame.from_ndarray(scene, format="bgr24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    return found


def field_loop(pipe: Connection, keep_every: int, encoder: Path) -> None:
    """A script as one finds it in repositories. Answers each (folders, target) with the seconds it took."""
    import torch
    from PIL import Image

    backbone = load_encoder(encoder).backbone.to(memory_format=torch.contiguous_format)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    while (job := pipe.recv()) is not None:
        folders, target = job
        began = time.perf_counter()
        for folder in folders:
            pixels = []
            for path in sorted(Path(folder).glob("*.png"))[::keep_every]:
                image = Image.open(path).convert("RGB").resize((256, 256)).crop((16, 16, 240, 240))
                pixels.append(((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1))
            with torch.no_grad():
                features = backbone(torch.tensor(np.stack(pixels), dtype=torch.float32)).pooler_output.flatten(1)
            np.save(Path(target, Path(folder).name), features.numpy())
        pipe.send(time.perf_counter() - began)


def forward_only(pipe: Connection, frames: np.ndarray, length: int, encoder: Path) -> None:
    """The encoder on frames in memory, one thread. Answers each number of passes with nothing.

    Args:
        length: frames of a clip.
    """
    import torch

    torch.set_num_threads(1)
    extractor = Extractor(load_encoder(encoder), ExtractSettings())
    pipe.send(extractor.versions()["backend"])
    while (passes := pipe.recv()) is not None:
        hidden = torch.cat([extractor.frame_features(frames) for _ in range(passes)])
        for clip in hidden.split(length):
            extractor.cached(clip)
        pipe.send(None)


class Peer:
    """A process that waits for work."""

    def __init__(
        self, target: Callable[..., None], *arguments: Any, environment: Mapping[str, int] | None = None
    ) -> None:
        given = environment or {}
        os.environ |= {name: str(value) for name, value in given.items()}
        self.pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self.process.start()
        for name in given:
            del os.environ[name]

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join()


def timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=240, help="of slt extract; the loops take fewer, at their rate")
    parser.add_argument("--folder", type=Path, help="keeps the corpora there for another run")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/extract.json"))
    options = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as name:
        report = measure(options.folder or Path(name), options.rounds, options.clips)
    write_report(report, options.out)


def measure(folder: Path, rounds: int, count: int) -> dict[str, Any]:
    import torch

    root = bench_corpus(folder / "corpus")
    clips = png_clips(root, count)
    videos = video_clips(root, clips, folder / "videos")
    torch.manual_seed(0)
    encoders = {}
    for decoder in ("opencv", "pyav"):
        frames = FrameSettings(decoder=decoder)
        encoders[decoder] = folder / f"encoder-{decoder}"
        VisualEncoder.from_settings(EncoderSettings(backbone=RESNET18), frames).save_pretrained(encoders[decoder])
    settings = ExtractSettings(workers=WORKERS)
    kept = {clip.id: len(sampled(clip.n_frames, 4)) for clip in clips}
    mean_kept = sum(kept.values()) / len(clips)
    few = clips[:: max(1, len(clips) // 16)]
    some = clips[:: max(1, len(clips) // 40)]
    rates: dict[str, list[float]] = {}

    batch = np.random.default_rng(0).integers(0, 256, (32, 3, 224, 224), dtype=np.uint8)
    passes = max(4, sum(kept.values()) // (_PARTS * WORKERS * len(batch)))  # of a part
    loops = {
        "field_loop": Peer(field_loop, 1, encoders["opencv"]),
        "sampled_loop": Peer(field_loop, 4, encoders["opencv"]),
    }
    alike = {"OMP_NUM_THREADS": 1, **MALLOC}  # as a worker
    bound = [Peer(forward_only, batch, round(mean_kept), encoders["opencv"], environment=alike) for _ in range(WORKERS)]
    backend = {peer.pipe.recv() for peer in bound}.pop()

    def note(name: str, clips_done: float, seconds: float) -> None:
        rates.setdefault(name, []).append(clips_done / seconds)
        print(f"{name:14} {clips_done / seconds:8.3f} clips/s", flush=True)

    def pass_all() -> None:
        for peer in bound:
            peer.pipe.send(passes)
        for peer in bound:
            peer.pipe.recv()

    compared = {
        "png_vs_bound": ("slt_png", "bound"),
        "video_vs_bound": ("slt_video", "bound"),
        "vs_sampled_loop": ("slt_png", "sampled_loop"),
        "vs_field_loop": ("slt_png", "field_loop"),
    }

    # A cluster each: a worker keeps one encoder, and would load the two in turns.
    with open_cluster(settings) as png_client, open_cluster(settings) as video_client:

        def extract(of: list[Clip], at: Path, encoder: Path, client: Client) -> Any:
            store = folder / "store.zarr"
            shutil.rmtree(store, ignore_errors=True)
            return extract_split(iter(of), len(of), at, encoder, store, settings, client)

        summaries = {}
        for round_ in range(rounds + 1):  # the first warms up, and is not counted
            loop_clips = {"field_loop": few, "sampled_loop": some}
            for name, peer in loops.items():
                of = loop_clips[name] if round_ else clips[:2]
                target = folder / "npy"
                target.mkdir(exist_ok=True)
                peer.pipe.send(([str(root / clip.source) for clip in of], str(target)))
                seconds = peer.pipe.recv()
                frames_done = sum(clip.n_frames if name == "field_loop" else kept[clip.id] for clip in of)
                per_clip = sum(clip.n_frames for clip in clips) / len(clips) if name == "field_loop" else mean_kept
                if round_:
                    note(name, frames_done / per_clip, seconds)

            bound_seconds = [timed(pass_all)]
            for name, of, at, encoder, client in (
                ("slt_png", clips, root, encoders["opencv"], png_client),
                ("slt_video", videos, folder, encoders["pyav"], video_client),
            ):
                summary = extract(of if round_ else of[:16], at, encoder, client)
                assert not summary.failed
                if round_:
                    note(name, summary.extracted, summary.seconds)
                    summaries[name] = summary
                bound_seconds.append(timed(pass_all))
            if round_:
                note("bound", _PARTS * WORKERS * passes * len(batch) / mean_kept, sum(bound_seconds))
    for peer in [*loops.values(), *bound]:
        peer.stop()

    median = {name: statistics.median(values) for name, values in rates.items()}
    png = [path.stat().st_size for clip in few for path in (root / clip.source).iterdir()]
    return {
        "title": "Extraction, clips per second; ratios are medians of the rounds' ratios",
        "command": f"python benchmarks/extract.py --rounds {rounds} --clips {count}",
        "machine": f"{_cpu()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "backend": backend, "pyav": decoder_versions("pyav")},
        "rounds": rounds,
        "clips": len(clips),
        "sampled_frames_per_clip": mean_kept,
        "png_bytes": statistics.mean(png),
        "video_bytes_per_second": sum((folder / clip.source).stat().st_size for clip in videos)
        / (sum(clip.n_frames for clip in videos) / 25),
        "figures": median,
        "rounds_of": rates,
        "shares": {name: summary.shares() for name, summary in summaries.items()},
        "ratios": {
            name: statistics.median(one / other for one, other in zip(rates[of], rates[to], strict=True))
            for name, (of, to) in compared.items()
        },
        "of_medians": {name: median[of] / median[to] for name, (of, to) in compared.items()},
        "wanted": {
            "png_vs_bound": "at least 0.95",
            "video_vs_bound": "at least 0.80",
            "vs_sampled_loop": "at least 1.7",
            "vs_field_loop": "at least 6.5",
        },
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
