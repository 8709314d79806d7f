"""The joint baseline (table 4): encoder, adapter and language model learn end to end from pixels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import Source
from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from train.data.left_out import LeftOut
from train.loop.budget import TRIAL_STEPS, require_amount, steps_for_clips, steps_for_seconds
from train.loop.callbacks import Report
from train.loop.dev_evaluation import Bleu4, bleu4_of_words
from train.models.translator import SignTranslator
from train.recipes.stage1 import train_stage1
from train.settings import JointSettings

Bars = Callable[[str, str], AbstractContextManager[Report]]


def train_joint(
    source: Source,
    clips: Sequence[Clip],
    dev: Sequence[Clip],
    encoder: EncoderSettings,
    frames: FrameSettings,
    settings: JointSettings,
    tokenizer: PreTrainedTokenizerBase,
    work: Path,
    *,
    language_model: PreTrainedModel,
    spent: float | None,
    bars: Bars,
    bleu4: Bleu4 = bleu4_of_words,
    begin: VisualEncoder | None = None,
    say: Callable[[str], None] | None = None,
    left_out: LeftOut | None = None,
) -> tuple[SignTranslator, list[dict[str, float]]]:
    """Train all of it by one loss, with the options that stage 1 has.

    Args:
        spent: what the factorised run took, in the unit of ``settings.budget``; not needed with steps or epochs.
        begin: stage 1's encoder, with ``settings.start: stage1``.
        The others: as ``train.recipes.stage1.train_stage1``.

    Returns:
        The translator, in ``eval()``, with its encoder as ``.encoder``; and the training log.

    Raises:
        InputError: the budget is not known.
    """
    rates = {"adapter.": settings.adapter_learning_rate, "encoder.": settings.encoder_learning_rate}

    def train(
        settings: JointSettings, model: PreTrainedModel, work: Path, bars: Bars
    ) -> tuple[SignTranslator, list[dict[str, float]]]:
        return train_stage1(
            source, clips, dev, encoder, frames, settings, tokenizer, work,
            language_model=model, bars=bars, bleu4=bleu4, name="joint training", rates=rates,
            begin=copy.deepcopy(begin), freeze_backbone=settings.freeze_backbone, say=say,
            left_out=left_out,
        )  # fmt: skip

    if settings.steps is None and settings.epochs is None:
        budget = settings.budget or "clips"
        amount = require_amount(settings.amount or spent, budget)
        warmup = settings.warmup
        if budget == "clips":
            seen = _warmup_clips(settings, len(clips))
            steps = steps_for_clips(amount - seen, settings.batch_size * settings.accumulate)
        else:
            trial = settings.model_copy(
                update={
                    "steps": TRIAL_STEPS,
                    "budget": None,
                    "warmup": None,
                    "evaluate_every": None,
                    "watch_every": None,
                    "dominance": False,
                }
            )
            steps = steps_for_seconds(
                amount,
                lambda tick: train(trial, copy.deepcopy(language_model), work / "trial", _silent(tick)),
                work / "budget.json",
            )
        settings = settings.model_copy(update={"steps": steps, "budget": None, "amount": None, "warmup": warmup})
    return train(settings, language_model, work, bars)


def _warmup_clips(settings: JointSettings, clips: int) -> float:
    warmup = settings.warmup
    if warmup is None:
        return 0
    if warmup.steps is not None:
        return warmup.steps * warmup.batch_size * warmup.accumulate
    return (warmup.epochs or 0) * clips


def _silent(tick: Report) -> Bars:
    @contextmanager
    def bars(name: str, unit: str) -> Iterator[Report]:
        yield tick

    return bars
