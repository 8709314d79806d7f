"""The training loop: transformers' Seq2SeqTrainer with groups of learning rates, quiet progress and resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sacrebleu.metrics import BLEU
from safetensors.torch import load_model
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME

from extract.errors import SltError
from train.dominance import DominanceProbe
from train.settings import TrainingSettings

Report = Callable[[int, int, Mapping[str, float]], None]
"""Called with optimiser steps done, steps in all, and the latest figures (loss, learning_rate, dev bleu4)."""


class RateGroupTrainer(Seq2SeqTrainer):
    """Gives parameters their learning rate by the start of their name, and SGD its momentum."""

    optimizer: torch.optim.Optimizer | None

    def __init__(self, *args: Any, settings: TrainingSettings, rates: Mapping[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings, self.rates = settings, rates

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        # transformers has no event between the backward pass and clipping.
        scaler = self.accelerator.scaler
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, DominanceProbe):
                callback.before_clipping(self.state.global_step, scaler.get_scale() if scaler is not None else 1.0)
        return super()._clip_grad_norm(model)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = model or self.model
            decayed = set(self.get_decay_parameter_names(model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    rate = next((r for start, r in self.rates.items() if name.startswith(start)), None)
                    key = (rate or self.settings.learning_rate, self.settings.weight_decay * (name in decayed))
                    groups.setdefault(key, []).append(parameter)
            listed = [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
            sgd = self.settings.optimizer == "sgd"
            self.optimizer = (
                torch.optim.SGD(listed, momentum=self.settings.momentum) if sgd else torch.optim.AdamW(listed)
            )
        return self.optimizer


class DivergenceError(SltError):
    """The loss is no longer a number."""


class ReportCallback(TrainerCallback):
    """Hands the loop's figures to a ``Report`` and stops the loop's own printing."""

    def __init__(self, report: Report | None) -> None:
        self.report, self.figures = report, {}  # type: ignore[var-annotated]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.report and state.is_world_process_zero:
            self.report(state.global_step, state.max_steps, self.figures)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        names = {"loss": "loss", "eval_bleu4": "dev bleu4"}
        self.figures |= {names[key]: value for key, value in (logs or {}).items() if key in names}
        if not math.isfinite(self.figures.get("loss", 0.0)):
            raise DivergenceError(f"training diverged: loss {self.figures['loss']} at step {state.global_step}. "
                                  "Use a smaller learning_rate, or more warmup_steps.")  # fmt: skip


class EpochCallback(TrainerCallback):
    """Tells the data which epoch it is, for draws that depend on seed, epoch and example alone.

    accelerate does so itself, but not through the wrappers that it uses after a resume and with several processes.
    """

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(int((state.epoch or 0) + 1e-6))  # resumed within an epoch: a fraction


def fit(
    model: nn.Module,
    settings: TrainingSettings,
    train: Dataset[Any],
    collate: Callable[..., Any],
    work: Path,
    *,
    dev: Dataset[Any] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    rates: Mapping[str, float] | None = None,
    max_length: int = 128,
    report: Report | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` in place; resumes from the last checkpoint in ``work`` when there is one, and only loads the
    result when that one is the last.

    With ``settings.evaluate_every`` and ``dev``, the weights with the best dev BLEU-4 (greedy) are kept, otherwise
    the last ones.

    Args:
        work: folder for checkpoints; the caller removes it when the result is saved.
        rates: learning rates by the start of a parameter's name; others have ``settings.learning_rate``.

    Returns:
        The log: one dict per entry, with ``step`` and loss, learning rate or dev figures.

    Raises:
        DivergenceError: the loss is no longer a number.
    """
    checkpoint = get_last_checkpoint(str(work)) if work.is_dir() else None
    if checkpoint:
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        if state.global_step >= state.max_steps:
            # The loop would enter its last epoch once more and take a step too many.
            best = state.best_model_checkpoint or checkpoint
            load_model(model, work / Path(best).name / SAFE_WEIGHTS_NAME)
            return [dict(entry) for entry in state.log_history]
    selecting = dev is not None and settings.evaluate_every is not None
    steps = settings.evaluate_every if selecting else settings.checkpoint_every
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(work),
        max_steps=settings.steps or -1,
        num_train_epochs=settings.epochs or 1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=max(32, settings.batch_size),
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        seed=settings.seed,
        data_seed=settings.seed,
        dataloader_num_workers=settings.workers,
        remove_unused_columns=False,
        logging_steps=25,
        eval_strategy="steps" if selecting else "no",
        eval_steps=settings.evaluate_every if selecting else None,
        save_strategy="steps",
        save_steps=steps,
        save_total_limit=2,
        load_best_model_at_end=selecting,
        metric_for_best_model="bleu4" if selecting else None,
        predict_with_generate=selecting,
        generation_max_length=max_length,
        generation_num_beams=1,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_nan_inf_filter=False,
    )
    # Batches are packed, so one process cannot cut them into equal parts for several devices.
    arguments._n_gpu = min(1, arguments.n_gpu)
    trainer = RateGroupTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=dev if selecting else None,
        data_collator=collate,
        processing_class=tokenizer,
        compute_metrics=_bleu4(tokenizer) if selecting and tokenizer else None,
        callbacks=[
            EpochCallback(train),
            ReportCallback(report),
            *([DominanceProbe(work)] if settings.dominance else []),
        ],
        settings=settings,
        rates=rates or {},
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    log = [dict(entry) for entry in trainer.state.log_history]
    log.append({"step": trainer.state.global_step, "seconds": time.monotonic() - started})
    return log


def _bleu4(tokenizer: PreTrainedTokenizerBase) -> Callable[[Any], dict[str, float]]:
    """Dev BLEU-4 on the tokenizer's text, to choose a checkpoint; published figures come from ``eval``."""
    metric = BLEU(tokenize="none", smooth_method="none")

    def compute(prediction: Any) -> dict[str, float]:
        hypotheses, references = (
            tokenizer.batch_decode(np.where(ids < 0, tokenizer.pad_token_id, ids), skip_special_tokens=True)
            for ids in (prediction.predictions, prediction.label_ids)
        )
        return {"bleu4": metric.corpus_score(hypotheses, [references]).score}

    return compute
