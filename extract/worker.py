"""What runs on a worker: one block of clips in, one commit in the store and a small record out."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import platform
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import logging as transformers_logging

from extract.blocks import Block
from extract.encoder import VisualEncoder
from extract.errors import FAILURE_KINDS, ClipError, InputError
from extract.fingerprint import fingerprint
from extract.frames import DECODER, read_clip
from extract.index import Clip
from extract.provenance import feature_provenance
from extract.records import Failure
from extract.settings import ExtractSettings, FrameSettings
from extract.store import FeatureStore

# Clips that are decoded while the encoder is busy. More would only cost memory: a clip of 8 s is 8 MB.
_AHEAD = 3


@dataclasses.dataclass(frozen=True, slots=True)
class BlockRecord:
    """What the driver learns about a block."""

    block: str
    clips: int
    """Clips whose features were committed."""
    failed: dict[str, str]
    """Id to kind, of the clips that were recorded as failures."""
    frames: int
    """Sampled frames."""
    decode_seconds: float
    """In the decoding thread, at the same time as the forward pass."""
    forward_seconds: float
    write_seconds: float


def load_encoder(directory: str | os.PathLike[str]) -> VisualEncoder:
    """The encoder of a directory, on the CPU, in float32 and in evaluation mode.

    Raises:
        InputError: no such directory, or its weights do not fit its configuration.
    """
    remedy = "Run `slt train visual`, or check the path."
    if not Path(directory, "config.json").is_file():
        raise InputError(directory, expected="a visual encoder directory", found="no config.json", remedy=remedy)
    transformers_logging.disable_progress_bar()
    try:
        encoder, report = VisualEncoder.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(directory, expected="a visual encoder", found=str(error), remedy=remedy) from error
    # Weights that are not in the file would be drawn at random, with no more than a log line.
    absent = [key for what in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[what]]
    if absent:
        raise InputError(directory, expected="the weights of its configuration",
                         found=f"{len(absent)} that do not fit, e.g. {absent[0]}", remedy=remedy)  # fmt: skip
    return encoder.eval().requires_grad_(False)


@functools.lru_cache(maxsize=1)
def _worker_encoder(directory: str, expected: str, dtype: str) -> VisualEncoder:
    """Loaded once per worker process, and compared with the job's fingerprint before it computes anything."""
    encoder = load_encoder(directory)
    found = fingerprint(feature_provenance(encoder, dtype))
    if found != expected:
        raise InputError(
            f"{directory} on {platform.node()}",
            expected=f"encoder and decoder of fingerprint {expected[:12]}",
            found=f"{found[:12]} ({DECODER})",
            remedy="Give every worker the same encoder directory and the same version of OpenCV.",
        )  # fmt: skip
    # TensorFloat-32 moves features by 1e-3, and the quickest algorithm differs from run to run.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu")


def extract_block(
    block: Block, root: str, encoder_dir: str, store_path: str, expected: str, settings: ExtractSettings
) -> BlockRecord:
    """Extract the clips of a block and commit them.

    Args:
        root: the dataset's root, which the clips' sources are relative to.
        expected: the fingerprint that encoder and store must have.

    Raises:
        InputError: the encoder or the store has another fingerprint.
    """
    # The workers fill the cores already. Set here, because torch may keep the number per thread.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if not Path(root).is_dir():  # on a worker that joined late, all its clips would be recorded as missing
        raise InputError(f"{root} on {platform.node()}", expected="the dataset's root", found="no such folder",
                         remedy="Workers need it at the same path.")  # fmt: skip
    encoder = _worker_encoder(encoder_dir, expected, settings.dtype)
    store = FeatureStore.open(store_path)
    store.require(expected)

    decoder = _Decoder(Path(root), encoder.config.frame_settings)
    forward = 0.0
    hidden: list[Tensor] = []
    for batch, used in _batches(decoder.read(block.clips), settings.batch_frames):
        began = time.perf_counter()
        hidden.append(_frame_features(encoder, batch)[:used])
        forward += time.perf_counter() - began

    began = time.perf_counter()
    clips = []
    failures = dict(decoder.failures)
    lengths = list(decoder.lengths.values())
    for id, frames in zip(decoder.lengths, torch.cat(hidden).split(lengths) if hidden else (), strict=True):
        features = _sign_features(encoder, frames, settings.dtype)
        if np.isfinite(features).all():
            clips.append((id, features))
        else:
            wrong = int((~np.isfinite(features)).sum())
            detail = f"{wrong} of {features.size} values are not finite in {settings.dtype}"
            failures[id] = Failure("nonfinite", detail)
    forward += time.perf_counter() - began

    began = time.perf_counter()
    timings = {"decode": decoder.seconds, "forward": forward}
    store.write_block(block.id, clips, failures, timings, _versions(encoder))
    return BlockRecord(
        block=block.id,
        clips=len(clips),
        failed={id: failure.kind for id, failure in failures.items()},
        frames=sum(lengths),
        decode_seconds=decoder.seconds,
        forward_seconds=forward,
        write_seconds=time.perf_counter() - began,
    )


class _Decoder:
    """Decodes clips in a thread of its own, a few ahead of the encoder, and keeps account of them."""

    def __init__(self, root: Path, frames: FrameSettings) -> None:
        self.root, self.frames = root, frames
        self.lengths: dict[str, int] = {}
        """Sampled frames of each readable clip, in the order in which they were read."""
        self.failures: dict[str, Failure] = {}
        self.seconds = 0.0

    def read(self, clips: Iterable[Clip]) -> Iterator[NDArray[np.uint8]]:
        """The frames of each readable clip, (T, 3, crop, crop), in order."""
        remaining = iter(clips)
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
            queue = deque((clip, thread.submit(self._decode, clip)) for clip in islice(remaining, _AHEAD))
            while queue:
                clip, future = queue.popleft()
                decoded = future.result()
                queue.extend((later, thread.submit(self._decode, later)) for later in islice(remaining, 1))
                if isinstance(decoded, Failure):
                    self.failures[clip.id] = decoded
                else:
                    self.lengths[clip.id] = len(decoded)
                    yield decoded

    def _decode(self, clip: Clip) -> NDArray[np.uint8] | Failure:
        if clip.problem is not None:  # found while indexing; a look at the pixels would only find it again
            kind, _, detail = clip.problem.partition(": ")
            return Failure(kind, detail) if kind in FAILURE_KINDS else Failure("decode", clip.problem)
        began = time.perf_counter()
        try:
            return read_clip(self.root, clip, self.frames)
        except ClipError as error:
            return Failure(error.kind, error.detail)
        except (OSError, cv2.error) as error:  # no permission, a stale mount, an image too large to allocate
            return Failure("decode", f"{self.root / clip.source}: {type(error).__name__}: {error}")
        finally:
            self.seconds += time.perf_counter() - began


def _batches(clips: Iterable[NDArray[np.uint8]], size: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Pack the frames of clips into batches of exactly ``size``, and say how many of each are real.

    The last one is filled up with black frames: matrix libraries choose other algorithms for other shapes,
    and a clip's features would depend on where in a block it stands.
    """
    waiting: list[NDArray[np.uint8]] = []
    count = 0
    for clip in clips:
        waiting.append(clip)
        count += len(clip)
        if count >= size:
            frames = np.concatenate(waiting)
            whole = count - count % size
            for start in range(0, whole, size):
                yield frames[start : start + size], size
            waiting, count = [frames[whole:]], count - whole
    if count:
        frames = np.concatenate(waiting)
        padding = np.zeros((size - count, *frames.shape[1:]), np.uint8)
        yield np.concatenate([frames, padding]), count


@torch.inference_mode()
def _frame_features(encoder: VisualEncoder, batch: NDArray[np.uint8]) -> Tensor:
    """(F, 3, H, W) uint8 to (F, backbone width)."""
    return encoder.frame_features(torch.from_numpy(batch).to(encoder.device))


@torch.inference_mode()
def _sign_features(encoder: VisualEncoder, frames: Tensor, dtype: str) -> NDArray[np.floating]:
    """(T, backbone width) of one clip to (N, C). One clip at a time: its neighbours then cannot matter."""
    features, _ = encoder.temporal(frames, [len(frames)])
    array: NDArray[np.floating] = features.to(getattr(torch, dtype)).cpu().numpy()
    return array


def _versions(encoder: VisualEncoder) -> dict[str, str]:
    device = torch.cuda.get_device_name() if encoder.device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "device": device,
    }
