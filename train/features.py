"""Cached features as training examples of stage 2. Never opens a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from extract.store import Features
from train.labels import pad_labels


class FeatureDataset(Dataset[dict[str, Any]]):
    """A split's features, held in one array per view, with target ids.

    Args:
        views: features of the clips. The first view has them all, in the order of ``targets``; of several, a clip
            draws one in every epoch, as stage 1 draws frames and crops.
        targets: target ids per clip.
        seed: of the draws.
    """

    def __init__(self, views: Sequence[Features], targets: Sequence[Sequence[int]], seed: int = 0) -> None:
        if len(views[0].ids) != len(targets):
            raise ValueError(f"{len(views[0].ids)} clips but {len(targets)} targets")
        position = {id: place for place, id in enumerate(views[0].ids)}
        self.steps: list[list[Tensor]] = [[] for _ in targets]
        for view in views:
            array = torch.from_numpy(view.array)
            for id, start, end in zip(view.ids, view.offsets[:-1].tolist(), view.offsets[1:].tolist(), strict=True):
                self.steps[position[id]].append(array[start:end])
        self.targets, self.seed, self.epoch = targets, seed, 0

    def __len__(self) -> int:
        return len(self.targets)

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop, so that the draw depends on seed, epoch and clip alone."""
        self.epoch = epoch

    def __getitem__(self, item: int) -> dict[str, Any]:
        drawn = 0
        if len(self.steps[item]) > 1:
            drawn = int(np.random.default_rng([self.seed, self.epoch, item]).integers(len(self.steps[item])))
        return {"features": self.steps[item][drawn], "labels": self.targets[item]}


def collate_features(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Features packed one clip after the other in float32, labels padded with -100 (first, as ``collate_clips``)."""
    return {
        "labels": pad_labels([example["labels"] for example in examples]),
        "lengths": torch.tensor([len(example["features"]) for example in examples]),
        "features": torch.cat([example["features"] for example in examples]).float(),
    }
