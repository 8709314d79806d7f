"""Blocks on a Dask cluster: a bounded window of tasks, and the search for a clip that kills its worker."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from distributed import CancelledError, Client, Future, KilledWorker, wait
from distributed.comm import CommClosedError

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.jobs.blocks import Block, plan_blocks
from extract.jobs.job_account import Tally
from extract.settings import View
from extract.store.json_records import Failure

_BLOCKS_EACH = 4
"""Blocks that a worker still gets of what is left, so that they end together."""


def share_out(
    wanted: Iterable[tuple[Clip, tuple[View, ...]]],
    keep_every: int,
    sizes: tuple[int, int],
    tally: Tally,
    workers: Callable[[], int],
) -> Iterator[Block]:
    """``plan_blocks`` with blocks that shrink towards the end of a split.

    Args:
        wanted: what the tally handed out, for it knows how many clips are left.
        sizes: least and most frames of a block.
        workers: blocks that are done at a time now.
    """

    def fair_share(frames: float) -> float:
        # Large blocks first, small ones at the end, so that no worker is alone with a large one when all else is done.
        return (tally.summary.clips - tally.seen) * frames / (_BLOCKS_EACH * max(1, workers()))

    return plan_blocks(wanted, keep_every, sizes[1], fair_share, sizes[0])


def places(client: Client) -> int:
    """Blocks that are done at a time: one by each worker, and two where it has threads for them: then one of them is
    decoded while the other one is computed and written."""
    return sum(min(threads, 2) for threads in client.ncores().values())


@contextlib.contextmanager
def reaching(client: Client) -> Iterator[None]:
    """
    Raises:
        InputError: the connection to the scheduler was lost meanwhile.
    """
    try:
        yield
    except (CancelledError, OSError) as error:
        # Right after the scheduler's death the client does not know of it yet.
        if client.status == "running" and not isinstance(error, CommClosedError):
            raise
        raise InputError(f"scheduler {client.scheduler.address}", expected="an answer", found="a lost connection",
                         remedy="What is done is kept: run it again to go on.") from error  # fmt: skip


def run_blocks(
    blocks: Iterator[Block],
    submit: Callable[[Block], Future],
    record_failure: Callable[[Block, str, Failure], None],
    client: Client,
    tally: Tally,
    patience: float,
) -> None:
    """Do all blocks of a split, about two in flight for each that is done at a time.

    Args:
        submit: starts the task of a block; its result is a ``Record``.
        record_failure: called with the block and the clip whose worker died each time.
        patience: seconds without any worker, after which the job gives up.

    Raises:
        InputError: there are no workers any more.
        FailureRateError: too many clips failed.
    """
    suspects = _together(blocks, submit, client, tally, patience)
    _alone(suspects, submit, record_failure, client, tally, patience)


def _together(
    blocks: Iterator[Block], submit: Callable[[Block], Future], client: Client, tally: Tally, patience: float
) -> list[Block]:
    """Keep about two blocks per place in flight; returns the blocks of one clip whose workers died."""
    suspects: list[Block] = []
    divided: deque[Block] = deque()
    running: dict[Future, Block] = {}
    try:
        while True:
            window = max(2, 2 * places(client))  # workers come and go on a cluster
            while len(running) < window and (block := divided.popleft() if divided else next(blocks, None)):
                running[submit(block)] = block
            if len(running) < window // 2:
                tally.note_idle()
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


def _alone(
    suspects: list[Block],
    submit: Callable[[Block], Future],
    record_failure: Callable[[Block, str, Failure], None],
    client: Client,
    tally: Tally,
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
        record_failure(block, clip.id, failure)
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
                    remedy="What is done is kept: run it again to go on, with new workers.",
                ) from None  # fmt: skip


def _killed(future: Future) -> bool:
    return isinstance(future.exception(), KilledWorker)  # waits until the task has ended
