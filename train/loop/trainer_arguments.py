"""transformers' own settings of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from extract.errors import InputError, suggestion
from extract.own_device import own_device
from train.processes import process_count
from train.settings import TrainingSettings


class OneDevice(TrainingArguments):
    """Batches are packed, so one process cannot cut them into equal parts for the other devices that it sees."""

    @property
    def n_gpu(self) -> int:
        return min(1, int(super().n_gpu))


def trainer_arguments(settings: TrainingSettings, work: Path, selecting: bool) -> TrainingArguments:
    """
    Args:
        work: folder for checkpoints.
        selecting: the checkpoint with the best dev BLEU-4 counts.

    Raises:
        InputError: a tracker is not installed.
    """
    require_trackers(settings.report_to)
    arguments = OneDevice(
        output_dir=str(work),
        use_cpu=own_device().type == "cpu",  # else accelerate starts no gloo between processes
        max_steps=settings.steps or -1,
        num_train_epochs=settings.epochs or 1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        activation_checkpointing=settings.gradient_checkpointing,
        seed=settings.seed,
        remove_unused_columns=False,
        logging_steps=settings.log_every,
        eval_strategy="steps" if selecting else "no",
        eval_steps=settings.evaluate_every if selecting else None,
        save_strategy="steps",
        save_steps=settings.evaluate_every if selecting else settings.checkpoint_every,
        save_total_limit=2,
        load_best_model_at_end=selecting,
        metric_for_best_model="choice" if selecting else None,
        greater_is_better=True if selecting else None,
        report_to=list(settings.report_to),
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
    )
    if arguments.world_size != process_count():
        raise RuntimeError(f"{arguments.world_size} processes train together, of {process_count()}")
    return arguments


def require_trackers(names: Sequence[str]) -> None:
    """
    Raises:
        InputError: one is not installed.
    """
    known = get_available_reporting_integrations()
    for tracker in names:
        if tracker not in known:
            remedy = suggestion(tracker, known) if known else ""
            raise InputError("report_to", expected="trackers that are installed", found=repr(tracker),
                             remedy=f"Install it, e.g. `pip install {tracker}`. {remedy}".strip())  # fmt: skip
