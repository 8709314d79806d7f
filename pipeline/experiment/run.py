"""One experiment in its folder: where everything lies, and running the stages that need it."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from extract.errors import InputError, suggestion
from extract.fingerprint import digest
from pipeline.experiment.borrowing import borrow
from pipeline.experiment.config import Experiment, usual_scoring, write_config
from pipeline.experiment.freshness import Record, Records, Standing, State
from pipeline.experiment.output_digests import digests
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.task import Result, Task
from train.processes import process_count, process_rank

if TYPE_CHECKING:
    from eval.settings import ScoreSettings
    from extract.dataset.clip_index import Clip, ClipIndex
    from extract.dataset.manifest import Dataset
    from extract.decoding.read_clip import Source


SHARED = ("lm", "stage1", "stage2", "joint", "translate")
"""Stages that several processes can share, started by ``torchrun``."""


def no_check(run: Run) -> None:
    """Of a stage that any config fits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """A step of the pipeline; it meets the others through files only."""

    name: str
    about: str
    needs: tuple[str, ...]
    """What it reads: results of stages before, by the stage's name, or of one split only, such as ``index:train``."""
    inputs: Callable[[Run], Mapping[str, Any]]
    """Settings and outside files that decide the result, by name. One named with a split, such as
    ``annotations:test``, decides no other split's part of the result."""
    work: Callable[[Run, Task], Result]
    check: Callable[[Run], None] = no_check
    """Refuses a config that does not fit what is there, before anything is written."""

    @property
    def before(self) -> tuple[str, ...]:
        """Names of the stages that it reads."""
        return tuple(dict.fromkeys(need.partition(":")[0] for need in self.needs))

    def results(self, records: Mapping[str, Record | None]) -> dict[str, Any]:
        """What it reads of the results of the stages before, by its needs."""
        read = {need: need.partition(":") for need in self.needs}
        found = {need: (records[name], part) for need, (name, _, part) in read.items()}
        return {need: record.part(part) if record else None for need, (record, part) in found.items()}


def every_split(stage: str) -> tuple[str, ...]:
    """Needs: every split's part of a stage's result."""
    return tuple(f"{stage}:{split}" for split in ("train", "dev", "test"))


class Run:
    """An experiment and its folder.

    Args:
        experiment: the resolved config.
        folder: where everything is written; created when needed.
        manifest: of the datasets; None: the shipped one.
        beside: folder of the config, where a local manifest may lie.
        lenders: folder of experiments whose results are taken over where their inputs are the same.

    Raises:
        InputError: the config normalises frames otherwise than the backbone's files say.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        manifest: Path | None = None,
        beside: Path | None = None,
        lenders: Path | None = None,
    ) -> None:
        from extract.encoder.published_frames import with_published

        frames = with_published(experiment.encoder, experiment.frames)
        self.experiment = experiment.model_copy(update={"frames": frames})
        self.folder, self.manifest, self.beside = folder, manifest, beside
        self.lenders = lenders
        self.records = Records(folder)

    @cached_property
    def dataset(self) -> Dataset:
        from extract.dataset.manifest import locate

        return locate(self.experiment.data, self.manifest, self.beside)

    @property
    def scoring(self) -> ScoreSettings:
        """How predictions are scored: the config's settings, and the dataset's where the config is silent."""
        settings, entry = self.experiment.score, self.dataset.entry
        own = settings.model_fields_set
        return settings.model_copy(
            update={name: value for name, value in usual_scoring(entry).items() if name not in own}
        )

    def failures(self, split: str, failed: Mapping[str, int]) -> int:
        """Clips of a split that failed, by kind, without those missing ones that the release is known to lack."""
        lacking: int = self.dataset.entry.lacking.get(split, 0)  # type: ignore[call-overload]  # any name may be asked for
        return sum(failed.values()) - min(failed.get("missing", 0), lacking)

    @property
    def index(self) -> Path:
        return self.folder / "index.parquet"

    def place(self, fingerprint: str, split: str) -> Path | str:
        """Where features of a split go: into a folder of the fingerprint, so that none are ever overwritten."""
        base, name = self.experiment.extract.store, f"{fingerprint[:16]}/{split}.zarr"
        if base and "://" in base:
            return f"{base.rstrip('/')}/{name}"
        return (Path(base).absolute() if base else self.folder / "features") / name

    def store(self, split: str) -> Path | str:
        """Features of a split: where the extraction put them, or where the config says that they are."""
        if (given := self.experiment.data.features) is not None:
            return f"{given.rstrip('/')}/{split}.zarr"
        extracted = self.records.read("extract")
        if extracted is None:
            raise InputError(self.folder, expected="features", found="none", remedy="Run `slt extract` first.")
        return self.records.located(next(name for name in extracted.outputs if name.endswith(f"/{split}.zarr")))

    @property
    def packs(self) -> Path:
        """Folder of the splits' packs, named after what decides their pixels."""
        from extract.fingerprint import fingerprint
        from extract.packs.frame_pack import pack_provenance

        name = fingerprint(pack_provenance(self.experiment.frames, self.experiment.pack))[:16]
        base = self.experiment.pack.folder
        return (Path(base).absolute() if base else self.folder / "packs") / name

    def pixels(self, training: bool = False) -> Source:
        """Where frames are read from: their packs, or the dataset's root, as in ``training`` where a pack holds the
        sampled frames only.

        Raises:
            InputError: the root is needed and not there.
        """
        from extract.packs.packed_frames import PackedFrames

        settings = self.experiment.pack
        if settings.enabled and not (training and settings.frames == "sampled"):
            return PackedFrames(self.packs, settings)
        return self.dataset.root

    def split(self, name: str) -> ClipIndex:
        """The clips of a split, to be read lazily; at least one."""
        from extract.dataset.clip_index import ClipIndex

        return ClipIndex(self.index, name).filled()

    def clips(self, split: str) -> list[Clip]:
        """The clips of a split, in memory."""
        return list(self.split(split))

    def learnt(self) -> list[Clip]:
        """The train clips that every stage learns from: all, or of those without a problem ``train.clips``, the ones
        with the smallest digests of their ids, in their order."""
        clips, number = self.clips("train"), self.experiment.train.clips
        if number is None:
            return clips
        sound = [clip for clip in clips if clip.problem is None]
        chosen = set(sorted((clip.id for clip in sound), key=digest)[:number])
        return [clip for clip in sound if clip.id in chosen]

    def made_with(self, stage: str) -> dict[str, Any]:
        """The resolved config that a stage's result was made with, as plain values; the experiment's own, where it is
        not made yet, or by a version that kept none."""
        path = self.records.config(stage)
        if path.is_file():
            config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            return config
        return self.experiment.model_dump(mode="json")

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """What decides a stage's result: settings, outside files, and the results of the stages before."""
        return {**stage.inputs(self), **stage.results({name: self.records.read(name) for name in stage.before})}

    def states(self, stages: Sequence[Stage]) -> Iterator[tuple[Stage, State, str]]:
        """State of each stage; one that reads what is not done is stale or missing itself."""
        undone: dict[str, set[str]] = {}  # stage to the splits of its result that may become others; "": all of them

        def waits(need: str) -> bool:
            name, _, split = need.partition(":")
            return name in undone and (not split or bool(undone[name] & {"", split}))

        for stage in stages:
            state, why, changed = self._state(stage)
            new = [*changed, *filter(waits, stage.needs)]
            if state != "done" and not changed:
                new.append("")
            elif state == "done" and new:
                state, why = "stale", f"reads {', '.join(new)}"
            if new:
                undone[stage.name] = {name.partition(":")[2] for name in new}
            yield stage, state, why

    def execute(
        self,
        stages: Sequence[Stage],
        bars: Bars,
        start: str | None = None,
        only: str | None = None,
        force: bool = False,
    ) -> int:
        """Run the stages that are not up to date, in order.

        Args:
            start: skip the stages before this one, which must be done; run this one in any case.
            only: the one stage to run. Like ``start``, it takes the results before it as they are, and says when
                they are stale.
            force: run even what is up to date.

        Returns:
            Clips that failed, over the stages up to the last that ran.
        """
        names = [stage.name for stage in stages]
        if process_count() > 1 and only not in SHARED:
            known = "slt train lm, stage1, stage2 or joint, slt translate"
            raise InputError("torchrun", expected=f"a command of one stage that can be shared: {known}",
                             found=only or "the whole pipeline",
                             remedy="Start this without torchrun, and those with it.")  # fmt: skip
        if start is not None and start not in names:
            raise InputError("--from", expected="a stage", found=repr(start), remedy=suggestion(start, names))
        first = names.index(only or start or names[0])
        failed = 0
        for stage in stages[:first]:
            needed = only is None or stage.name in stages[first].before
            failed += self._taken_as_it_is(stage, start, bars, needed)
        for stage in stages[first : first + 1 if only else None]:
            failed += self._run_if_needed(stage, bars, force or stage.name == start, whole=only is None)
        if only is None:
            self._write_config(self.folder / "config.yaml")  # of all that is there, even where nothing had to run
        return failed

    def _write_config(self, path: Path) -> None:
        """The config with its scoring resolved, where it does not stand there already."""
        if process_rank() == 0:
            write_config(self.experiment.model_copy(update={"score": self.scoring}), path)

    def _taken_as_it_is(self, stage: Stage, start: str | None, bars: Bars, needed: bool) -> int:
        record = self.records.read(stage.name)
        if record is None:
            if start is not None:
                raise InputError(f"--from, stage {stage.name}", expected=f"its result in {self.folder}", found="none",
                                 remedy="Leave --from away.")  # fmt: skip
            return 0
        state, why, _ = self._state(stage)
        if state == "stale" and needed:
            bars.say(f"[yellow]{stage.name} is stale ({why}); its result is used as it is[/yellow]")
        return record.failed

    def _state(self, stage: Stage) -> Standing:
        """State of one stage by itself. Where its inputs are not at hand, a machine without the videos say, or an
        object store cannot be reached, what it left counts as done."""
        try:
            return self.records.state(stage.name, self.inputs(stage))
        except InputError as error:
            if self.records.read(stage.name) is None:
                return Standing("missing", "not run yet")
            return Standing("done", f"not here to compare: {error.where}")

    def _run_if_needed(self, stage: Stage, bars: Bars, force: bool, whole: bool) -> int:
        """Clips that failed, now or when the stage ran."""
        stage.check(self)
        state, why, _ = self._state(stage)
        if state == "done" and not force:
            bars.say(f"[dim]{stage.name}: up to date[/dim]" + (f" [dim]({why})[/dim]" if why else ""))
            record = self.records.read(stage.name)
            return record.failed if record else 0
        for name in stage.before:
            if self.records.read(name) is None:
                raise InputError(f"stage {stage.name}", expected=f"the result of {name}", found="none",
                                 remedy=f"Run `slt run` or the stage {name} first.")  # fmt: skip
            self.records.require_unchanged(name)
        inputs = self.inputs(stage)
        if whole or not (self.folder / "config.yaml").exists():
            self._write_config(self.folder / "config.yaml")
        if self.lenders and not force and (lender := borrow(self.records, stage.name, inputs, self.lenders)):
            bars.say(f"[dim]{stage.name}: as in {lender}[/dim]")
            record = self.records.read(stage.name)
            return record.failed if record else 0
        bars.say(f"[bold]{stage.name}[/bold]: {stage.about}" + (f" [dim]({why})[/dim]" if why else ""))
        started = time.monotonic()
        checkpoints = self.folder / "work" / f"{stage.name}-{digest(inputs)[:12]}"
        if process_rank() > 0:
            stage.work(self, Task(bars, checkpoints, inputs))
            return 0
        self.records.forget(stage.name)  # while the outputs change, no record vouches for them
        result = stage.work(self, Task(bars, checkpoints, inputs))
        outputs = [self.records.named(output) for output in result.outputs]
        self._write_config(self.records.config(stage.name))
        files = digests(self.folder, result.outputs)
        self.records.write(
            stage.name, Record(inputs, result.identity, outputs, result.failed, result.figures, files=files)
        )
        for old in (self.folder / "work").glob(f"{stage.name}-*"):  # of abandoned settings too
            shutil.rmtree(old, ignore_errors=True)
        bars.say(f"  {result.said} [dim]({time.monotonic() - started:.0f} s)[/dim]")
        return result.failed
