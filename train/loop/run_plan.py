"""What a training run is going to do, said before its first step, and refused where it cannot fit into memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from extract.errors import InputError
from train.data.length_batches import LengthBatches
from train.loop.device import free_memory
from train.loop.memory_estimate import TOLERANCE, Memory, size
from train.settings import TrainingSettings

REMEDY = (
    "Use a smaller batch_size or batch_tokens with accumulate, which gives the same steps, gradient_checkpointing, "
    "from pixels frame_batch, a trimmed vocabulary, lora, batch_shapes: packed, or half precision"
)
"""Where memory does not suffice."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Counts of a run, and what it will take in memory."""

    trained: int
    frozen: int
    """Parameters."""
    examples: int
    """Of the training set."""
    batches: int
    """Of one process in an epoch."""
    clips: int
    """Examples of a batch, at most."""
    accumulate: int
    processes: int
    steps: int
    """Optimiser steps in all."""
    device: str
    memory: Memory | None = None
    """Of each process; None where examples have no lengths that tell."""
    free: int | None = None
    """Bytes that this process can take, besides the weights where they are there already."""

    def lines(self) -> list[str]:
        """For people."""
        per_epoch = math.ceil(self.batches / self.accumulate)
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        lines = [
            f"{_millions(self.trained)} parameters trained, {_millions(self.frozen)} frozen, on {self.device}",
            f"{self.steps} steps ({self.steps / per_epoch:.1f} epochs) of {self.examples / per_epoch:.1f} examples: "
            f"batches of up to {self.clips} x {self.accumulate} accumulated x {processes}",
        ]
        if self.memory is not None:
            lines.append(f"about {size(self.memory.peak)} of memory at most: {self.memory}")
        return lines

    def require_memory(self) -> None:
        """
        Raises:
            InputError: the estimate, less its tolerance, exceeds what is free.
        """
        if self.memory is None or self.free is None:
            return
        wanted = self.memory.peak - self.memory.weights
        if wanted * (1 - TOLERANCE) > self.free:
            raise InputError(
                f"memory of {self.device}", expected=f"about {size(wanted)} free ({self.memory})",
                found=size(self.free),
                remedy=f"{REMEDY}; check_memory: false tries it.",
            )  # fmt: skip


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """What runs within takes no more than the device has.

    Raises:
        InputError: it does; torch's own error says neither what to do nor, on one line, what happened.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"memory of {device}", expected="room for the model and its largest batch",
                         found=". ".join(str(error).split(". ")[:2]), remedy=f"{REMEDY}.") from error  # fmt: skip


def plan(
    model: nn.Module,
    settings: TrainingSettings,
    batches: LengthBatches,
    device: torch.device,
    memory: Memory | None,
) -> Plan:
    """
    Args:
        model: on its device.
        memory: its estimate; None where there is none.
    """
    sizes = dict.fromkeys((True, False), 0)
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    per_epoch = math.ceil(len(batches) / settings.accumulate)
    return Plan(
        trained=sizes[True],
        frozen=sizes[False],
        examples=len(batches.classes),
        batches=len(batches),
        clips=max(end - start for start, end in batches.cuts),
        accumulate=settings.accumulate,
        processes=batches.processes,
        steps=settings.steps or math.ceil((settings.epochs or 1) * per_epoch),
        device=str(device),
        memory=memory,
        free=free_memory(device) if memory is not None else None,
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count else "0"
