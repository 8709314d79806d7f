"""What a video decoder is, which part of a recording a clip is, and what a container says of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from extract.decoding.frame_folders import Frame
from extract.settings import FrameSettings

LONG = 1e12
"""Seconds beyond which there is no end."""
USUAL_FPS = 25.0
"""Where a container does not state its rate."""


class Video(Protocol):
    """An open video file."""

    path: Path
    settings: FrameSettings
    fps: float
    """Mean frame rate as the container states it; 0 when it does not."""
    count: int
    """Frames as the container states them, or its duration times ``fps``; 0 when it does not."""

    def began(self) -> float:
        """Time stamp of the first frame as it stands in the file, in seconds, to the nearest frame."""

    def last_packet(self) -> float:
        """Seconds from the first frame to the last one that the file holds, damaged or not; nothing is decoded."""

    def still(self) -> tuple[float, Frame] | None:
        """Time and picture of the last frame that was made, where others were and all are the same to the last bit."""

    def pictures(self, start: float) -> Iterator[tuple[float, Callable[[], Frame]]]:
        """Frames in the order of display, from the first one or from any that is not after ``start``.

        Args:
            start: seconds after the first frame.

        Yields:
            The time in seconds after the first frame, negative when unknown, and a function that makes the picture,
            a square of RGB, until the next one is asked for.

        Raises:
            ClipError: ``decode``.
        """

    def sampled(self, span: Span, every: int, rng: np.random.Generator | None, phase: int) -> list[Frame] | None:
        """What ``sample_stream`` would give, by a quicker way; None when there is none for this file."""

    errors: tuple[type[Exception], ...]
    """What the library raises at damaged files, anywhere."""

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A clip's part of a recording, in seconds after its first frame."""

    start: float
    end: float
    """Infinite when the clip has no end of its own."""
    whole: float
    """Up to where the container promises frames, less what is forgiven; 0 when it does not say."""

    def begun(self, time: float) -> bool:
        return _microseconds(time) >= _microseconds(self.start)

    def over(self, time: float) -> bool:
        return _microseconds(time) >= _microseconds(self.end)

    def reached(self, last: float, fps: float) -> bool:
        """Whether a file whose last frame is at that time holds all of the clip that its container promises."""
        return last + 1 / (fps or USUAL_FPS) >= min(self.whole, self.end)


@dataclasses.dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a container says of itself, after the check."""

    frames: int
    """As decoded where ``counted``, else as the container states them."""
    fps: float
    duration: float
    """Seconds on a player's clock to the end of the pictures; 0 when the container does not say."""
    delay: float = 0.0
    """Seconds on a player's clock before the first frame."""
    reached: float = np.inf
    """Seconds after the first frame up to which a truncated or damaged file can be read."""
    problem: str | None = None
    """What is wrong with the rest of it."""
    counted: bool = False
    """Every frame was decoded."""


def _microseconds(time: float) -> float:
    # Time stamps come as fractions from one decoder and as milliseconds from the other: no last bit may decide.
    return round(time * 1e6) if time < LONG else np.inf
