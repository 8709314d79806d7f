"""Decoding of a clip's frames."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.stage2.shapes import ALL
from extract.decoding.read_clip import read_clip
from extract.dataset.clip_index import Clip
from extract.settings import FrameSettings


def decoding(clips: int = 4) -> dict[str, float]:
    """Seconds to read, resize and crop a clip's frames, PNGs of 210 x 260 as PHOENIX14T's, about 41 KB each."""
    rng = np.random.default_rng(0)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for clip in range(clips):
            (root / str(clip)).mkdir()
            for number in range(ALL):
                smooth = cv2.resize(rng.uniform(0, 255, (9, 7, 3)).astype(np.float32), (210, 260), interpolation=1)
                image = np.clip(smooth + rng.normal(0, 0.25, smooth.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / str(clip) / f"images{number:04d}.png"), image)
        for kind, keep in (("sampled", 4), ("all", 1)):
            seconds = []
            for clip in range(clips):
                began = time.perf_counter()
                read_clip(root, Clip(str(clip), "train", str(clip), ALL, 25.0, "", ""), FrameSettings(keep_every=keep))
                seconds.append(time.perf_counter() - began)
            found[kind] = statistics.median(seconds)
    return found
