"""Stage 2 on cached features beside what it replaces; what its batches, its vocabulary and its search order are worth.

    python benchmarks/translate.py          # writes docs/benchmarks/translate.json

Shapes are the paper's: clips of 29 sampled frames (116 before sampling) of 224 pixels, 29 features of width 512, 20
target pieces, 16 clips a step; mBART-large's layers (d 1024, FFN 4096), 12 + 12 and 3 + 3 of them, with random weights
and a vocabulary of 3,000 pieces, about what PHOENIX14T's train text needs. Each contender is a process of its own that
keeps its model, and they take their steps in turn, round by round; medians count.

1. ``cached``: an optimiser step of ``train.trainer.fit`` on features in memory, with clipping, AdamW and its callbacks.
   ``end to end``: the same step, and forward and backward of ResNet-18 and the temporal module over the frames of its
   16 clips. Their activations do not fit at once (40 GB for 116 frames), so the encoder takes a clip at a time, and the
   times add up; a whole end-to-end step of one clip is measured beside its parts, to see that they do.
   ``recomputed``: the encoder forward only. Reading and decoding frames is apart.
   The bound is the ratio of floating-point operations, counted by torch.
2. Vocabularies of 3,000 and of 250,027 pieces.
3. ``LengthBatches`` with a token budget against random batches of 16, padded to their longest or to the split's.
4. Share of a run's time in which ``fit`` waits for batches.
5. Beam 5 over 642 clips in order of length (``eval.translate``) and as they come. Random weights would write until the
   limit, so each hypothesis is ended at its reference's length.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import dataclasses
import gc
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import LogitsProcessor, LogitsProcessorList, MBartConfig, MBartForConditionalGeneration

from benchmarks.page import write_report
from extract.encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from extract.store import Features
from train.features import FeatureDataset, collate_features
from train.memory import estimate
from train.settings import AdapterSettings, TrainingSettings
from train.translator import SignTranslator

CLIPS, SAMPLED, ALL, PIECES, WIDTH = 16, 29, 116, 20, 512
TRIMMED = 3_000
VOCABULARIES = {"trimmed": TRIMMED, "full": 250_027}
BATCHED = 64
"""Clips of the epoch that is batched in three ways."""
LARGE = {"d_model": 1024, "ffn": 4096, "heads": 16}
SMALL = {"d_model": 512, "ffn": 2048, "heads": 8}
TINY = {"d_model": 256, "ffn": 1024, "heads": 4}
RESNET18 = {"model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
THREADS = os.cpu_count() or 1
ENDLESS = 10**6


def language_model(layers: int, vocabulary: int, d_model: int, ffn: int, heads: int) -> MBartForConditionalGeneration:
    """mBART's architecture with random weights."""
    size = {"layers": layers, "attention_heads": heads, "ffn_dim": ffn}
    parts = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in size.items()}
    config = MBartConfig(
        vocab_size=vocabulary, d_model=d_model, max_position_embeddings=512, scale_embedding=True,
        decoder_start_token_id=2, forced_eos_token_id=None, **parts,
    )  # fmt: skip
    model = MBartForConditionalGeneration(config)
    model.generation_config.max_length = None
    return model


def translator(layers: int, vocabulary: int, encoder: VisualEncoder | None = None, **size: int) -> SignTranslator:
    torch.manual_seed(0)
    model = SignTranslator.compose(language_model(layers, vocabulary, **size), AdapterSettings(), WIDTH, encoder)
    model.label_smoothing = 0.2
    return model


def visual_encoder() -> VisualEncoder:
    return VisualEncoder.from_settings(EncoderSettings(backbone=RESNET18), FrameSettings())


def dataset(lengths: Sequence[tuple[int, int]]) -> FeatureDataset:
    """Noise of these lengths (features, target pieces)."""
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *(source for source, _ in lengths)])
    array = rng.standard_normal((int(offsets[-1]), WIDTH), np.float32).astype(np.float16)
    targets = [rng.integers(10, 2900, pieces).tolist() for _, pieces in lengths]
    return FeatureDataset([Features([str(i) for i in range(len(lengths))], array, offsets)], targets)


def corpus_lengths(count: int) -> list[tuple[int, int]]:
    """Features and target pieces about as in PHOENIX14T: 29 and 20 on average, longer sentences take longer."""
    rng = np.random.default_rng(1)
    source = rng.lognormal(3.26, 0.45, count).clip(4, 118).round().astype(int)
    target = (0.69 * source * rng.lognormal(-0.05, 0.3, count)).clip(4, 70).round().astype(int)
    return list(zip(source.tolist(), target.tolist(), strict=True))


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


# Contenders: each is a process that answers every message with what one step took.


def serve(pipe: Connection, step: Callable[[], Any], **facts: Any) -> None:
    """Take a step whenever asked to."""
    pipe.send(facts)
    while pipe.recv() == "step":
        began = time.perf_counter()
        step()
        pipe.send({"seconds": time.perf_counter() - began, "peak": resident("VmHWM")})


class Gate(transformers.TrainerCallback):
    """Lets the training loop take a step whenever the parent asks for one."""

    def __init__(self, pipe: Connection, base: int) -> None:
        self.pipe, self.base = pipe, base

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self.pipe.recv() != "step":
            os._exit(0)
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.pipe.send({"seconds": time.perf_counter() - self.began, "peak": resident("VmHWM") - self.base})


def cached(pipe: Connection, layers: int, vocabulary: int, clips: int, size: dict[str, int]) -> None:
    """Stage 2's own training loop."""
    from train.trainer import fit

    warm_up()
    base = resident("VmRSS")
    model = translator(layers, vocabulary, **size)
    data = dataset([(SAMPLED, PIECES)] * clips * 4)
    settings = TrainingSettings(
        steps=ENDLESS, checkpoint_every=ENDLESS, log_every=ENDLESS, batch_size=clips, learning_rate=1e-5
    )
    memory = estimate(model, settings, lambda n: collate_features([data.example_of(SAMPLED, PIECES)] * n), clips)
    with FlopCounterMode(display=False) as counter:
        model(**collate_features([data[0]])).loss.backward()
    model.zero_grad()
    pipe.send({"flop": counter.get_total_flops(), "estimate": memory.peak, "parameters": model.num_parameters()})
    with tempfile.TemporaryDirectory() as work:
        fit(model, settings, data, collate_features, Path(work) / "w", callbacks=[Gate(pipe, base)])


def warm_up() -> None:
    """Libraries and their buffers, so that what is measured afterwards is the model's."""
    model = translator(1, TRIMMED, d_model=64, ffn=64, heads=2)
    model(**collate_features([dataset([(SAMPLED, PIECES)])[0]])).loss.backward()


def encoder(pipe: Connection, frames: int, train: bool) -> None:
    """ResNet-18 and temporal module over one clip's frames: forward and backward, or forward only."""
    torch.manual_seed(0)
    model = visual_encoder().train(train)
    clip = torch.randint(0, 256, (frames, 3, 224, 224), dtype=torch.uint8)
    kept = 0

    def forward() -> Tensor:
        return model(clip, [frames])[0]

    def step() -> None:
        if train:
            forward().square().mean().backward()
        else:
            with torch.no_grad():
                forward()

    if train:
        seen: dict[int, int] = {}

        own = {one.untyped_storage().data_ptr() for one in model.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = forward()
        kept = sum(seen.values())
        del out
    with FlopCounterMode(display=False) as counter:
        step()
    serve(pipe, step, flop=counter.get_total_flops(), kept=kept)


def end_to_end(pipe: Connection, layers: int, clips: int) -> None:
    """Encoder and language model in one step, all of its clips at once."""
    model = translator(layers, TRIMMED, visual_encoder(), **LARGE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    frames = torch.randint(0, 256, (clips * SAMPLED, 3, 224, 224), dtype=torch.uint8)
    labels = torch.randint(10, 2900, (clips, PIECES))

    def step() -> None:
        model.train()
        model(labels=labels, lengths=torch.tensor([SAMPLED] * clips), frames=frames).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    serve(pipe, step)


def matrices(pipe: Connection) -> None:
    """The rate of multiplying matrices: the language model's largest, with the rows of 16 clips, and squares."""
    shapes = [(CLIPS * SAMPLED, 1024, 4096), (2048, 2048, 2048)]
    pairs = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in shapes]
    rates = [0.0, 0.0]

    def step() -> None:
        for place, ((left, right), (m, k, n)) in enumerate(zip(pairs, shapes, strict=True)):
            began = time.perf_counter()
            for _ in range(8):
                left @ right
            rates[place] = 8 * 2 * m * k * n / (time.perf_counter() - began)

    pipe.send({})
    while pipe.recv() == "step":
        step()
        pipe.send({"seconds": 1 / max(rates), "peak": 0})


def batching(pipe: Connection, way: str) -> None:
    """An epoch of clips of a corpus's lengths."""
    from train.batches import LengthBatches

    lengths = corpus_lengths(BATCHED)
    data = dataset(lengths)
    model = translator(3, TRIMMED, **SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    longest = [max(column) for column in zip(*corpus_lengths(7096), strict=True)]  # of PHOENIX14T's train split
    budget = int(CLIPS * np.mean([sum(pair) for pair in lengths]) * 1.1)
    order = np.random.default_rng(0).permutation(len(lengths))
    random = [order[start : start + CLIPS].tolist() for start in range(0, len(order), CLIPS)]
    batches = list(LengthBatches(lengths, CLIPS, budget)) if way == "buckets" else random
    real = sum(sum(pair) for pair in lengths)
    padded = sum(len(b) * (max(lengths[i][0] for i in b) + max(lengths[i][1] for i in b)) for b in batches)
    if way == "longest":
        padded = sum(longest) * len(lengths)

    def step() -> None:
        for places in batches:
            examples = [data[place] for place in places]
            if way == "longest":
                examples = [
                    {"features": torch.nn.functional.pad(one["features"], (0, 0, 0, longest[0] - len(one["features"]))),
                     "labels": one["labels"] + [-100] * (longest[1] - len(one["labels"]))} for one in examples
                ]  # fmt: skip
            model(**collate_features(examples)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    serve(pipe, step, batches=len(batches), padding=1 - real / padded)


class EndsAt(LogitsProcessor):
    """Hypotheses end where their references do."""

    def __init__(self, lengths: Sequence[int], beams: int, end: int) -> None:
        self.lengths, self.end = torch.tensor(lengths).repeat_interleave(beams), end

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        done = ids.shape[1] >= self.lengths
        scores[~done, self.end] = -torch.inf
        last = scores[done, self.end].clone()
        scores[done] = -torch.inf
        scores[done, self.end] = last
        return scores


def generating(pipe: Connection, clips: int) -> None:
    """Beam search over a split, in order of length or as it comes; answers with both, in turn."""
    from eval.translate import BATCH

    lengths = corpus_lengths(clips)
    data, model = dataset(lengths), translator(3, TRIMMED, **TINY).eval()
    sources = np.array([source for source, _ in lengths])
    orders = {"sorted": np.argsort(-sources, kind="stable"), "unsorted": np.arange(clips)}
    found: dict[str, dict[int, list[int]]] = {}

    def run(way: str) -> None:
        found[way] = {}
        for start in range(0, clips, BATCH):
            places = orders[way][start : start + BATCH].tolist()
            batch = collate_features([data[place] for place in places])
            ends = EndsAt([lengths[place][1] for place in places], 5, 2)
            ids = model.generate(
                features=batch["features"], lengths=batch["lengths"], num_beams=5, max_new_tokens=128, do_sample=False,
                logits_processor=LogitsProcessorList([ends]), return_dict_in_generate=True, output_scores=True,
            ).sequences  # fmt: skip
            for place, row in zip(places, ids.tolist(), strict=True):
                found[way][place] = row[: lengths[place][1]]

    pipe.send({})
    while (way := pipe.recv()) != "stop":
        began = time.perf_counter()
        run(way)
        same = len(found) == 2 and np.mean(
            [found["sorted"][place] == found["unsorted"][place] for place in range(clips)]
        )
        pipe.send({"seconds": time.perf_counter() - began, "peak": 0, "same": float(same)})


def waiting(pipe: Connection, steps: int) -> None:
    """A run of ``fit``: its seconds, and those in which it waited for batches."""
    import train.trainer

    data = dataset(corpus_lengths(CLIPS * 40))
    waited = 0.0

    class Watching(train.trainer.RateGroupTrainer):
        def get_batch_samples(self, *given: Any, **named: Any) -> Any:
            nonlocal waited
            began = time.perf_counter()
            found = super().get_batch_samples(*given, **named)
            waited += time.perf_counter() - began
            return found

    train.trainer.RateGroupTrainer = Watching  # type: ignore[misc]
    model = translator(3, TRIMMED, **SMALL)

    def step() -> dict[str, float]:
        nonlocal waited
        waited = 0.0
        settings = TrainingSettings(steps=steps, checkpoint_every=ENDLESS, batch_tokens=860)
        with tempfile.TemporaryDirectory() as work:
            log = train.trainer.fit(model, settings, data, collate_features, Path(work) / "w")
        return {"seconds": waited / log[-1]["seconds"], "peak": 0}

    pipe.send({})
    while pipe.recv() == "step":
        pipe.send(step())


# The parent: starts contenders, and has them take turns.


def child(target: Callable[..., None], pipe: Connection, *given: Any) -> None:
    torch.set_num_threads(THREADS)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    target(pipe, *given)


class Contender:
    """A process that takes a step when asked."""

    def __init__(self, target: Callable[..., None], *given: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=child, args=(target, other, *given), daemon=True)
        self.process.start()
        other.close()  # so that the end of the process is the end of the pipe
        self.facts: dict[str, Any] = self.pipe.recv()
        self.seconds: list[float] = []
        self.last: dict[str, float] = {}

    def step(self, message: str = "step") -> float:
        self.pipe.send(message)
        self.last = self.pipe.recv()
        return self.last["seconds"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def in_turn(contenders: dict[str, Contender], rounds: int, warm: int = 0) -> Iterator[int]:
    for number in range(rounds + warm):
        for contender in contenders.values():
            seconds = contender.step()
            if number >= warm:
                contender.seconds.append(seconds)
        told = {name: round(contender.last["seconds"], 3) for name, contender in contenders.items()}
        print(f"{time.strftime('%H:%M:%S')} round {number} {told}", file=sys.stderr, flush=True)
        yield number


def race(contenders: dict[str, Contender], rounds: int, warm: int = 0) -> dict[str, Contender]:
    for _ in in_turn(contenders, rounds, warm):
        pass
    for contender in contenders.values():
        contender.stop()
    gc.collect()
    return contenders


def decoding(clips: int = 4) -> dict[str, float]:
    """Seconds to read, resize and crop a clip's frames, PNGs of 210 x 260 as PHOENIX14T's, about 41 KB each."""
    import cv2

    from extract.frames import read_clip
    from extract.index import Clip

    rng = np.random.default_rng(0)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for clip in range(clips):
            (root / str(clip)).mkdir()
            for number in range(ALL):
                smooth = cv2.resize(rng.uniform(0, 255, (9, 7, 3)).astype(np.float32), (210, 260), interpolation=1)
                image = np.clip(smooth + rng.normal(0, 0.25, smooth.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / str(clip) / f"images{number:04d}.png"), image)
        for kind, keep in (("sampled", 4), ("all", 1)):
            seconds = []
            for clip in range(clips):
                began = time.perf_counter()
                read_clip(root, Clip(str(clip), "train", str(clip), ALL, 25.0, "", ""), FrameSettings(keep_every=keep))
                seconds.append(time.perf_counter() - began)
            found[kind] = statistics.median(seconds)
    return found


@dataclasses.dataclass
class Measured:
    """Of one section."""

    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    wanted: dict[str, str] = dataclasses.field(default_factory=dict)


def section_1(options: argparse.Namespace) -> Measured:
    """Cached, end to end, recomputed."""
    out = Measured()
    figures, ratios, wanted = out.figures, out.ratios, out.wanted
    found = race(
        {
            "matrices": Contender(matrices),
            "12x12": Contender(cached, 12, TRIMMED, CLIPS, LARGE),
            "3x3": Contender(cached, 3, TRIMMED, CLIPS, LARGE),
            "encoder_sampled": Contender(encoder, SAMPLED, True),
            "encoder_all": Contender(encoder, ALL, True),
            "frozen_sampled": Contender(encoder, SAMPLED, False),
        },
        options.rounds,
    )
    decode = decoding()
    rate = 1 / found["matrices"].median
    figures["matrix_multiplication_gflops"] = rate / 1e9
    for kind in ("sampled", "all"):
        figures[f"encoder_forward_and_backward_{kind}_seconds_per_clip"] = found[f"encoder_{kind}"].median
        figures[f"decode_{kind}_seconds_per_clip"] = decode[kind]
        figures[f"encoder_{kind}_gflop_per_clip"] = found[f"encoder_{kind}"].facts["flop"] / 1e9
        figures[f"encoder_{kind}_activations_gb_per_clip"] = found[f"encoder_{kind}"].facts["kept"] / 1e9
    figures["encoder_forward_sampled_seconds_per_clip"] = found["frozen_sampled"].median
    least = {"12x12_sampled": 6, "12x12_all": 20, "3x3_sampled": 20, "3x3_all": 80}
    for layers in ("12x12", "3x3"):
        learner = found[layers]
        step, flop = learner.median, learner.facts["flop"]
        figures[f"cached_{layers}_parameters_millions"] = learner.facts["parameters"] / 1e6
        figures[f"cached_{layers}_step_seconds"] = step
        figures[f"cached_{layers}_gflop_per_clip"] = flop / 1e9
        figures[f"cached_{layers}_peak_gb"] = learner.last["peak"] / 1e9
        figures[f"cached_{layers}_estimated_gb"] = learner.facts["estimate"] / 1e9
        for kind in ("sampled", "all"):
            encoding = CLIPS * found[f"encoder_{kind}"].median
            name = f"cached_vs_end_to_end_{layers}_{kind}"
            ratios[name] = (step + encoding) / step
            ratios[f"{name}_bound"] = (flop + found[f"encoder_{kind}"].facts["flop"]) / flop
            wanted[name] = f"at least {least[f'{layers}_{kind}']}"
            ratios[f"{name}_with_decoding"] = (step + encoding + CLIPS * decode[kind]) / step
            keeping = CLIPS * found[f"encoder_{kind}"].facts["kept"]
            ratios[f"peak_memory_{layers}_{kind}"] = (learner.last["peak"] + keeping) / learner.last["peak"]
        recomputing = CLIPS * found["frozen_sampled"].median
        ratios[f"cached_vs_recomputed_{layers}_sampled"] = (step + recomputing) / step
        ratios[f"cached_{layers}_share_of_matrix_rate"] = CLIPS * flop / step / rate
        wanted[f"cached_{layers}_share_of_matrix_rate"] = "at least 0.7"
        ratios[f"estimate_vs_measured_{layers}"] = learner.facts["estimate"] / learner.last["peak"]
    ratios["peak_memory"] = ratios["peak_memory_12x12_all"]
    wanted["peak_memory"] = "at least 4"
    whole = race({"whole": Contender(end_to_end, 3, 1), "cached": Contender(cached, 3, TRIMMED, 1, LARGE)}, 1, warm=1)
    parts = whole["cached"].median + found["encoder_sampled"].median
    ratios["end_to_end_vs_its_parts"] = whole["whole"].median / parts
    return out


def section_2(options: argparse.Namespace) -> Measured:
    """Trimmed and full vocabulary."""
    out = Measured()
    for name, layers, size in (("", 3, SMALL), ("_12x12", 12, LARGE)):
        found = race(
            {way: Contender(cached, layers, pieces, CLIPS, size) for way, pieces in VOCABULARIES.items()},
            options.rounds,
            warm=int(layers == 3),
        )
        trimmed, full = found["trimmed"], found["full"]
        out.ratios[f"trimmed_vs_full{name}"] = full.median / trimmed.median
        out.ratios[f"trimmed_vs_full{name}_memory"] = full.last["peak"] / trimmed.last["peak"]
        for way, contender in found.items():
            out.figures[f"{way}{name}_step_seconds"] = contender.median
            out.figures[f"{way}{name}_peak_gb"] = contender.last["peak"] / 1e9
            out.figures[f"{way}{name}_estimated_gb"] = contender.facts["estimate"] / 1e9
    out.wanted["trimmed_vs_full"] = "at least 5"
    return out


def section_3(options: argparse.Namespace) -> Measured:
    """Buckets, random batches, padding to the longest."""
    out = Measured()
    found = race({way: Contender(batching, way) for way in ("buckets", "random", "longest")}, options.rounds)
    for way, contender in found.items():
        out.figures[f"{way}_examples_per_second"] = BATCHED / contender.median
        out.figures[f"{way}_padding"] = contender.facts["padding"]
    out.ratios["buckets_vs_random"] = found["random"].median / found["buckets"].median
    out.ratios["buckets_vs_longest"] = found["longest"].median / found["buckets"].median
    out.wanted |= {"buckets_vs_random": "at least 1.25", "buckets_vs_longest": "at least 2"}
    return out


def section_4(options: argparse.Namespace) -> Measured:
    """Waiting for batches."""
    share = race({"waiting": Contender(waiting, 15)}, options.rounds)["waiting"].median
    return Measured(ratios={"waiting_share": share}, wanted={"waiting_share": "at most 0.02"})


def section_5(options: argparse.Namespace) -> Measured:
    """Generation."""
    one = Contender(generating, options.clips)
    spent: dict[str, list[float]] = {"sorted": [], "unsorted": []}
    for _ in range(options.rounds):
        for way, seconds in spent.items():
            seconds.append(one.step(way))
            print(f"{time.strftime('%H:%M:%S')} {way} {seconds[-1]:.1f}", file=sys.stderr, flush=True)
    one.stop()
    medians = {way: statistics.median(seconds) for way, seconds in spent.items()}
    figures = {f"generation_{way}_clips_per_second": options.clips / seconds for way, seconds in medians.items()}
    figures["generation_same_translations"] = one.last["same"]
    return Measured(figures=figures, ratios={"sorted_generation": medians["unsorted"] / medians["sorted"]})


SECTIONS = (section_1, section_2, section_3, section_4, section_5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=642, help="of the split that is translated")
    parser.add_argument(
        "--only", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="sections; others stay as they are"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/translate.json"))
    options = parser.parse_args()
    kept = json.loads(options.out.read_text()) if options.out.is_file() and len(options.only) < 5 else {}
    whole = Measured(kept.get("figures", {}), kept.get("ratios", {}), kept.get("wanted", {}))
    for number in options.only:
        section = SECTIONS[number - 1]
        print(f"{number}. {section.__doc__}", file=sys.stderr, flush=True)
        found = section(options)
        whole.figures |= found.figures
        whole.ratios |= found.ratios
        whole.wanted |= found.wanted
        report = {
            "title": "Fine-tuning on cached features",
            "command": "python benchmarks/translate.py" + (", sections one by one (--only)" if kept else ""),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "rounds": options.rounds,
            **dataclasses.asdict(whole),
        }
        write_report(report, options.out)


if __name__ == "__main__":
    main()
