"""The stage that learns a tokenizer from plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extract.atomic_write import replacing
from extract.fingerprint import file_sha256
from pipeline.experiment.freshness import file_digest
from pipeline.experiment.run import Run
from pipeline.experiment.task import HELPED, Result, Task
from pipeline.stages.language_models import documents, sentences
from train.processes import process_rank


def tokenizer_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.lm
    assert settings is not None
    return {
        "vocabulary": settings.vocabulary,
        "text": file_digest(settings.text),
        **sentences(run, settings.text),
        "language": run.dataset.entry.language,
    }


def run_tokenizer(run: Run, task: Task) -> Result:
    """Plain text to ``tokenizer/``, of the language model that is trained here; stage 1 reads it too."""
    from train.models.tokenizer import train_tokenizer
    from train.provenance import write_provenance

    if process_rank() > 0:
        return HELPED
    settings = run.experiment.train.lm
    assert settings is not None
    lines = [line for document in documents(run, settings.text) for line in document]
    tokenizer = train_tokenizer(lines, settings.vocabulary, run.dataset.entry.language)
    folder = run.folder / "tokenizer"
    with replacing(folder) as new:
        tokenizer.save_pretrained(new)
        write_provenance(new, stage="tokenizer", inputs=task.inputs, sentences=len(lines))
    identity = file_sha256(folder / "tokenizer.json")
    return Result([folder], identity, f"{len(tokenizer)} pieces, {len(lines)} sentences")
