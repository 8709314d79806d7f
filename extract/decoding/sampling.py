"""Sampling: which frames of a clip are kept, one of every group of so many."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from extract.decoding.frame_folders import Frame


def sampled(n_frames: int, every: int, rng: np.random.Generator | None = None, phase: int = 0) -> list[int]:
    """Which frames of a clip are kept: one of every ``every``.

    The one at ``phase`` of each group (the last of a shorter group), or with ``rng`` (training only) one drawn from
    each group, so that all frames are seen over the epochs while the order and the rate stay.

    >>> sampled(10, 4)
    [0, 4, 8]
    """
    starts = range(0, n_frames, every)
    if rng is None:
        return [min(start + phase, n_frames - 1) for start in starts]
    return [int(rng.integers(start, min(start + every, n_frames))) for start in starts]


def sample_stream(
    stream: Iterable[Callable[[], Frame]], every: int, rng: np.random.Generator | None = None, phase: int = 0
) -> Iterator[Frame]:
    """The frames that ``sampled`` keeps, of a stream whose length shows only at its end.

    Args:
        stream: makes a frame when called; each is called before the next one is asked for, or never.
    """
    held: dict[int, Frame] = {}
    draws: list[int] = []
    place = 0
    for make in stream:
        if place == 0:
            draws = _draws(every, rng, phase)
        if place in draws:
            held[place] = make()
        place += 1
        if place == every:
            yield _choose(held, draws, place, rng)
            held, place = {}, 0
    if place:
        yield _choose(held, draws, place, rng)


def _draws(every: int, rng: np.random.Generator | None, phase: int) -> list[int]:
    """What would be drawn from a group that ends after 1, 2, ... ``every`` frames: only the last may be short."""
    if rng is None:
        return [min(phase, length - 1) for length in range(1, every + 1)]
    return [int(copy.deepcopy(rng).integers(0, length)) for length in range(1, every + 1)]


def _choose(held: dict[int, Frame], draws: list[int], length: int, rng: np.random.Generator | None) -> Frame:
    if rng is not None:
        rng.integers(0, length)  # what was drawn from a copy
    return held[draws[length - 1]]
