"""What the dominance probe adds to a training step: ``python benchmarks/dominance.py``.

Runs with and without it take turns; the medians of the rounds are compared. Writes docs/benchmarks/dominance.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import copy
import os
import platform
import statistics
import tempfile
import time

import numpy as np
import torch

from benchmarks.page import write_report
from extract.store.feature_store import Features
from train.data.feature_dataset import FeatureDataset, collate_features
from train.settings import AdapterSettings, TrainingSettings
from train.loop.trainer import fit
from train.models.translator import SignTranslator

STEPS, CLIPS, WIDTH = 41, 64, 512
SIZES = {
    "demo_stage_2": {"d_model": 192, "layers": 3, "ffn": 768, "vocab": 400},
    "light_t": {"d_model": 512, "layers": 3, "ffn": 2048, "vocab": 2400},
}


def main() -> None:
    from transformers import MBartConfig, MBartForConditionalGeneration

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/dominance.json"))
    options = parser.parse_args()
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        lengths = rng.integers(15, 40, CLIPS)
        ids = [f"c{i}" for i in range(CLIPS)]
        offsets = np.cumsum([0, *lengths])
        features = Features(ids, rng.random((offsets[-1], WIDTH), np.float32), offsets)
        targets = [rng.integers(4, size["vocab"], rng.integers(8, 20)).tolist() for _ in ids]
        config = MBartConfig(
            vocab_size=size["vocab"], d_model=size["d_model"], encoder_layers=size["layers"],
            decoder_layers=size["layers"], encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=size["ffn"], decoder_ffn_dim=size["ffn"], max_position_embeddings=128,
            decoder_start_token_id=2,
        )  # fmt: skip
        model = SignTranslator.compose(MBartForConditionalGeneration(config), AdapterSettings(), WIDTH)
        medians: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds):
            for dominance in medians:
                moments: list[float] = []
                settings = TrainingSettings(steps=STEPS, batch_size=16, dominance=dominance)
                with tempfile.TemporaryDirectory() as work:
                    fit(
                        copy.deepcopy(model), settings, FeatureDataset([features], targets), collate_features,
                        Path(work), report=lambda *_, to=moments: to.append(time.perf_counter()),
                    )  # fmt: skip
                # The steps after the first: whole tens of them, one of each copies the weights.
                medians[dominance].append((moments[-1] - moments[0]) / (len(moments) - 1))
        with_it, without = (statistics.median(medians[dominance]) for dominance in (True, False))
        figures |= {
            f"{name}_parameters": model.num_parameters(),
            f"{name}_ms": 1000 * without,
            f"{name}_with_the_probe_ms": 1000 * with_it,
        }
        ratios[f"{name}_with_the_probe"] = with_it / without
    report = {
        "title": "A training step with the dominance probe",
        "command": f"python benchmarks/dominance.py --rounds {options.rounds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "figures": figures,
        "ratios": ratios,
        "wanted": dict.fromkeys(ratios, "at most 1.03"),
    }
    write_report(report, options.out)


if __name__ == "__main__":
    main()
