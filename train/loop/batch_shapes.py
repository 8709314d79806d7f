"""In which shapes a run's batches come, where its features lie, and how many processes prepare them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PretrainedConfig

from train.data.feature_dataset import FeatureDataset
from train.data.padded_batches import ResidentFeatures
from train.loop.device import free_memory
from train.processes import local_process_count, process_count
from train.settings import TrainingSettings

Shapes = Literal["packed", "padded", "replayed"]
RESIDENT_SHARE = 0.1
"""Of the memory that is free, what features on the device may take: less than the estimate's tolerance."""
SHARED_MEMORY = Path("/dev/shm")
"""Where loader processes leave their batches, on Linux."""
PREFETCH = 2
"""Batches that a loader process is ahead by."""


def shapes_of(
    settings: TrainingSettings, device: torch.device, train: Any, text: PretrainedConfig | None
) -> tuple[Shapes, str]:
    """How batches come, and why steps are not replayed where they would be; "" where nothing stands against it.

    Only cached features can be padded: frames go through BatchNorm, which would see the padding.

    Args:
        text: the language model's configuration.
    """
    asked = settings.batch_shapes
    if not isinstance(train, FeatureDataset):
        return "packed", ""
    if asked == "auto":
        asked = "replayed" if device.type == "cuda" else "packed"
    if asked != "replayed":
        return asked, ""
    against = {
        "precision: fp16, whose scale is looked at in every step": settings.precision == "fp16",
        "accumulate": settings.accumulate > 1,
        "dominance, which looks at gradients": settings.dominance,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "several processes": process_count() > 1,
        "layers that are left out at random": any(
            getattr(text, f"{half}_layerdrop", 0) for half in ("encoder", "decoder")
        ),
    }
    why = [name for name, there in against.items() if there]
    return ("padded", f"not with {why[0]}") if why else ("replayed", "")


def on_device(train: Any, shapes: Shapes, device: torch.device, settings: TrainingSettings) -> ResidentFeatures | None:
    """The features on the device, where they fit and nothing is drawn into them; else None."""
    if shapes == "packed" or not isinstance(train, FeatureDataset) or train.augmentation is not None:
        return None
    wanted, free = settings.resident, free_memory(device)
    if wanted is None:
        size = sum(array.numel() * array.element_size() for array in train.arrays)
        wanted = device.type == "cuda" and free is not None and size <= RESIDENT_SHARE * free
    return ResidentFeatures(train, device) if wanted else None


def loader_processes(settings: TrainingSettings, device: torch.device, train: Any) -> int:
    """Processes that prepare batches. By default a process per core less two, where clips are decoded for a GPU, and as
    their batches fit into shared memory, of which containers have little."""
    if settings.workers is not None:
        return settings.workers
    if device.type != "cuda" or not hasattr(train, "bytes_of"):
        return 0
    cores = (os.cpu_count() or 1) // local_process_count() - 2
    if not SHARED_MEMORY.is_dir():
        return max(0, cores)
    batch: int = train.bytes_of(settings.batch_size)
    room = shutil.disk_usage(SHARED_MEMORY).free // local_process_count()
    return max(0, min(cores, room // ((PREFETCH + 1) * batch)))
