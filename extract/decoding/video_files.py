"""Video files: which frames belong to a clip, and whether the file is whole.

Two decoders give the same frames at the same times (``FrameSettings.decoder``); their pixels differ by rounding and
chroma filter. A frame belongs to a clip when ``start <= time < end``, its time being the container's time stamp, so
that variable frame rates are right. Time zero is a player's: in MP4 and Matroska the beginning of the recording, be it
of the sound, elsewhere the first frame. AVI has no time stamps: there, frames are counted, and the empty ones with
which it says that the frame before is still shown.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from extract.dataset.clip_index import Clip
from extract.decoding.container_clock import matroska_is_whole, matroska_start, mp4_edits
from extract.decoding.decoder_versions import decoder_versions
from extract.decoding.frame_folders import Frame
from extract.decoding.opencv_video import OpenCVVideo
from extract.decoding.sampling import sample_stream
from extract.decoding.video_span import LONG, USUAL_FPS, Span, Video, VideoFacts
from extract.errors import ClipError
from extract.settings import Decoder, FrameSettings

OVERSHOOT = 0.5
"""Seconds by which a clip's end may lie past the end of its recording; such a clip ends with the recording."""

_SEEKABLE = ("mp4", "matroska")
"""Containers whose time stamps are written down, so that they can be trusted before and while frames are skipped."""
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_FRAMES_SHORT, _SECONDS_SHORT = 2, 0.5
_ALIKE = 16
"""Mean difference of two decoders' pictures: rounding and chroma filters make less."""
_DROPPED = 3
"""Frame times by which AVI's positions must be ahead of the count before they are believed: B-frames, which AVI has no
place for, move them by two."""


def read_video(
    path: Path, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None = None, phase: int = 0
) -> Iterator[Frame]:
    """The sampled frames of a clip as squares of ``settings.resize`` pixels, RGB.

    Raises:
        ClipError: ``missing`` file or times outside of the recording; ``empty`` file or no frame between the times;
            ``decode`` when it is not a video, has no video track, is damaged, declares too many pixels, or ends more
            than two frames before the container's duration (half a second where a container states only the
            duration of its longest track). A shorter clip is never made of a truncated file in silence.
        InputError: PyAV is asked for and not installed.
    """
    with contextlib.closing(_open(path, settings)) as video, _named(path, video.errors):
        span = _span(path, clip.start, clip.end, _facts(video))
        # Nothing is gained where every frame is kept, and all of them would be held at once.
        if settings.keep_every > 1 and _container(path) in _SEEKABLE:
            quick = video.sampled(span, settings.keep_every, rng, phase)
            if quick is not None:
                _require_pictures(video)
                yield from quick
                return
        stream = _Stream(video, span)
        kept = 0
        for frame in sample_stream(stream.frames(), settings.keep_every, rng, phase):
            kept += 1
            yield frame
        if not stream.decoded:
            raise ClipError("decode", f"{path}: {settings.decoder} decodes no frame of it")
        stream.require_whole()
        _require_pictures(video)
        if not kept:
            raise ClipError("empty", f"{path}: no frame between {clip.start} and {clip.end} s")


def check_video(path: Path, decoder: Decoder = "opencv") -> VideoFacts:
    """Look at a video file without decoding all of it.

    Checked: it opens, it has a video track whose first frame can be decoded, and its last second is there. Every
    frame is decoded where seeking fails, in AVI, and in containers that do not state a duration (MPEG streams).
    Not checked otherwise: that the frames between are undamaged; the extraction records that.

    Raises:
        ClipError: as ``read_video``, when no frame can be read. One that ends early has a ``problem``.
        InputError: PyAV is asked for and not installed.
    """
    with contextlib.closing(_open(path, FrameSettings(decoder=decoder))) as video, _named(path, video.errors):
        facts = _facts(video)
        everything = _span(path, None, None, facts)
        number = -1
        for number, (_, take) in enumerate(video.pictures(0.0)):
            take()
            if number and not video.still():
                break
        if number < 0:
            raise ClipError("decode", f"{path}: {decoder} decodes no frame of it")
        _require_pictures(video)
        if facts.duration:
            end = _Stream(video, dataclasses.replace(everything, start=max(0.0, facts.duration - facts.delay - 1)))
            with contextlib.suppress(ClipError, *video.errors):  # what is wrong shows below, and where
                if end.run_through().is_whole():
                    counted = dataclasses.replace(facts, frames=end.decoded, counted=True)
                    return facts if end.start else counted
        stream = _Stream(video, everything)
        refused: tuple[type[Exception], ...] = (ClipError, *video.errors)
        try:
            stream.run_through().require_whole()
        except refused as problem:  # the clips of a recording that lie before it can be used
            detail = problem.detail if isinstance(problem, ClipError) else f"{path}: damaged: {problem}"
            return dataclasses.replace(facts, reached=stream.last, problem=detail)
        return dataclasses.replace(facts, frames=stream.decoded, counted=True)


def check_span(path: Path, clip: Clip, facts: VideoFacts) -> int:
    """Frames of a clip, about, from its times and the recording's frame rate.

    Raises:
        ClipError: ``missing``, the times lie outside of the recording; ``empty``, no time between them; ``decode``,
            they lie in the part of a file that cannot be read.
    """
    span = _span(path, clip.start, clip.end, facts)
    if facts.problem and span.end > facts.reached:
        raise ClipError("decode", facts.problem)
    if clip.start is None and clip.end is None:
        return facts.frames
    end = min(span.end, facts.duration - facts.delay or LONG)
    return max(1, round((end - max(0.0, span.start)) * facts.fps)) if facts.fps and end < LONG else 0


class _Stream:
    """The frames of a span, while account is kept of where they end."""

    def __init__(self, video: Video, span: Span) -> None:
        self.video, self.span, self.container = video, span, _container(video.path)
        self.start = max(0.0, span.start) if self.container in _SEEKABLE else 0.0
        self.decoded = 0
        self.last = -1.0
        self.first = -1.0
        self.over = False

    def frames(self) -> Iterator[Callable[[], Frame]]:
        for stamp, take in self.video.pictures(self.start):
            time = self._time(stamp)
            if not self.decoded:
                self.first = time
            self.last = time
            self.decoded += 1
            if self.span.over(time):
                self.over = True
                return
            if self.span.begun(time):
                yield take

    def _time(self, stamp: float) -> float:
        """When the next frame is shown: at its time stamp, counted where it has none or one that cannot be."""
        step = 1 / (self.video.fps or USUAL_FPS)
        counted = self.last + step if self.decoded else 0.0
        if self.container != "avi":
            return stamp if stamp > self.last else counted
        if not self.decoded or stamp <= counted + (_DROPPED + 0.01) * step:
            return counted
        return stamp

    def run_through(self) -> _Stream:
        for _ in self.frames():
            pass
        return self

    def is_whole(self) -> bool:
        # All frames may be there and the last one be shown for long, where the rate varies.
        everything = self.first == 0.0 and self.decoded >= self.video.count - _FRAMES_SHORT > 0
        if self.over or everything or self.span.reached(self.last, self.video.fps):
            return True
        # Sound may go on for long after the pictures.
        return (
            self.container == "matroska"
            and matroska_is_whole(self.video.path)
            and dataclasses.replace(self.span, whole=self.video.last_packet()).reached(self.last, self.video.fps)
        )

    def require_whole(self) -> None:
        """
        Raises:
            ClipError: ``decode``, the file ends though its container promises more.
        """
        if not self.is_whole():
            found = f"{self.decoded} frames up to {self.last:.2f} s, promises {self.video.count} frames"
            raise ClipError("decode", f"{self.video.path}: truncated or damaged: {found}")


def _open(path: Path, settings: FrameSettings) -> Video:
    if not path.exists():
        raise ClipError("missing", f"{path}: no such file")
    if not path.is_file():  # a pipe would be waited for
        raise ClipError("decode", f"{path}: not a file")
    if path.stat().st_size == 0:
        raise ClipError("empty", f"{path}: zero bytes")
    if settings.decoder == "opencv":
        return OpenCVVideo(path, settings)
    decoder_versions(settings.decoder)  # says what to install
    from extract.decoding.pyav_video import PyAVVideo

    return PyAVVideo(path, settings)


@contextlib.contextmanager
def _named(path: Path, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or error
        raise ClipError("decode", f"{path}: damaged or truncated ({type(error).__name__}: {reason})") from None


def _facts(video: Video) -> VideoFacts:
    container = _container(video.path)
    if not video.fps or not container:
        return VideoFacts(video.count, video.fps, 0.0)
    count, delay, duration = video.count, 0.0, video.count / video.fps
    if container == "mp4":
        delay, shown = mp4_edits(video.path)
        if 0 < shown < duration:
            count, duration = round(shown * video.fps), shown
        duration += delay
    elif container == "matroska":
        began, start = video.began(), matroska_start(video.path)
        # What begins in the middle of a broadcast counts from there, or from the broadcast's own beginning.
        duration -= start if start < duration else 0.0
        delay = max(0.0, began - start)
        delay = delay if delay < duration else 0.0
        count = round((duration - delay) * video.fps)
    return VideoFacts(count, video.fps, duration, delay)


def _require_pictures(video: Video) -> None:
    """OpenCV's pictures are what lay in memory where its converter refuses a frame, as it does interlaced ones. All
    are the same then. So are those of a video that stands still: PyAV knows, where it is installed.

    Raises:
        ClipError: ``decode``.
    """
    if (still := video.still()) is None:
        return
    with contextlib.suppress(ModuleNotFoundError):
        from extract.decoding.pyav_video import PyAVVideo

        with contextlib.closing(PyAVVideo(video.path, video.settings)) as other:
            take = next((take for time, take in other.pictures(still[0]) if time >= still[0] - 0.001), None)
            if take is not None and np.abs(take().astype(int) - still[1]).mean() < _ALIKE:
                return
    detail = "all pictures are the same: interlaced, or of a form that OpenCV cannot convert; frames.decoder pyav can"
    raise ClipError("decode", f"{video.path}: {detail}")


def _span(path: Path, start: float | None, end: float | None, facts: VideoFacts) -> Span:
    first, last = start or 0.0, np.inf if end is None else end
    if first < 0 or not first < last:
        raise ClipError("empty", f"{path}: a clip from {first} to {last} s")
    if facts.duration and (first >= facts.duration or facts.duration + OVERSHOOT < last < np.inf):
        raise ClipError("missing", f"{path}: a clip from {first} to {last} s, of a recording of {facts.duration:.2f} s")
    short = _SECONDS_SHORT if _container(path) == "matroska" or not facts.fps else _FRAMES_SHORT / facts.fps
    return Span(first - facts.delay, last - facts.delay, max(0.0, facts.duration - facts.delay - short))


def _container(path: Path) -> Literal["avi", "mp4", "matroska"] | None:
    """Those containers whose duration is stated; where it is guessed (MPEG streams) it may be far off.

    Matroska states that of the longest track, often the sound's; the others that of the pictures.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF":
        return "avi"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "mp4" if head[4:] in _ATOMS else None
