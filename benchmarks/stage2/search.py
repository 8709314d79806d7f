"""Beam search over a split, in order of length and as it comes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from benchmarks.stage2.shapes import TINY, TRIMMED, corpus_lengths, dataset, translator
from train.data.feature_dataset import collate_features


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
    from train.loop.search_batches import BATCH

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
