"""The stage that packs frames, and the look whether packs are whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from extract.dataset.clip_index import SPLITS
from extract.fingerprint import digest
from extract.settings import PackSettings
from pipeline.experiment.progress_bars import follow
from pipeline.experiment.run import Run, Stage, every_split
from pipeline.experiment.task import Result, Task


def with_pack(stages: list[Stage], settings: PackSettings) -> list[Stage]:
    """The stages, with packing before the first one that reads pixels; those that read packs need it."""
    readers = (
        ("extract", "joint_test") if settings.frames == "sampled" else ("stage1", "extract", "joint", "joint_test")
    )
    listed = [
        dataclasses.replace(stage, needs=(*stage.needs, *_packs_of(stage))) if stage.name in readers else stage
        for stage in stages
    ]
    place = [stage.name for stage in listed].index("stage1")
    pack = Stage("pack", "the frames of each split, in a few HDF5 files", every_split("index"), pack_inputs, run_pack)
    return [*listed[:place], pack, *listed[place:]]


def _packs_of(stage: Stage) -> list[str]:
    """The packs of the splits whose clips a stage reads."""
    return [f"pack:{split}" for split in SPLITS if f"index:{split}" in stage.needs]


def pack_inputs(run: Run) -> Mapping[str, Any]:
    return {"pack": run.packs.name, "folder": run.experiment.pack.folder}


def run_pack(run: Run, task: Task) -> Result:
    """Every frame that may be drawn, to ``packs/<fingerprint>/<split>/``."""
    from extract.jobs.cluster import open_cluster
    from extract.jobs.pack_job import pack_split
    from extract.packs.frame_pack import FramePack

    settings, root = run.experiment.pack, run.dataset.root
    places = {split: run.packs / split for split in SPLITS}
    figures: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    failed, packed, present, size = 0, 0, 0, 0
    cluster = run.experiment.extract.model_copy(update={"workers": settings.workers})

    def warn(line: str) -> None:
        task.bars.say(f"  [yellow]{line}[/yellow]")

    with open_cluster(cluster, warn, computing=False) as client:
        for split, place in places.items():
            clips = run.clips(split)
            with task.bars.bar(split, "clips") as tick:
                summary = pack_split(
                    clips, len(clips), root, place, run.experiment.frames, settings, client, follow(tick)
                )
            pack = FramePack.open(place)
            stored = sum(commit.stored_bytes for commit in pack.commits())
            known = {clip.id for clip in clips if clip.problem is not None}
            figures[split] = {**summary.figures(), "bytes": stored}
            identity[split] = _identity(settings, sorted(pack.failures().keys() - known))
            failed += run.failures(split, summary.failed)
            packed, present, size = packed + summary.extracted, present + len(pack.lengths()), size + stored
            if summary.failed:
                kinds = ", ".join(f"{kind} {n}" for kind, n in summary.failed.items())
                task.bars.say(f"  [yellow]{split}: clips that cannot be packed: {kinds}[/yellow]")
    said = f"{present} clips in {run.packs} ({packed} new, {size / 1e6:.0f} MB)"
    return Result(list(places.values()), identity, said, failed, figures)


def verify_packs(run: Run) -> list[str]:
    """Read and re-hash the packs of all splits: one line per problem.

    Raises:
        InputError: there is no pack.
    """
    from extract.packs.frame_pack import FramePack

    return [problem for split in SPLITS for problem in FramePack.open(run.packs / split).verify()]


def _identity(settings: PackSettings, unreadable: list[str]) -> Any:
    """Of a split; None where reading its pack is reading the originals: what was learnt from them is not stale then."""
    if settings.quality is None and not unreadable:
        return None
    return {"quality": settings.quality, "failed": digest(unreadable)}
