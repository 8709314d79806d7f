"""Cached features as training examples of stage 2. Never opens a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.store.feature_store import Features
from train.data.drawn_dataset import DrawnDataset
from train.data.feature_augmentation import augment, longest_stretch
from train.data.targets import pad_labels
from train.settings import AugmentSettings


class FeatureDataset(DrawnDataset):
    """A split's features, held in one array per view, with target ids.

    Args:
        views: features of the clips. The first view has them all, in the order of ``targets``; of several, a clip
            draws one in every epoch, as stage 1 draws frames and crops.
        targets: target ids per clip.
        seed: of the draws, which depend on seed, epoch and clip alone.
        augmentation: of the features, drawn anew in every epoch; None: none.
        longest: steps that augmentation may lead to, at most.
    """

    def __init__(
        self,
        views: Sequence[Features],
        targets: Sequence[Sequence[int]],
        seed: int = 0,
        augmentation: AugmentSettings | None = None,
        longest: int | None = None,
    ) -> None:
        if len(views[0].ids) != len(targets):
            raise ValueError(f"{len(views[0].ids)} clips but {len(targets)} targets")
        position = {id: place for place, id in enumerate(views[0].ids)}
        super().__init__()
        self.arrays = [torch.from_numpy(view.array) for view in views]
        self.steps: list[list[Tensor]] = [[] for _ in targets]
        self.starts: list[list[int]] = [[] for _ in targets]
        """Where a clip's steps begin in all arrays together."""
        before = 0
        for view, array in zip(views, self.arrays, strict=True):
            for id, start, end in zip(view.ids, view.offsets[:-1].tolist(), view.offsets[1:].tolist(), strict=True):
                self.steps[position[id]].append(array[start:end])
                self.starts[position[id]].append(before + start)
            before += len(array)
        self.targets, self.seed = targets, seed
        self.augmentation, self.longest = augmentation, longest

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Steps, in the view and stretch where they are most, and target pieces of each clip."""
        most = (max(map(len, views)) for views in self.steps)
        if self.augmentation is not None:
            most = (longest_stretch(length, self.augmentation, self.longest) for length in most)
        return list(zip(most, map(len, self.targets), strict=True))

    def __getitem__(self, item: int) -> dict[str, Any]:
        view, rng = self.draw(item)
        steps = self.steps[item][view]
        if self.augmentation is not None and rng is not None:
            steps = augment(steps, self.augmentation, rng, self.longest)
        return {"features": steps, "labels": self.targets[item]}

    def draw(self, item: int) -> tuple[int, np.random.Generator | None]:
        """Which of a clip's views this epoch has, and what else is drawn from; None where nothing is."""
        views = len(self.steps[item])
        if views == 1 and self.augmentation is None:
            return 0, None
        rng = np.random.default_rng([self.seed, self.epoch, item])
        return int(rng.integers(views)) if views > 1 else 0, rng

    def example_of(self, steps: int, pieces: int) -> dict[str, Any]:
        """An example of these lengths, to measure what a batch takes."""
        return {"features": torch.zeros(steps, self.steps[0][0].shape[1]), "labels": [0] * pieces}


def collate_features(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Features packed one clip after the other in float32, labels padded with -100 (first, as ``collate_clips``)."""
    return {
        "labels": pad_labels([example["labels"] for example in examples]),
        "lengths": [len(example["features"]) for example in examples],
        # In float32 first: a CPU's autocast to bfloat16, in which dev is looked at, puts no halves together.
        "features": torch.cat([example["features"].float() for example in examples]),
    }
