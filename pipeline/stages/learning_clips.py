"""What learns from pixels: how an encoder begins, and the clips that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import InputError
from pipeline.experiment.freshness import deciding, model_digest
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.run import Run

if TYPE_CHECKING:
    from extract.dataset.clip_index import Clip
    from extract.decoding.read_clip import Source


def pixel_inputs(run: Run) -> dict[str, Any]:
    """How an encoder begins, and what it sees."""
    encoder = run.experiment.encoder
    return {
        "frames": deciding(run.experiment.frames),
        "encoder": deciding(encoder),
        "encoder.backbone": model_digest(encoder.backbone),
    }


def readable(run: Run, split: str, bars: Bars, pixels: Source) -> list[Clip]:
    """Clips whose frames are whole; says how many are not."""
    clips = run.learnt() if split == "train" else run.clips(split)
    unpacked: Mapping[str, Any] = {} if isinstance(pixels, Path) else pixels.failures(split)
    whole = [clip for clip in clips if clip.problem is None and clip.id not in unpacked]
    if not whole:
        raise InputError(run.index, expected=f"clips of split {split!r} that can be read",
                         found=f"{len(clips)} with a problem, e.g. {clips[0].problem or unpacked[clips[0].id]}",
                         remedy="Mend the videos, then `slt index --force`.")  # fmt: skip
    if len(whole) < len(clips):
        bars.say(f"  [yellow]{len(clips) - len(whole)} of {len(clips)} clips cannot be read and are left out[/yellow]")
    return whole
