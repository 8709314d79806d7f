"""Strips for the report: a clip's frames as the encoder saw them, side by side in one WebP picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.report.gallery import Strip
from eval.settings import ReportSettings
from extract.decoding.read_or_failure import read_or_failure
from extract.errors import ClipError, InputError
from pipeline.experiment.trained_encoder import trained_frames

if TYPE_CHECKING:
    from extract.dataset.clip_index import Clip
    from pipeline.experiment.run import Run


def read_strips(run: Run, clips: Sequence[Clip], settings: ReportSettings) -> Iterator[tuple[str, Strip]]:
    """Clip ids and their strips; of a clip that cannot be read there is none, nor of any where the videos are not."""
    frames = trained_frames(run.folder / "encoder") or run.experiment.frames
    try:
        pixels = run.pixels()
        for clip in clips:
            seen = read_or_failure(pixels, clip, frames, seconds=run.experiment.extract.read_seconds)
            if isinstance(seen, ClipError):
                continue  # it stands among the failures of the extraction
            yield clip.id, draw_strip(seen, clip.fps / frames.keep_every, settings)
    except InputError:
        return  # the report can be made where neither the videos nor the packs are


def draw_strip(seen: NDArray[np.uint8], per_second: float, settings: ReportSettings) -> Strip:
    """A clip's frames (T, 3, side, side) RGB as a strip; a rate of 0 or less is unknown, and 25 / 4 is taken."""
    places = np.linspace(0, len(seen) - 1, min(len(seen), settings.frames)).round().astype(int)
    shown = [cv2.merge(list(seen[place][::-1])) for place in places]  # (side, side, BGR)
    if shown[0].shape[0] > settings.side:
        size = (settings.side, settings.side)
        shown = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in shown]
    quality = [cv2.IMWRITE_WEBP_QUALITY, settings.quality]
    image = cv2.imencode(".webp", np.concatenate(shown, axis=1), quality)[1].tobytes()
    speed = per_second if per_second > 0 else 25 / 4
    return Strip(image, len(shown), len(seen), round(speed * len(shown) / len(seen), 3))
