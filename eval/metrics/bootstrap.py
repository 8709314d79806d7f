"""Bootstrap resamples of a split, as sacreBLEU draws them (Koehn 2004, section 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metrics.measures import Counts
from extract.errors import InputError

VARIABLE, SEED = "SACREBLEU_SEED", "12345"


def seed() -> int:
    """sacreBLEU's seed: 12345 unless ``SACREBLEU_SEED`` says another.

    Raises:
        InputError: the variable is not a whole number (sacreBLEU's ``none`` would give other numbers each time).
    """
    given = os.environ.get(VARIABLE, SEED)
    if not given.isdecimal():
        raise InputError(VARIABLE, expected="a whole number", found=repr(given), remedy="Unset it.")
    return int(given)


def draws(n: int, samples: int) -> Iterator[NDArray[np.float64]]:
    """For each resample, how often each of n sentences is in it.

    The draws are sacreBLEU's, which holds the statistics of all resamples at once: 4 GB for BLEU at 100,000 sentences.
    """
    generator = np.random.default_rng(seed())
    for _ in range(samples):
        yield np.bincount(generator.choice(n, size=n, replace=True), minlength=n).astype(np.float64)


def resample(counts: Counts, samples: int, only: Sequence[str] | None = None) -> dict[str, NDArray[np.float64]]:
    """Every metric of every resample: name to (samples,). The n-th resample of two systems has the same sentences.

    Args:
        only: names of metrics; None: all.
    """
    found = [counts.measures.scores(drawn @ counts.matrix, only) for drawn in draws(len(counts), samples)]
    return {name: np.array([scores[name] for scores in found]) for name in found[0]}


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The bounds of the middle 95 % of resamples, cut off where sacreBLEU does."""
    ordered = np.sort(values)
    cut = len(ordered) // 40
    return float(ordered[cut]), float(ordered[len(ordered) - cut - 1])
