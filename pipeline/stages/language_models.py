"""Which language model, tokenizer and text an experiment learns from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.experiment.freshness import model_digest
from pipeline.experiment.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def language_model_inputs(run: Run) -> dict[str, Any]:
    """Which language model is fine-tuned, how it begins, and to which language."""
    settings = run.experiment.train.stage2
    return {
        "language model": settings.language_model,
        "language model files": model_digest(settings.language_model),
        "pretrained": settings.pretrained,
        **({} if settings.pretrained else {"seed": settings.seed}),  # of the random weights
        "language": run.dataset.entry.language,
    }


def start_of_stage_2(run: Run) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Language model and tokenizer as fine-tuning begins with them."""
    from train.models.language_model import load_language_model

    settings = run.experiment.train.stage2
    if run.experiment.train.lm is None:
        return load_foreign(run, settings.pretrained)
    language = run.dataset.entry.language
    return load_language_model(run.folder / "lm", language, pretrained=settings.pretrained, seed=settings.seed)


def load_foreign(run: Run, pretrained: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model that comes from elsewhere, trimmed where the config says so."""
    from train.models.language_model import load_language_model
    from train.models.tokenizer import load_tokenizer
    from train.models.vocabulary_trimming import read_kept, trim_model

    train, language = run.experiment.train, run.dataset.entry.language
    assert train.foreign is not None
    seed = train.stage2.seed
    model, tokenizer = load_language_model(
        train.foreign, language, pretrained=pretrained, seed=seed, where=named_by(run)
    )
    if train.trims:
        folder = run.folder / "tokenizer"
        model, tokenizer = trim_model(model, read_kept(folder)), load_tokenizer(folder, language)
    return model, tokenizer


def named_by(run: Run) -> str:
    """The setting that names the language model from elsewhere."""
    return "train.lm.start_from" if run.experiment.train.lm else "train.stage2.language_model"


def pieces_of_stage_1(run: Run) -> Path | str:
    """Where the tokenizer is that stage 1 shares with the language model of stage 2 [P]."""
    train = run.experiment.train
    if train.trims or train.tokenizes:
        return run.folder / "tokenizer"
    named = train.stage2.language_model
    return run.folder / "lm" if named == "lm" else named


def sentences(run: Run, text: str | None) -> dict[str, Any]:
    """Where no file is given, the text is the sentences that stage 1 and 2 learn from."""
    return {} if text else {"train.clips": run.experiment.train.clips}


def documents(run: Run, text: str | None) -> list[list[str]]:
    """Of a text file, or the sentences of the train split, each by itself."""

    from train.recipes.denoise import read_documents

    return read_documents(Path(text)) if text else [[clip.text] for clip in run.learnt()]
