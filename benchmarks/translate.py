"""Stage 2 on cached features beside what it replaces; what its batches, its vocabulary and its search order are worth.

    python benchmarks/translate.py          # writes docs/benchmarks/translate.json

Shapes are the paper's: clips of 29 sampled frames (116 before sampling) of 224 pixels, 29 features of width 512, 20
target pieces, 16 clips a step; mBART-large's layers (d 1024, FFN 4096), 12 + 12 and 3 + 3 of them, with random weights
and a vocabulary of 3,000 pieces, about what PHOENIX14T's train text needs. Each contender is a process of its own that
keeps its model, and they take their steps in turn, round by round; medians count.

1. ``cached``: an optimiser step of ``train.loop.trainer.fit`` on features in memory, with clipping, AdamW and its
   callbacks.
   ``end to end``: the same step, and forward and backward of ResNet-18 and the temporal module over the frames of its
   16 clips. Their activations do not fit at once (40 GB for 116 frames), so the encoder takes a clip at a time, and
   times and memory add up; a whole end-to-end step of 16 clips of sampled frames with 3 + 3 layers, which does fit, is
   measured beside its parts, to see that they do. ``recomputed``: the encoder forward only. Reading and decoding frames
   is apart. The bounds: of time, the ratio of floating-point operations, counted by torch; of memory, that of processes
   that hold weights, gradients, Adam's moments and the encoder's activations, and nothing else.
2. Vocabularies of 3,000 and of 250,027 pieces.
3. ``LengthBatches`` with a token budget against random batches of 16, padded to their longest or to the split's.
4. Share of a run's time in which ``fit`` waits for batches.
5. Beam 5 over 642 clips in order of length (``eval.translation.translate_features``) and as they come. Random weights
   would write until the limit, so each hypothesis is ended at its reference's length.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import dataclasses
import json
import os
import platform
import statistics
import time
from typing import Any

import torch
import transformers

from benchmarks.page import write_report
from benchmarks.stage2.batches import BATCHED, batching, waiting
from benchmarks.stage2.contenders import Contender, race
from benchmarks.stage2.frames import decoding
from benchmarks.stage2.search import generating
from benchmarks.stage2.shapes import ALL, CLIPS, LARGE, SAMPLED, SMALL, TRIMMED, VOCABULARIES
from benchmarks.stage2.steps import cached, encoder, end_to_end, matrices


@dataclasses.dataclass
class Measured:
    """Of one section."""

    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    wanted: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


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
            one = found[f"encoder_{kind}"]
            encoding = CLIPS * one.median
            name = f"cached_vs_end_to_end_{layers}_{kind}"
            ratios[name] = (step + encoding) / step
            ratios[f"{name}_bound"] = (flop + one.facts["flop"]) / flop
            wanted[name] = f"at least {least[f'{layers}_{kind}']}"
            ratios[f"{name}_with_decoding"] = (step + encoding + CLIPS * decode[kind]) / step
            peak, shared = learner.last["peak"], learner.facts["shared"]
            keeping = CLIPS * one.facts["kept"]
            ratios[f"peak_memory_{layers}_{kind}"] = (peak + keeping) / peak
            ratios[f"peak_memory_{layers}_{kind}_bound"] = (shared + keeping) / shared
            wanted[f"peak_memory_{layers}_{kind}"] = "at least 4"
            figures[f"end_to_end_{layers}_{kind}_peak_gb"] = (peak + keeping) / 1e9
            figures[f"end_to_end_{layers}_{kind}_clip_by_clip_peak_gb"] = (peak + one.facts["kept"]) / 1e9
        recomputing = CLIPS * found["frozen_sampled"].median
        ratios[f"cached_vs_recomputed_{layers}_sampled"] = (step + recomputing) / step
        ratios[f"cached_{layers}_share_of_matrix_rate"] = CLIPS * flop / step / rate
        wanted[f"cached_{layers}_share_of_matrix_rate"] = "at least 0.7"
        ratios[f"memory_estimate_vs_measured_{layers}"] = learner.facts["estimate"] / learner.last["peak"]
    ratios["peak_memory"] = ratios["peak_memory_12x12_all"]
    wanted["peak_memory"] = "at least 4"
    whole = race({"whole": Contender(end_to_end, 3, CLIPS)}, options.rounds)["whole"]
    parts = found["3x3"].median + CLIPS * found["encoder_sampled"].median
    ratios["end_to_end_vs_its_parts"] = whole.median / parts
    figures["end_to_end_3x3_sampled_in_one_process_seconds"] = whole.median
    figures["end_to_end_3x3_sampled_in_one_process_peak_gb"] = whole.last["peak"] / 1e9
    shared, keeping = found["12x12"].facts["shared"] / 1e9, CLIPS * found["encoder_sampled"].facts["kept"] / 1e9
    out.notes += [
        "`peak memory` is that of 12 + 12 layers and all frames. With sampled frames it cannot be 4: both steps hold "
        f"weights, gradients and Adam's moments, {shared:.2f} GB, and the encoder's activations of 16 clips are "
        f"{keeping:.1f} GB; the row's bound is (activations + the rest) / the rest.",
        "An end-to-end step that takes its clips one by one holds one clip's activations only (`clip by clip`), in as "
        "much time; its gradients are others, since BatchNorm sees one clip at a time.",
    ]
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
            estimated, peak = contender.facts["estimate"], contender.last["peak"]
            out.figures[f"{way}{name}_step_seconds"] = contender.median
            out.figures[f"{way}{name}_peak_gb"] = peak / 1e9
            out.figures[f"{way}{name}_estimated_gb"] = estimated / 1e9
            out.ratios[f"memory_estimate_vs_measured_{way}{name}"] = estimated / peak
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
    whole = Measured(**{name: kept[name] for name in ("figures", "ratios", "wanted", "notes") if name in kept})
    for number in options.only:
        section = SECTIONS[number - 1]
        print(f"{number}. {section.__doc__}", file=sys.stderr, flush=True)
        found = section(options)
        whole.figures |= found.figures
        whole.ratios |= found.ratios
        whole.wanted |= found.wanted
        whole.notes = found.notes or whole.notes
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
