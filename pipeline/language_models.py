"""The stages of the text side: the tokenizer and the language model that are made here, and how stage 2 begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cards import write_cards
from pipeline.freshness import deciding, file_digest, model_digest, sha256_of
from pipeline.logs import write_log
from pipeline.replacing import replacing
from pipeline.run import HELPED, Result, Run, Task
from pipeline.torch_session import prepare_torch
from train.processes import process_rank

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def tokenizer_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.lm
    assert settings is not None
    return {
        "vocabulary": settings.vocabulary,
        "text": file_digest(settings.text),
        **_sentences(run, settings.text),
        "language": run.dataset.entry.language,
    }


def run_tokenizer(run: Run, task: Task) -> Result:
    """Plain text to ``tokenizer/``, of the language model that is trained here; stage 1 reads it too."""
    from train.provenance import write_provenance
    from train.tokenizer import train_tokenizer

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
    identity = sha256_of(folder / "tokenizer.json")
    return Result([folder], identity, f"{len(tokenizer)} pieces, {len(lines)} sentences")


def lm_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.lm
    return {
        "train.lm": deciding(settings),
        **({"start_from files": model_digest(settings.start_from)} if settings and settings.start_from else {}),
        "text": file_digest(settings.text if settings else None),
        **_sentences(run, settings.text if settings else None),
        "language": run.dataset.entry.language,
    }


def run_lm(run: Run, task: Task) -> Result:
    """Plain text to ``lm/``: tokenizer and a small mBART that can fill in its gaps, or a pre-trained language model
    that knows the text's domain."""
    import torch

    from train.denoise import pretrain
    from train.language_model import build_mbart
    from train.provenance import write_provenance
    from train.tokenizer import load_tokenizer

    prepare_torch(run, "lm")
    settings = run.experiment.train.lm
    assert settings is not None
    text, language = documents(run, settings.text), run.dataset.entry.language
    torch.manual_seed(settings.seed)
    if settings.start_from:
        model, tokenizer = _load_foreign(run, pretrained=True)
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
    return Result([folder], sha256_of(folder / "provenance.json"), said)


def language_model_inputs(run: Run) -> dict[str, Any]:
    """Which language model is fine-tuned, how it begins, and to which language."""
    settings = run.experiment.train.translate
    return {
        "language model": settings.language_model,
        "language model files": model_digest(settings.language_model),
        "pretrained": settings.pretrained,
        **({} if settings.pretrained else {"seed": settings.seed}),  # of the random weights
        "language": run.dataset.entry.language,
    }


def start_of_stage_2(run: Run) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Language model and tokenizer as fine-tuning begins with them."""
    from train.language_model import load_language_model

    settings = run.experiment.train.translate
    if run.experiment.train.lm is None:
        return _load_foreign(run, settings.pretrained)
    language = run.dataset.entry.language
    return load_language_model(run.folder / "lm", language, pretrained=settings.pretrained, seed=settings.seed)


def _load_foreign(run: Run, pretrained: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model that comes from elsewhere, trimmed where the config says so."""
    from train.language_model import load_language_model
    from train.tokenizer import load_tokenizer
    from train.trimming import read_kept, trim_model

    train, language = run.experiment.train, run.dataset.entry.language
    assert train.foreign is not None
    seed = train.translate.seed
    model, tokenizer = load_language_model(
        train.foreign, language, pretrained=pretrained, seed=seed, where=named_by(run)
    )
    if train.trims:
        folder = run.folder / "tokenizer"
        model, tokenizer = trim_model(model, read_kept(folder)), load_tokenizer(folder, language)
    return model, tokenizer


def named_by(run: Run) -> str:
    """The setting that names the language model from elsewhere."""
    return "train.lm.start_from" if run.experiment.train.lm else "train.translate.language_model"


def pieces_of_stage_1(run: Run) -> Path | str:
    """Where the tokenizer is that stage 1 shares with the language model of stage 2 [P]."""
    train = run.experiment.train
    if train.trims or train.tokenizes:
        return run.folder / "tokenizer"
    named = train.translate.language_model
    return run.folder / "lm" if named == "lm" else named


def _sentences(run: Run, text: str | None) -> dict[str, Any]:
    """Where no file is given, the text is the sentences that stage 1 and 2 learn from."""
    return {} if text else {"train.clips": run.experiment.train.clips}


def documents(run: Run, text: str | None) -> list[list[str]]:
    """Of a text file, or the sentences of the train split, each by itself."""

    from train.denoise import read_documents

    return read_documents(Path(text)) if text else [[clip.text] for clip in run.learnt()]
