"""Batches of cached features in few shapes, and features that lie on the device.

A GPU is quickest at a shape that it has seen: its allocator has the memory, and a recorded step fits
(docs/decisions/replayed-steps.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from train.data.feature_dataset import FeatureDataset

MULTIPLE = 8
"""Clips, steps and pieces are padded up to its multiples: of PHOENIX14T's lengths in batches of 16, 51 shapes instead
of 239, for 12 % more padding."""


class PaddedBatches:
    """Collates examples of a ``FeatureDataset`` or of ``ResidentFeatures`` to a batch of a few shapes.

    A clip that only fills up a batch has no pieces, so that it adds nothing to a loss that is a sum over pieces.

    Args:
        clips: of a batch, at most; None: as many as come, rounded up.
        longest: positions of the language model, which no padding exceeds; None: any number.
    """

    def __init__(self, clips: int | None, longest: int | None) -> None:
        self.clips, self.longest = clips, longest

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """``labels`` (B, L) with -100 where padded; ``mask`` (B, T) bool; and ``features`` (B, T, C) float32, or
        ``rows`` (B, T) of the resident features."""
        lengths = [example["length"] if "length" in example else len(example["features"]) for example in examples]
        clips = up(len(examples), self.clips)
        steps = up(max(lengths), self.longest)
        pieces = up(max(len(example["labels"]) for example in examples), self.longest)
        labels = torch.full((clips, pieces), -100)
        mask = torch.zeros(clips, steps, dtype=torch.bool)
        mask[len(examples) :] = True  # attention over nothing is not a number
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            labels[row, : len(example["labels"])] = torch.tensor(example["labels"])
            mask[row, :length] = True
        if "length" in examples[0]:
            places = torch.tensor([example["start"] for example in examples])[:, None] + torch.arange(steps)
            rows = torch.full((clips, steps), -1)
            rows[: len(examples)] = places.masked_fill(~mask[: len(examples)], -1)
            return {"labels": labels, "mask": mask, "rows": rows + 1}
        features = torch.zeros(clips, steps, examples[0]["features"].shape[1])
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            features[row, :length] = example["features"]
        return {"labels": labels, "mask": mask, "features": features}


class ResidentFeatures(Dataset[dict[str, Any]]):
    """A ``FeatureDataset`` whose features lie on the device, in the dtype of their store; its examples say where.

    Args:
        data: without augmentation, which is drawn on the CPU.
    """

    def __init__(self, data: FeatureDataset, device: torch.device) -> None:
        self.data = data
        rows = sum(len(array) for array in data.arrays)
        first = data.arrays[0]
        self.table = torch.zeros(rows + 1, first.shape[1], dtype=first.dtype, device=device)
        """(1 + all steps, C): zeros, then every step of every view."""
        start = 1
        for array in data.arrays:
            self.table[start : start + len(array)] = array.to(device)
            start += len(array)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: int) -> dict[str, Any]:
        view, _ = self.data.draw(item)
        start, length = self.data.starts[item][view], len(self.data.steps[item][view])
        return {"start": start, "length": length, "labels": self.data.targets[item]}

    def example_of(self, steps: int, pieces: int) -> dict[str, Any]:
        """As ``FeatureDataset.example_of``."""
        return {"start": 0, "length": steps, "labels": [0] * pieces}

    def filled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch, on the device, with its features in place of ``rows``."""
        rest = {name: tensor for name, tensor in batch.items() if name != "rows"}
        return {**rest, "features": self.table[batch["rows"]].float()}


def up(count: int, most: int | None = None) -> int:
    """The next multiple, ``most`` at most."""
    rounded = -(-count // MULTIPLE) * MULTIPLE
    return rounded if most is None else max(count, min(rounded, most))
