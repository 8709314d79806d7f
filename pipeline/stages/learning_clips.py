"""What learns from pixels: how an encoder begins, and the clips that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from extract.errors import InputError
from pipeline.experiment.freshness import deciding, model_digest
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from extract.dataset.clip_index import Clip
    from extract.decoding.read_clip import Source

_NAMED = 3
"""Clips that a line names."""


def pixel_inputs(run: Run) -> dict[str, Any]:
    """How an encoder begins, and what it sees."""
    encoder = run.experiment.encoder
    return {
        "frames": deciding(run.experiment.frames),
        "encoder": deciding(encoder),
        "encoder.backbone": model_digest(encoder.backbone),
    }


def learnable(run: Run, split: str, bars: Bars, pixels: Source, tokenizer: PreTrainedTokenizerBase) -> list[Clip]:
    """Clips whose frames are whole and whose sentences have a piece that is known; says how many are not.

    Raises:
        InputError: none is left.
    """
    from train.data.targets import known

    clips = run.learnt() if split == "train" else run.clips(split)
    unpacked: Mapping[str, Any] = {} if isinstance(pixels, Path) else pixels.failures(split)
    whole = [clip for clip in clips if clip.problem is None and clip.id not in unpacked]
    if not whole:
        raise InputError(run.index, expected=f"clips of split {split!r} that can be read",
                         found=f"{len(clips)} with a problem, e.g. {clips[0].problem or unpacked[clips[0].id]}",
                         remedy="Mend the videos, then `slt index --force`.")  # fmt: skip
    if len(whole) < len(clips):
        bars.say(f"  [yellow]{len(clips) - len(whole)} of {len(clips)} clips cannot be read and are left out[/yellow]")
    told = known(tokenizer, [clip.text for clip in whole])
    kept = [clip for clip, spoken in zip(whole, told, strict=True) if spoken]
    if not kept:
        raise InputError(run.index, expected=f"sentences of split {split!r} with a piece that is known", found="none",
                         remedy="Learn the tokenizer from text of the same language and writing.")  # fmt: skip
    if strange := [clip.id for clip, spoken in zip(whole, told, strict=True) if not spoken]:
        bars.say(f"  [yellow]{len(strange)} of {len(clips)} clips are left out, no piece of their sentence is known: "
                 f"{escape(', '.join(strange[:_NAMED]))}[/yellow]")  # fmt: skip
    return kept


def named(failed: Mapping[str, str]) -> str:
    """Clips that could not be read, id to reason, as a line says it."""
    first = "; ".join(f"{id}: {why}" for id, why in list(failed.items())[:_NAMED])
    more = ", …" if len(failed) > _NAMED else ""
    return f"{len(failed)} clips cannot be read and are left out ({escape(first)}{more})"
