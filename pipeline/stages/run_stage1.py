"""Stage 1, visual initialing: the encoder and Light-T learn from pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extract.atomic_write import replacing
from extract.fingerprint import file_sha256
from pipeline.experiment.freshness import deciding, model_digest
from pipeline.experiment.model_cards import write_cards
from pipeline.experiment.run import Run
from pipeline.experiment.task import HELPED, Result, Task
from pipeline.experiment.torch_session import prepare_torch
from pipeline.experiment.training_logs import write_log
from pipeline.stages.dev_scoring import dev_bleu4, dev_inputs
from pipeline.stages.language_models import documents, pieces_of_stage_1
from pipeline.stages.learning_clips import learnable, named, pixel_inputs
from train.processes import process_rank


def stage1_inputs(run: Run) -> Mapping[str, Any]:
    train = run.experiment.train
    language_model = train.stage2.language_model
    named = {"tokenizer": language_model, "tokenizer files": model_digest(language_model)}
    return {
        **pixel_inputs(run),
        "train.stage1": deciding(train.stage1),
        **dev_inputs(run, train.stage1),
        # A tokenizer of its own is the result of a stage before.
        **({} if train.trims or train.tokenizes else named),
        "train.clips": train.clips,
        "language": run.dataset.entry.language,
    }


def run_stage1(run: Run, task: Task) -> Result:
    """Pixels to ``encoder/``, the visual encoder directory, and ``stage1/``, the translator with Light-T."""
    import torch

    from extract.encoder.feature_provenance import weights_digest
    from train.data.left_out import LeftOut
    from train.loop.budget import all_passes, seconds_of
    from train.models.language_model import build_mbart
    from train.models.tokenizer import load_tokenizer
    from train.provenance import write_provenance
    from train.recipes.denoise import pretrain
    from train.recipes.stage1 import train_stage1, with_states

    prepare_torch(run, "stage1")
    experiment, language = run.experiment, run.dataset.entry.language
    settings, bars = experiment.train.stage1, task.bars
    tokenizer = load_tokenizer(pieces_of_stage_1(run), language)
    torch.manual_seed(settings.seed)
    light_t = build_mbart(settings.light_t, tokenizer, language)
    log = []
    if settings.warm_start:
        text = documents(run, settings.warm_start.text)
        with bars.bar("Light-T warm start", "steps") as tick:
            log += pretrain(light_t, tokenizer, text, settings.warm_start, task.checkpoints / "light_t", tick)
    pixels = run.pixels(training=True)
    train, dev = (learnable(run, split, bars, pixels, tokenizer) for split in ("train", "dev"))
    left_out = LeftOut(task.checkpoints / "left_out.jsonl", len(train), experiment.extract)
    model, stage1_log = train_stage1(
        pixels, train, dev, experiment.encoder, experiment.frames, settings, tokenizer, task.checkpoints,
        language_model=light_t, bars=bars.bar, bleu4=dev_bleu4(run), say=lambda line: bars.say(f"  {line}"),
        left_out=left_out,
    )  # fmt: skip
    if process_rank() > 0:
        return HELPED
    encoder, stage1 = run.folder / "encoder", run.folder / "stage1"
    assert model.encoder is not None
    frozen = with_states(model)
    facts = {"stage": "stage1", "inputs": task.inputs, "clips": len(train), "left_out": left_out.read()}
    with replacing(encoder) as new_encoder, replacing(stage1) as new_stage1:
        frozen.save_pretrained(new_encoder)
        write_provenance(new_encoder, weights=weights_digest(frozen.state_dict()), **facts)
        model.save_pretrained(new_stage1)
        tokenizer.save_pretrained(new_stage1)
        write_provenance(new_stage1, **facts)
        write_cards(run, new_encoder, new_stage1)
    write_log(run, "stage1", log + stage1_log, task.checkpoints / "generation")
    counts = [sum(weight.numel() for weight in part.parameters()) / 1e6 for part in (model.encoder, light_t)]
    said = f"encoder {counts[0]:.2f} M parameters, Light-T {counts[1]:.2f} M"
    if found := left_out.read():
        bars.say(f"  [yellow]{named(found)}[/yellow]")
    figures = {"clip_passes": all_passes(stage1_log), "seconds": seconds_of(log + stage1_log)}
    return Result([encoder, stage1], file_sha256(encoder / "provenance.json"), said, figures=figures)
