"""Model cards of an experiment's trained directories: what each was made from, and what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.experiment.run import Run

ROWS_OF = {
    "encoder": ("stage1", "stage2"),
    "stage1": ("stage1",),
    "stage2": ("stage2", "shuffled", "text_prior"),
    "joint": ("joint",),
    "lm": (),
}
"""Rows of the score table that tell of a directory."""


def write_cards(run: Run, *folders: Path, scores: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write the cards of directories that are there.

    Args:
        scores: row name to its score, of all rows; None before anything is scored.
    """
    from extract.dataset.clip_index import SPLITS
    from train.model_card import write_card

    entry, experiment = run.dataset.entry, run.experiment
    data = {
        "dataset": run.dataset.name,
        "language": entry.language,
        "clips": ", ".join(f"{split} {len(run.split(split))}" for split in SPLITS),
        "licence": entry.licence,
        "source": entry.source,
    }
    train = experiment.train
    if train.clips is not None:
        data["learnt from"] = f"{min(train.clips, len(run.split('train')))} of the train clips"
    pixels = {"frames": experiment.frames, "encoder": experiment.encoder}
    recipes: dict[str, dict[str, Any]] = {
        "encoder": {**pixels, "stage1": train.stage1},
        "stage1": {**pixels, "stage1": train.stage1},
        "stage2": {"stage2": train.stage2},
        "joint": {**pixels, "joint": train.joint},
        "lm": {"lm": train.lm},
    }
    for folder in folders:
        told = {row: scores[row] for row in ROWS_OF[folder.name] if row in scores} if scores else None
        recipe = {
            part: settings.model_dump(mode="json", exclude={"text"})
            for part, settings in recipes[folder.name].items()
            if settings is not None
        }
        _without_paths(recipe)
        write_card(folder, name=experiment.name, data=data, recipe=recipe, scores=told)


def rewrite_cards(run: Run, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """The cards of all directories of an experiment that are here, with their scores."""
    present = [run.folder / name for name in ROWS_OF if (run.folder / name / "provenance.json").is_file()]
    write_cards(run, *present, scores=scores)


def _without_paths(recipe: dict[str, Any]) -> None:
    """Leave out where a text file lay: it says nothing on another machine."""
    for value in recipe.values():
        if isinstance(value, dict):
            value.pop("text", None)
            _without_paths(value)
