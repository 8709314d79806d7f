"""What training will take in memory, estimated before the first step from the model itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from train.models.translator import SignTranslator
from train.settings import TrainingSettings

TOLERANCE = 0.2
"""Peaks of allocated tensors lie within this share of the estimate (tests/train/loop/test_memory_estimate.py)."""

LOSS_COPIES = 1
"""fp32 tensors of the logits' size that the backward pass of the loss adds to what is kept."""

FEW_FRAMES = 16
"""By which is measured what a backbone computes again."""

BUFFERS = 2**25
"""Bytes that libraries take for themselves when training begins on a CPU; 30 to 60 MB were measured."""

GAPS = {"alike": 0.1, "mixed": 1.0}
"""What the C library's allocator keeps in gaps that no later tensor fits into, as a share of the activations: while all
batches have one shape and all weights are trained, and else. Measured with glibc: up to 0.15 for the former; for the
latter from 0.3 to 2, growing more and more slowly with the steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, by what they hold."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    """What the forward pass of the largest batch keeps, and what the backward pass adds at its start: gradients of the
    loss and of the output layer."""
    largest: int
    """Gradient of one parameter, as a rule the embedding's."""
    accumulated: bool
    """Gradients are there while the next batch goes forward: with accumulation, or several processes' buffers."""
    besides: int = 0
    """What the process takes for no tensor: libraries' buffers, and what the allocator does not give back."""

    @property
    def peak(self) -> int:
        """What the process takes."""
        return self.tensors + self.besides

    @property
    def tensors(self) -> int:
        """In one batch per step, gradients grow while activations go; the embedding's is made a second time at the end,
        to be added to that of the output layer."""
        grown = self.gradients + self.largest
        moving = self.gradients + self.activations if self.accumulated else self.activations
        return self.weights + self.optimiser + max(grown, moving)

    def __str__(self) -> str:
        parts = {name: getattr(self, name) for name in ("weights", "gradients", "optimiser", "activations")}
        if self.besides:
            parts["allocator and libraries"] = self.besides
        return ", ".join(f"{name} {size(held)}" for name, held in parts.items())


def size(count: int) -> str:
    """
    >>> size(2_345_678_901), size(4_500_000)
    ('2.35 GB', '4.5 MB')
    """
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def estimate(
    model: nn.Module,
    settings: TrainingSettings,
    batch_of: Callable[[int], Mapping[str, Tensor]],
    clips: int,
    processes: int = 1,
    *,
    alike: bool = False,
) -> Memory:
    """Of training with this model, which is left as it was and where it is.

    One and two clips go forward, and what autograd keeps for the backward pass is counted: that holds for any
    architecture, trained or frozen in part, and any precision. Memory grows evenly with the clips of a batch.

    Args:
        batch_of: a batch of so many clips, each as long as the longest of the largest batch.
        clips: of the largest batch.
        alike: all batches have one shape.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = sum(_bytes(parameter) for parameter in trained)
    states = {"adamw": 2, "sgd": int(settings.momentum > 0)}[settings.optimizer]
    largest = max((_bytes(parameter) for parameter in trained), default=0)
    kept = [_activations(model, settings, batch_of(n)) for n in (1, 2)]
    per_clip = kept[1] - kept[0]
    activations = max(0, kept[0] - per_clip) + per_clip * clips + largest
    accumulated = settings.accumulate > 1 or processes > 1
    besides = 0
    if next(model.parameters()).device.type == "cpu":
        # Gradients do not go where activations were, as they do in `tensors`: theirs are other sizes.
        apart = 0 if accumulated else min(activations - largest, gradients)
        even = alike and not accumulated and all(one.requires_grad for one in model.parameters())
        gaps = GAPS["alike" if even else "mixed"] * activations
        besides = apart + int(gaps) + BUFFERS
    return Memory(
        weights=sum(_bytes(one) for one in [*model.parameters(), *model.buffers()]),
        gradients=gradients * (2 if processes > 1 else 1),
        optimiser=states * gradients,
        activations=activations,
        largest=largest,
        accumulated=accumulated,
        besides=besides,
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _activations(model: nn.Module, settings: TrainingSettings, batch: Mapping[str, Tensor]) -> int:
    """Bytes that a batch's forward pass keeps, with what the loss takes besides at the start of the backward pass."""
    batch = send_to_device(batch, next(model.parameters()).device)
    if "frames" in batch:
        return _from_frames(model, settings, batch)
    if not settings.gradient_checkpointing or not isinstance(model, PreTrainedModel):
        return _kept(model, settings, batch)[0]
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    whole, _ = _kept(model, settings, batch)
    model.activation_checkpointing_enable()
    outside, inputs = _kept(model, settings, batch, layers)
    model.activation_checkpointing_disable()
    return outside + inputs + (whole - outside) // max(1, len(layers))


def _from_frames(model: nn.Module, settings: TrainingSettings, batch: Mapping[str, Any]) -> int:
    """As ``_activations``. Where the backbone computes its values again, what it has of them at once counts, too. Of
    the language model, which is small beside it, all counts."""
    encoder: Any = model.encoder
    kept, _ = _kept(model, settings, batch)
    way = encoder.frame_pass
    if way is None:
        return kept
    frames, few = len(batch["frames"]), batch["frames"][:FEW_FRAMES]
    again = sum(_saved(model, settings, lambda: encoder.pooled(few))) / len(few)
    return kept + int(way.at_once(frames) * frames * again)


def _kept(
    model: nn.Module, settings: TrainingSettings, batch: Mapping[str, Any], layers: Sequence[nn.Module] = ()
) -> tuple[int, int]:
    """Bytes that autograd keeps of one forward pass, parameters apart, with what the loss takes besides; and bytes of
    the inputs of ``layers``."""
    inputs = 0

    def count(_: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal inputs
        inputs += sum(_bytes(one) for one in given if isinstance(one, Tensor))

    handles = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        kept = sum(_saved(model, settings, lambda: model(**batch)))
    finally:
        for handle in handles:
            handle.remove()
    pieces = model.language_model.config.vocab_size if isinstance(model, SignTranslator) else 0
    return kept + LOSS_COPIES * batch["labels"].numel() * pieces * 4, inputs


def _saved(model: nn.Module, settings: TrainingSettings, work: Callable[[], Any]) -> list[int]:
    """Bytes of each tensor that autograd keeps of some work with the model, its own parameters apart."""
    device = next(model.parameters()).device
    own = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers()]}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, saved by what made it, would hold that for ever

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.precision)
    with (
        _undisturbed(model, device),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast(device.type, dtype=half, enabled=half is not None),
    ):
        output = work()  # kept until all is counted: what is freed would have its place taken
    del output
    return list(seen.values())


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """In training mode, with random numbers that nobody misses and statistics that go back to what they were."""
    before = [buffer.clone() for buffer in model.buffers()]
    mode = model.training
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        model.train()
        try:
            yield
        finally:
            model.train(mode)
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
