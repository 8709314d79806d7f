"""The device that this process computes on, and small things on their way to it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor


def own_device(number: int | None = None) -> torch.device:
    """The accelerator that this machine has, else the CPU; of several, the one of that number, from the first again
    after the last, or of this process's number among those that ``torchrun`` started here. torch built for GPUs names
    one where there is none.

    A GPU is made the current one, and computes attention without cuDNN, which makes a plan for each new shape of
    queries, keys and mask: batches of sentences bring new ones in every epoch, and steps took 0.245 s in the mean where
    they take 0.100 s without (github.com/modelscope/FunASR, issues 3704 and 3705; torch takes it first on Hopper).
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return torch.device("cpu")
    if device.type == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0")) if number is None else number
        device = torch.device("cuda", number % torch.cuda.device_count())
        torch.cuda.set_device(device)
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def moved(values: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device. A GPU is not waited for, as it would be with memory that is not pinned."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def valid_steps(lengths: Sequence[int], longest: int, device: torch.device) -> Tensor:
    """(B, longest) bool: the steps of a padded batch that clips of these lengths have."""
    return torch.arange(longest, device=device)[None, :] < moved(torch.tensor(lengths), device)[:, None]
