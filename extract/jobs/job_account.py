"""The account of a job: clips done and failed, progress, and when too many fail."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from extract.dataset.clip_index import Clip
from extract.errors import SltError
from extract.key_set import Done, key
from extract.settings import View

_LOOKED_UP_AT_ONCE = 1024


class FailureRateError(SltError):
    """More clips of a split failed than ``max_failure_rate`` allows. What was committed stays."""


class Record(Protocol):
    """What a job learns about a block."""

    @property
    def clips(self) -> int:
        """Clips that were committed."""

    @property
    def failed(self) -> dict[str, str]:
        """Id to kind, of the clips that were recorded as failures."""

    @property
    def frames(self) -> int:
        """Frames that were decoded for good."""

    @property
    def seconds(self) -> dict[str, float]:
        """What the time went into, by step."""


@dataclasses.dataclass(slots=True)
class Summary:
    """What became of a split's clips: ``clips`` = ``extracted`` + ``skipped`` + those in ``failed``."""

    clips: int
    extracted: int = 0
    """Committed by this run."""
    skipped: int = 0
    """Committed by an earlier run."""
    failed: Counter[str] = dataclasses.field(default_factory=Counter)
    """Clips that are not committed by kind, those that an earlier run recorded included."""
    frames: int = 0
    """Frames that this run decoded: of an extraction, sampled ones."""
    seconds: float = 0.0
    start_up: float = 0.0
    """Of these, until the first block was begun: workers look about, and load the encoder."""
    tail: float = 0.0
    """Of these, from when a worker had nothing left to do: waiting for the others, and merging commits."""
    steady: float = 0.0
    """Frames per second between the two."""
    spent: Counter[str] = dataclasses.field(default_factory=Counter)
    """Seconds by step, summed over the workers."""

    def shares(self) -> dict[str, float]:
        """Of the workers' time, what went into each step; they sum to 1. Decoding a video includes reading it."""
        total = max(sum(self.spent.values()), 1e-9)
        return {step: seconds / total for step, seconds in self.spent.items()}

    def told(self) -> str:
        """Where the time went."""
        shares = ", ".join(f"{step} {share:.0%}" for step, share in self.shares().items())
        return f"{shares}; start-up {self.start_up:.1f} s and tail {self.tail:.1f} s of {self.seconds:.1f} s"

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
            "start_up_seconds": self.start_up,
            "tail_seconds": self.tail,
            "steady_frames_per_second": self.steady,
            "clips_per_second": self.extracted / seconds,
            "frames_per_second": self.frames / seconds,
            "shares": self.shares(),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, after each block."""

    done: int
    """Clips committed, now or earlier, or failed."""
    total: int
    frames: int
    failed: dict[str, int]
    clips_per_second: float
    """Of this run, as the next two."""
    frames_per_second: float
    shares: dict[str, float]
    """As ``Summary.shares``."""


class Tally:
    """Counts clips, tells about the progress, and stops a job in which too many fail.

    Args:
        total: clips of the split.
        max_rate: share of them that may fail.
        see: what lists the failures, for the message.
    """

    def __init__(
        self, total: int, max_rate: float, on_progress: Callable[[Progress], None] | None,
        see: str = "`slt features info` lists them",
    ) -> None:  # fmt: skip
        self.summary = Summary(clips=total)
        self.max_rate, self.on_progress, self.see = max_rate, on_progress, see
        self.seen = 0
        """Clips that were counted or handed out."""
        self.began = time.monotonic()
        self.first: float | None = None
        """When the first block was begun."""
        self.idle: tuple[float, int] | None = None
        """When a worker had nothing left to do for the first time, and the frames until then."""

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

    def add(self, record: Record) -> None:
        """Count what a block gave.

        Raises:
            FailureRateError: too many clips failed.
        """
        summary = self.summary
        if self.first is None:
            self.first = max(self.began, time.monotonic() - sum(record.seconds.values()))
        summary.extracted += record.clips
        summary.frames += record.frames
        for step, seconds in record.seconds.items():
            summary.spent[step] += seconds  # type: ignore[assignment]  # a Counter counts anything
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

    def add_failures(self, failed: Mapping[str, str]) -> None:
        """Count failures, id to kind.

        Raises:
            FailureRateError: too many clips failed.
        """
        summary = self.summary
        summary.failed.update(failed.values())
        count = summary.failed.total()
        if failed and count > self.max_rate * summary.clips:
            kinds = ", ".join(f"{kind} {times}" for kind, times in summary.failed.most_common())
            raise FailureRateError(
                f"{count} of {summary.clips} clips failed ({kinds}), more than max_failure_rate = "
                f"{self.max_rate:g} allows. What was done is kept. {self.see}: "
                "repair the clips and run again with --retry-failed, or raise max_failure_rate."
            )

    def note_idle(self) -> None:
        """Called when a worker has nothing left to do."""
        self.idle = self.idle or (time.monotonic(), self.summary.frames)

    def finish(self) -> Summary:
        """The summary, with the time since the start."""
        ended = time.monotonic()
        first = self.first or ended
        idle, frames = self.idle or (ended, self.summary.frames)
        if not frames:  # less than the workers could have begun
            idle, frames = ended, self.summary.frames
        self.summary.seconds, self.summary.start_up = ended - self.began, first - self.began
        self.summary.tail, self.summary.steady = ended - idle, frames / max(idle - first, 1e-9)
        return self.summary
