"""What runs on a worker: one block of clips in, one commit in the store and a small record out."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.dataset.clip_index import Clip
from extract.decoding.decoder_versions import decoder_versions
from extract.decoding.frame_folders import READING
from extract.decoding.read_ahead import read_ahead
from extract.decoding.read_clip import FrameSource, Source
from extract.decoding.read_or_failure import read_or_failure
from extract.encoder.extractor import Extractor, load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.errors import FAILURE_KINDS, ClipError, InputError
from extract.fingerprint import fingerprint
from extract.jobs.blocks import Block
from extract.settings import ExtractSettings, FrameSettings, View
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

# Clips that are decoded while the encoder is busy, besides one per thread. More would only cost memory: a clip of
# 8 s is 8 MB.
_AHEAD = 2
_ANNOUNCED = 8
"""Clips whose files the system fetches meanwhile."""


@dataclasses.dataclass(frozen=True, slots=True)
class BlockRecord:
    """What the driver learns about a block."""

    block: str
    """As it was planned."""
    clips: int
    """Clips whose features were committed."""
    failed: dict[str, str]
    """Id to kind, of the clips that were recorded as failures."""
    frames: int
    """Sampled frames."""
    seconds: dict[str, float]
    """By step: read (of frame folders; video decoders read by themselves), decode, forward, write. With decoding
    threads, the first two run beside the forward pass."""


@functools.lru_cache(maxsize=1)
def _extractor(directory: str, expected: str, settings: ExtractSettings, quality: int | None) -> Extractor:
    """Made once per worker process, and compared with the job's fingerprint before it computes anything."""
    encoder = load_encoder(directory, settings.features)
    found = fingerprint(feature_provenance(encoder, settings.dtype, settings.features, settings.compute, quality))
    if found != expected:
        raise InputError(
            f"{directory} on {platform.node()}",
            expected=f"encoder and decoder of fingerprint {expected[:12]}",
            found=f"{found[:12]} ({decoder_versions(encoder.config.frame_settings.decoder)})",
            remedy="Give every worker the same encoder directory and the same versions of the decoder.",
        )  # fmt: skip
    return Extractor(encoder, settings)


def extract_block(
    block: Block,
    source: str | FrameSource,
    encoder_dir: str,
    store_path: str,
    expected: str,
    settings: ExtractSettings,
) -> BlockRecord:
    """Extract the clips of a block and commit them.

    Args:
        source: the dataset's root, which the clips' sources are relative to, or packs of its frames.
        expected: the fingerprint that encoder and store must have.

    Raises:
        InputError: the encoder or the store has another fingerprint.
    """
    # The workers fill the cores already. Set here, because torch may keep the number per thread.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if not Path(str(source)).is_dir():  # on a worker that joined late, all its clips would be recorded as missing
        raise InputError(f"{source} on {platform.node()}", expected="the dataset's root, or packs of its frames",
                         found="no such folder", remedy="Workers need it at the same path.")  # fmt: skip
    quality = None if isinstance(source, str) else source.quality
    extractor = _extractor(encoder_dir, expected, settings, quality)
    store = FeatureStore.open(store_path)
    store.require(expected)

    threads = _decode_threads(extractor) if settings.decode_threads is None else settings.decode_threads
    pixels = Path(source) if isinstance(source, str) else source
    decoder = _Decoder(pixels, extractor.encoder.config.frame_settings, block.views, threads, settings.read_seconds)
    read_before = READING.seconds
    forward = 0.0
    hidden: list[Tensor] = []
    for batch in _batches(decoder.read(block.clips), settings.batch_frames):
        began = time.perf_counter()
        hidden.append(extractor.frame_features(batch))
        forward += time.perf_counter() - began

    began = time.perf_counter()
    entries: list[tuple[str, str, NDArray[np.floating]]] = []
    failures = dict(decoder.failures)
    lengths = [entry.frames for entry in decoder.entries]
    for entry, frames in zip(decoder.entries, torch.split(torch.cat(hidden), lengths) if hidden else (), strict=True):
        features = extractor.cached(frames)
        entries.append((entry.id, entry.view, features))
        wrong = int((~np.isfinite(features)).sum())
        if wrong:
            detail = f"{wrong} of {features.size} values are not finite in {settings.dtype}"
            failures[entry.id] = Failure("nonfinite", detail)
    # All views of a clip or none: stage 2 draws among them.
    entries = [entry for entry in entries if entry[0] not in failures]
    forward += time.perf_counter() - began

    began = time.perf_counter()
    read = READING.seconds - read_before
    decode = decoder.seconds - read
    timings = {"read": read, "decode": decode, "forward": forward}
    clips = [(id, features) for id, _, features in entries]
    views = [view for _, view, _ in entries]
    # Named by what it holds: were the whole block's name taken, a job whose disk fails now could replace a commit of
    # more clips that another job made of the same block.
    held = Block.of((clip for clip in block.clips if clip.id not in failures), block.views)
    store.write_block(held.id, clips, failures, timings, extractor.versions(), views)
    return BlockRecord(
        block=block.id,
        clips=len({id for id, _ in clips}),
        failed={id: failure.kind for id, failure in failures.items()},
        frames=sum(lengths),
        seconds={**timings, "write": time.perf_counter() - began},
    )


class _Entry(NamedTuple):
    id: str
    view: str
    frames: int
    """Sampled ones."""


_Decoded: TypeAlias = tuple[list[NDArray[np.uint8]] | Failure, float]
"""The frames of each view, or why there are none; and the seconds that it took."""


class _Decoder:
    """Decodes clips, in turn with the encoder or in threads a few ahead of it, and keeps account of them.

    Threads, not processes: OpenCV and PyAV decode without Python's lock, and nothing has to be copied.
    """

    def __init__(
        self, source: Source, frames: FrameSettings, views: Sequence[View], threads: int, read_seconds: float | None
    ) -> None:
        self.source, self.frames, self.views, self.threads = source, frames, views, threads
        self.read_seconds = read_seconds
        self.entries: list[_Entry] = []
        """The views of each readable clip, in the order in which they were read."""
        self.failures: dict[str, Failure] = {}
        self.seconds = 0.0

    def read(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8]]:
        """The frames of each view of each readable clip, (T, 3, crop, crop), in order."""
        announced = self._announced(clips)
        for clip, (decoded, seconds) in self._ahead(announced) if self.threads else self._in_turn(announced):
            self.seconds += seconds
            if isinstance(decoded, Failure):
                self.failures[clip.id] = decoded
            else:
                named = zip(self.views, decoded, strict=True)
                self.entries += [_Entry(clip.id, view.name, len(frames)) for view, frames in named]
                yield from decoded

    def _announced(self, clips: Sequence[Clip]) -> Iterator[Clip]:
        """The clips, while the system is told which files the next ones need."""
        phases = {view.phase for view in self.views}
        for number, clip in enumerate(clips):
            if isinstance(self.source, Path):
                for later in clips[number + _ANNOUNCED if number else 1 : number + _ANNOUNCED + 1]:
                    read_ahead(self.source, later, self.frames.keep_every, phases)
            yield clip

    def _in_turn(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, _Decoded]]:
        for clip in clips:
            yield clip, self._decode(clip)

    def _ahead(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, _Decoded]]:
        remaining = iter(clips)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            first = islice(remaining, self.threads + _AHEAD)
            queue = deque((clip, pool.submit(self._decode, clip)) for clip in first)
            while queue:
                clip, future = queue.popleft()
                decoded = future.result()
                queue.extend((later, pool.submit(self._decode, later)) for later in islice(remaining, 1))
                yield clip, decoded

    def _decode(self, clip: Clip) -> _Decoded:
        if clip.problem is not None:  # found while indexing; a look at the pixels would only find it again
            kind, _, detail = clip.problem.partition(": ")
            return (Failure(kind, detail) if kind in FAILURE_KINDS else Failure("decode", clip.problem)), 0.0
        began = time.perf_counter()
        found: list[NDArray[np.uint8]] = []
        for view in self.views:
            frames = read_or_failure(self.source, clip, self.frames, view=view, seconds=self.read_seconds)
            if isinstance(frames, ClipError):
                return Failure(frames.kind, frames.detail), time.perf_counter() - began
            found.append(frames)
        return found, time.perf_counter() - began


def _decode_threads(extractor: Extractor) -> int:
    if extractor.encoder.device.type == "cpu":
        return 0  # a thread beside the encoder on one core only takes turns with it, and empties its cache
    return max(1, (os.cpu_count() or 1) // max(1, torch.cuda.device_count()))


def _batches(clips: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    """Pack the frames of clips into batches of ``size``; the last one holds what is left."""
    waiting: list[NDArray[np.uint8]] = []
    count = 0
    for clip in clips:
        waiting.append(clip)
        count += len(clip)
        if count >= size:
            frames = np.concatenate(waiting)
            whole = count - count % size
            for start in range(0, whole, size):
                yield frames[start : start + size]
            waiting, count = [frames[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)
