"""One clip after the other, as a worker decodes it: its frames, or why there are none, and how long it took."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import READING
from extract.decoding.read_clip import Source
from extract.decoding.read_or_failure import read_or_failure
from extract.errors import FAILURE_KINDS, ClipError
from extract.settings import FrameSettings, View

if TYPE_CHECKING:  # decoding processes import no torch
    from torch import Tensor


def _nothing() -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a clip."""

    found: Sequence[NDArray[np.uint8] | Tensor] | ClipError
    """(T, 3, crop, crop) RGB of each view, or why there are none. Tensors lie where they are computed."""
    read: float = 0.0
    """Seconds of waiting for the bytes of images; video decoders read within decoding."""
    decode: float = 0.0
    """Seconds of all the rest."""
    release: Callable[[], None] = _nothing
    """To be called when the frames are no longer looked at: their memory may hold another clip then."""


def known_problem(clip: Clip) -> ClipError | None:
    """What was found while indexing; a look at the pixels would only find it again."""
    if clip.problem is None:
        return None
    kind, _, detail = clip.problem.partition(": ")
    return ClipError(kind, detail) if kind in FAILURE_KINDS else ClipError("decode", clip.problem)


@dataclasses.dataclass(frozen=True, slots=True)
class ClipDecoder:
    """Decodes the clips of a block."""

    source: Source
    frames: FrameSettings
    views: tuple[View, ...]
    read_seconds: float | None = None
    """That a view of a clip may take; None: any time."""

    def __call__(self, clip: Clip) -> Decoded:
        """
        Raises:
            InputError: as ``read_clip``.
        """
        if (problem := known_problem(clip)) is not None:
            return Decoded(problem)
        began, before = time.perf_counter(), READING.seconds
        views: list[NDArray[np.uint8]] = []
        for view in self.views:
            frames = read_or_failure(self.source, clip, self.frames, view=view, seconds=self.read_seconds)
            if isinstance(frames, ClipError):
                problem = frames
                break
            views.append(frames)
        read = READING.seconds - before
        return Decoded(problem or views, read, time.perf_counter() - began - read)

    @property
    def root(self) -> Path | None:
        """Where the clips' own files lie, if it is those that are read."""
        return self.source if isinstance(self.source, Path) else None
