"""One clip after the other, as a worker decodes it: its frames, or why there are none, and how long it took."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import READING
from extract.decoding.read_clip import Source, read_clip
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

    def __call__(self, clip: Clip) -> Decoded:
        """
        Raises:
            InputError: as ``read_clip``.
        """
        if (problem := known_problem(clip)) is not None:
            return Decoded(problem)
        began, before = time.perf_counter(), READING.seconds
        found: list[NDArray[np.uint8]] | ClipError
        try:
            found = [read_clip(self.source, clip, self.frames, view=view) for view in self.views]
        except ClipError as error:
            found = error
        except (OSError, cv2.error) as error:  # no permission, a stale mount, an image too large to allocate
            found = ClipError("decode", f"{self.source}, {clip.source}: {type(error).__name__}: {error}")
        read = READING.seconds - before
        return Decoded(found, read, time.perf_counter() - began - read)

    @property
    def root(self) -> Path | None:
        """Where the clips' own files lie, if it is those that are read."""
        return self.source if isinstance(self.source, Path) else None
