"""What the dominance probe adds to a training step: ``python benchmarks/dominance.py``.

Runs with and without it take turns; the medians of the rounds are compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import copy
import json
import statistics
import tempfile
import time

import numpy as np
import torch

from extract.store import Features
from train.features import FeatureDataset, collate_features
from train.settings import AdapterSettings, TrainingSettings
from train.trainer import fit
from train.translator import SignTranslator

ROUNDS, STEPS, CLIPS, WIDTH = 5, 41, 64, 512
SIZES = {
    "stage 2 of the demo (d 192, 3 + 3 layers)": {"d_model": 192, "layers": 3, "ffn": 768, "vocab": 400},
    "Light-T (d 512, 3 + 3 layers)": {"d_model": 512, "layers": 3, "ffn": 2048, "vocab": 2400},
}


def main() -> None:
    from transformers import MBartConfig, MBartForConditionalGeneration

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
        for _ in range(ROUNDS):
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
        figures = {"ms": 1000 * without, "ms with the probe": 1000 * with_it, "ratio": with_it / without}
        rounded = {key: round(value, 3) for key, value in figures.items()}
        print(json.dumps({"model": name, "parameters": model.num_parameters(), **rounded}))


if __name__ == "__main__":
    main()
