"""Decoding a 720p h264 clip: OpenCV as it is mostly used, and the two decoders of ``FrameSettings.decoder``.

One process, one thread, medians of five; 10 s at 25 fps, one frame of four, 256 x 256, centre crop of 224:

    OMP_NUM_THREADS=1 python benchmarks/decode.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import statistics
import tempfile
import time
from collections.abc import Callable

from extract.decoding.read_clip import read_clip  # first: it sets OpenCV's threads
from extract.dataset.clip_index import Clip
from extract.settings import FrameSettings

import av  # isort: skip
import cv2  # isort: skip
import numpy as np  # isort: skip

FRAMES, RATE, WIDTH, HEIGHT, REPEATS = 250, 25, 1280, 720, 5


def write_clip(path: Path) -> None:
    """Moving shapes over a still background with some noise, at x264's defaults."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 3)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            image = scene.copy()
            cv2.circle(image, (200 + 3 * number, 360 + int(150 * np.sin(number / 8))), 70, (200, 160, 120), -1)
            cv2.ellipse(image, (640, 360), (150, 250), number, 0, 300, (40, 60, 200), 20)
            noise = rng.integers(-4, 5, (HEIGHT, WIDTH, 1))
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))


def read_everything(path: Path, settings: FrameSettings) -> np.ndarray:
    """``read()`` every frame, then resize those that are kept."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    side, corner = settings.resize, (settings.resize - settings.crop) // 2
    kept = []
    number = 0
    while True:
        done, image = video.read()
        if not done:
            break
        if number % settings.keep_every == 0:
            square = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            kept.append(square[corner : corner + settings.crop, corner : corner + settings.crop, ::-1])
        number += 1
    video.release()
    return np.stack(kept).transpose(0, 3, 1, 2)


def median_seconds(read: Callable[[], np.ndarray]) -> float:
    read()
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()  # CPU time: the machine may have other work
        read()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def main() -> None:
    settings = {decoder: FrameSettings(decoder=decoder) for decoder in ("opencv", "pyav")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_clip(path)
        clip = Clip("clip", "train", path.name, 0, RATE, "", "de_DE")
        ways: dict[str, Callable[[], np.ndarray]] = {
            "OpenCV, read() everything": lambda: read_everything(path, settings["opencv"]),
            "decoder: opencv": lambda: read_clip(path.parent, clip, settings["opencv"]),
            "decoder: pyav": lambda: read_clip(path.parent, clip, settings["pyav"]),
            "decoder: opencv, training": lambda: read_clip(
                path.parent, clip, settings["opencv"], np.random.default_rng(0)
            ),
            "decoder: pyav, training": lambda: read_clip(path.parent, clip, settings["pyav"], np.random.default_rng(0)),
        }
        reference = ways["OpenCV, read() everything"]().astype(int)
        slowest = 0.0
        print(f"{FRAMES} frames of {WIDTH} x {HEIGHT}, {path.stat().st_size / 2**20:.1f} MiB, Python {sys.version[:6]}")
        for name, read in ways.items():
            seconds = median_seconds(read)
            slowest = slowest or seconds
            difference = "" if "training" in name else f"   mean difference {np.abs(read() - reference).mean():.2f}"
            print(f"{name:28s} {1000 * seconds:6.0f} ms   {slowest / seconds:4.2f} x{difference}")


if __name__ == "__main__":
    main()
