"""The training loop: transformers' Trainer with groups of learning rates, bucketed batches, dev BLEU-4 and resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME

from extract.errors import InputError, suggestion
from train.data.length_batches import LengthBatches
from train.loop.callbacks import EpochCallback, PatienceCallback, Report, ReportCallback, looks_since_best
from train.loop.dev_evaluation import BATCH, watch
from train.loop.device import require_precision, training_device
from train.loop.dominance_probe import DominanceProbe
from train.loop.memory_estimate import estimate
from train.loop.run_plan import enough_memory, plan
from train.processes import process_count, process_rank
from train.settings import TrainingSettings


class OneDevice(TrainingArguments):
    """Batches are packed, so one process cannot cut them into equal parts for the other devices that it sees."""

    @property
    def n_gpu(self) -> int:
        return min(1, int(super().n_gpu))


class RateGroupTrainer(Trainer):
    """Gives parameters their learning rate by the start of their name, and SGD its momentum; takes its batches from a
    sampler that knows the processes, and looks at the whole of dev."""

    optimizer: torch.optim.Optimizer | None
    control: TrainerControl

    def __init__(
        self, *args: Any, settings: TrainingSettings, rates: Mapping[str, float], batches: LengthBatches,
        max_length: int, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self.settings, self.rates, self.batches, self.max_length = settings, rates, batches, max_length

    def get_train_dataloader(self) -> DataLoader[Any]:
        # Not prepared by accelerate, which deals batches out to processes by repeating some.
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.settings.workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        started = time.monotonic()
        with self.accelerator.autocast():
            scores = watch(
                self.model, self.eval_dataset, self.data_collator, self.processing_class, self.max_length,
                clips=max(BATCH, self.settings.batch_size), workers=self.settings.workers,
                to_device=lambda batch: send_to_device(batch, self.args.device),
            )  # fmt: skip
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        self.log({**metrics, "eval_seconds": time.monotonic() - started})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:  # the last share of a step; the gradients are clipped next
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, DominanceProbe):
                    callback.before_clipping(self.state.global_step)
        return loss

    def loss_scale(self) -> float:
        """What fp16's losses and gradients are multiplied by at present."""
        scaler = self.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = model or self.model
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    rate = next((r for start, r in self.rates.items() if name.startswith(start)), None)
                    # Biases and the gains of norms, however a backbone names them, are what has one dimension.
                    decay = self.settings.weight_decay * (parameter.ndim > 1)
                    key = (rate or self.settings.learning_rate, decay)
                    groups.setdefault(key, []).append(parameter)
            listed = [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
            sgd = self.settings.optimizer == "sgd"
            # Fused: each weight, gradient and state goes through memory once.
            self.optimizer = (
                torch.optim.SGD(listed, momentum=self.settings.momentum)
                if sgd
                else torch.optim.AdamW(listed, fused=True)
            )
        return self.optimizer


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
    say: Callable[[str], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict[str, float]]:
    """Train ``model`` in place; resumes from the last checkpoint in ``work`` when there is one, and only loads the
    result when that one is the last.

    With ``settings.evaluate_every`` and ``dev``, the weights with the best dev BLEU-4 (greedy) are kept, otherwise
    the last ones. Started by ``torchrun``, each process computes its share of every step.

    Args:
        train: examples; one that has ``lengths`` (source steps and target pieces of each) is batched by length.
        work: folder for checkpoints; the caller removes it when the result is saved.
        rates: learning rates by the start of a parameter's name; others have ``settings.learning_rate``.
        say: told, before the first step, what is trained, in which steps, and what it will take in memory.
        callbacks: of the loop, besides its own.

    Returns:
        The log: one dict per entry, with ``step`` and loss, learning rate or dev figures.

    Raises:
        DivergenceError: the loss is no longer a number.
        InputError: the device lacks the precision or the memory, a tracker is not installed, or there are fewer
            examples than processes.
    """
    checkpoint = get_last_checkpoint(str(work)) if work.is_dir() else None
    if checkpoint:
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        out_of_patience = settings.patience is not None and looks_since_best(state.log_history) >= settings.patience
        if state.global_step >= state.max_steps or out_of_patience:
            # The loop would enter its last epoch once more and take a step too many.
            best = state.best_model_checkpoint or checkpoint
            load_model(model, work / Path(best).name / SAFE_WEIGHTS_NAME)
            return [dict(entry) for entry in state.log_history]
    lengths = getattr(train, "lengths", None)
    batches = LengthBatches(
        lengths or [(0, 0)] * len(train),  # type: ignore[arg-type]
        settings.batch_size,
        settings.batch_tokens if lengths else None,
        settings.seed,
        process_count(),
        process_rank(),
    )
    require_precision(settings.precision, training_device())
    arguments = _arguments(settings, work, selecting=dev is not None and settings.evaluate_every is not None)
    with enough_memory(arguments.device):
        _announce(model, settings, batches, train, collate, arguments.device, say)
    patience = [PatienceCallback(settings.patience)] if settings.patience else []
    probes = [DominanceProbe(work)] if settings.dominance else []
    trainer = RateGroupTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=dev if arguments.load_best_model_at_end else None,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[EpochCallback(train, batches), ReportCallback(report), *patience, *probes, *callbacks],
        settings=settings,
        rates=rates or {},
        batches=batches,
        max_length=max_length,
    )
    for probe in probes:
        probe.scale = trainer.loss_scale
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    started = time.monotonic()
    with enough_memory(arguments.device):
        trainer.train(resume_from_checkpoint=checkpoint)
    log = [dict(entry) for entry in trainer.state.log_history]
    log.append({"step": trainer.state.global_step, "seconds": time.monotonic() - started})
    return log


def _arguments(settings: TrainingSettings, work: Path, selecting: bool) -> TrainingArguments:
    """transformers' own settings."""
    for tracker in settings.report_to:
        known = get_available_reporting_integrations()
        if tracker not in known:
            remedy = suggestion(tracker, known) if known else ""
            raise InputError("report_to", expected="trackers that are installed", found=repr(tracker),
                             remedy=f"Install it, e.g. `pip install {tracker}`. {remedy}".strip())  # fmt: skip
    arguments = OneDevice(
        output_dir=str(work),
        use_cpu=training_device().type == "cpu",  # else accelerate starts no gloo between processes
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
        metric_for_best_model="bleu4" if selecting else None,
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


def _announce(
    model: nn.Module,
    settings: TrainingSettings,
    batches: LengthBatches,
    train: Any,
    collate: Callable[..., Any],
    device: torch.device,
    say: Callable[[str], None] | None,
) -> None:
    """Say what is going to happen; refuse what cannot fit into memory."""
    if say is None:
        return
    model.to(device)
    memory = None
    if hasattr(train, "example_of"):
        clips, steps, pieces = batches.largest
        memory = estimate(
            model, settings, lambda n: collate([train.example_of(steps, pieces)] * n), clips, batches.processes,
            alike=batches.alike,
        )  # fmt: skip
    planned = plan(model, settings, batches, device, memory)
    for line in planned.lines():
        say(line)
    if settings.check_memory:
        planned.require_memory()
