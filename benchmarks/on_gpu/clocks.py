"""Seconds of calls, and of the steps of a training loop, on a device that is not waited for."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from train.loop.trainer import fit

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
ENDLESS = 10**6


class Clock(TrainerCallback):
    """When steps ended: the device is waited for in the middle of a run and at its last step alone, as the loop itself
    does not wait. The first half has the recordings of new shapes, and whatever else comes once."""

    def __init__(self, steps: int) -> None:
        self.steps, self.half = steps, steps // 2
        self.began = self.middle = self.ended = self.saved = 0.0

    def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step == 0:
            self.began = now()

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step == self.half:
            self.middle = now()
        elif state.global_step == self.steps:
            self.ended = now()

    def on_save(self, *_: Any, **__: Any) -> None:
        self.saved = now()

    @property
    def step(self) -> float:
        """Seconds of a step of the second half, in the mean."""
        return (self.ended - self.middle) / (self.steps - self.half)


def fitted(model: Any, settings: Any, data: Any, collate: Callable[..., Any], folder: Path, **more: Any) -> Clock:
    """The product's own loop over so many steps."""
    clock = Clock(settings.steps)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        fit(model, settings, data, collate, Path(work) / "w", callbacks=[clock], **more)
    if CUDA:
        torch.cuda.empty_cache()
    return clock


def settings_of(kind: type[Any], steps: int, batch: int, precision: str, **more: Any) -> Any:
    usual = {"checkpoint_every": ENDLESS, "log_every": ENDLESS}
    return kind(steps=steps, batch_size=batch, precision=precision, **(usual | more))


def now() -> float:
    """Seconds, when the device has done all that it was given."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], Any]) -> float:
    began = now()
    work()
    return now() - began


def median(work: Callable[..., Any], *given: Any, times: int = 12, **options: Any) -> float:
    """Seconds of a call, after three that do not count."""
    called = [timed(lambda: work(*given, **options)) for _ in range(3 + times)]
    return statistics.median(called[3:])
