"""Batches: by length or at random, and how long training waits for them."""

from __future__ import annotations

import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stage2.contenders import serve
from benchmarks.stage2.shapes import CLIPS, SMALL, TRIMMED, corpus_lengths, dataset, translator
from benchmarks.stage2.steps import ENDLESS
from train.data.feature_dataset import collate_features
from train.settings import TrainingSettings

BATCHED = 64
"""Clips of the epoch that is batched in three ways."""


def batching(pipe: Connection, way: str) -> None:
    """An epoch of clips of a corpus's lengths."""
    from train.data.length_batches import LengthBatches

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


def waiting(pipe: Connection, steps: int) -> None:
    """A run of ``fit``: its seconds, and those in which it waited for batches."""
    import train.loop.trainer

    data = dataset(corpus_lengths(CLIPS * 40))
    waited = 0.0

    class Watching(train.loop.trainer.RateGroupTrainer):
        def get_batch_samples(self, *given: Any, **named: Any) -> Any:
            nonlocal waited
            began = time.perf_counter()
            found = super().get_batch_samples(*given, **named)
            waited += time.perf_counter() - began
            return found

    train.loop.trainer.RateGroupTrainer = Watching  # type: ignore[misc]
    model = translator(3, TRIMMED, **SMALL)

    def step() -> dict[str, float]:
        nonlocal waited
        waited = 0.0
        settings = TrainingSettings(steps=steps, checkpoint_every=ENDLESS, batch_tokens=860)
        with tempfile.TemporaryDirectory() as work:
            log = train.loop.trainer.fit(model, settings, data, collate_features, Path(work) / "w")
        return {"seconds": waited / log[-1]["seconds"], "peak": 0}

    pipe.send({})
    while pipe.recv() == "step":
        pipe.send(step())
