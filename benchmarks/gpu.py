"""What a GPU gives: ``python benchmarks/gpu.py`` on a machine with one, in under eight minutes; docs/gpu.md says what
such a machine needs. ``--smoke`` runs the same code with tiny shapes on any machine, and writes nothing.

Each section stands by itself: one that fails or cannot run here is named in ``left_out``, and the others go on.
Frames are PNG of 210 x 260, of which 29 of a clip's 116 are kept; models and lengths are those of the paper on
PHOENIX14T. Bounds: of extraction, the slower of decoding in a process on each core and of the encoder on frames that
lie on the GPU; of a step of stage 2, the same step replayed as a CUDA graph.
"""

from __future__ import annotations

import argparse
import concurrent.futures as cf
import dataclasses
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import cv2
import numpy as np
import torch
import transformers
from transformers import TrainerCallback

from benchmarks.page import write_report
from benchmarks.stage2.shapes import LARGE, RESNET18, TRIMMED, corpus_lengths, dataset, language_model, translator
from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import read_clip
from extract.encoder.extractor import Extractor, load_encoder
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import SltError
from extract.jobs.cluster import open_cluster
from extract.jobs.extract_job import extract_split
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings
from train.data.clip_dataset import ClipDataset, collate_clips
from train.data.feature_dataset import collate_features
from train.loop.trainer import fit
from train.models.translator import SignTranslator
from train.settings import AdapterSettings, Stage1Settings, TrainingSettings

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
ENDLESS = 10**6


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
    """Sections that share a folder of frames and an encoder."""

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
            seconds = _timed(lambda: list(pool.map(_read, work, chunksize=4)))
        return {"frames_per_second": len(work) * self.shapes.sampled / seconds}

    def forward(self) -> dict[str, float]:
        """Frames per second of the encoder's backbone, by what it computes in: from the host, and resident."""
        rates = {}
        pixels = np.random.default_rng(0).integers(0, 256, (self.shapes.batch, 3, *[self.shapes.settings.crop] * 2))
        for compute in ("float32", "bfloat16", "float16") if CUDA else ("float32",):
            settings = ExtractSettings(compute=compute, batch_frames=self.shapes.batch, backend="torch")
            extractor, batch = Extractor(load_encoder(self.encoder), settings), pixels.astype(np.uint8)
            there, half = torch.from_numpy(batch).to(DEVICE), getattr(torch, compute)
            rates[f"{compute}_host"] = self.shapes.batch / _median(extractor.frame_features, batch)
            with torch.inference_mode(), torch.autocast(DEVICE, half, enabled=compute != "float32"):
                rates[f"{compute}_resident"] = self.shapes.batch / _median(extractor.encoder.frame_features, there)
        return rates

    def extract(self) -> dict[str, Any]:
        """The product's own job with its defaults, start-up apart."""
        settings = ExtractSettings(backend="torch")
        with open_cluster(settings) as client:
            for name, clips in (("warm", self.clips[: len(self.clips) // 4 or 1]), ("train", self.clips)):
                store = self.folder / f"{name}.zarr"
                done = extract_split(clips, len(clips), self.folder / "root", self.encoder, store, settings, client)
        return {"frames_per_second": done.frames / done.seconds, "shares": done.shares(), "failed": len(done.failed)}

    def stage2(self) -> dict[str, float]:
        """Milliseconds of a step of the product's own loop on cached features, median, by precision and batch."""
        data, found = dataset(corpus_lengths(self.shapes.clips * 4)), {}
        for precision in ("fp32", "bf16") if CUDA else ("fp32",):
            for batch in (16, 128) if CUDA else (4,):
                model = translator(self.shapes.layers, TRIMMED, **self.shapes.size)
                settings = _settings(TrainingSettings, self.shapes, batch, precision, learning_rate=1e-5)
                found[f"{precision}_{batch}"] = _fitted(model, settings, data, collate_features, self.folder)
        return found

    def end_to_end(self) -> dict[str, float]:
        """The same loop and language model from pixels: what caching saves a step of."""
        model = translator(self.shapes.layers, TRIMMED, self._new_encoder(), **self.shapes.size)
        batch, precision = (16, "bf16") if CUDA else (4, "fp32")
        settings = _settings(Stage1Settings, self.shapes, batch, precision, epochs=None, workers=self._workers())
        return {f"{precision}_{batch}": _fitted(model, settings, self._pixels(), collate_clips, self.folder)}

    def stage1(self) -> dict[str, float]:
        """Stage 1's own loop at the paper's batch of 8."""
        size = {"d_model": 512, "ffn": 2048, "heads": 8} if CUDA else self.shapes.size
        light_t = language_model(3 if CUDA else 1, TRIMMED, **size)
        model = SignTranslator.compose(light_t, AdapterSettings(), 512, self._new_encoder())
        batch, precision = (8, "bf16") if CUDA else (2, "fp32")
        settings = _settings(Stage1Settings, self.shapes, batch, precision, epochs=None, workers=self._workers())
        step = _fitted(model, settings, self._pixels(), collate_clips, self.folder)
        return {"step_ms": step, "frames_per_second": 1000 * batch * self.shapes.sampled / step}

    def replay(self) -> dict[str, float]:
        """Milliseconds of a bf16 step of stage 2 that is replayed as a CUDA graph, clipping and AdamW within."""
        if not CUDA:
            raise RuntimeError("CUDA graphs need a GPU")
        found = {}
        for batch in (16, 128):
            model = translator(self.shapes.layers, TRIMMED, **self.shapes.size).to(DEVICE).train()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True, capturable=True)
            features = torch.randn(batch, self.shapes.sampled, 512, device=DEVICE)
            labels = torch.randint(10, 2900, (batch, 20), device=DEVICE)
            found[f"bf16_{batch}"] = 1000 * _replayed(model, optimizer, features, labels)
        return found

    def generate(self) -> dict[str, float]:
        """Seconds of beam 5 over the test split's clips, 25 pieces each, as the product translates."""
        from eval.translation.translate_features import BATCH

        model = translator(self.shapes.layers, TRIMMED, **self.shapes.size).to(DEVICE).eval()
        steps, batch = self.shapes.sampled, min(BATCH, self.shapes.translated)
        features = torch.randn(batch * steps, 512, device=DEVICE)
        search = {"num_beams": 5, "min_new_tokens": 25, "max_new_tokens": 25, "do_sample": False}
        one = _median(model.generate, torch.tensor([steps] * batch), features, times=3, **search)
        return {"seconds": one * self.shapes.translated / batch}

    def _new_encoder(self) -> VisualEncoder:
        return VisualEncoder.from_settings(EncoderSettings(backbone=self.shapes.backbone), self.shapes.settings)

    def _pixels(self) -> ClipDataset:
        rng = np.random.default_rng(0)
        targets = [rng.integers(10, 2900, 20).tolist() for _ in self.clips]
        return ClipDataset(self.folder / "root", self.clips, targets, self.shapes.settings, random=True)

    def _workers(self) -> int:
        return max(1, (os.cpu_count() or 2) - 2) if CUDA else 0


class Clock(TrainerCallback):
    """When each step ended on the device."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        _wait()
        self.times.append(time.perf_counter())


def _settings(kind: type[Any], shapes: Shapes, batch: int, precision: str, **more: Any) -> Any:
    return kind(steps=shapes.steps, batch_size=batch, precision=precision, checkpoint_every=ENDLESS, log_every=ENDLESS,
                **more)  # fmt: skip


def _fitted(model: SignTranslator, settings: Any, data: Any, collate: Callable[..., Any], folder: Path) -> float:
    """Median milliseconds of a step of ``fit``, the first quarter apart."""
    clock = Clock()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        fit(model, settings, data, collate, Path(work) / "w", callbacks=[clock])
    steps = np.diff(clock.times)[settings.steps // 4 :]
    return 1000 * float(np.median(steps))


def _replayed(model: Any, optimizer: Any, features: torch.Tensor, labels: torch.Tensor) -> float:
    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            words = model.adapter(features)
            logits = model.language_model(inputs_embeds=words, decoder_input_ids=labels, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=0.2
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return _median(graph.replay, times=20)


def _read(work: tuple[Path, Clip, FrameSettings]) -> int:
    return len(read_clip(*work))


def _wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def _timed(work: Callable[[], Any]) -> float:
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _median(work: Callable[..., Any], *given: Any, times: int = 12, **options: Any) -> float:
    """Seconds of a call, after three that do not count."""
    called = [_timed(lambda: work(*given, **options)) for _ in range(3 + times)]
    return statistics.median(called[3:])


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What the sections say of each other; those that are there."""
    told = {}
    if {"decode", "forward", "extract"} <= found.keys():
        bound = min(found["decode"]["frames_per_second"], found["forward"]["float32_resident"])
        told["extract_vs_bound"] = found["extract"]["frames_per_second"] / bound
    if {"stage2", "end_to_end"} <= found.keys():
        ((name, whole),) = found["end_to_end"].items()
        told["cached_vs_end_to_end"] = whole / found["stage2"][name]
    if {"stage2", "replay"} <= found.keys():
        told |= {f"step_vs_replay_{name}": found["stage2"][name] / step for name, step in found["replay"].items()}
    return told


WANTED = {"extract_vs_bound": "at least 0.85", "cached_vs_end_to_end": "at least 6"}
SECTIONS = ("decode", "forward", "extract", "stage2", "end_to_end", "stage1", "replay", "generate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes; prints, writes nothing")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/gpu.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(SMOKE if options.smoke else Shapes(), Path(folder))
        for name in options.only:
            began = time.perf_counter()
            try:
                found[name] = getattr(bench, name)()
            except (RuntimeError, OSError, SltError) as error:
                left_out[name] = str(error).splitlines()[0]
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
        "notes": [f"Left out: {name}: {why}." for name, why in left_out.items()],
    }  # fmt: skip
    if options.smoke:
        print(json.dumps(report, indent=1))
    else:
        write_report(report, options.out)


if __name__ == "__main__":
    main()
