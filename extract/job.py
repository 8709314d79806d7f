"""The extraction job: plans blocks, keeps a Dask cluster busy with them, and counts what comes back."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from distributed import CancelledError, Client, Future, KilledWorker, wait

from extract.blocks import Block, plan_blocks
from extract.cluster import check_workers
from extract.compaction import compact
from extract.errors import InputError, SltError
from extract.extractor import cached_width, load_encoder
from extract.index import Clip
from extract.inventory import Done, done
from extract.keys import key
from extract.provenance import feature_provenance
from extract.records import Failure
from extract.settings import ExtractSettings, View
from extract.store import FeatureStore
from extract.worker import BlockRecord, extract_block

_LOOKED_UP_AT_ONCE = 1024
_BLOCKS_EACH = 4
"""Blocks that a worker still gets of what is left, so that they end together."""


class FailureRateError(SltError):
    """More clips of a split failed than ``max_failure_rate`` allows. What was committed stays."""


@dataclasses.dataclass(slots=True)
class Summary:
    """What became of a split's clips: ``clips`` = ``extracted`` + ``skipped`` + those in ``failed``."""

    clips: int
    extracted: int = 0
    skipped: int = 0
    """Committed by an earlier run."""
    failed: Counter[str] = dataclasses.field(default_factory=Counter)
    """Clips without features by kind, those that an earlier run recorded included."""
    frames: int = 0
    """Sampled frames that this run decoded."""
    seconds: float = 0.0
    read_seconds: float = 0.0
    """Summed over the workers, as the next three. Reading and decoding run beside the forward pass."""
    decode_seconds: float = 0.0
    forward_seconds: float = 0.0
    write_seconds: float = 0.0

    def shares(self) -> dict[str, float]:
        """Of the workers' time, what went into each step; they sum to 1. Decoding a video includes reading it."""
        spent = {
            "read": self.read_seconds,
            "decode": self.decode_seconds,
            "forward": self.forward_seconds,
            "write": self.write_seconds,
        }
        return {step: seconds / max(sum(spent.values()), 1e-9) for step, seconds in spent.items()}

    def figures(self) -> dict[str, Any]:
        """As plain values, with the rates of this run."""
        seconds = max(self.seconds, 1e-9)
        return {
            "clips": self.clips,
            "extracted": self.extracted,
            "skipped": self.skipped,
            "failed": dict(self.failed),
            "frames": self.frames,
            "seconds": self.seconds,
            "clips_per_second": self.extracted / seconds,
            "frames_per_second": self.frames / seconds,
            "shares": self.shares(),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, after each block."""

    done: int
    """Clips extracted, now or earlier, or failed."""
    total: int
    frames: int
    failed: dict[str, int]
    clips_per_second: float
    """Of this run, as the next two."""
    frames_per_second: float
    shares: dict[str, float]
    """As ``Summary.shares``."""


def extract_split(
    clips: Iterable[Clip],
    total: int,
    root: str | os.PathLike[str],
    encoder_dir: str | os.PathLike[str],
    store_path: str | os.PathLike[str],
    settings: ExtractSettings,
    client: Client,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Extract the clips of a split that the store does not have yet.

    May be stopped at any moment, in any way: what is committed stays, and the next call goes on from there.

    Args:
        clips: read lazily, once.
        total: how many they are.
        root: the dataset's root, as the workers see it. So are the encoder's directory and the store.
        on_progress: called after each block.

    Raises:
        InputError: the encoder cannot be loaded, the store holds features that were made differently, a worker
            does not see what it needs, or the scheduler or all workers are gone.
        FailureRateError: too many clips failed.
    """
    encoder = load_encoder(encoder_dir, settings.features)
    provenance = feature_provenance(encoder, settings.dtype, settings.features, settings.compute)
    width = cached_width(encoder, settings.features)
    store = FeatureStore.create(_absolute(store_path), provenance, width, settings.dtype)
    if settings.retry_failed:
        store.forget_failures(store.failures())

    arguments = (_absolute(root), _absolute(encoder_dir), store.location, store.fingerprint, settings)
    tally = Tally(total, settings.max_failure_rate, on_progress)
    keep_every = encoder.config.frame_settings.keep_every
    blocks = plan_split(clips, store, tally, settings, keep_every, lambda: len(client.ncores()))

    def submit(block: Block) -> Future:
        # Not pure: the same block may have been extracted before, into another store.
        return client.submit(extract_block, block, *arguments, pure=False, retries=1)

    try:
        check_workers(client, *arguments[:4])
        suspects = _extract_window(blocks, submit, client, tally, settings.wait_seconds)
        _extract_alone(suspects, submit, store, tally, client, settings.wait_seconds)
    except (CancelledError, OSError) as error:
        if client.status == "running":
            raise
        raise InputError(f"scheduler {client.scheduler.address}", expected="an answer", found="a lost connection",
                         remedy="What is extracted is kept: run it again to go on.") from error  # fmt: skip
    compact(store)
    return tally.finish()


def plan_split(
    clips: Iterable[Clip],
    store: FeatureStore,
    tally: Tally,
    settings: ExtractSettings,
    keep_every: int,
    workers: Callable[[], int],
) -> Iterator[Block]:
    """The blocks of the clips that the store does not have yet, as lazily as ``plan_blocks``.

    Args:
        tally: counts the clips that need nothing.
        keep_every: the sampling: one frame of so many is kept.
        workers: how many there are now.
    """
    wanted = tally.count_done(clips, settings.views, done(store, {view.name for view in settings.views}))

    def fair_share(frames: float) -> float:
        # Large blocks first, small ones at the end, so that no worker is alone with a large one when all else is done.
        return (tally.summary.clips - tally.seen) * frames / (_BLOCKS_EACH * max(1, workers()))

    return plan_blocks(wanted, keep_every, settings.block_frames, fair_share)


def _extract_window(
    blocks: Iterator[Block], submit: Callable[[Block], Future], client: Client, tally: Tally, patience: float
) -> list[Block]:
    """Keep about two blocks per worker in flight; returns the blocks of one clip whose workers died."""
    suspects: list[Block] = []
    divided: deque[Block] = deque()
    running: dict[Future, Block] = {}
    try:
        while True:
            window = max(2, 2 * len(client.ncores()))  # workers come and go on a cluster
            while len(running) < window and (block := divided.popleft() if divided else next(blocks, None)):
                running[submit(block)] = block
            if not running:
                return suspects
            for future in _wait(list(running), client, patience):
                block = running.pop(future)
                if not _killed(future):
                    tally.add(future.result())
                elif len(block.clips) > 1:
                    divided.extend(block.halves())
                else:
                    suspects.append(block)
    finally:
        client.cancel(list(running))


def _extract_alone(
    suspects: list[Block],
    submit: Callable[[Block], Future],
    store: FeatureStore,
    tally: Tally,
    client: Client,
    patience: float,
) -> None:
    """Try each suspect with nothing else in flight, so that the death of its worker has no other cause."""
    for block in suspects:
        future = submit(block)
        _wait([future], client, patience)
        if not _killed(future):
            tally.add(future.result())
            continue
        (clip,) = block.clips
        failure = Failure("worker_crash", f"{clip.source}: the worker process died each time it read this clip")
        store.write_block(block.id, [], {clip.id: failure})
        tally.add_failures({clip.id: failure.kind})


def _wait(futures: list[Future], client: Client, patience: float) -> set[Future]:
    """The futures that are done, at least one.

    Raises:
        InputError: there has been no worker for ``patience`` seconds. Dask would wait for one for ever: when a job of
            the cluster has ended, or a worker process was killed before it had started.
    """
    seen = time.monotonic()
    while True:
        try:
            done: set[Future] = wait(futures, timeout=min(patience, 5), return_when="FIRST_COMPLETED").done
            return done
        except TimeoutError:
            if client.ncores():
                seen = time.monotonic()
            elif time.monotonic() - seen >= patience:
                raise InputError(
                    f"scheduler {client.scheduler.address}", expected="a worker",
                    found=f"none in the last {patience:g} s",
                    remedy="What is extracted is kept: run it again to go on, with new workers.",
                ) from None  # fmt: skip


def _killed(future: Future) -> bool:
    return isinstance(future.exception(), KilledWorker)  # waits until the task has ended


class Tally:
    """Counts clips, tells about the progress, and stops a job in which too many fail."""

    def __init__(self, total: int, max_rate: float, on_progress: Callable[[Progress], None] | None) -> None:
        self.summary = Summary(clips=total)
        self.max_rate, self.on_progress = max_rate, on_progress
        self.seen = 0
        """Clips that were counted or handed out."""
        self.began = time.monotonic()

    def count_done(
        self, clips: Iterable[Clip], views: Sequence[View], done: Done
    ) -> Iterator[tuple[Clip, tuple[View, ...]]]:
        """The clips that remain to be done, each with the views it lacks, while the others are counted."""
        remaining = iter(clips)
        while some := list(islice(remaining, _LOOKED_UP_AT_ONCE)):
            present = [done.committed.has([key(clip.id, view.name) for clip in some]) for view in views]
            ids = [key(clip.id) for clip in some]
            failed = {kind: keys.has(ids) for kind, keys in done.failed.items()}
            for row, clip in enumerate(some):
                self.seen += 1
                lacking = tuple(view for view, there in zip(views, present, strict=True) if not there[row])
                kind = next((kind for kind, among in failed.items() if among[row]), None)
                if not lacking:
                    self.summary.skipped += 1
                elif kind:
                    self.add_failures({clip.id: kind})
                else:
                    yield clip, lacking

    def add(self, record: BlockRecord) -> None:
        summary = self.summary
        summary.extracted += record.clips
        summary.frames += record.frames
        summary.read_seconds += record.read_seconds
        summary.decode_seconds += record.decode_seconds
        summary.forward_seconds += record.forward_seconds
        summary.write_seconds += record.write_seconds
        self.add_failures(record.failed)
        if self.on_progress is not None:
            seconds = max(time.monotonic() - self.began, 1e-9)
            self.on_progress(
                Progress(
                    done=summary.extracted + summary.skipped + summary.failed.total(),
                    total=summary.clips,
                    frames=summary.frames,
                    failed=dict(summary.failed),
                    clips_per_second=summary.extracted / seconds,
                    frames_per_second=summary.frames / seconds,
                    shares=summary.shares(),
                )
            )

    def add_failures(self, failed: dict[str, str]) -> None:
        summary = self.summary
        summary.failed.update(failed.values())
        count = summary.failed.total()
        if failed and count > self.max_rate * summary.clips:
            kinds = ", ".join(f"{kind} {times}" for kind, times in summary.failed.most_common())
            raise FailureRateError(
                f"{count} of {summary.clips} clips failed ({kinds}), more than max_failure_rate = "
                f"{self.max_rate:g} allows. What was extracted is kept. `slt features info` lists them: "
                "repair the clips and run again with --retry-failed, or raise max_failure_rate."
            )

    def finish(self) -> Summary:
        self.summary.seconds = time.monotonic() - self.began
        return self.summary


def _absolute(path: str | os.PathLike[str]) -> str:
    location = os.fspath(path)
    return location if "://" in location else str(Path(location).absolute())
