"""Stage 2, LLM fine-tuning: adapter and language model learn to translate cached features (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extract.errors import InputError
from extract.index import Clip
from extract.settings import PLAIN
from extract.store import FeatureStore
from train.features import FeatureDataset, collate_features
from train.labels import encode_targets
from train.settings import TranslateSettings
from train.trainer import Report, fit
from train.translator import SignTranslator


def available(store: FeatureStore, clips: Sequence[Clip]) -> list[Clip]:
    """The clips that the store has features of, in their order.

    Raises:
        InputError: it has none of them.
    """
    present = store.lengths()
    found = [clip for clip in clips if clip.id in present]
    if not found:
        raise InputError(store.location, expected=f"features of {len(clips)} clips", found="none of them",
                         remedy="Run `slt extract` on this split.")  # fmt: skip
    return found


def train_translate(
    train_store: FeatureStore,
    dev_store: FeatureStore,
    clips: Sequence[Clip],
    dev: Sequence[Clip],
    settings: TranslateSettings,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    work: Path,
    report: Report | None = None,
    views: Sequence[str] = (PLAIN,),
) -> tuple[SignTranslator, list[dict[str, float]]]:
    """Fine-tune ``language_model`` behind a new adapter.

    Args:
        train_store, dev_store: features of one fingerprint.
        clips, dev: of the two splits; those without features are left out (see ``available``).
        work: for checkpoints; an interrupted run resumes from there.
        views: of the train clips; each clip draws one per epoch. Dev is seen in the plain view.

    Returns:
        The translator, in ``eval()``, and the training log.

    Raises:
        InputError: the stores were made differently, hold none of the clips or a value that is not finite, or a
            clip or sentence is longer than the language model's positions.
    """
    dev_store.require(train_store.provenance)
    torch.manual_seed(settings.seed)
    model = SignTranslator.compose(language_model, settings.adapter, train_store.width)
    model.config.features = train_store.provenance
    model.label_smoothing = settings.label_smoothing
    examples = _examples(train_store, clips, tokenizer, language_model, views, settings.seed)
    watched = _examples(dev_store, dev, tokenizer, language_model)
    log = fit(
        model, settings, examples, collate_features, work, dev=watched, tokenizer=tokenizer,
        rates={"adapter.": settings.adapter_learning_rate}, max_length=settings.max_length, report=report,
    )  # fmt: skip
    return model.eval(), log


def _examples(
    store: FeatureStore,
    clips: Sequence[Clip],
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    views: Sequence[str] = (PLAIN,),
    seed: int = 0,
) -> FeatureDataset:
    present = available(store, clips)
    targets = encode_targets(tokenizer, [clip.text for clip in present])
    limit = getattr(model.config, "max_position_embeddings", None)
    loaded = []
    for view in views:
        having = store.lengths(view)  # a view that was added later may lack a clip
        loaded.append(store.load([clip.id for clip in present if clip.id in having], view))
    features = loaded[0]
    if limit:
        for clip, ids, start, end in zip(present, targets, features.offsets, features.offsets[1:], strict=False):
            if max(len(ids), end - start) > limit:
                raise InputError(
                    f"clip {clip.id!r}", expected=f"at most {limit} features and target pieces, the model's positions",
                    found=f"{end - start} and {len(ids)}", remedy="Use a larger frames.keep_every, or leave it out.",
                )  # fmt: skip
    if not all(torch.isfinite(torch.from_numpy(view.array)).all() for view in loaded):
        raise InputError(store.location, expected="finite features", found="NaN or infinity",
                         remedy="Extract with dtype float32.")  # fmt: skip
    return FeatureDataset(loaded, targets, seed)
