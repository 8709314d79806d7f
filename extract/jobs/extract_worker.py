"""What runs on a worker: one block of clips in, one commit in the store and a small record out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.decoding.clip_decoder import ClipDecoder, Decoded
from extract.decoding.decode_pool import DecodePool, shared_pool
from extract.decoding.decoder_versions import decoder_versions, jpeg_pack
from extract.decoding.read_ahead import read_ahead
from extract.decoding.read_clip import FrameSource
from extract.encoder.encoder_device import encoder_device
from extract.encoder.extractor import Extractor, load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.frame_batches import FrameBatches
from extract.errors import ClipError, InputError
from extract.fingerprint import fingerprint
from extract.jobs.blocks import Block
from extract.jobs.worker_plan import Crew, Machine, WorkerPlan
from extract.packs.jpeg_frames import JpegFrames
from extract.packs.packed_frames import PackedFrames
from extract.settings import ExtractSettings
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

_ANNOUNCED = 8
"""Clips whose files the system fetches meanwhile."""
_LOADING = threading.Lock()


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
    """Of the worker's time by step: read (of frame folders; video decoders read by themselves) and decode, or, where
    processes do both, starved: waiting for them; then forward and write."""


@functools.lru_cache(maxsize=1)
def _loaded(
    directory: str, expected: str, settings: ExtractSettings, quality: int | None, device: torch.device
) -> Extractor:
    """Made once per worker process, and compared with the job's fingerprint before it computes anything."""
    encoder = load_encoder(directory, settings.features)
    pack = jpeg_pack(quality, settings.jpeg_decoder)
    found = fingerprint(feature_provenance(encoder, settings.dtype, settings.features, settings.compute, pack))
    if found != expected:
        raise InputError(
            f"{directory} on {platform.node()}",
            expected=f"encoder and decoder of fingerprint {expected[:12]}",
            found=f"{found[:12]} ({decoder_versions(encoder.config.frame_settings.decoder)})",
            remedy="Give every worker the same encoder directory and the same versions of the decoder.",
        )  # fmt: skip
    return Extractor(encoder, settings, device)


def _extractor(*what: Any) -> Extractor:
    with _LOADING:  # two blocks may begin together
        return _loaded(*what)


def extract_block(
    block: Block,
    source: str | FrameSource,
    encoder_dir: str,
    store_path: str,
    expected: str,
    settings: ExtractSettings,
    crew: Crew | None = None,
) -> BlockRecord:
    """Extract the clips of a block and commit them.

    Args:
        source: the dataset's root, which the clips' sources are relative to, or packs of its frames.
        expected: the fingerprint that encoder and store must have.
        crew: the job's workers, who share the machines; default: this one is alone.

    Raises:
        InputError: the encoder or the store has another fingerprint.
    """
    # The workers fill the cores already. Set here, because torch may keep the number per thread.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if not Path(str(source)).is_dir():  # on a worker that joined late, all its clips would be recorded as missing
        raise InputError(f"{source} on {platform.node()}", expected="the dataset's root, or packs of its frames",
                         found="no such folder", remedy="Workers need it at the same path.")  # fmt: skip
    plan = WorkerPlan.of(settings, Machine.here(), crew or {})
    pixels, quality = (Path(source), None) if isinstance(source, str) else (source, source.quality)
    device = encoder_device(plan.number)  # of this thread, too
    with contextlib.ExitStack() as stack:
        # The processes start while the encoder is loaded.
        pool = stack.enter_context(shared_pool(plan.processes)) if plan.processes else None
        extractor = _extractor(encoder_dir, expected, settings, quality, device)
        store = FeatureStore.open(store_path)
        store.require(expected)
        frames = extractor.encoder.config.frame_settings
        decoder: ClipDecoder | JpegFrames = ClipDecoder(pixels, frames, block.views, settings.read_seconds)
        if settings.jpeg_decoder == "nvimgcodec" and isinstance(pixels, PackedFrames):
            decoder = JpegFrames(pixels, frames, block.views, device)
        fed = _feed(block, decoder, extractor, pool)

    began = time.perf_counter()
    failures = fed.failures
    entries: list[tuple[str, str, NDArray[np.floating]]] = []
    for (id, view, _), features in zip(fed.entries, fed.features(), strict=True):
        entries.append((id, view, features))
        wrong = int((~np.isfinite(features)).sum())
        if wrong:
            detail = f"{wrong} of {features.size} values are not finite in {settings.dtype}"
            failures[id] = Failure("nonfinite", detail)
    # All views of a clip or none: stage 2 draws among them.
    entries = [entry for entry in entries if entry[0] not in failures]
    forward = fed.forward + time.perf_counter() - began

    began = time.perf_counter()
    # Of the worker's own time; what other processes did meanwhile is for the record.
    spent = {"starved": fed.starved} if pool else {"read": fed.read, "decode": fed.decode}
    spent["forward"] = forward
    clips = [(id, features) for id, _, features in entries]
    views = [view for _, view, _ in entries]
    # Named by what it holds: were the whole block's name taken, a job whose disk fails now could replace a commit of
    # more clips that another job made of the same block.
    held = Block.of((clip for clip in block.clips if clip.id not in failures), block.views)
    timings = {"read": fed.read, "decode": fed.decode, **spent}
    store.write_block(held.id, clips, failures, timings, extractor.versions(), views)
    return BlockRecord(
        block=block.id,
        clips=len({id for id, _ in clips}),
        failed={id: failure.kind for id, failure in failures.items()},
        frames=sum(entry.frames for entry in fed.entries),
        seconds={**spent, "write": time.perf_counter() - began},
    )


class _Entry(NamedTuple):
    id: str
    view: str
    frames: int
    """Sampled ones."""


@dataclasses.dataclass(slots=True)
class _Fed:
    """A block whose frames have all been handed to the encoder."""

    entries: list[_Entry] = dataclasses.field(default_factory=list)
    """The views of each readable clip, in the order in which they were read."""
    failures: dict[str, Failure] = dataclasses.field(default_factory=dict)
    features: Callable[[], list[NDArray[np.floating]]] = list
    """Waits for what is cached of each entry."""
    read: float = 0.0
    """Seconds, summed over the processes that decode, as the next."""
    decode: float = 0.0
    starved: float = 0.0
    """Seconds of waiting for frames."""
    forward: float = 0.0


def _feed(block: Block, decoder: ClipDecoder | JpegFrames, extractor: Extractor, pool: DecodePool | None) -> _Fed:
    fed = _Fed()
    with (
        pool.decoding(decoder, block.clips)
        if pool and isinstance(decoder, ClipDecoder)
        else _in_turn(decoder, block.clips) as clips
    ):
        began = time.perf_counter()
        batches = FrameBatches(extractor)
        for clip in block.clips:
            asked = time.perf_counter()
            decoded = next(clips)
            fed.starved += time.perf_counter() - asked
            fed.read, fed.decode = fed.read + decoded.read, fed.decode + decoded.decode
            if isinstance(decoded.found, ClipError):
                fed.failures[clip.id] = Failure(decoded.found.kind, decoded.found.detail)
                continue
            for view, frames in zip(block.views, decoded.found, strict=True):
                fed.entries.append(_Entry(clip.id, view.name, len(frames)))
                batches.add(frames)
        if (hidden := batches.finish()) is not None:
            fed.features = extractor.block(hidden, [entry.frames for entry in fed.entries])
        fed.forward = time.perf_counter() - began - fed.starved
    return fed


@contextlib.contextmanager
def _in_turn(decoder: ClipDecoder | JpegFrames, clips: Sequence[Clip]) -> Iterator[Iterator[Decoded]]:
    yield map(decoder, _announced(decoder, clips))


def _announced(decoder: ClipDecoder | JpegFrames, clips: Sequence[Clip]) -> Iterator[Clip]:
    """The clips, while the system is told which files the next ones need."""
    phases = {view.phase for view in decoder.views}
    for number, clip in enumerate(clips):
        if decoder.root is not None:
            for later in clips[number + _ANNOUNCED if number else 1 : number + _ANNOUNCED + 1]:
                read_ahead(decoder.root, later, decoder.frames.keep_every, phases)
        yield clip
