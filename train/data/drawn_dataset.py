"""What examples drawn anew in every epoch have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset


class DrawnDataset(Dataset[dict[str, Any]]):
    """Knows which epoch it is. The number lies in shared memory, so that loader processes that stay from one epoch to
    the next see it too."""

    def __init__(self) -> None:
        self.counter = torch.zeros((), dtype=torch.long)
        self.counter.untyped_storage().share_memory_()

    @property
    def epoch(self) -> int:
        return int(self.counter)

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop, so that a draw depends on seed, epoch and example alone."""
        self.counter.fill_(epoch)
