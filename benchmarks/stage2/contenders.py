"""Processes that take steps when asked, and the parent that has them take turns."""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers

THREADS = os.cpu_count() or 1


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def serve(pipe: Connection, step: Callable[[], Any], base: int = 0, **facts: Any) -> None:
    """Take a step whenever asked to; ``base`` is what the process held before, in bytes."""
    pipe.send(facts)
    while pipe.recv() == "step":
        began = time.perf_counter()
        step()
        pipe.send({"seconds": time.perf_counter() - began, "peak": resident("VmHWM") - base})


class Gate(transformers.TrainerCallback):
    """Lets the training loop take a step whenever the parent asks for one."""

    def __init__(self, pipe: Connection, base: int) -> None:
        self.pipe, self.base = pipe, base

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self.pipe.recv() != "step":
            os._exit(0)
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.pipe.send({"seconds": time.perf_counter() - self.began, "peak": resident("VmHWM") - self.base})


def child(target: Callable[..., None], pipe: Connection, *given: Any) -> None:
    torch.set_num_threads(THREADS)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    target(pipe, *given)


class Contender:
    """A process that takes a step when asked."""

    def __init__(self, target: Callable[..., None], *given: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=child, args=(target, other, *given), daemon=True)
        self.process.start()
        other.close()  # so that the end of the process is the end of the pipe
        self.facts: dict[str, Any] = self.pipe.recv()
        self.seconds: list[float] = []
        self.last: dict[str, float] = {}

    def step(self, message: str = "step") -> float:
        self.pipe.send(message)
        self.last = self.pipe.recv()
        return self.last["seconds"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def in_turn(contenders: dict[str, Contender], rounds: int, warm: int = 0) -> Iterator[int]:
    for number in range(rounds + warm):
        for contender in contenders.values():
            seconds = contender.step()
            if number >= warm:
                contender.seconds.append(seconds)
        told = {name: round(contender.last["seconds"], 3) for name, contender in contenders.items()}
        print(f"{time.strftime('%H:%M:%S')} round {number} {told}", file=sys.stderr, flush=True)
        yield number


def race(contenders: dict[str, Contender], rounds: int, warm: int = 0) -> dict[str, Contender]:
    for _ in in_turn(contenders, rounds, warm):
        pass
    for contender in contenders.values():
        contender.stop()
    gc.collect()
    return contenders
