"""Clips of a JPEG pack by nvImageCodec: decoded on the GPU that computes them, or by its CPU backend without one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.clip_limits import require_length
from extract.dataset.clip_index import Clip
from extract.decoding.clip_decoder import Decoded, known_problem
from extract.decoding.frame_folders import READING
from extract.decoding.read_clip import crop_corner
from extract.errors import ClipError
from extract.packs.pack_file import REBUILD
from extract.packs.packed_frames import PackedFrames
from extract.settings import FrameSettings, View
from extract.store.json_records import damaged

_NO_GPU = -99999
"""nvImageCodec's number for it."""
_LIKE_OPENCV = ":fancy_upsampling=1"
"""Chroma is interpolated, as libjpeg does it, and not repeated."""


class JpegFrames:
    """Decodes the clips of a block, as ``ClipDecoder``, to frames on ``device``.

    Args:
        packed: of JPEG.
    """

    root = None

    def __init__(
        self, packed: PackedFrames, frames: FrameSettings, views: tuple[View, ...], device: torch.device
    ) -> None:
        from nvidia import nvimgcodec

        self.packed, self.frames, self.views, self.device = packed, frames, views, device
        self.stream: Any = nvimgcodec.CodeStream
        if device.type == "cuda":
            self.decoder: Any = nvimgcodec.Decoder(device_id=device.index or 0, options=_LIKE_OPENCV)
        else:
            backends = [nvimgcodec.Backend(nvimgcodec.BackendKind.CPU_ONLY)]
            self.decoder = nvimgcodec.Decoder(_NO_GPU, 1, backends, _LIKE_OPENCV)

    def __call__(self, clip: Clip) -> Decoded:
        """
        Raises:
            InputError: as ``PackedFrames.squares``.
        """
        if (problem := known_problem(clip)) is not None:
            return Decoded(problem)
        began, before = time.perf_counter(), READING.seconds
        try:
            found: list[Tensor] | ClipError = [self._view(clip, view) for view in self.views]
        except ClipError as error:
            found = error
        read = READING.seconds - before
        return Decoded(found, read, time.perf_counter() - began - read)

    def _view(self, clip: Clip, view: View) -> Tensor:
        """(T, 3, crop, crop)."""
        files = list(self.packed.encoded(clip, self.frames, phase=view.phase))
        require_length(Path(clip.source), len(files), self.frames.crop)
        gpu = self.device.type == "cuda"
        stream = torch.cuda.current_stream().cuda_stream if gpu else 0
        images = self.decoder.decode([self.stream(encoded) for encoded, _ in files], cuda_stream=stream)
        squares: list[Tensor] = []
        for (_, path), image in zip(files, images, strict=True):
            if image is None or image.shape != (self.frames.resize, self.frames.resize, 3):
                raise damaged(str(path), f"a frame of {clip.id} that nvImageCodec cannot decode", REBUILD)
            squares.append(torch.as_tensor(image, device=self.device) if gpu else torch.from_numpy(np.asarray(image)))
        side = self.frames.crop
        top, left = crop_corner(self.frames.resize - side, view, None)
        frames = torch.stack(squares)[:, top : top + side, left : left + side]
        return frames.permute(0, 3, 1, 2).contiguous()
