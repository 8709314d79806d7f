"""The extraction job: plans blocks, keeps a Dask cluster busy with them, and counts what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from distributed import Client, Future

from extract.dataset.clip_index import Clip
from extract.decoding.decoder_versions import jpeg_pack
from extract.decoding.read_clip import FrameSource
from extract.encoder.extractor import cached_width, load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.jobs.blocks import Block
from extract.jobs.cluster import check_workers
from extract.jobs.dispatch import places, reaching, run_blocks, share_out
from extract.jobs.extract_worker import extract_block
from extract.jobs.job_account import Progress, Summary, Tally
from extract.jobs.worker_plan import block_frames, crew_of, told
from extract.settings import ExtractSettings, View
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore
from extract.store.inventory import done
from extract.store.json_records import Failure


def extract_split(
    clips: Iterable[Clip],
    total: int,
    source: str | os.PathLike[str] | FrameSource,
    encoder_dir: str | os.PathLike[str],
    store_path: str | os.PathLike[str],
    settings: ExtractSettings,
    client: Client,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Extract the clips of a split that the store does not have yet.

    May be stopped at any moment, in any way: what is committed stays, and the next call goes on from there.

    Args:
        clips: read lazily, once.
        total: how many they are.
        source: the dataset's root, or packs of its frames, as the workers see them. So are the encoder's directory
            and the store.
        on_progress: called after each block.
        say: called with what was chosen for the workers, a line for those that are alike.

    Raises:
        InputError: the encoder cannot be loaded, the store holds features that were made differently, a worker
            does not see what it needs, or the scheduler is gone.
        FailureRateError: too many clips failed.
    """
    encoder = load_encoder(encoder_dir, settings.features)
    place = _absolute(source) if isinstance(source, str | os.PathLike) else source
    quality = None if isinstance(place, str) else place.quality
    pack = jpeg_pack(quality, settings.jpeg_decoder)
    provenance = feature_provenance(encoder, settings.dtype, settings.features, settings.compute, pack)
    width = cached_width(encoder, settings.features)
    store = FeatureStore.create(_absolute(store_path), provenance, width, settings.dtype)
    if settings.retry_failed:
        store.forget_failures(store.failures())

    directory = _absolute(encoder_dir)
    # A worker has no use for where the work goes, and keeps its encoder by its settings: a dict has no hash.
    theirs = settings.model_copy(update={"cluster": None, "scheduler": None})
    tally = Tally(total, settings.max_failure_rate, on_progress)
    with reaching(client):
        machines = check_workers(client, str(place), directory, store.location, store.fingerprint)
    for line in told(settings, machines):
        say(line)
    arguments = (place, directory, store.location, store.fingerprint, theirs, crew_of(machines))
    keep_every = encoder.config.frame_settings.keep_every
    sizes = block_frames(settings, machines)
    blocks = plan_split(clips, store, tally, settings.views, sizes, keep_every, lambda: places(client))

    def submit(block: Block) -> Future:
        # Not pure: the same block may have been extracted before, into another store.
        return client.submit(extract_block, block, *arguments, pure=False, retries=1)

    def record_failure(block: Block, id: str, failure: Failure) -> None:
        store.write_block(block.id, [], {id: failure})

    with reaching(client):
        run_blocks(blocks, submit, record_failure, client, tally, settings.wait_seconds)
    compact(store)
    return tally.finish()


def plan_split(
    clips: Iterable[Clip],
    store: FeatureStore,
    tally: Tally,
    views: tuple[View, ...],
    sizes: tuple[int, int],
    keep_every: int,
    workers: Callable[[], int],
) -> Iterator[Block]:
    """The blocks of the clips that the store does not have yet, as lazily as ``plan_blocks``.

    Args:
        tally: counts the clips that need nothing.
        sizes: least and most frames of a block.
        keep_every: the sampling: one frame of so many is kept.
        workers: blocks that are done at a time now.
    """
    wanted = tally.count_done(clips, views, done(store, {view.name for view in views}))
    return share_out(wanted, keep_every, sizes, tally, workers)


def _absolute(path: str | os.PathLike[str]) -> str:
    location = os.fspath(path)
    return location if "://" in location else str(Path(location).absolute())
