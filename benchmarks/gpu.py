"""What a GPU gives: ``python benchmarks/gpu.py`` on a machine with one, in under eight minutes; docs/gpu.md says what
such a machine needs. ``--smoke`` runs the same code with tiny shapes on any machine, and writes nothing.

Each section stands by itself: one that fails or cannot run here is named in ``left_out``, and the others go on.
Frames are PNG of 210 x 260, of which 29 of a clip's 116 are kept; models and lengths are those of the paper on
PHOENIX14T. Bounds: of extraction, the slower of decoding in a process on each core and of the encoder on frames that
lie on the GPU; of a step of stage 2, one shape recorded by hand as a CUDA graph; of stage 1, forward and backward on
frames that lie on the GPU; of what caching saves, the floating-point operations.
"""

from __future__ import annotations

import argparse
import concurrent.futures as cf
import dataclasses
import json
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import cv2
import numpy as np
import torch
import transformers

from benchmarks.on_gpu.clocks import CUDA, DEVICE, median, timed
from benchmarks.on_gpu.learning import Learner
from benchmarks.page import write_report
from benchmarks.stage2.shapes import LARGE, RESNET18
from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import read_clip
from extract.encoder.extractor import Extractor, load_encoder
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import SltError
from extract.jobs.cluster import open_cluster
from extract.jobs.extract_job import extract_split
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Sizes of everything; the defaults are the paper's."""

    clips: int = 1200
    frames: int = 116
    batch: int = 256
    steps: int = 60
    layers: int = 12
    translated: int = 642
    size: dict[str, int] = dataclasses.field(default_factory=lambda: dict(LARGE))
    backbone: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(RESNET18))
    settings: FrameSettings = dataclasses.field(default_factory=FrameSettings)

    @property
    def sampled(self) -> int:
        return -(-self.frames // self.settings.keep_every)


SMOKE = Shapes(
    clips=6, frames=12, batch=8, steps=4, layers=1, translated=3, size={"d_model": 32, "ffn": 64, "heads": 2},
    backbone={**RESNET18, "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    settings=FrameSettings(resize=40, crop=32),
)  # fmt: skip


class Bench:
    """Sections that share a folder of frames and an encoder; those that learn are in ``self.learner``."""

    def __init__(self, shapes: Shapes, folder: Path) -> None:
        self.shapes, self.folder = shapes, folder
        self.figures: dict[str, Any] = {}
        self.encoder = folder / "encoder"
        torch.manual_seed(0)
        made = VisualEncoder.from_settings(EncoderSettings(backbone=shapes.backbone), shapes.settings)
        made.save_pretrained(self.encoder)
        self.clips = [Clip(f"c{n:05d}", "train", f"c{n:05d}", shapes.frames, 25.0, "", "de_DE")
                      for n in range(shapes.clips)]  # fmt: skip
        self._draw()
        self.learner = Learner(
            folder, folder / "root", self.clips, shapes.settings, shapes.backbone, shapes.steps, shapes.layers,
            shapes.translated, shapes.sampled, shapes.size,
        )  # fmt: skip

    def _draw(self) -> None:
        """512 pictures that compress like real frames, linked into every clip."""
        pictures = self.folder / "pictures"
        pictures.mkdir()

        def draw(number: int) -> Path:
            rng = np.random.default_rng(number)
            soft = cv2.resize(rng.integers(0, 256, (12, 10, 3), np.uint8), (210, 260), interpolation=cv2.INTER_CUBIC)
            image = np.clip(soft + rng.normal(0, 0.25, soft.shape), 0, 255).astype(np.uint8)
            path = pictures / f"{number}.png"
            cv2.imwrite(str(path), image)
            return path

        with cf.ThreadPoolExecutor() as pool:
            drawn = list(pool.map(draw, range(min(512, self.shapes.frames * self.shapes.clips))))
        for number, clip in enumerate(self.clips):
            place = self.folder / "root" / clip.source
            place.mkdir(parents=True)
            for frame in range(self.shapes.frames):
                os.link(drawn[(number * 31 + frame) % len(drawn)], place / f"{frame + 1}.png")

    def decode(self) -> dict[str, float]:
        """Frames per second of reading clips, in a process on each core."""
        work = [(self.folder / "root", clip, self.shapes.settings) for clip in self.clips]
        context = multiprocessing.get_context("spawn")
        with cf.ProcessPoolExecutor(mp_context=context) as pool:
            list(pool.map(_read, work[: 2 * (os.cpu_count() or 1)]))
            seconds = timed(lambda: list(pool.map(_read, work, chunksize=4)))
        return {"frames_per_second": len(work) * self.shapes.sampled / seconds}

    def forward(self) -> dict[str, float]:
        """Frames per second of the encoder's backbone, by what it computes in: from the host, and resident."""
        rates = {}
        pixels = np.random.default_rng(0).integers(0, 256, (self.shapes.batch, 3, *[self.shapes.settings.crop] * 2))
        for compute in ("float32", "bfloat16", "float16") if CUDA else ("float32",):
            settings = ExtractSettings(compute=compute, batch_frames=self.shapes.batch, backend="torch")
            extractor, batch = Extractor(load_encoder(self.encoder), settings), pixels.astype(np.uint8)
            there, half = torch.from_numpy(batch).to(DEVICE), getattr(torch, compute)
            rates[f"{compute}_host"] = self.shapes.batch / median(extractor.frame_features, batch)
            with torch.inference_mode(), torch.autocast(DEVICE, half, enabled=compute != "float32"):
                rates[f"{compute}_resident"] = self.shapes.batch / median(extractor.encoder.frame_features, there)
        return rates

    def extract(self) -> dict[str, Any]:
        """The product's own job with its defaults, and in half precision. Frames per second lie between the start-up,
        which is that of the first job of a cluster, and the tail: from when a worker has nothing left to do."""
        told: dict[str, Any] = {}
        for compute in ("float32", "bfloat16") if CUDA else ("float32",):
            settings = ExtractSettings(compute=compute)
            jobs = []
            with open_cluster(settings) as client:
                for name, clips in (("warm", self.clips[: len(self.clips) // 4 or 1]), ("train", self.clips)):
                    place = self.folder / f"{compute}-{name}.zarr"
                    jobs.append(extract_split(clips, len(clips), self.folder / "root", self.encoder, place, settings,
                                              client, say=lambda line: print(line, file=sys.stderr)))  # fmt: skip
            cold, done = jobs
            told[f"{compute}_frames_per_second"] = done.steady
            told[f"{compute}_whole_job_frames_per_second"] = done.frames / done.seconds
            told |= {f"{compute}_{step}_share": share for step, share in done.shares().items()}
            told |= {f"{compute}_start_up_s": cold.start_up, f"{compute}_tail_s": done.tail}
            told[f"{compute}_failed"] = len(done.failed)
        return told


def _read(work: tuple[Path, Clip, FrameSettings]) -> int:
    return len(read_clip(*work))


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What the sections say of each other; those that are there."""
    told = {}
    if {"decode", "forward", "extract"} <= found.keys():
        for name, compute in (("extract_vs_bound", "float32"), ("extract_vs_bound_bfloat16", "bfloat16")):
            if f"{compute}_resident" in found["forward"]:
                bound = min(found["decode"]["frames_per_second"], found["forward"][f"{compute}_resident"])
                told[name] = found["extract"][f"{compute}_frames_per_second"] / bound
    if {"stage2", "end_to_end"} <= found.keys():
        known = json.loads(BOUNDS.read_text())["ratios"]
        for name, whole in found["end_to_end"].items():
            frames, _, step = name.partition("_")
            told[f"cached_vs_end_to_end_{frames}"] = whole / found["stage2"][step]
            told[f"cached_vs_end_to_end_{frames}_bound"] = known[f"cached_vs_end_to_end_12x12_{frames}_bound"]
    if "stage1" in found:
        told["stage1_vs_bound"] = found["stage1"]["frames_per_second"] / found["stage1"]["bound_frames_per_second"]
    if {"stage2", "replay"} <= found.keys():
        steps = found["stage2"] | found.get("stage2_large", {})
        told |= {
            f"step_vs_replay_{name}": steps[name] / step for name, step in found["replay"].items() if name in steps
        }
    return told


BOUNDS = Path("docs/benchmarks/translate.json")
"""Ratios of arithmetic, counted by torch."""
WANTED = {
    "extract_vs_bound": "at least 0.85",
    "extract_vs_bound_bfloat16": "at least 0.85",
    "cached_vs_end_to_end_sampled": "at least 6",
    "cached_vs_end_to_end_all": "at least 12",
}
SECTIONS = (
    "stage2", "end_to_end", "stage2_large", "stage1", "generate", "decode", "forward", "extract", "stage2_fp32",
    "replay",
)  # fmt: skip
"""In the order of their worth: those that come too late are left out."""


EXTRAPOLATED = (
    "`translate fit 40 epochs s` is extrapolated from as many steps as `extrapolated from steps` says and one look at "
    "dev with its checkpoint: the first half as it was, with the recording of shapes, then the mean of the second half."
)


def _too_long(*_: object) -> None:
    raise TimeoutError("it took too long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes; prints, writes nothing")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/gpu.json"))
    parser.add_argument("--budget", type=int, default=440, help="seconds of all sections; none begins later")
    parser.add_argument("--section-budget", type=int, default=120, help="seconds of a section, at most")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    started = time.perf_counter()
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(SMOKE if options.smoke else Shapes(), Path(folder))
        for name in options.only:
            began = time.perf_counter()
            left = int(options.budget - (began - started))
            if left <= 0:
                left_out[name] = "no time was left"
                continue
            signal.alarm(0 if options.smoke else min(left, options.section_budget))
            try:
                found[name] = getattr(bench if hasattr(bench, name) else bench.learner, name)()
            except (RuntimeError, OSError, SltError) as error:
                left_out[name] = str(error).splitlines()[0]
            finally:
                signal.alarm(0)
            said = found.get(name, left_out.get(name))
            print(f"{name} ({time.perf_counter() - began:.0f} s): {said}", file=sys.stderr, flush=True)
    report = {
        "title": "On a GPU",
        "command": "python benchmarks/gpu.py",
        "machine": f"{torch.cuda.get_device_name() if CUDA else 'no GPU'}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__},
        "figures": {f"{section}_{name}": value for section, of in found.items() for name, value in of.items()},
        "ratios": ratios(found), "wanted": WANTED, "left_out": left_out,
        "notes": [EXTRAPOLATED, *(f"Left out: {name}: {why}." for name, why in left_out.items())],
    }  # fmt: skip
    if options.smoke:
        print(json.dumps(report, indent=1))
    else:
        write_report(report, options.out)


if __name__ == "__main__":
    main()
