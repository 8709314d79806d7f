"""A frozen visual encoder at work: loading it, and computing what is cached of a clip."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import logging as transformers_logging

from extract.encoder.backends import Backend, choose_backend
from extract.encoder.encoder_config import VisualEncoderConfig
from extract.encoder.encoder_device import encoder_device, usual_batch
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import ExtractSettings, Level


def load_encoder(directory: str | os.PathLike[str], level: Level = "sign") -> VisualEncoder:
    """The encoder of a directory, on the CPU, in float32 and in evaluation mode.

    Args:
        level: what will be cached; hidden states need a part of Light-T, which is left out for the others.

    Raises:
        InputError: no such directory, its weights do not fit its configuration, or it lacks what the level needs.
    """
    remedy = "Run `slt train stage1`, or check the path."
    if not Path(directory, "config.json").is_file():
        raise InputError(directory, expected="a visual encoder directory", found="no config.json", remedy=remedy)
    transformers_logging.disable_progress_bar()
    try:
        config = VisualEncoderConfig.from_pretrained(directory)
        if level == "states" and not config.states:
            raise InputError(directory, expected="an encoder with Light-T's states", found="none in its config.json",
                             remedy="Train it with `slt train stage1`, or cache features `sign`.")  # fmt: skip
        dropped = level != "states" and config.states is not None
        if dropped:
            config.states = None
        encoder, report = VisualEncoder.from_pretrained(
            directory, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(directory, expected="a visual encoder", found=str(error), remedy=remedy) from error
    # Weights that are not in the file would be drawn at random, with no more than a log line.
    absent = [
        key
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for key in report[what]
        if not (dropped and str(key).startswith("states."))
    ]
    if absent:
        raise InputError(directory, expected="the weights of its configuration",
                         found=f"{len(absent)} that do not fit, e.g. {absent[0]}", remedy=remedy)  # fmt: skip
    frozen: VisualEncoder = encoder.eval().requires_grad_(False)
    return frozen


_TOGETHER = 64
"""Clips that a GPU takes through the temporal module together: each alone would be some dozen kernels and waits."""


class Extractor:
    """Computes what is cached: the backbone on batches of frames, the rest clip by clip, or on a GPU many at once.

    Args:
        encoder: in float32 and in evaluation mode.
        settings: level, dtype, batch size and backend.
        device: default: ``encoder_device()``.

    Raises:
        InputError: the wanted backend cannot be had, or a batch does not fit into the GPU's memory.
    """

    def __init__(self, encoder: VisualEncoder, settings: ExtractSettings, device: torch.device | None = None) -> None:
        # TensorFloat-32 moves features by 1e-3, and the quickest algorithm differs from run to run.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        device = device or encoder_device()
        self.encoder = encoder.to(device)
        self.level, self.dtype = settings.features, settings.dtype
        self.batch = settings.batch_frames or usual_batch(device.type)
        self.backend: Backend = choose_backend(self.encoder, settings.backend, self.batch, settings.compute)
        if device.type == "cuda":  # loads the kernels, which belongs to the start
            side = encoder.config.frame_settings.crop
            try:
                self.frame_features(np.zeros((self.batch, 3, side, side), np.uint8)).cpu()
            except torch.OutOfMemoryError as error:
                raise InputError(
                    "extract.batch_frames", expected=f"a batch that fits on {torch.cuda.get_device_name(device)}",
                    found=f"{self.batch} frames, too many for its free memory", remedy="Set a smaller one.",
                ) from error  # fmt: skip

    @property
    def width(self) -> int:
        """C of what is cached."""
        return cached_width(self.encoder, self.level)

    def frame_features(self, batch: NDArray[np.uint8]) -> Tensor:
        """(F, 3, H, W) uint8 RGB, F at most the batch size, to (F, backbone width)."""
        return self.backend(batch)

    def clip(self, frames: NDArray[np.uint8]) -> NDArray[np.floating]:
        """(T, 3, H, W) uint8 RGB of one clip to what is cached of it, (N, C)."""
        parts = (frames[start : start + self.batch] for start in range(0, len(frames), self.batch))
        return self.cached(torch.cat([self.frame_features(part) for part in parts]))

    @torch.inference_mode()
    def cached(self, frames: Tensor) -> NDArray[np.floating]:
        """What is cached of one view of a clip. One at a time: its neighbours then cannot matter.

        Args:
            frames: (T, backbone width), its frame features.

        Returns:
            (N, C) in the store's dtype.
        """
        features = frames
        if self.level != "frame":
            features, _ = self.encoder.temporal(frames, [len(frames)])
        if self.level == "states" and self.encoder.states is not None:
            features = self.encoder.states(features)
        array: NDArray[np.floating] = features.to(getattr(torch, self.dtype)).cpu().numpy()
        return array

    def block(self, frames: Tensor, lengths: list[int]) -> Callable[[], list[NDArray[np.floating]]]:
        """What is cached of clips whose frame features lie one after the other.

        Returns:
            What gives ``cached`` of each. On a GPU the work is only begun here, and that waits for it.
        """
        if frames.device.type == "cpu":
            return lambda: [self.cached(clip) for clip in torch.split(frames, lengths)]
        features, lengths = self.together(frames, lengths)
        host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        host.copy_(features, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()

        def wait() -> list[NDArray[np.floating]]:
            copied.synchronize()
            return [clip.numpy() for clip in torch.split(host, lengths)]

        return wait

    @torch.inference_mode()
    def together(self, frames: Tensor, lengths: list[int]) -> tuple[Tensor, list[int]]:
        """``cached`` of clips whose frame features lie one after the other, many at once: the same to within rounding.

        Returns:
            (sum of N, C) in the store's dtype, on the encoder's device, and the N of each clip.
        """
        if self.level == "frame":
            return frames.to(getattr(torch, self.dtype)), lengths
        parts: list[Tensor] = []
        steps: list[int] = []
        for start in range(0, len(lengths), _TOGETHER):
            group = lengths[start : start + _TOGETHER]
            features, taken = self.encoder.temporal(frames[: sum(group)], group)
            frames, steps = frames[sum(group) :], steps + taken
            parts += [features]
        features = torch.cat(parts)
        if self.level == "states" and self.encoder.states is not None:
            features = torch.cat([self.encoder.states(clip) for clip in torch.split(features, steps)])
        return features.to(getattr(torch, self.dtype)), steps

    def versions(self) -> dict[str, str]:
        """Of what computed, for the commit's record: it moves features by rounding at most."""
        device = self.encoder.device
        return {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": importlib.metadata.version("transformers"),
            "backend": self.backend.name,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        }


def cached_width(encoder: VisualEncoder, level: Level) -> int:
    """C of what is cached of an encoder at this level."""
    if level == "frame":
        return encoder.backbone_width
    if level == "states" and encoder.states is not None:
        return encoder.states.width
    return int(encoder.config.width)
