"""An arm of an ablation: one row with one seed, as an experiment in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.fingerprint import digest
from pipeline.ablation.tables import Row, Table
from pipeline.config import Experiment, changed
from pipeline.freshness import Record, deciding
from pipeline.joint import FACTORISED
from pipeline.run import Run, Stage
from pipeline.stages import stages

SEEDED = ("train.visual", "train.visual.warmup", "train.visual.warm_start", "train.translate", "train.joint",
          "train.joint.warmup")  # fmt: skip
"""Sections whose seed is an arm's. The language model's own pre-training is not among them: it stands for a published
model, of which there is one."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One row with one seed."""

    row: Row
    seed: int
    run: Run

    @property
    def stages(self) -> list[Stage]:
        """What it needs, in order: the stages up to its translations of the test split."""
        settings = self.run.experiment.train.joint
        wanted = {"joint_test"} if self.row.measured == "joint" else {"translate"}
        if settings and settings.steps is None and settings.epochs is None and settings.amount is None:
            wanted |= set(FACTORISED)  # whose cost is its budget
        return _with_needs(stages(self.run.experiment), wanted)

    @property
    def predictions(self) -> Path:
        return self.run.folder / "predictions" / f"{self.row.measured}.jsonl"

    def cost(self) -> dict[str, dict[str, float]]:
        """Stage to the clip passes and seconds that it took where it ran; of the stages that made this row."""
        names = {"stage1": ("visual",), "stage2": FACTORISED, "joint": ("joint",)}[self.row.measured]
        joint = self.run.experiment.train.joint
        if self.row.measured == "joint" and joint and joint.start == "stage1":
            names = ("visual", *names)
        found = {name: self.run.records.read(name) for name in names}
        return {name: _figures(record) for name, record in found.items() if record is not None}


def arms(
    table: Table, experiment: Experiment, seeds: Sequence[int], folder: Path, manifest: Path | None, beside: Path | None
) -> list[Arm]:
    """Every row of a table with every seed, seed by seed, each as an experiment below ``folder``.

    A folder is named after what the experiment is, so that rows of several tables that are the same run are one.

    Args:
        seeds: added to those of the config.
    """
    listed = []
    for seed in seeds:
        for row in table.rows:
            own = seeded(changed(experiment, {"train.joint": None, **row.changes}), seed)
            place = folder / f"seed{seed}-{digest(deciding(own))[:12]}"
            listed.append(Arm(row, seed, Run(own, place, manifest, beside, lenders=folder)))
    return listed


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with ``seed`` added to the seeds of everything that learns from clips."""
    raw = experiment.model_dump(mode="json")
    changes: dict[str, Any] = {}
    for section in SEEDED:
        place: Any = raw
        for name in section.split("."):
            place = place and place.get(name)
        if place is not None:
            changes[f"{section}.seed"] = place["seed"] + seed
    return changed(experiment, changes) if seed else experiment


def planned(listed: Iterable[Arm]) -> list[tuple[Arm, list[str], list[str]]]:
    """What a command would do: of each arm the stages that will run, and those that are there or will be by then."""
    known: set[str] = set()
    found = []
    for arm in listed:
        keys: dict[str, str] = {}
        run: list[str] = []
        shared: list[str] = []
        states = {stage.name: state for stage, state, _ in arm.run.states(arm.stages)}
        for stage in arm.stages:
            own = {name: value for name, value in stage.inputs(arm.run).items() if name != "budget"}
            keys[stage.name] = digest([stage.name, own, [keys[need] for need in stage.needs]])
            there = states[stage.name] == "done" or keys[stage.name] in known
            (shared if there else run).append(stage.name)
        known |= set(keys.values())
        found.append((arm, run, shared))
    return found


def _with_needs(listed: Sequence[Stage], wanted: set[str]) -> list[Stage]:
    for stage in reversed(listed):
        if stage.name in wanted:
            wanted = wanted | set(stage.needs)
    return [stage for stage in listed if stage.name in wanted]


def _figures(record: Record) -> dict[str, float]:
    """Of an extraction, those of its splits together."""
    if "seconds" in record.figures:
        return {name: record.figures[name] for name in ("clip_passes", "seconds") if name in record.figures}
    splits = record.figures.values()
    return {
        "clip_passes": float(sum(split["clips"] for split in splits)),
        "seconds": sum(split["seconds"] for split in splits),
    }
