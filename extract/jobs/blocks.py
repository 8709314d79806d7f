"""Blocks: the clips that one task extracts, one writer writes and one commit makes visible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from extract.dataset.clip_index import Clip
from extract.fingerprint import digest
from extract.settings import View

# Where the index could not count a clip's frames, the mean of the published corpora stands in (107 to 123).
_TYPICAL_FRAMES = 120
_LEAST_FRAMES = 32
"""Smaller blocks would cost more than they balance: a task and a commit take some 20 ms."""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Some clips of one split, and the views that are wanted of each."""

    id: str
    """Digest of the clips' ids and of the views. Never a position: a resumed run plans fewer clips, and would give
    the id of a committed block to another one."""
    clips: tuple[Clip, ...]
    views: tuple[View, ...]

    @classmethod
    def of(cls, clips: Iterable[Clip], views: tuple[View, ...] = (View(),)) -> Block:
        clips = tuple(clips)
        return cls(digest([[clip.id for clip in clips], [view.name for view in views]])[:32], clips, views)

    def halves(self) -> tuple[Block, Block]:
        """Two blocks with half of the clips each; for a block of at least two clips."""
        middle = len(self.clips) // 2
        return Block.of(self.clips[:middle], self.views), Block.of(self.clips[middle:], self.views)


def plan_blocks(
    wanted: Iterable[tuple[Clip, tuple[View, ...]]],
    keep_every: int,
    block_frames: int,
    fair_share: Callable[[float], float] | None = None,
    least: int = 1,
) -> Iterator[Block]:
    """Pack clips into blocks, lazily and in order.

    Args:
        wanted: clips of one split that are neither committed nor permanently failed, each with the views it lacks.
        keep_every: the sampling: one frame of so many is kept.
        block_frames: sampled frames per block over all views, about: a block ends with the clip that reaches it, or
            where the next clip lacks other views.
        least: frames that a share has at least, for fewer are not worth a batch.
        fair_share: given the mean frames of a clip so far, the frames that one block may have so that all workers
            stay busy to the end; asked before each block. A block is never larger than ``block_frames``.
    """
    waiting: list[Clip] = []
    views: tuple[View, ...] = ()
    frames = planned = seen = 0

    def limit() -> float:
        if fair_share is None:
            return block_frames
        mean = planned / seen if seen else _TYPICAL_FRAMES / keep_every
        return min(block_frames, max(_LEAST_FRAMES, least, fair_share(mean)))

    most = limit()
    for clip, lacking in wanted:
        if waiting and lacking != views:
            yield Block.of(waiting, views)
            waiting, frames = [], 0
        views = lacking
        waiting.append(clip)
        cost = len(views) * -(-(clip.n_frames or _TYPICAL_FRAMES) // keep_every)
        frames, planned, seen = frames + cost, planned + cost, seen + 1
        if frames >= most:
            yield Block.of(waiting, views)
            waiting, frames, most = [], 0, limit()
    if waiting:
        yield Block.of(waiting, views)
