"""The training loop: transformers' Trainer with groups of learning rates, bucketed batches, dev BLEU-4 and resume."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from extract.own_device import own_device
from train.data.length_batches import LengthBatches
from train.data.padded_batches import PaddedBatches, up
from train.loop.batch_shapes import Shapes, loader_processes, on_device, shapes_of
from train.loop.callbacks import EpochCallback, PatienceCallback, Report, ReportCallback, looks_since_best
from train.loop.device import require_precision
from train.loop.dominance_probe import DominanceProbe
from train.loop.group_trainer import RateGroupTrainer
from train.loop.memory_estimate import Memory, estimate
from train.loop.run_plan import enough_memory, plan
from train.loop.trainer_arguments import trainer_arguments
from train.loop.whole_checkpoint import last_whole_checkpoint
from train.models.translator import SignTranslator
from train.processes import process_count, process_rank
from train.settings import TrainingSettings


def fit(
    model: nn.Module,
    settings: TrainingSettings,
    train: Dataset[Any],
    collate: Callable[..., Any],
    work: Path,
    *,
    dev: Dataset[Any] | None = None,
    judge: Callable[[Sequence[str]], float] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    rates: Mapping[str, float] | None = None,
    max_length: int = 128,
    report: Report | None = None,
    say: Callable[[str], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict[str, float]]:
    """Train ``model`` in place; resumes from the last whole checkpoint in ``work`` when there is one, and only loads
    the result when that one is the last.

    With ``settings.evaluate_every`` and ``dev``, the weights with the best dev BLEU-4 (greedy; of equals, those with
    the smaller dev loss) are kept, otherwise the last ones. Started by ``torchrun``, each process computes its share of
    every step.

    Args:
        train: examples; one that has ``lengths`` (source steps and target pieces of each) is batched by length.
        judge: BLEU-4 of translations of ``dev``, in its order; needed where it is looked at.
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
    checkpoint = last_whole_checkpoint(work)
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
    device = own_device()
    require_precision(settings.precision, device)
    arguments = trainer_arguments(settings, work, selecting=dev is not None and settings.evaluate_every is not None)
    text = model.language_model.config if isinstance(model, SignTranslator) else None
    shapes, against = shapes_of(settings, device, train, text)
    with enough_memory(device):
        _announce(model, settings, batches, train, collate, device, shapes, say)
        resident = on_device(train, shapes, device, settings)
    if against and say is not None:
        say(f"steps are not replayed: {against}")
    batch, seen = collate, resident or train
    if shapes != "packed":
        clips = None if settings.batch_tokens else settings.batch_size
        batch = PaddedBatches(clips, getattr(text, "max_position_embeddings", None))
    patience = [PatienceCallback(settings.patience)] if settings.patience else []
    probes = [DominanceProbe(work)] if settings.dominance else []
    trainer = RateGroupTrainer(
        model=model,
        args=arguments,
        train_dataset=seen,
        eval_dataset=dev,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[EpochCallback(train, batches), ReportCallback(report), *patience, *probes, *callbacks],
        settings=settings,
        rates=rates or {},
        batches=batches,
        max_length=max_length,
        judge=judge,
        batch=batch,
        resident=resident,
        replays=shapes == "replayed",
        largest=lambda: batch([seen.example_of(*batches.largest[1:])] * batches.largest[0]),  # type: ignore[union-attr]
        workers=loader_processes(settings, device, train) if resident is None else 0,
        say=say or (lambda line: None),
    )
    for probe in probes:
        probe.scale = trainer.loss_scale
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    started = time.monotonic()
    with enough_memory(device):
        trainer.train(resume_from_checkpoint=checkpoint)
    log = [dict(entry) for entry in trainer.state.log_history]
    log.append({"step": trainer.state.global_step, "seconds": time.monotonic() - started})
    return log


def _announce(
    model: nn.Module,
    settings: TrainingSettings,
    batches: LengthBatches,
    train: Any,
    collate: Callable[..., Any],
    device: torch.device,
    shapes: Shapes,
    say: Callable[[str], None] | None,
) -> None:
    """Say what is going to happen; refuse what cannot fit into memory."""
    if say is None:
        return
    model.to(device)
    memory = _memory(model, settings, batches, train, collate, device, shapes)
    planned = plan(model, settings, batches, device, memory)
    for line in planned.lines():
        say(line)
    if settings.check_memory:
        planned.require_memory()


def _memory(
    model: nn.Module,
    settings: TrainingSettings,
    batches: LengthBatches,
    train: Any,
    collate: Callable[..., Any],
    device: torch.device,
    shapes: Shapes,
) -> Memory | None:
    """What training will take; None where examples do not tell how large they are."""
    if not hasattr(train, "example_of"):
        return None
    clips, steps, pieces = batches.largest
    from_pixels = hasattr(train, "sizes")
    if from_pixels:
        frames, pieces = (list(sizes) for sizes in zip(*train.sizes, strict=True))
        clips, most = batches.fullest(
            frames, settings.epochs or (settings.steps or 1) * settings.accumulate / len(batches)
        )
        steps, pieces = max(8, math.ceil(most / clips)), max(pieces)  # BatchNorm needs some, of a single clip too
    if shapes != "packed":
        clips, steps, pieces = clips if settings.batch_tokens is None else up(clips), up(steps), up(pieces)
    memory = estimate(
        model, settings, lambda n: collate([train.example_of(steps, pieces)] * n), clips, batches.processes,
        alike=batches.alike and not from_pixels,
    )  # fmt: skip
    if shapes == "replayed" and device.type == "cuda":
        # Recorded steps have memory of their own; steps that are not recorded need theirs besides.
        memory = dataclasses.replace(memory, besides=memory.besides + memory.activations + memory.gradients)
    return memory
