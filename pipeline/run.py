"""One experiment in its folder: where everything lies, and running the stages that need it."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import InputError, suggestion
from extract.fingerprint import digest
from pipeline.bars import Bars
from pipeline.config import Experiment, write_config
from pipeline.freshness import Record, Records, State

if TYPE_CHECKING:
    from extract.index import Clip
    from extract.manifest import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a stage reports when it is done."""

    outputs: Sequence[Path]
    identity: Any
    """Plain values that identify the outputs: another identity makes the stages that read them stale."""
    said: str
    """One line for people."""
    failed: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """A step of the pipeline; it meets the others through files only."""

    name: str
    about: str
    needs: tuple[str, ...]
    inputs: Callable[[Run], Mapping[str, Any]]
    """Settings and outside files that decide the result, by name."""
    work: Callable[[Run, Bars], Result]


class Run:
    """An experiment and its folder.

    Args:
        experiment: the resolved config.
        folder: where everything is written; created when needed.
        manifest: of the datasets; None: the shipped one.
    """

    def __init__(self, experiment: Experiment, folder: Path, manifest: Path | None = None) -> None:
        self.experiment, self.folder, self.manifest = experiment, folder, manifest
        self.records = Records(folder)
        self.work = folder / "work"
        """For checkpoints of the running stage; set anew for each stage."""

    @cached_property
    def dataset(self) -> Dataset:
        from extract.manifest import locate

        return locate(self.experiment.data, self.manifest)

    @property
    def index(self) -> Path:
        return self.folder / "index.parquet"

    def store(self, split: str) -> Path:
        """Features of a split, in a folder of the fingerprint: features of another encoder are never overwritten."""
        extracted = self.records.read("extract")
        if extracted is None:
            raise InputError(self.folder, expected="features", found="none", remedy="Run `slt extract` first.")
        return self.folder / "features" / extracted.result["fingerprint"][:16] / f"{split}.zarr"

    def clips(self, split: str) -> list[Clip]:
        from extract.index import ClipIndex

        return ClipIndex(self.index, split).clips()

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """What decides a stage's result: settings, outside files, and the results of the stages before."""
        before = {need: self.records.read(need) for need in stage.needs}
        return {**stage.inputs(self), **{name: record.result if record else None for name, record in before.items()}}

    def states(self, stages: Sequence[Stage]) -> Iterator[tuple[Stage, State, str]]:
        """State of each stage; one that reads a stage that is not done is stale or missing itself."""
        undone: set[str] = set()
        for stage in stages:
            state, why = self.records.state(stage.name, self.inputs(stage))
            waiting = [need for need in stage.needs if need in undone]
            if state == "done" and waiting:
                state, why = "stale", f"reads {', '.join(waiting)}"
            if state != "done":
                undone.add(stage.name)
            yield stage, state, why

    def execute(self, stages: Sequence[Stage], bars: Bars, start: str | None = None, force: bool = False) -> int:
        """Run the stages that are not up to date, in order.

        Args:
            start: skip the stages before this one, which must be done; run this one in any case.
            force: run even what is up to date.

        Returns:
            Clips that failed, over all stages.
        """
        _ = self.dataset  # not to be found: nothing is written
        write_config(self.experiment, self.folder / "config.yaml")
        names = [stage.name for stage in stages]
        if start is not None and start not in names:
            raise InputError("--from", expected="a stage", found=repr(start), remedy=suggestion(start, names))
        failed = 0
        for stage in stages:
            if start is not None and names.index(stage.name) < names.index(start):
                self._demand(stage)
            else:
                self._run_if_needed(stage, bars, force or stage.name == start)
            record = self.records.read(stage.name)
            failed += record.failed if record else 0
        return failed

    def _run_if_needed(self, stage: Stage, bars: Bars, force: bool) -> None:
        state, why = self.records.state(stage.name, self.inputs(stage))
        if state == "done" and not force:
            bars.say(f"[dim]{stage.name}: up to date[/dim]")
            return
        for need in stage.needs:
            if self.records.read(need) is None:
                raise InputError(f"stage {stage.name}", expected=f"the result of {need}", found="none",
                                 remedy=f"Run `slt run` or the stage {need} first.")  # fmt: skip
        bars.say(f"[bold]{stage.name}[/bold]: {stage.about}" + (f" [dim]({why})[/dim]" if why else ""))
        started = time.monotonic()
        # Named after the inputs: a run that is repeated with other settings never resumes from foreign checkpoints.
        inputs = self.inputs(stage)
        self.work = self.folder / "work" / f"{stage.name}-{digest(inputs)[:12]}"
        self.records.forget(stage.name)  # while the outputs change, no record vouches for them
        result = stage.work(self, bars)
        outputs = [path.relative_to(self.folder).as_posix() for path in result.outputs]
        self.records.write(stage.name, Record(inputs, result.identity, outputs, result.failed))
        shutil.rmtree(self.work, ignore_errors=True)
        bars.say(f"  {result.said} [dim]({time.monotonic() - started:.0f} s)[/dim]")

    def _demand(self, stage: Stage) -> None:
        if self.records.read(stage.name) is None:
            raise InputError(f"--from, stage {stage.name}", expected="its result in " + str(self.folder), found="none",
                             remedy="Leave --from away.")  # fmt: skip


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``folder`` when the block ends well; the old one stays until then."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
