"""Model cards of an experiment's trained directories: what each was made from, and what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.experiment.run import Run

STAGE_OF = {"encoder": "stage1", "stage1": "stage1", "stage2": "stage2", "joint": "joint", "lm": "lm"}
"""Stage that made a directory."""
SECTIONS_OF = {"stage1": ("frames", "encoder"), "joint": ("frames", "encoder"), "stage2": (), "lm": ()}
"""Sections of the config that a stage's recipe has besides its own."""
ROWS_OF = {
    "encoder": ("stage1", "stage2"),
    "stage1": ("stage1",),
    "stage2": ("stage2", "shuffled", "text_prior", "constant"),
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

    entry = run.dataset.entry
    data = {
        "dataset": run.dataset.name,
        "language": entry.language,
        "clips": ", ".join(f"{split} {len(run.split(split))}" for split in SPLITS),
        "licence": entry.licence,
        "source": entry.source,
    }
    for folder in folders:
        stage = STAGE_OF[folder.name]
        config = run.made_with(stage)
        clips = config["train"]["clips"]
        learnt = {"learnt from": f"{min(clips, len(run.split('train')))} of the train clips"} if clips else {}
        told = {row: scores[row] for row in ROWS_OF[folder.name] if row in scores} if scores else None
        recipe = {section: config[section] for section in SECTIONS_OF[stage]}
        if (own := config["train"][stage]) is not None:
            recipe[stage] = own
        _without_paths(recipe)
        write_card(folder, name=config["name"], data={**data, **learnt}, recipe=recipe, scores=told)


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
