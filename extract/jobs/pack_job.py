"""The packing job: every frame of a split decoded once, resized, encoded and written to its frame pack."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from distributed import Client, Future

from extract.clip_limits import require_length
from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import READING, Frame
from extract.decoding.read_clip import read_squares
from extract.errors import FAILURE_KINDS, ClipError, InputError
from extract.jobs.blocks import Block
from extract.jobs.cluster import check_packers
from extract.jobs.dispatch import places, reaching, run_blocks, share_out
from extract.jobs.job_account import Progress, Summary, Tally
from extract.packs.frame_pack import FramePack, pack_provenance
from extract.settings import FrameSettings, PackSettings, View
from extract.store.json_records import Failure

# Without loss, OpenCV decodes TIFF with LZW in half the time that PNG takes, at about its size; docs/packs.md.
_LOSSLESS = (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW])


@dataclasses.dataclass(frozen=True, slots=True)
class PackRecord:
    """What the driver learns about a block."""

    block: str
    clips: int
    """Clips whose frames were committed."""
    failed: dict[str, str]
    """Id to kind, of the clips that were recorded as failures."""
    frames: int
    seconds: dict[str, float]
    """By step: read (of frame folders; video decoders read by themselves), decode and resize, encode, write."""


def encode(square: Frame, quality: int | None) -> bytes:
    """One frame as a file of its own: JPEG of that quality, or TIFF, which is checked to have lost nothing.

    Args:
        square: (side, side, 3) uint8 RGB.

    Raises:
        RuntimeError: OpenCV cannot encode it.
    """
    suffix, options = _LOSSLESS if quality is None else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    image = np.ascontiguousarray(square[..., ::-1])
    done, encoded = cv2.imencode(suffix, image, options)
    # Where its TIFF library lacks a codec, OpenCV reports success.
    decoded = image if quality is not None else cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if not done or decoded is None or not np.array_equal(decoded, image):
        raise RuntimeError(f"OpenCV {cv2.__version__} cannot encode {suffix} here")
    return encoded.tobytes()


def pack_block(block: Block, root: str, folder: str, frames: FrameSettings, settings: PackSettings) -> PackRecord:
    """Pack the clips of a block and commit them.

    Args:
        root: the dataset's root, which the clips' sources are relative to.
        folder: of the split's pack.

    Raises:
        InputError: the pack was made differently, or with another version of the decoder than this worker's.
    """
    cv2.setNumThreads(1)
    if not Path(root).is_dir():  # on a worker that joined late, all its clips would be recorded as missing
        raise InputError(f"{root} on {platform.node()}", expected="the dataset's root", found="no such folder",
                         remedy="Workers need it at the same path.")  # fmt: skip
    pack = FramePack.open(Path(folder))
    pack.require(pack_provenance(frames, settings))
    every = frames if settings.frames == "sampled" else frames.model_copy(update={"keep_every": 1})
    clips: list[tuple[str, list[bytes]]] = []
    failures: dict[str, Failure] = {}
    read_before, began, encoding = READING.seconds, time.perf_counter(), 0.0
    for clip in block.clips:
        encoded: list[bytes] = []
        try:
            if clip.problem is not None:
                kind, _, detail = clip.problem.partition(": ")
                raise ClipError(kind, detail) if kind in FAILURE_KINDS else ClipError("decode", clip.problem)
            for square in read_squares(Path(root), clip, every):
                started = time.perf_counter()
                encoded.append(encode(square, settings.quality))
                encoding += time.perf_counter() - started
                # What no reader could hold is not packed either.
                require_length(Path(clip.source), len(encoded) * every.keep_every // frames.keep_every, frames.crop)
        except ClipError as error:
            failures[clip.id] = Failure(error.kind, error.detail)
        except (OSError, cv2.error) as error:  # no permission, a stale mount, an image too large to allocate
            failures[clip.id] = Failure("decode", f"{root}, {clip.source}: {type(error).__name__}: {error}")
        else:
            clips.append((clip.id, encoded))
    read = READING.seconds - read_before
    seconds = {"read": read, "decode": time.perf_counter() - began - read - encoding, "encode": encoding}
    began = time.perf_counter()
    # Named by what it holds: a job that fails a clip must not replace a commit of more clips that another job made of
    # the same block.
    held = Block.of(clip for clip in block.clips if clip.id not in failures)
    pack.write_block(held.id, clips, failures, seconds, {"opencv": cv2.__version__})
    return PackRecord(
        block=block.id,
        clips=len(clips),
        failed={id: failure.kind for id, failure in failures.items()},
        frames=sum(len(encoded) for _, encoded in clips),
        seconds={**seconds, "write": time.perf_counter() - began},
    )


def pack_split(
    clips: Iterable[Clip],
    total: int,
    root: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    frames: FrameSettings,
    settings: PackSettings,
    client: Client,
    on_progress: Callable[[Progress], None] | None = None,
    patience: float = 300,
) -> Summary:
    """Pack the clips of a split that its pack does not have yet.

    May be stopped at any moment, in any way: what is committed stays, and the next call goes on from there.

    Args:
        clips: read lazily, once.
        total: how many they are.
        root: the dataset's root, as the workers see it. So is the pack's folder.
        on_progress: called after each block.
        patience: seconds without any worker, after which the job gives up.

    Raises:
        InputError: the folder holds a pack that was made differently, a worker does not see what it needs, or the
            scheduler is gone.
        FailureRateError: too many clips failed.
    """
    pack = FramePack.create(Path(folder).absolute(), pack_provenance(frames, settings))
    pack.clear_orphans()
    if settings.retry_failed:
        pack.forget_failures(pack.failures())
    arguments = (str(Path(root).absolute()), str(pack.folder), frames, settings)
    tally = Tally(total, settings.max_failure_rate, on_progress, f"{pack.folder}/failures tells which")
    wanted = tally.count_done(clips, (View(),), pack.done())
    keep_every = frames.keep_every if settings.frames == "sampled" else 1
    blocks = share_out(wanted, keep_every, (1, settings.block_frames), tally, lambda: places(client))

    def submit(block: Block) -> Future:
        # Not pure: the same block may have been packed before, into another folder.
        return client.submit(pack_block, block, *arguments, pure=False, retries=1)

    def record_failure(block: Block, id: str, failure: Failure) -> None:
        pack.write_block(block.id, [], {id: failure})

    with reaching(client):
        check_packers(client, arguments[0], arguments[1], pack.fingerprint)
        run_blocks(blocks, submit, record_failure, client, tally, patience)
    return tally.finish()
