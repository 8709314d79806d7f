"""The stage that trims the vocabulary to what the train split needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.atomic_write import replacing
from extract.fingerprint import file_sha256
from pipeline.experiment.freshness import file_digest, model_digest
from pipeline.experiment.run import Run
from pipeline.experiment.task import HELPED, Result, Task
from pipeline.stages.language_models import named_by
from train.processes import process_rank


def trim_inputs(run: Run) -> Mapping[str, Any]:
    train = run.experiment.train
    return {
        "language model": train.foreign,
        "language model files": model_digest(train.foreign) if train.foreign else None,
        "texts": [file_digest(text) for text in _texts(run)],
        "train.clips": train.clips,
        "language": run.dataset.entry.language,
    }


def run_trim(run: Run, task: Task) -> Result:
    """``tokenizer/``: the language model's, with the pieces of the train split; both stages read it.

    The model itself is trimmed when it is loaded, so that stage 1 does not hang on its weights.
    """
    from train.models.language_model import load_language_config, require_tokenizer
    from train.models.tokenizer import load_tokenizer
    from train.models.vocabulary_trimming import KEPT, trim_tokenizer
    from train.provenance import write_provenance

    if process_rank() > 0:
        return HELPED
    name, where, language = run.experiment.train.foreign, named_by(run), run.dataset.entry.language
    assert name is not None
    lines = [clip.text for clip in run.learnt()] + lines_of(_texts(run))
    config, tokenizer = load_language_config(name, where), load_tokenizer(name, language, where)
    require_tokenizer(config, tokenizer, f"{where} = {name}")
    folder = run.folder / "tokenizer"
    with replacing(folder) as new:
        trimmed, _ = trim_tokenizer(tokenizer, lines, [config], new, language)
        facts = trim_facts(config, len(tokenizer), len(trimmed))
        write_provenance(new, stage="trim", inputs=task.inputs, **facts)
    identity = {file: file_sha256(folder / file) for file in ("tokenizer.json", KEPT)}
    return Result([folder], identity, trim_said(facts), figures=facts)


def _texts(run: Run) -> list[str]:
    """Files whose pieces are kept besides those of the train split."""
    train = run.experiment.train
    return [*train.stage2.trim_text, *([train.lm.text] if train.lm and train.lm.text else [])]


def lines_of(texts: list[str] | list[Path]) -> list[str]:
    from train.recipes.denoise import read_documents

    return [line for text in texts for document in read_documents(Path(text)) for line in document]


def trim_facts(config: Any, before: int, after: int) -> dict[str, Any]:
    from train.models.language_model import count_parameters

    parameters = {"before": count_parameters(config), "after": count_parameters(config, after)}
    return {"pieces": {"before": before, "after": after}, "parameters": parameters}


def trim_said(facts: Mapping[str, Any]) -> str:
    pieces, parameters = facts["pieces"], facts["parameters"]
    return (
        f"{pieces['after']} of {pieces['before']} pieces, "
        f"{parameters['after'] / 1e6:.1f} M of {parameters['before'] / 1e6:.1f} M parameters"
    )
