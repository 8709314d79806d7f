"""The contact sheet: random clips, each a row of sampled frames exactly as the encoder will see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.dataset.index_statistics import SplitStatistics
from extract.decoding.read_or_failure import read_or_failure
from extract.errors import ClipError
from extract.settings import FrameSettings

FRAMES_A_ROW = 8
_GAP = 2
"""White pixels between frames."""
_LABEL = 20
"""Pixels for the id above a row."""
_SMALLEST = 96
"""Frames of a smaller side are shown enlarged by a whole factor, pixels as squares."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One clip on the sheet."""

    clip: Clip
    kept: int
    """Sampled frames of the clip; 0 when it could not be read."""
    strip: NDArray[np.uint8] | None
    """(side, width, 3) BGR: up to ``FRAMES_A_ROW`` of them, evenly spaced, the first and the last among them."""
    problem: str | None = None

    @property
    def png(self) -> bytes | None:
        """The strip as a PNG file."""
        return None if self.strip is None else _png(self.strip)


def draw_clips(splits: Mapping[str, SplitStatistics], number: int, seed: int) -> list[int]:
    """Ordinals of ``number`` random clips per split (fewer where there are no more), of those without a problem.

    The clips of a split do not depend on the other splits.
    """
    drawn: list[int] = []
    for name, of in splits.items():
        readable = of.readable()
        rng = np.random.default_rng([seed, *name.encode()])
        drawn += sorted(rng.choice(readable, size=min(number, len(readable)), replace=False).tolist())
    return drawn


def read_rows(root: Path, clips: Sequence[Clip], frames: FrameSettings, seconds: float | None = None) -> Iterator[Row]:
    """Each clip as ``read_clip`` gives it to the encoder; one that cannot be read has a problem."""
    for clip in clips:
        seen = read_or_failure(root, clip, frames, seconds=seconds)  # (T, 3, crop, crop) RGB
        if isinstance(seen, ClipError):
            yield Row(clip, 0, None, str(seen))
            continue
        places = np.linspace(0, len(seen) - 1, min(len(seen), FRAMES_A_ROW)).round().astype(int)
        yield Row(clip, len(seen), _strip(seen[places].transpose(0, 2, 3, 1)[..., ::-1]))


def sheet(rows: Sequence[Row]) -> bytes | None:
    """The rows one below the other as a PNG file; None when none could be read.

    Only ids are drawn, in ASCII: OpenCV's letters have no others. The sentences stand on the page.
    """
    drawn = [(row, row.strip) for row in rows if row.strip is not None]
    if not drawn:
        return None
    width = max(strip.shape[1] for _, strip in drawn)
    parts: list[NDArray[np.uint8]] = []
    for row, strip in drawn:
        parts.append(_label(f"{row.clip.split}: {row.clip.id}", width))
        parts.append(np.pad(strip, ((0, _GAP), (0, width - strip.shape[1]), (0, 0)), constant_values=255))
    return _png(np.concatenate(parts))


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, side, side, 3) side by side."""
    zoom = max(1, -(-_SMALLEST // frames.shape[1]))
    enlarged = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    spaced = np.pad(enlarged, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(spaced), axis=1)[:, :-_GAP]


def _label(text: str, width: int) -> NDArray[np.uint8]:
    image = np.full((_LABEL, width, 3), 255, np.uint8)
    shown = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (needed, _), _ = cv2.getTextSize(shown, font, scale, 1)
    scale *= min(1.0, (width - 4) / max(needed, 1))  # a long id becomes small rather than cut
    cv2.putText(image, shown, (2, _LABEL - 6), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return image


def _png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
