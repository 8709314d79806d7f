"""Videos by OpenCV: needs no other package, follows rotation metadata, skips what sampling drops half way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from extract.clip_limits import require_length, require_pixels
from extract.decoding.frame_folders import Frame, cut_rows, resize
from extract.decoding.sampling import sampled
from extract.decoding.video_span import Span
from extract.errors import ClipError
from extract.settings import FrameSettings

_SEEK, _BEFORE = 4.0, 2.0
"""A clip that begins later than so many seconds is sought, and so much before its start."""


class OpenCVVideo:
    """An open file; see ``extract.decoding.video_span.Video``."""

    errors: tuple[type[Exception], ...] = (cv2.error,)

    def __init__(self, path: Path, settings: FrameSettings) -> None:
        self.path, self.settings = path, settings
        self._capture = self._open()
        self._fresh = True
        self._still: tuple[float, Frame] | None = None
        self._made: Frame | None = None
        self._moves = False
        fps, count = (self._capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps = fps if 0 < fps < 1000 else 0.0
        self.count = int(count) if 0 < count < 2**40 else 0

    def pictures(self, start: float) -> Iterator[tuple[float, Callable[[], Frame]]]:
        if start > _SEEK:
            self._rewind().set(cv2.CAP_PROP_POS_MSEC, 1000 * (start - _BEFORE))
            # Seeking counts frames at the mean rate, so that it misses its aim where the rate varies.
            if self._capture.grab() and self._time() <= start:
                yield self._time(), self._retrieve
                yield from self._rest()
                return
        self._rewind()
        yield from self._rest()

    def sampled(self, span: Span, every: int, rng: np.random.Generator | None, phase: int) -> list[Frame] | None:
        """For training and later phases: reads time stamps first, so that no frame is decoded in case it is the last.

        None where there is nothing to gain, and where time stamps are absent, twice, or of no frame.
        """
        if (rng is None and not phase) or span.start > _SEEK:
            return None
        stamps = self._stamps()
        if len(set(stamps)) < len(stamps) or not stamps or not span.reached(max(stamps) / 1e6, self.fps):
            return None
        inside = [stamp for stamp in sorted(stamps) if span.begun(stamp / 1e6) and not span.over(stamp / 1e6)]
        wanted = [inside[i] for i in sampled(len(inside), every, copy.deepcopy(rng), phase)]
        require_length(self.path, len(wanted), self.settings.crop)
        found: list[Frame] = []
        for time, take in self.pictures(0.0):
            if len(found) < len(wanted) and round(time * 1e6) == wanted[len(found)]:
                found.append(take())
                if len(found) == len(wanted):
                    return found
        return None

    def began(self) -> float:
        self._rewind()
        return float(self._capture.get(cv2.CAP_PROP_PTS)) / self.fps if self._capture.grab() and self.fps else 0.0

    def last_packet(self) -> float:
        return max(self._stamps(), default=0) / 1e6

    def still(self) -> tuple[float, Frame] | None:
        return None if self._moves or self._made is None else self._still

    def close(self) -> None:
        self._capture.release()

    def _rest(self) -> Iterator[tuple[float, Callable[[], Frame]]]:
        while self._capture.grab():
            yield self._time(), self._retrieve

    def _rewind(self) -> cv2.VideoCapture:
        if not self._fresh:
            self._capture.release()
            self._capture = self._open()
        self._fresh = False
        return self._capture

    def _open(self) -> cv2.VideoCapture:
        # Its own backend by name: the others open numbered images, cameras and networks.
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise ClipError("decode", f"{self.path}: not a video that OpenCV can open")
        width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        require_pixels(self.path, width, height)
        return capture

    def _stamps(self) -> list[int]:
        """Of every packet, in microseconds; nothing is decoded."""
        packets = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
        stamps = []
        while packets.grab():
            stamps.append(round(packets.get(cv2.CAP_PROP_POS_MSEC) * 1000))
        packets.release()
        return stamps

    def _time(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _retrieve(self) -> Frame:
        done, image = self._capture.retrieve()
        if not done:
            raise ClipError("decode", f"{self.path}: the frame at {self._time():.3f} s cannot be decoded")
        before, made, time = self._made, image, self._time()
        self._made = None if self._moves else made
        image = cut_rows(self.path, image, self.settings.crop_rows)
        square = resize(image, self.settings.resize, self.settings.interpolation)
        rgb: Frame = cv2.cvtColor(square, cv2.COLOR_BGR2RGB)
        if before is not None and not self._moves:
            self._moves = not np.array_equal(before, made)
            self._still = (time, rgb)
        return rgb
