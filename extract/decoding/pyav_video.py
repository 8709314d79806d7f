"""Videos by PyAV (the extra ``video``): reference frames only, where the others are not sampled; one conversion."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from extract.clip_limits import require_length, require_pixels
from extract.decoding.frame_folders import Frame, cut_rows, resize
from extract.decoding.sampling import sampled
from extract.decoding.video_span import Span
from extract.errors import ClipError
from extract.settings import FrameSettings

# Exact and the same on every processor; chroma at full width, without which colours bleed by a pixel.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_FILTERS = {"area": Interpolation.AREA, "linear": Interpolation.BILINEAR, "cubic": Interpolation.BICUBIC}

_MAX_HELD = 2**28
"""Bytes of packets that are held until it is known which frames are kept; of a longer clip, all are decoded."""

av.logging.set_level(None)


class PyAVVideo:
    """An open file; see ``extract.decoding.video_span.Video``."""

    # Not ffmpeg's alone: a file that gives other tracks when it is opened again, or numbers out of any range.
    errors: tuple[type[Exception], ...] = (av.FFmpegError, IndexError, ValueError, ArithmeticError)

    def __init__(self, path: Path, settings: FrameSettings) -> None:
        self.path, self.settings = path, settings
        self._converter = VideoReformatter()
        self._fresh = True
        try:
            self._container = av.open(str(path))
        except self.errors as error:
            raise ClipError("decode", f"{path}: not a video that PyAV can open ({_reason(error)})") from None
        stream = self._stream()
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else 0.0
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (self._container.duration or 0) / av.time_base
        self.count = stream.frames or round(seconds * self.fps)
        self._began = round(float((stream.start_time or 0) * (stream.time_base or 0)) * self.fps) / (self.fps or 1)

    def pictures(self, start: float) -> Iterator[tuple[float, Callable[[], Frame]]]:
        for sought in [start, 0.0] if start else [0.0]:
            stream = self._rewind(sought)
            pictures = self._pictures(stream)
            first = next(pictures, None)
            if first and (not sought or 0 <= first[0] <= start):
                yield first
                yield from pictures
                return

    def _pictures(self, stream: VideoStream) -> Iterator[tuple[float, Callable[[], Frame]]]:
        origin = stream.start_time or 0
        for frame in self._container.decode(stream):
            self._require_sound(frame)
            yield self._seconds(frame.pts, origin, stream), functools.partial(self._square, frame)

    def sampled(self, span: Span, every: int, rng: np.random.Generator | None, phase: int) -> list[Frame] | None:
        """Reads the time stamps first, then decodes the frames that are kept and those they refer to.

        None where time stamps are absent or twice, or where a packet gives no frame, as at a cut between keyframes.
        """
        stream = self._rewind(span.start)
        origin = stream.start_time or 0
        packets: list[Packet[VideoStream]] = []
        size = 0
        beyond = False
        for packet in self._container.demux(stream):
            packets.append(packet)
            size += packet.size
            if size > _MAX_HELD:
                return None
            if _shown(packet):
                if packet.pts is None or packet.dts is None:
                    return None
                # No packet is shown before it is decoded: none of the rest belongs to the clip.
                if span.over(self._seconds(packet.dts, origin, stream)):
                    beyond = True
                    break
        stamps = [packet.pts for packet in packets if _shown(packet) and packet.pts is not None]
        if len(set(stamps)) < len(stamps):
            return None
        times = {stamp: self._seconds(stamp, origin, stream) for stamp in sorted(stamps)}
        if span.start and not (stamps and min(times.values()) <= span.start):
            return None  # the seek went too far
        last = max(times.values(), default=0.0)
        if not beyond and not span.over(last) and not span.reached(last, self.fps):
            return None
        inside = [stamp for stamp, time in times.items() if span.begun(time) and not span.over(time)]
        wanted = [inside[i] for i in sampled(len(inside), every, copy.deepcopy(rng), phase)]
        require_length(self.path, len(wanted), self.settings.crop)
        return self._decode(packets, wanted) if wanted else None

    def began(self) -> float:
        return self._began

    def last_packet(self) -> float:
        stream = self._rewind(0.0)
        origin = stream.start_time or 0
        return max((self._seconds(packet.pts, origin, stream) for packet in self._container.demux(stream)), default=0.0)

    def still(self) -> None:
        return None

    def close(self) -> None:
        self._container.close()

    def _decode(self, packets: list[Packet[VideoStream]], wanted: list[int]) -> list[Frame] | None:
        context = packets[0].stream.codec_context
        missing = set(wanted)
        found: dict[int, Frame] = {}
        for packet in [*packets, None]:  # None: what the decoder still holds
            context.skip_frame = "NONREF" if packet and packet.size and packet.pts not in missing else "DEFAULT"
            for frame in context.decode(packet):
                self._require_sound(frame)
                if frame.pts in missing:
                    found[frame.pts] = self._square(frame)
                    missing.discard(frame.pts)
            if not missing or (packet and not packet.size):  # an empty packet has made it give all
                break
        return None if missing else [found[stamp] for stamp in wanted]

    def _stream(self) -> VideoStream:
        if not self._container.streams.video:
            raise ClipError("decode", f"{self.path}: no video track")
        stream = self._container.streams.video[0]
        if stream.codec_context is None:
            raise ClipError("decode", f"{self.path}: a codec that PyAV does not know")
        require_pixels(self.path, stream.codec_context.width, stream.codec_context.height)
        # The workers fill the cores already; with one thread, skip_frame holds for the packet at hand.
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        return stream

    def _rewind(self, start: float) -> VideoStream:
        """Go to the keyframe before a time, with a decoder that has seen nothing."""
        if not self._fresh:
            self._container.close()
            self._container = av.open(str(self.path))
        self._fresh = False
        stream = self._stream()
        if start > 0 and stream.time_base:
            self._container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
        return stream

    def _seconds(self, stamp: int | None, origin: int, stream: VideoStream) -> float:
        if stamp is None or stream.time_base is None:
            return -1.0
        return float((stamp - origin) * stream.time_base)

    def _require_sound(self, frame: VideoFrame) -> None:
        """Of each decoded frame, kept or not: those that refer to a damaged one look wrong and are not marked."""
        if frame.is_corrupt:
            raise ClipError("decode", f"{self.path}: the frame at {frame.time} s is damaged")

    def _square(self, frame: VideoFrame) -> Frame:
        require_pixels(self.path, frame.width, frame.height)
        side = self.settings.resize
        filter = _FILTERS[self.settings.interpolation] | _EXACT
        if self.settings.crop_rows:  # of the frame as it is shown, so that ffmpeg cannot resize it in one go
            native = self._converter.reformat(frame, format="rgb24", interpolation=filter, threads=1).to_ndarray()
            shown = np.rot90(native, round(frame.rotation / 90)) if frame.rotation else native
            rows = cut_rows(self.path, shown.astype(np.uint8, copy=False), self.settings.crop_rows)
            return resize(np.ascontiguousarray(rows), side, self.settings.interpolation)
        converted = self._converter.reformat(frame, side, side, "rgb24", interpolation=filter, threads=1)
        square = converted.to_ndarray().astype(np.uint8, copy=False)
        # The display matrix turns by quarters; of a square, turning after the resize is the same.
        return np.rot90(square, round(frame.rotation / 90)) if frame.rotation else square


def _shown(packet: Packet[VideoStream]) -> bool:
    return packet.size > 0 and not packet.is_discard


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def version() -> str:
    """PyAV and the libraries of ffmpeg that decide pixels."""
    libraries = (f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in _DECIDING)
    return " ".join([f"pyav {av.__version__}", *libraries])


_DECIDING = ("libavcodec", "libavformat", "libavutil", "libswscale")
