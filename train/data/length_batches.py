"""Which examples make a batch: those of about one length, as many as a budget allows, anew in every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from extract.errors import InputError

STEP = 1.2
"""Lengths within this factor count as alike: examples are shuffled among those of like source and like target."""

Lengths = Sequence[tuple[int, int]]
"""Source steps and target pieces of each example."""


class LengthBatches(Sampler[list[int]]):
    """Batches of indices, bucketed by length, each index once per epoch, over all processes together.

    Examples are ordered by classes of source length, in each by classes of target length, and at random within a class;
    that order is cut into batches, and the batches are shuffled. The cuts depend on the lengths alone, so that every
    epoch has as many batches of the same sizes, which is what counting steps and resuming rely on; what is in them
    depends on seed and epoch alone.

    Args:
        lengths: of the examples, the longest that they can become.
        clips: examples of a batch, at most.
        tokens: source steps and target pieces of a batch with its padding, at most; ``clips`` is not read then. One
            example that is longer is a batch of its own.
        processes, rank: of several processes each gets as many batches, of about the same size in every step.

    Raises:
        InputError: too few examples for as many batches as there are processes.
    """

    def __init__(
        self, lengths: Lengths, clips: int, tokens: int | None = None, seed: int = 0, processes: int = 1, rank: int = 0
    ) -> None:
        self.seed, self.processes, self.rank, self.epoch = seed, processes, rank, 0
        sizes = np.asarray(lengths, dtype=np.int64).reshape(-1, 2)
        self.classes = _classes(sizes)
        ordered = np.argsort(self.classes, kind="stable")
        # Of each class its longest, so that the cuts do not depend on who is where within it.
        longest = np.zeros((self.classes.max(initial=0) + 1, 2), np.int64)
        np.maximum.at(longest, self.classes, sizes)
        bounds = longest[self.classes[ordered]]
        self.cuts = _even(_cut(bounds, clips, tokens), processes)
        self.largest = max(
            ((end - start, *bounds[start:end].max(axis=0).tolist()) for start, end in self.cuts),
            key=lambda shape: shape[0] * (shape[1] + shape[2]),
        )
        """Examples, source steps and target pieces of the batch that takes most memory."""
        self.alike = bool((sizes == sizes[:1]).all())
        """All examples have the same lengths."""

    def fullest(self, sizes: Sequence[int], epochs: float) -> tuple[int, int]:
        """Of this process's batches in so many epochs the one with most steps in sum: its examples, and the sum.

        For examples that are batched at random. Which are in a batch is known before.
        """
        before, found = self.epoch, (1, 0)
        for epoch in range(math.ceil(epochs)):
            self.set_epoch(epoch)
            for batch in self:
                found = max(found, (len(batch), sum(sizes[place] for place in batch)), key=lambda one: one[1])
        self.set_epoch(before)
        return found

    def __len__(self) -> int:
        """Batches of this process in an epoch."""
        return len(self.cuts) // self.processes

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch, 0x42617463])
        order = np.lexsort((rng.random(len(self.classes)), self.classes))
        # Neighbours go to the processes of one step: of about one length, none waits for another.
        for step in rng.permutation(len(self)):
            start, end = self.cuts[step * self.processes + self.rank]
            yield order[start:end].tolist()


def _classes(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each example that orders it by source length, then by target length: upwards in one class of
    source lengths, downwards in the next, so that neighbours are alike where one class ends."""
    source, target = (np.ceil(np.log(np.maximum(sizes, 1)) / math.log(STEP) - 1e-9).astype(np.int64)).T
    most = target.max(initial=0) + 1
    place: NDArray[np.int64] = source * most + np.where(source % 2, most - 1 - target, target)
    return place


def _cut(bounds: NDArray[np.int64], clips: int, tokens: int | None) -> list[tuple[int, int]]:
    """First and last (exclusive) place of each batch."""
    cuts, start, widest = [], 0, np.zeros(2, np.int64)
    for place, bound in enumerate(bounds):
        wider = np.maximum(widest, bound)
        held = place - start
        full = held >= clips if tokens is None else held > 0 and (held + 1) * wider.sum() > tokens
        if full:
            cuts.append((start, place))
            start, wider = place, bound
        widest = wider
    return [*cuts, (start, len(bounds))]


def _even(cuts: list[tuple[int, int]], processes: int) -> list[tuple[int, int]]:
    """The largest batches halved until there are as many for each process."""
    if cuts[-1][1] < processes * math.ceil(len(cuts) / processes):
        raise InputError("training set", expected=f"at least an example for each of {processes} processes a step",
                         found=f"{cuts[-1][1]} in {len(cuts)} batches",
                         remedy="Use fewer processes, or a larger batch_tokens.")  # fmt: skip
    while len(cuts) % processes:
        halved = max(range(len(cuts)), key=lambda place: cuts[place][1] - cuts[place][0])
        start, end = cuts[halved]
        cuts[halved : halved + 1] = [(start, (start + end) // 2), ((start + end) // 2, end)]
    return cuts
