"""Cached features as training examples of stage 2. Never opens a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from extract.store import Features
from train.labels import pad_labels


class FeatureDataset(Dataset[dict[str, Any]]):
    """A split's features, held in one array, with target ids.

    Args:
        features: of the clips, in the order of ``targets``.
        targets: target ids per clip.
    """

    def __init__(self, features: Features, targets: Sequence[Sequence[int]]) -> None:
        if len(features.ids) != len(targets):
            raise ValueError(f"{len(features.ids)} clips but {len(targets)} targets")
        self.array = torch.from_numpy(features.array)
        self.offsets = features.offsets.tolist()
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, item: int) -> dict[str, Any]:
        steps = self.array[self.offsets[item] : self.offsets[item + 1]]
        return {"features": steps, "labels": self.targets[item]}


def collate_features(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Features packed one clip after the other in float32, labels padded with -100 (first, as ``collate_clips``)."""
    return {
        "labels": pad_labels([example["labels"] for example in examples]),
        "lengths": torch.tensor([len(example["features"]) for example in examples]),
        "features": torch.cat([example["features"] for example in examples]).float(),
    }
