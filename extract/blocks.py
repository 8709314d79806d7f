"""Blocks: the clips that one task extracts, one writer writes and one commit makes visible."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from extract.fingerprint import digest
from extract.index import Clip

# Where the index could not count a clip's frames, the mean of the published corpora stands in (107 to 123).
_TYPICAL_FRAMES = 120


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Some clips of one split."""

    id: str
    """Digest of the clips' ids. Never a position: a resumed run plans fewer clips, and would give the id of a
    committed block to another one."""
    clips: tuple[Clip, ...]

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> Block:
        clips = tuple(clips)
        return cls(digest([clip.id for clip in clips])[:32], clips)

    def halves(self) -> tuple[Block, Block]:
        """Two blocks with half of the clips each; for a block of at least two clips."""
        middle = len(self.clips) // 2
        return Block.of(self.clips[:middle]), Block.of(self.clips[middle:])


def plan_blocks(clips: Iterable[Clip], keep_every: int, block_frames: int) -> Iterator[Block]:
    """Pack clips into blocks, lazily and in order.

    Args:
        clips: those that are neither committed nor permanently failed, of one split.
        keep_every: the sampling: one frame of so many is kept.
        block_frames: sampled frames per block, about: a block ends with the clip that reaches it.
    """
    waiting: list[Clip] = []
    frames = 0
    for clip in clips:
        waiting.append(clip)
        frames += -(-(clip.n_frames or _TYPICAL_FRAMES) // keep_every)
        if frames >= block_frames:
            yield Block.of(waiting)
            waiting, frames = [], 0
    if waiting:
        yield Block.of(waiting)
