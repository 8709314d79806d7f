"""The job that looks at every source of an index: by threads of this process at first, on a Dask cluster what is left.

Starting the processes of a local cluster takes some seconds, which is more than the whole of a small index. So this
process begins alone, and starts one when it is not done after ``ALONE`` seconds. It starts with a cluster where the
settings name one, and where an earlier run did not come to its end: if a file killed that one, its worker dies of it
now, and the search for deadly clips (``extract.jobs.dispatch``) finds it.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from extract.dataset.clip_index import Clip
from extract.jobs.blocks import Block
from extract.jobs.job_account import Progress, Tally
from extract.jobs.source_check import Look, LookFile, look_at
from extract.settings import Decoder, ExtractSettings
from extract.store.json_records import Failure

ALONE = 10.0
"""Seconds that this process looks by itself before it starts a cluster."""
_THREADS = 16
"""The work is waiting for the file system. Where it is decoding, processes take over after ``ALONE`` seconds."""
_TOGETHER = 16
"""Sources that a worker looks at in one task: a second or two of frame folders."""


@dataclasses.dataclass(frozen=True, slots=True)
class LookRecord:
    """What the driver learns about a block."""

    looks: tuple[Look, ...]
    seconds: dict[str, float]
    frames: int = 0

    @property
    def clips(self) -> int:
        """Sources that can be read."""
        return len(self.looks) - len(self.failed)

    @property
    def failed(self) -> dict[str, str]:
        """Source to kind of problem."""
        return {look.source: look.problem.partition(":")[0] for look in self.looks if look.problem is not None}


class LookTally(Tally):
    """Keeps what each block gave, in memory and on disk, while it counts."""

    def __init__(
        self, total: int, looks: dict[str, Look], file: LookFile | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:  # fmt: skip
        super().__init__(total, 1.0, on_progress)
        self.looks, self.file = looks, file

    def add(self, record: LookRecord) -> None:  # type: ignore[override]  # one kind of record only
        self.keep(record.looks)
        super().add(record)

    def keep(self, looks: Sequence[Look]) -> None:
        for look in looks:
            self.looks[look.source] = look
        if self.file is not None:
            self.file.add(looks)


def look_at_block(
    sources: Sequence[str], before: Sequence[Look | None], root: str, decoder: Decoder, seconds: float | None
) -> LookRecord:
    """Look at some sources, in turn, for at most so many seconds each.

    Raises:
        InputError: PyAV is asked for and not installed.
    """
    began = time.perf_counter()
    pairs = zip(sources, before, strict=True)
    looks = tuple(look_at(Path(root), source, decoder, known, seconds) for source, known in pairs)
    return LookRecord(looks, {"look": time.perf_counter() - began})


def look_at_sources(
    sources: Iterable[str],
    root: Path,
    decoder: Decoder,
    file: LookFile | None = None,
    cluster: ExtractSettings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Look]:
    """What each source holds.

    May be stopped at any moment, in any way: with a ``file``, the next call goes on from there.

    Args:
        sources: relative to the root; one that occurs again is looked at once.
        file: keeps what was looked at.
        cluster: where the work may go; None: it stays in this process.
        on_progress: called after each block.
        say: called with what a person should know, a line each.

    Raises:
        InputError: PyAV is asked for and not installed, a worker does not see the root, or the scheduler is gone.
    """
    looks: dict[str, Look] = {}
    before = file.read() if file is not None else {}
    wanted = list(dict.fromkeys(sources))
    tally = LookTally(len(wanted), looks, file, on_progress)
    waiting = iter(wanted)
    named = cluster is not None and (cluster.scheduler is not None or cluster.cluster is not None)
    if not named and not (cluster is not None and file is not None and file.exists()):
        if file is not None:
            file.add()  # from here on, an end that is not one shows
        _alone(waiting, before, root, decoder, tally, cluster)
    rest = list(waiting)
    if rest and cluster is not None:
        _on_cluster(rest, before, root, decoder, tally, cluster, say)
    return looks


def _alone(
    waiting: Iterator[str], before: dict[str, Look], root: Path, decoder: Decoder, tally: LookTally,
    cluster: ExtractSettings | None,
) -> None:  # fmt: skip
    """By threads, for ``ALONE`` seconds where there may be a cluster; what was begun by then is brought to its end."""
    most, seconds = (None, None) if cluster is None else (ALONE, cluster.read_seconds)
    began = time.monotonic()
    running: set[Future[LookRecord]] = set()
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            while True:
                if most is None or time.monotonic() - began < most:
                    for source in islice(waiting, 2 * _THREADS - len(running)):
                        known = [before.get(source)]
                        running.add(pool.submit(look_at_block, [source], known, os.fspath(root), decoder, seconds))
                if not running:
                    return
                done, running = wait(running, return_when="FIRST_COMPLETED")
                for future in done:
                    tally.add(future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _on_cluster(
    rest: Sequence[str], before: dict[str, Look], root: Path, decoder: Decoder, tally: LookTally,
    cluster: ExtractSettings, say: Callable[[str], None],
) -> None:  # fmt: skip
    # These take a second to import, which a small index does not need.
    from distributed import Future as Task

    from extract.jobs.cluster import check_lookers, open_cluster
    from extract.jobs.dispatch import reaching, run_blocks

    place = str(root.absolute())
    # A block of the job is a block of clips: each source stands for those that are cut from it.
    blocks = (Block.of(map(_whole, rest[at : at + _TOGETHER])) for at in range(0, len(rest), _TOGETHER))

    with open_cluster(cluster, say, computing=False) as client:

        def submit(block: Block) -> Task:
            sources = [clip.source for clip in block.clips]
            known = [before.get(source) for source in sources]
            return client.submit(
                look_at_block, sources, known, place, decoder, cluster.read_seconds, pure=False, retries=1
            )

        def record_failure(block: Block, source: str, failure: Failure) -> None:
            tally.keep([Look(source, None, problem=f"{failure.kind}: {failure.detail}")])

        with reaching(client):
            check_lookers(client, place)
            run_blocks(blocks, submit, record_failure, client, tally, cluster.wait_seconds)


def _whole(source: str) -> Clip:
    return Clip(id=source, split="", source=source, n_frames=0, fps=1.0, text="", language="")
