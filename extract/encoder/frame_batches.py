"""Frames in, features out: batches of one size, of which one is computed while the next is filled."""

from __future__ import annotations

import dataclasses
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.encoder.backends import TorchBackend
from extract.encoder.extractor import Extractor

BUFFERS = {"cuda": 3}
"""One is filled, one is copied, one is computed. A CPU does one thing at a time."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Buffer:
    host: Tensor
    """(batch, 3, H, W) uint8; pinned, where it is copied to a GPU."""
    device: Tensor
    """The same there; on a CPU, ``host``."""
    computed: Any
    """Event: whatever was read from it has been."""


class FrameBatches:
    """The frame features of a block. On a GPU nothing waits for them: only a buffer that is filled again for the batch
    that was computed from it.

    Args:
        buffers: batches under way at a time.
    """

    def __init__(self, extractor: Extractor, buffers: int | None = None) -> None:
        self.backend, self.size, device = extractor.backend, extractor.batch, extractor.encoder.device
        self.streams = torch.get_device_module(device)  # torch.cpu has streams and events too, which do nothing
        self.copying = self.streams.Stream()
        shape = (self.size, 3, *[extractor.encoder.config.frame_settings.crop] * 2)
        gpu = device.type == "cuda"

        def buffer() -> _Buffer:
            host = torch.empty(shape, dtype=torch.uint8, pin_memory=gpu)
            return _Buffer(host, torch.empty_like(host, device=device) if gpu else host, self.streams.Event())

        self.buffers = cycle([buffer() for _ in range(buffers or BUFFERS.get(device.type, 1))])
        self.filled = 0
        self.features: list[Tensor] = []

    def add(self, frames: NDArray[np.uint8] | Tensor) -> None:
        """Copy (T, 3, H, W) frames into batches, and compute those that are full.

        Args:
            frames: an array, or a tensor on the encoder's device; of a block all are the one or the other.
        """
        self.there = isinstance(frames, Tensor)
        while len(frames):
            if not self.filled:
                self.buffer = next(self.buffers)
                self.buffer.computed.synchronize()
            taken = min(self.size - self.filled, len(frames))
            into = slice(self.filled, self.filled + taken)
            if isinstance(frames, Tensor):
                self.buffer.device[into].copy_(frames[:taken])
            else:
                np.copyto(self.buffer.host[into].numpy(), frames[:taken])
            self.filled, frames = self.filled + taken, frames[taken:]
            if self.filled == self.size:
                self._compute()

    def finish(self) -> Tensor | None:
        """(sum of T, backbone width), on the encoder's device, perhaps still under way there; None of no frames."""
        if self.filled:
            self._compute()
        return torch.cat(self.features) if self.features else None

    def _compute(self) -> None:
        host, pixels, count = self.buffer.host, self.buffer.device, self.filled
        if isinstance(self.backend, TorchBackend):
            if pixels is not host and not self.there:
                with self.streams.stream(self.copying):
                    pixels.copy_(host, non_blocking=True)
                self.streams.current_stream().wait_stream(self.copying)
            self.features.append(self.backend.whole(pixels)[:count])
            self.buffer.computed.record()
        else:
            self.features.append(self.backend(host[:count].numpy()))
        self.filled = 0
