"""What augmentation costs per frame, beside the resize that every frame goes through: ``python benchmarks/warp.py``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from extract.decoding.frame_folders import resize
from train.data.frame_augmentation import Warp

ROUNDS, FRAMES = 15, 60


def main() -> None:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (260, 210, 3), np.uint8) for _ in range(FRAMES)]  # PHOENIX14T's size
    pngs = [cv2.imencode(".png", image)[1] for image in images]
    squares = [resize(image, 256, "area") for image in images]
    warp = Warp(17.0, 1.1, 4.0, -7.0)
    contenders: dict[str, Callable[[int], object]] = {
        "decode a PNG of 210 x 260": lambda i: cv2.imdecode(pngs[i], cv2.IMREAD_COLOR_RGB),
        "resize to 256 x 256": lambda i: resize(images[i], 256, "area"),
        "warp at 256 x 256": lambda i: warp(squares[i]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            started = time.perf_counter()
            for i in range(FRAMES):
                work(i)
            seconds[name].append((time.perf_counter() - started) / FRAMES)
    for name, measured in seconds.items():
        print(f"{name}: {1000 * statistics.median(measured):.3f} ms a frame")


if __name__ == "__main__":
    main()
