"""An arm of an ablation: one row with one seed, as an experiment in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.fingerprint import digest
from pipeline.ablation.tables import Row, Table
from pipeline.experiment.borrowing import lent
from pipeline.experiment.config import Experiment, changed
from pipeline.experiment.freshness import Record, State, deciding, model_digest
from pipeline.experiment.run import Run, Stage
from pipeline.stages.run_joint import FACTORISED
from pipeline.stages.stage_list import stages

SEEDED = ("train.stage1", "train.stage1.warmup", "train.stage1.warm_start", "train.stage2", "train.joint",
          "train.joint.warmup")  # fmt: skip
"""Sections whose seed is an arm's. The language model's own pre-training is not among them: it stands for a published
model, of which there is one."""

PLACES = (("data", "root"), ("data", "features"), ("extract", "store"), ("pack", "folder"))
"""Settings that say where things lie."""


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
        names = {"stage1": ("stage1",), "stage2": FACTORISED, "joint": ("joint",)}[self.row.measured]
        joint = self.run.experiment.train.joint
        if self.row.measured == "joint" and joint and joint.start == "stage1":
            names = ("stage1", *names)
        found = {name: self.run.records.read(name) for name in names}
        views = len(self.run.experiment.extract.views)
        return {name: _figures(record, views) for name, record in found.items() if record is not None}


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
            place = folder / digest(own.data.root)[:8]  # frames of elsewhere are other frames: nothing is shared
            run = Run(own, place / f"seed{seed}-{identity(own)[:12]}", manifest, beside, lenders=place)
            listed.append(Arm(row, seed, run))
    return listed


def identity(experiment: Experiment) -> str:
    """Digest of every setting that decides the result, the same wherever the data lie and the results go."""
    models = [model_digest(name) for name in (experiment.encoder.backbone, experiment.train.stage2.language_model)]
    settings = deciding(experiment)
    del settings["name"], settings["report"]
    for section, name in PLACES:
        settings[section].pop(name)
    return digest([settings, models])


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
        records: dict[str, Record] = {}
        run: list[str] = []
        shared: list[str] = []
        states = {stage.name: state for stage, state, _ in arm.run.states(arm.stages)}
        for stage in arm.stages:
            own = stage.inputs(arm.run)
            told = {name: value for name, value in own.items() if name != "budget"}
            keys[stage.name] = digest([stage.name, told, [keys[name] for name in stage.before]])
            record = _there(arm, stage, own, records, states[stage.name])
            if record is not None:
                records[stage.name] = record
            (shared if record or keys[stage.name] in known else run).append(stage.name)
        known |= set(keys.values())
        found.append((arm, run, shared))
    return found


def _there(arm: Arm, stage: Stage, own: Mapping[str, Any], before: Mapping[str, Record], state: State) -> Record | None:
    """The record of a stage that is done, here or in an arm that lends it."""
    if state == "done":
        return arm.run.records.read(stage.name)
    if arm.run.lenders is None or any(name not in before for name in stage.before):
        return None
    found = lent(stage.name, {**own, **stage.results(before)}, arm.run.lenders)
    return found[1] if found else None


def _with_needs(listed: Sequence[Stage], wanted: set[str]) -> list[Stage]:
    for stage in reversed(listed):
        if stage.name in wanted:
            wanted = wanted | set(stage.before)
    return [stage for stage in listed if stage.name in wanted]


def _figures(record: Record, views: int) -> dict[str, float]:
    """Of an extraction, those of its splits together; it sees each train clip in every view."""
    if "seconds" in record.figures:
        return {name: record.figures[name] for name in ("clip_passes", "seconds") if name in record.figures}
    splits = record.figures
    passes = sum(split["clips"] * (views if name == "train" else 1) for name, split in splits.items())
    return {"clip_passes": float(passes), "seconds": sum(split["seconds"] for split in splits.values())}
