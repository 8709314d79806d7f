"""Clips as training examples of stage 1: frames and target pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import Source, read_clip
from extract.errors import SltError
from extract.settings import FrameSettings
from train.data.frame_augmentation import draw_warp
from train.data.targets import pad_labels
from train.settings import WarpSettings


class ClipDataset(Dataset[dict[str, Any]]):
    """Decodes clips as they are asked for.

    Args:
        source: the dataset's root, or packs of its frames.
        targets: target ids per clip.
        random: draw frames and crop anew in every epoch (training), or deterministically (evaluation).
        warp: augmentation besides; with ``random`` only.
    """

    def __init__(
        self, source: Source, clips: Sequence[Clip], targets: Sequence[Sequence[int]], frames: FrameSettings,
        random: bool, seed: int = 0, warp: WarpSettings | None = None,
    ) -> None:  # fmt: skip
        self.source, self.clips, self.targets, self.frames = source, clips, targets, frames
        self.random, self.seed, self.epoch = random, seed, 0
        self.warp = warp if random else None

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop, so that the draw depends on seed, epoch and clip alone."""
        self.epoch = epoch

    def __getitem__(self, item: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.epoch, item]) if self.random else None
        warp = draw_warp(self.warp, self.seed, self.epoch, item) if self.warp else None
        try:
            frames = read_clip(self.source, self.clips[item], self.frames, rng, warp=warp)
        except SltError as error:
            return {"error": error}
        return {"frames": torch.from_numpy(frames), "labels": self.targets[item]}


class FailedBatch:
    """A batch of which a clip could not be read: any use of it raises that clip's error.

    torch raises what went wrong in a worker anew, from one string with the worker's traceback: neither the class nor
    its one line would arrive. So the error travels as a value to the training process.
    """

    def __init__(self, error: SltError) -> None:
        self.error = error

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise self.error

    to = keys = __getitem__ = __iter__ = __len__ = _refuse


def collate_clips(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor] | FailedBatch:
    """Frames packed one clip after the other (no padding), labels padded with -100.

    ``labels`` comes first: the training loop takes the batch size from the first tensor.
    """
    for example in examples:
        if "error" in example:
            return FailedBatch(example["error"])
    return {
        "labels": pad_labels([example["labels"] for example in examples]),
        "lengths": torch.tensor([len(example["frames"]) for example in examples]),
        "frames": torch.cat([example["frames"] for example in examples]),
    }
