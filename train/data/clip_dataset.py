"""Clips as training examples of stage 1: frames and target pieces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import Source
from extract.decoding.read_or_failure import read_or_failure
from extract.errors import ClipError, SltError
from extract.settings import FrameSettings
from train.data.drawn_dataset import DrawnDataset
from train.data.frame_augmentation import draw_warp
from train.data.left_out import LeftOut
from train.data.targets import pad_labels
from train.settings import WarpSettings


class ClipDataset(DrawnDataset):
    """Decodes clips as they are asked for.

    Args:
        source: the dataset's root, or packs of its frames.
        targets: target ids per clip.
        random: draw frames and crop anew in every epoch (training), or deterministically (evaluation).
        warp: augmentation besides; with ``random`` only.
        left_out: counts clips that cannot be read, whose places the next readable ones take; None: such a clip is an
            error.
    """

    def __init__(
        self, source: Source, clips: Sequence[Clip], targets: Sequence[Sequence[int]], frames: FrameSettings,
        random: bool, seed: int = 0, warp: WarpSettings | None = None, left_out: LeftOut | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.source, self.clips, self.targets, self.frames = source, clips, targets, frames
        self.random, self.seed = random, seed
        self.warp = warp if random else None
        self.left_out = left_out
        known = left_out.read() if left_out is not None else {}
        self.gone = {place for place, clip in enumerate(clips) if clip.id in known}
        """Places of clips that could not be read, and are not tried again: each may take ``extract.read_seconds``."""

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> dict[str, Any]:
        for place in itertools.chain(range(item, len(self)), range(item)):
            if place in self.gone:
                continue
            try:
                frames = self._read(place)
            except SltError as wrong:  # with all clips alike
                return {"error": wrong}
            if not isinstance(frames, ClipError):
                return {"frames": torch.from_numpy(frames), "labels": self.targets[place]}
            if self.left_out is None:
                return {"error": frames}
            self.gone.add(place)
            if (many := self.left_out.add(self.clips[place], frames)) is not None:
                return {"error": many}
        return {"error": ClipError("decode", f"{self.source}: none of {len(self)} clips can be read")}

    def _read(self, item: int) -> NDArray[np.uint8] | ClipError:
        rng = np.random.default_rng([self.seed, self.epoch, item]) if self.random else None
        warp = draw_warp(self.warp, self.seed, self.epoch, item) if self.warp else None
        seconds = self.left_out.settings.read_seconds if self.left_out is not None else None
        return read_or_failure(self.source, self.clips[item], self.frames, rng, warp=warp, seconds=seconds)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Sampled frames and target pieces of each clip. Not ``lengths``, by which batches would be made."""
        frames = (-(-clip.n_frames // self.frames.keep_every) for clip in self.clips)
        return list(zip(frames, map(len, self.targets), strict=True))

    def bytes_of(self, clips: int) -> int:
        """What the frames of so many clips take."""
        frames = sum(count for count, _ in self.sizes) * clips // len(self.clips)
        return frames * 3 * self.frames.crop**2

    def example_of(self, frames: int, pieces: int) -> dict[str, Any]:
        """An example of these lengths, to measure what a batch takes."""
        side = self.frames.crop
        return {"frames": torch.zeros(frames, 3, side, side, dtype=torch.uint8), "labels": [0] * pieces}


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


def collate_clips(examples: Sequence[dict[str, Any]]) -> dict[str, Any] | FailedBatch:
    """Frames packed one clip after the other (no padding), labels padded with -100, lengths as a list, so that they
    stay on the CPU.

    ``labels`` comes first: the training loop takes the batch size from the first tensor.
    """
    for example in examples:
        if "error" in example:
            return FailedBatch(example["error"])
    return {
        "labels": pad_labels([example["labels"] for example in examples]),
        "lengths": [len(example["frames"]) for example in examples],
        "frames": torch.cat([example["frames"] for example in examples]),
    }
