"""Augmentation of cached features: what a clip could have looked like, without its pixels."""

from __future__ import annotations

import math

import torch
from numpy.random import Generator
from torch import Tensor, nn

from train.settings import AugmentSettings


def augment(steps: Tensor, settings: AugmentSettings, rng: Generator, longest: int | None = None) -> Tensor:
    """A clip's features (N, C), stretched in time, with noise, with spans masked, in this order.

    Args:
        rng: all that is drawn comes from it.
        longest: steps that stretching may lead to, at most.

    Returns:
        (M, C) float32; ``steps`` itself is not changed.
    """
    out = steps.float()
    if settings.stretch:
        out = stretched(out, _factor(settings.stretch, rng), longest)
    if settings.noise:
        noise = torch.from_numpy(rng.standard_normal(tuple(out.shape), dtype="float32"))
        out = out + settings.noise * out.std(correction=0) * noise
    if settings.masks:
        out = out.clone()
        for _ in range(settings.masks):
            length = int(rng.integers(0, math.floor(settings.mask_share * len(out)) + 1))
            start = int(rng.integers(0, len(out) - length + 1))
            out[start : start + length] = 0
    return out


def stretched(steps: Tensor, factor: float, longest: int | None = None) -> Tensor:
    """(N, C) features at ``factor`` times their length, at least one and at most ``longest``, interpolated linearly."""
    length = max(1, min(round(len(steps) * factor), longest or len(steps) * 10))
    if length == len(steps):
        return steps
    return nn.functional.interpolate(steps.T[None], size=length, mode="linear", align_corners=False)[0].T


def longest_stretch(length: int, settings: AugmentSettings, longest: int | None) -> int:
    """Steps that a clip of ``length`` steps may become."""
    return max(length, min(round(length * (1 + settings.stretch)), longest or length * 10))


def _factor(stretch: float, rng: Generator) -> float:
    """From 1 / (1 + stretch) to 1 + stretch, as often slower as quicker."""
    return math.exp(rng.uniform(-1, 1) * math.log1p(stretch))
