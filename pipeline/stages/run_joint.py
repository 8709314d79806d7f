"""The stages of the joint baseline: training end to end, and translating the test split from its pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from extract.atomic_write import replacing
from extract.fingerprint import file_sha256
from pipeline.experiment.freshness import deciding
from pipeline.experiment.model_cards import write_cards
from pipeline.experiment.run import Run, Stage
from pipeline.experiment.task import HELPED, Result, Task
from pipeline.experiment.torch_session import prepare_torch
from pipeline.experiment.trained_encoder import require_as_trained
from pipeline.experiment.training_logs import write_log
from pipeline.stages.dev_scoring import dev_bleu4, dev_inputs
from pipeline.stages.language_models import language_model_inputs, start_of_stage_2
from pipeline.stages.learning_clips import learnable, named, pixel_inputs
from train.processes import process_rank
from train.settings import JointSettings

FACTORISED = ("stage1", "extract", "stage2")


def with_joint(stages: list[Stage], own: tuple[str, ...], settings: JointSettings) -> list[Stage]:
    """The stages, with the joint baseline before the scores.

    Args:
        own: the stage before that makes the language model or trims it.
    """
    before = ("index:train", "index:dev", *own, *(("stage1",) if settings.start == "stage1" else ()))
    joint = [
        Stage("joint", "the baseline: all parts learn together from pixels", before, joint_inputs, run_joint,
              _check_start),
        Stage("joint_test", "the test split, by the joint baseline from pixels", ("index:test", "joint"),
              _translate_inputs, run_joint_test, lambda run: require_as_trained(run, "joint", "joint")),
    ]  # fmt: skip
    listed = [
        dataclasses.replace(stage, needs=(*stage.needs, "joint_test")) if stage.name in ("score", "report") else stage
        for stage in stages
    ]
    place = [stage.name for stage in listed].index("score")
    return [*listed[:place], *joint, *listed[place:]]


def joint_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.joint
    assert settings is not None
    return {
        **pixel_inputs(run),
        **language_model_inputs(run),
        "train.joint": deciding(settings),
        **dev_inputs(run, settings),
        "train.clips": run.experiment.train.clips,
        "budget": _spent(run),
    }


def _check_start(run: Run) -> None:
    settings = run.experiment.train.joint
    if settings is not None and settings.start == "stage1":
        require_as_trained(run)


def run_joint(run: Run, task: Task) -> Result:
    """Pixels to ``joint/``, a translator with its encoder."""
    from extract.encoder.extractor import load_encoder
    from train.data.left_out import LeftOut
    from train.loop.budget import all_passes, seconds_of
    from train.provenance import write_provenance
    from train.recipes.joint import train_joint

    prepare_torch(run, "joint")
    experiment, bars = run.experiment, task.bars
    settings = experiment.train.joint
    assert settings is not None
    language_model, tokenizer = start_of_stage_2(run)
    begin = load_encoder(run.folder / "encoder").requires_grad_(True) if settings.start == "stage1" else None
    pixels = run.pixels(training=True)
    train, dev = (learnable(run, split, bars, pixels, tokenizer) for split in ("train", "dev"))
    left_out = LeftOut(task.checkpoints / "left_out.jsonl", len(train), experiment.extract)
    model, log = train_joint(
        pixels, train, dev, experiment.encoder, experiment.frames, settings, tokenizer, task.checkpoints,
        language_model=language_model, spent=_spent(run), bars=bars.bar, bleu4=dev_bleu4(run), begin=begin,
        left_out=left_out,
        say=lambda line: bars.say(f"  {line}"),
    )  # fmt: skip
    if process_rank() > 0:
        return HELPED
    folder = run.folder / "joint"
    with replacing(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        write_provenance(new, stage="joint", inputs=task.inputs, clips=len(train), left_out=left_out.read())
        write_cards(run, new)
    write_log(run, "joint", log, task.checkpoints / "generation")
    if found := left_out.read():
        bars.say(f"  [yellow]{named(found)}[/yellow]")
    figures = {"clip_passes": all_passes(log), "seconds": seconds_of(log)}
    said = f"{model.num_parameters() / 1e6:.1f} M parameters, {figures['clip_passes']} clip passes, in {folder}"
    return Result([folder], file_sha256(folder / "provenance.json"), said, figures=figures)


def _translate_inputs(run: Run) -> Mapping[str, Any]:
    settings, joint = run.experiment.train.stage2, run.experiment.train.joint
    assert joint is not None
    return {"beams": settings.beams, "max_length": joint.max_length}


def run_joint_test(run: Run, task: Task) -> Result:
    """The test split to ``predictions/joint.jsonl``; a clip that cannot be read counts as an empty hypothesis."""
    from eval.predictions.prediction_file import write_predictions
    from eval.translation.encode_clips import encode_clips
    from eval.translation.translate_features import translate_clips
    from train.models.tokenizer import load_tokenizer
    from train.models.translator import load_sign_translator

    prepare_torch(run)
    clips, pixels = run.clips("test"), run.pixels()
    model = load_sign_translator(run.folder / "joint")
    tokenizer = load_tokenizer(run.folder / "joint", run.dataset.entry.language)
    with task.bars.bar("joint: encoding", "clips") as tick:
        features, failed = encode_clips(model, pixels, clips, tick, run.experiment.extract.read_seconds)
    with task.bars.bar("joint", "clips") as tick:
        predictions = translate_clips(
            model, tokenizer, features, clips, at_once=run.experiment.train.stage2.translate_clips, on_clip=tick,
            **_translate_inputs(run),
        )  # fmt: skip
    path = write_predictions(run.folder / "predictions" / "joint.jsonl", predictions)
    said = f"{len(clips)} clips" + (f", [yellow]{named(failed)}[/yellow]" if failed else "")
    return Result([path], file_sha256(path), said, len(failed))


def _spent(run: Run) -> float | None:
    """What stage 1, extraction and stage 2 of this experiment took, in the unit of the budget; None where steps or
    epochs say how long, or a record is absent."""
    settings = run.experiment.train.joint
    assert settings is not None
    if settings.steps is not None or settings.epochs is not None or settings.amount is not None:
        return None
    records = [run.records.read(name) for name in FACTORISED]
    if any(record is None for record in records):
        return None
    figures = [record.figures for record in records if record is not None]
    stage1, extract, stage2 = figures
    if "clip_passes" not in stage2:  # of a version that did not count
        return None
    if (settings.budget or "clips") == "clips":
        return float(stage1["clip_passes"] + stage2["clip_passes"])
    return float(stage1["seconds"] + sum(split["seconds"] for split in extract.values()) + stage2["seconds"])
