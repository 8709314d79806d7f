"""A split that several processes translate together: each takes its share, and what they found meets by clip id.

``torchrun`` starts them. No batch is padded with clips of another process and no score is averaged over shares, so that
the result is that of one process, and the whole split is scored at once.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from typing import TypeVar

from extract.errors import InputError
from train.processes import process_count, process_rank

Found = TypeVar("Found")


def share(ids: Sequence[str]) -> list[str]:
    """This process's clips, every n-th, so that shares take about as long; all of them where it is alone."""
    return list(ids[process_rank() :: process_count()])


def gather(found: Mapping[str, Found], ids: Sequence[str]) -> dict[str, Found]:
    """What all processes found, in each of them, in the order of ``ids``.

    Every process must call it, as often as the others.

    Raises:
        InputError: a clip that two processes had, or none.
    """
    parts: list[Mapping[str, Found] | None] = [found]
    if process_count() > 1:
        from torch import distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo")  # texts travel, no tensors of a GPU
            atexit.register(distributed.destroy_process_group)
        parts = [None] * process_count()
        distributed.all_gather_object(parts, dict(found))
    merged: dict[str, Found] = {}
    for rank, part in enumerate(parts):
        for id, value in (part or {}).items():
            if id in merged:
                raise _wrong(f"clip {id!r} of process {rank}", "each clip once", "it again")
            merged[id] = value
    if set(merged) != set(ids):
        one = next(iter(set(merged) ^ set(ids)))
        raise _wrong(f"clip {one!r}", "the clips of the split", "one too many" if one in merged else "one too few")
    return {id: merged[id] for id in ids}


def _wrong(where: str, expected: str, found: str) -> InputError:
    return InputError(where, expected=expected, found=found,
                      remedy="Start every process with the same config, features and index.")  # fmt: skip
