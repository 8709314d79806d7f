"""The stage that pre-trains a language model on plain text, or adapts one to it."""

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
from pipeline.stages.language_models import documents, load_foreign, sentences
from train.processes import process_rank


def lm_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.lm
    return {
        "train.lm": deciding(settings),
        **({"start_from files": model_digest(settings.start_from)} if settings and settings.start_from else {}),
        **sentences(run, settings.text if settings else None),
        "language": run.dataset.entry.language,
    }


def run_lm(run: Run, task: Task) -> Result:
    """Plain text to ``lm/``: tokenizer and a small mBART that can fill in its gaps, or a pre-trained language model
    that knows the text's domain."""
    import torch

    from train.models.language_model import build_mbart
    from train.models.tokenizer import load_tokenizer
    from train.provenance import write_provenance
    from train.recipes.denoise import pretrain

    prepare_torch(run, "lm")
    settings = run.experiment.train.lm
    assert settings is not None
    text, language = documents(run, settings.text), run.dataset.entry.language
    torch.manual_seed(settings.seed)
    if settings.start_from:
        model, tokenizer = load_foreign(run, pretrained=True)
    else:
        tokenizer = load_tokenizer(run.folder / "tokenizer", language)
        model = build_mbart(settings.model, tokenizer, language)
    with task.bars.bar("denoising", "steps") as tick:
        log = pretrain(model, tokenizer, text, settings, task.checkpoints, tick)
    if process_rank() > 0:
        return HELPED
    folder = run.folder / "lm"
    with replacing(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        write_provenance(new, stage="lm", inputs=task.inputs, sentences=sum(map(len, text)))
        write_cards(run, new)
    write_log(run, "lm", log, task.checkpoints)
    said = f"{model.num_parameters() / 1e6:.1f} M parameters, {len(tokenizer)} pieces, {sum(map(len, text))} sentences"
    return Result([folder], file_sha256(folder / "provenance.json"), said)
