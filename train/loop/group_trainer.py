"""transformers' Trainer with learning rates by group, batches of our own, and a look at the whole of dev."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import AutocastKwargs, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl

from extract.own_device import moved
from train.data.length_batches import LengthBatches
from train.data.padded_batches import ResidentFeatures
from train.loop.batch_shapes import PREFETCH
from train.loop.dev_evaluation import watch
from train.loop.dominance_probe import DominanceProbe
from train.loop.replayed_steps import Batch, CallsAgain, CudaGraphs, Found, ReplayedSteps
from train.loop.search_batches import BATCH, clips_at_once
from train.settings import TrainingSettings


class RateGroupTrainer(Trainer):
    """Gives parameters their learning rate by the start of their name, and SGD its momentum; takes its batches from a
    sampler that knows the processes, and looks at the whole of dev.

    Nothing in a step waits for the device, but where the log is due.

    Args:
        batch: collates training examples; dev's are collated by ``data_collator``.
        resident: the training features, where they lie on the device.
        replays: take whole steps that are replayed, where they were recorded; ``largest`` makes the batch that takes
            most memory.
    """

    optimizer: torch.optim.Optimizer | None
    control: TrainerControl

    def __init__(
        self, *args: Any, settings: TrainingSettings, rates: Mapping[str, float], batches: LengthBatches,
        max_length: int, batch: Callable[..., Any], resident: ResidentFeatures | None, replays: bool,
        largest: Callable[[], Batch], workers: int, say: Callable[[str], None],
        judge: Callable[[Sequence[str]], float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self.judge = judge
        self.settings, self.rates, self.batches, self.max_length = settings, rates, batches, max_length
        self.batch, self.resident, self.workers, self.say = batch, resident, workers, say
        self.replays, self.largest = replays, largest
        self.steps: ReplayedSteps | None = None
        self.norm: Tensor | None = None
        """Of the gradients of the last whole step."""
        if replays:
            # Weights that were cast in a recording are none outside of it.
            self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)

    def get_train_dataloader(self) -> DataLoader[Any]:
        # Not prepared by accelerate, which deals batches out to processes by repeating some.
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.batch,
            num_workers=self.workers,
            prefetch_factor=PREFETCH if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.args.dataloader_pin_memory,
            # Of the loader processes' seeds, which nothing is drawn from: taken from torch's own numbers they would
            # move what the model draws, by how many processes there are and by where a run went on.
            generator=torch.Generator(),
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | None]:
        """The batches of an optimiser step, on their way to the device, and its target pieces, counted before."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        pieces = None
        if batches and self.model_accepts_loss_kwargs:
            counts = torch.stack([batch["labels"].ne(-100).sum() for batch in batches])
            pieces = moved(counts.sum().float(), device)
            if self.args.world_size > 1:
                pieces = self.accelerator.gather(pieces).sum()
        return [send_to_device(batch, device, non_blocking=True) for batch in batches], pieces

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # nobody reads it, and it counts all parameters in every step

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        judge, started = self.judge, time.monotonic()
        assert judge is not None
        lengths = getattr(self.eval_dataset, "lengths", None)
        clips = clips_at_once(self.model, max(lengths)[0], 1, self.max_length) if lengths else BATCH
        with self.accelerator.autocast():
            scores = watch(
                self.model, self.eval_dataset, self.data_collator, self.processing_class, self.max_length, judge,
                clips=max(clips, self.settings.batch_size), workers=self.workers,
                to_device=lambda batch: send_to_device(batch, self.args.device, non_blocking=True),
            )  # fmt: skip
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        shown = {name: value for name, value in metrics.items() if name != "eval_choice"}
        self.log({**shown, "eval_seconds": time.monotonic() - started})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        if self.replays and num_items_in_batch is not None:
            return self._whole_step(model, {**inputs, "pieces": num_items_in_batch})
        if self.resident is not None:
            inputs = self.resident.filled(inputs)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:  # the last share of a step; the gradients are clipped next
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, DominanceProbe):
                    callback.before_clipping(self.state.global_step)
        return loss

    def _whole_step(self, model: nn.Module, batch: Batch) -> Tensor:
        """All of a step. It leaves no gradients, so that clipping and update, which follow in the loop, do nothing."""
        if self.steps is None:
            assert self.optimizer is not None
            optimizer: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)  # in accelerate's
            device = self.args.device
            largest = {name: tensor.to(device) for name, tensor in self.largest().items()}

            def step(batch: Batch) -> Found:
                return self._stepped(model, optimizer, dict(batch))

            self.steps = ReplayedSteps(
                step, optimizer, CudaGraphs(device) if device.type == "cuda" else CallsAgain(),
                {**largest, "pieces": torch.ones((), device=device)},
                tolerance=1e-3 if self.settings.precision == "fp32" else 0.05, say=self.say,
            )  # fmt: skip
        if not model.training:
            model.train()
        loss, self.norm = self.steps(batch)
        return loss

    def _stepped(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Found:
        pieces = batch.pop("pieces")
        if self.resident is not None:
            batch = self.resident.filled(batch)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch, num_items_in_batch=pieces)
        self.accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "grad_norm" in logs and self.norm is not None:
            logs["grad_norm"] = float(self.norm)
        super().log(logs, *args, **kwargs)

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
            on_gpu = self.args.device.type == "cuda"
            self.optimizer = (
                torch.optim.SGD(listed, momentum=self.settings.momentum, fused=on_gpu)
                if sgd
                else torch.optim.AdamW(listed, fused=True)
            )
        return self.optimizer
