"""Processes that would do the same work in one folder take turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from extract.errors import InputError
from pipeline.bars import Bars
from train.processes import process_count, process_rank


@contextmanager
def taking_turns(path: Path, bars: Bars) -> Iterator[None]:
    """Wait until no other process is within a block of this path. A process that was killed is within none.

    The processes of ``torchrun`` count as one.

    Raises:
        InputError: another process is, and this is one of several: the others cannot be kept waiting.
    """
    if process_rank() > 0:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if process_count() > 1:
            raise InputError(path, expected="a lock that is free", found="another process at the same work",
                             remedy="Start this when that one has ended.") from None  # fmt: skip
        bars.say(f"[yellow]waiting for another process that runs this ({path})[/yellow]")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
