"""What computes features: a GPU or the CPU, and how many frames at a time."""

from __future__ import annotations

import torch

from extract.own_device import own_device

_BATCH = {"cuda": 256, "cpu": 32}
"""On an H200, ResNet-18 takes half as many frames a second again in batches of 256 as of 32, and twice as many in half
precision."""


def encoder_device(number: int | None = None) -> torch.device:
    """``own_device`` where that is a GPU, else the CPU."""
    device = own_device(number)
    return device if device.type == "cuda" else torch.device("cpu")


def usual_batch(device: str) -> int:
    """Frames of a forward pass on ``cuda`` or ``cpu``, where the settings leave it open."""
    return _BATCH[device]
