"""Whole optimiser steps in few shapes: recorded once per shape, as CUDA graphs, and replayed on new values.

A step of a large language model on a few clips is thousands of small kernels, and a GPU waits for each to be launched.
A graph launches them at once. See docs/decisions/replayed-steps.md.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from extract.errors import InputError
from train.loop.device import free_memory

Batch = dict[str, Tensor]
Found = tuple[Tensor, Tensor]
"""Loss, and norm of the gradients before clipping."""
Shape = tuple[tuple[str, tuple[int, ...]], ...]

WARM_UP = 3
"""Steps of a run before the first is recorded: they make the optimiser's states and what libraries keep."""
RARE = 1
"""Steps of one shape before it is recorded: a shape that does not come again is not worth it."""
GRAPHS = 64
"""That are kept, the latest used."""


class Recorder(Protocol):
    """How steps are recorded."""

    def apart(self) -> AbstractContextManager[None]:
        """Within, steps run that are not recorded."""
        ...

    def record(self, step: Callable[[], Found]) -> Callable[[], Found]:
        """A function that does again what ``step`` does, on the same tensors. The step is not done now."""
        ...


class CallsAgain:
    """Where there is no GPU: the step itself is called again."""

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, step: Callable[[], Found]) -> Callable[[], Found]:
        return step


class CudaGraphs:
    """CUDA graphs that share one pool of memory, since only one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def apart(self) -> Iterator[None]:
        """On a side stream, as what is recorded must be: what autograd keeps of streams fits then."""
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            yield
        torch.cuda.current_stream().wait_stream(self.side)

    def record(self, step: Callable[[], Found]) -> Callable[[], Found]:
        graph = torch.cuda.CUDAGraph()
        # Thread-local: a loader's thread may pin memory meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.side, capture_error_mode="thread_local"):
            found = step()

        def again() -> Found:
            graph.replay()
            return found

        return again


class ReplayedSteps:
    """Takes optimiser steps, each of a batch, and replays those of shapes that it has recorded.

    The first replay is checked: the step is taken without a recording, undone, and taken again by replay. Where loss or
    norm of the gradients differ, or a step cannot be recorded, all further ones are taken as they come, which is said.

    Args:
        step: a whole optimiser step of a batch on the device: forward, backward, clipping, update, gradients set to
            None. It waits for nothing.
        optimizer: of that step. While a step is taken its learning rates are tensors, which a recording reads anew.
        largest: the batch that takes most memory, recorded first, so that all others find room in its; its values are
            not read.
        tolerance: by how much the check's figures may differ, relatively.
        say: told where replay is given up.
    """

    def __init__(
        self,
        step: Callable[[Batch], Found],
        optimizer: torch.optim.Optimizer,
        recorder: Recorder,
        largest: Batch | None = None,
        *,
        tolerance: float = 1e-3,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.step, self.optimizer, self.recorder, self.largest = step, optimizer, recorder, largest
        self.tolerance, self.say = tolerance, say
        self.device = optimizer.param_groups[0]["params"][0].device
        self.rates = [torch.tensor(float(group["lr"]), device=self.device) for group in optimizer.param_groups]
        self.told = [float(group["lr"]) for group in optimizer.param_groups]
        self.recorded: OrderedDict[Shape, tuple[Batch, Callable[[], Found]]] = OrderedDict()
        self.seen: Counter[Shape] = Counter()
        self.replays = True
        self.checked = False
        self.replayed = 0
        """Steps that were replayed."""

    def __call__(self, batch: Batch) -> Found:
        """Loss and norm of one step, on the device."""
        for place, group in enumerate(self.optimizer.param_groups):
            if group["lr"] != self.told[place]:
                self.told[place] = float(group["lr"])
                self.rates[place].fill_(self.told[place])
        shape = shape_of(batch)
        self.seen[shape] += 1
        if not self.replays or self.seen[shape] <= RARE or self.seen.total() <= WARM_UP:
            return self._taken(batch)
        try:
            if self.largest is not None:
                self._record(self.largest)
                self.largest = None
            if shape not in self.recorded:
                self._record(batch)
        except RuntimeError as error:  # what cannot be recorded, and out of memory
            return self._given_up(str(error).splitlines()[0], batch)
        self.recorded.move_to_end(shape)
        if not self.checked:
            return self._checked(batch)
        return self._replayed(batch)

    def _taken(self, batch: Batch) -> Found:
        with self.recorder.apart(), self._rates_as_tensors():
            return self.step(batch)

    def _replayed(self, batch: Batch) -> Found:
        held, again = self.recorded[shape_of(batch)]
        for name, tensor in batch.items():
            held[name].copy_(tensor, non_blocking=True)
        with self._rates_as_tensors():
            loss, norm = again()
        self.replayed += 1
        return loss.clone(), norm.clone()  # their memory is the next graph's, too

    def _record(self, batch: Batch) -> None:
        held = {name: tensor.clone() for name, tensor in batch.items()}
        with self._rates_as_tensors(capturable=self.device.type == "cuda"):
            self.recorded[shape_of(batch)] = held, self.recorder.record(lambda: self.step(held))
        if len(self.recorded) > GRAPHS:
            self.recorded.popitem(last=False)

    def _checked(self, batch: Batch) -> Found:
        self.checked = True
        kept, drawn = self._kept(), self._generators()
        expected = self._taken(batch)
        self._restore(kept, drawn)
        found = self._replayed(batch)
        differing = [
            f"{float(mine):.6g} for {float(theirs):.6g}"
            for mine, theirs in zip(found, expected, strict=True)
            if not math.isclose(float(mine), float(theirs), rel_tol=self.tolerance) and math.isfinite(float(theirs))
        ]
        if differing:
            self._restore(kept, drawn)
            return self._given_up(f"the first gave {differing[0]}", batch)
        return found

    def _given_up(self, why: str, batch: Batch) -> Found:
        self.replays = False
        self.recorded.clear()
        self.optimizer.zero_grad(set_to_none=True)  # of a recording that ended halfway
        self.say(f"[yellow]steps are not replayed: {why}[/yellow]")
        try:
            return self._taken(batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError("batch_shapes", expected=f"steps that {self.device} can record", found=why,
                             remedy="Set batch_shapes: padded and start again; it goes on from the last "
                             "checkpoint.") from error  # fmt: skip

    @contextmanager
    def _rates_as_tensors(self, **flags: bool) -> Iterator[None]:
        """A float would stay in a recording for ever. The scheduler, the log and checkpoints see floats."""
        groups = self.optimizer.param_groups
        before = [{name: group[name] for name in ("lr", *flags) if name in group} for group in groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group.update(flags, lr=rate)
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    def _state(self) -> list[Tensor]:
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*weights, *(value for value in states if isinstance(value, Tensor))]

    def _kept(self) -> list[Tensor]:
        state = self._state()
        free = free_memory(self.device)
        roomy = free is None or free > 2 * sum(tensor.numel() * tensor.element_size() for tensor in state)
        return [tensor.detach().clone() if roomy else tensor.detach().to("cpu", copy=True) for tensor in state]

    @torch.no_grad()
    def _restore(self, kept: list[Tensor], generators: list[Tensor]) -> None:
        for tensor, before in zip(self._state(), kept, strict=True):
            tensor.copy_(before)
        torch.set_rng_state(generators[0])
        if generators[1:]:
            torch.cuda.set_rng_state(generators[1], self.device)

    def _generators(self) -> list[Tensor]:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]


def shape_of(batch: Batch) -> Shape:
    """By which steps are told apart."""
    return tuple((name, tuple(tensor.shape)) for name, tensor in batch.items())
