"""Running one stage of an experiment, for the commands that do."""

from __future__ import annotations

from typing import Any

import typer

from extract.errors import SOME_FAILED, InputError
from pipeline.commands.printing import print_json, show_states
from pipeline.experiment.progress_bars import Bars
from train.processes import process_rank


def single_stage(name: str, run: Any, force: bool, dry_run: bool, as_json: bool) -> None:
    """Run it, or with ``dry_run`` say whether it would be.

    Raises:
        InputError: the config has no such stage; what it lacks is named.
    """
    from pipeline.stages.stage_list import stages

    listed = stages(run.experiment)
    chosen = [stage for stage in listed if stage.name == name]
    if not chosen:
        expected, found = "a section train.lm", "none"
        remedy = "It uses a language model by name: there is nothing to train."
        if name == "pack" and run.experiment.data.features is None:
            expected, found, remedy = "pack.enabled = true", "false", "Set it in the config, or with --set."
        elif name == "joint" and run.experiment.data.features is None:
            expected, remedy = "a section train.joint", "Add `joint: {}` to train, or --set train.joint={}."
        elif name == "tokenizer":
            expected, found = "a section train.lm without start_from", "none such"
            remedy = "The language model's own tokenizer is used: there is none to learn."
        elif name == "trim":
            expected, found = "train.stage2.trim, and a language model from elsewhere", "one of them not"
            remedy = "Its vocabulary is used as it is."
        elif name != "lm":
            expected, found = f"a stage {name}", f"data.features = {run.experiment.data.features}"
            remedy = "Its features are given: there is nothing to learn or extract from pixels."
        raise InputError(f"config {run.experiment.name}", expected=expected, found=found, remedy=remedy)
    if dry_run:
        show_states(run, as_json, only=name)
        return
    run.execute(listed, Bars(quiet=process_rank() > 0), only=name, force=force)
    if process_rank() > 0:
        return  # process 0 tells what came out
    record = run.records.read(name)
    failed = record.failed
    if as_json:
        told = {"stage": name, "outputs": record.outputs, "result": record.result, "failed": failed}
        print_json({**told, "figures": record.figures} if record.figures else told)
    later = [stage.name for stage in listed[listed.index(chosen[0]) + 1 :]]
    if later:
        typer.echo(
            f"{', '.join(str(run.records.located(o)) for o in record.outputs)}; next stage: {later[0]}", err=True
        )
    raise typer.Exit(SOME_FAILED if failed else 0)
