"""Stage 2, LLM fine-tuning: adapter and language model learn to translate cached features (section 3.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from extract.dataset.clip_index import Clip
from extract.settings import PLAIN
from extract.store.feature_store import FeatureStore
from train.data.feature_dataset import collate_features
from train.data.usable_clips import load_examples, positions, usable
from train.loop.callbacks import Report
from train.loop.dev_evaluation import Bleu4, bleu4_of_words
from train.loop.trainer import fit
from train.models.lora import add_lora
from train.models.translator import SignTranslator
from train.processes import process_rank
from train.settings import Stage2Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Translated:
    """What fine-tuning gives."""

    model: SignTranslator
    """In ``eval()``; low-rank updates are merged into its weights."""
    log: list[dict[str, float]]
    clips: int
    """Of the train split, that it learnt from."""
    left_out: dict[str, dict[str, str]]
    """By split, the clips that it did not use and why."""
    updates: Path | None
    """Folder in ``work`` with the low-rank updates by themselves, where ``lora.keep`` asks for them."""


def train_stage2(
    train_store: FeatureStore,
    dev_store: FeatureStore,
    clips: Sequence[Clip],
    dev: Sequence[Clip],
    settings: Stage2Settings,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    work: Path,
    report: Report | None = None,
    views: Sequence[str] = (PLAIN,),
    *,
    bleu4: Bleu4 = bleu4_of_words,
    say: Callable[[str], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Translated:
    """Fine-tune ``language_model`` behind a new adapter.

    Args:
        train_store: features of the train split.
        dev_store: of the dev split, with the same fingerprint.
        clips: of the train split; see ``usable_clips.usable`` for those that are left out.
        dev: of the dev split.
        work: for checkpoints; an interrupted run resumes from there.
        views: of the train clips; each clip draws one per epoch. Dev is seen in the plain view.
        bleu4: by which the best checkpoint is chosen on dev: the dataset's own.
        say: as of ``fit``; it is told what is left out, too.
        callbacks: as of ``fit``.

    Raises:
        InputError: the stores were made differently, too many clips cannot be used, or a feature is not finite.
    """
    dev_store.require(train_store.provenance)
    chosen, watched = (
        usable(store, of, tokenizer, language_model, settings.max_left_out)
        for store, of in ((train_store, clips), (dev_store, dev))
    )
    for line in [*chosen.said(), *watched.said()]:
        if say:
            say(f"[yellow]{line}[/yellow]")
    examples = load_examples(
        train_store, chosen, views, settings.seed, settings.augment, positions(language_model)
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    model = SignTranslator.compose(language_model, settings.adapter, train_store.width)
    updated = add_lora(language_model, settings.lora) if settings.lora else None
    model.config.features = train_store.provenance
    model.label_smoothing = settings.label_smoothing
    log = fit(
        model, settings, examples, collate_features, work, dev=load_examples(dev_store, watched),
        judge=lambda said: bleu4(said, [clip.text for clip in watched.clips]), tokenizer=tokenizer,
        rates={"adapter.": settings.adapter_learning_rate}, max_length=settings.max_length, report=report, say=say,
        callbacks=callbacks,
    )  # fmt: skip
    updates = None
    if updated is not None:
        if settings.lora and settings.lora.keep:
            updates = work / "lora"
            if process_rank() == 0:
                updated.save_pretrained(updates)
        model.language_model = updated.merge_and_unload()
    return Translated(
        model.eval(), log, len(chosen.clips), {"train": chosen.left_out, "dev": watched.left_out}, updates
    )
