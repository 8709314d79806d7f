"""From a dataset's annotations to its clip index: which clips, and whether their frames are whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from extract.adapters import Adapter, load_adapter
from extract.errors import ClipError, InputError
from extract.images import check_folder
from extract.index import Clip, write_index
from extract.manifest import Dataset
from extract.settings import Decoder
from extract.videos import VideoFacts, check_span, check_video


def dataset_adapter(dataset: Dataset) -> Adapter:
    """The adapter of a dataset, at its root."""
    return load_adapter(dataset.entry.adapter)(dataset.root, dataset.entry.language, dataset.entry.fps)


def index_dataset(
    dataset: Dataset,
    path: Path,
    on_clip: Callable[[int, int], None] | None = None,
    decoder: Decoder = "opencv",
    frames: bool = True,
) -> dict[str, tuple[int, int]]:
    """Write the clip index of all splits.

    Every clip of the annotations is kept. One whose frames are missing, numbered with a gap or truncated has its
    ``problem`` noted and ``n_frames`` 0: training leaves it out and says so, extraction records it as failed,
    scoring counts it as an empty hypothesis. Every frame of a frame folder is decoded; of a video file the first
    frame and the last second (``check_video``), and a clip's times must lie within it.

    Args:
        on_clip: called with clips checked and clips in all.
        decoder: of video files, the one that will read them.
        frames: look at them; without, no clip has a problem, and ``n_frames`` is what the annotations say.

    Returns:
        Per split, the number of clips and of those with a problem.

    Raises:
        InputError: annotations missing or not as released, a split without clips, an id twice.
    """
    adapter = dataset_adapter(dataset)
    clips: list[Clip] = []
    for split in dataset.entry.splits:
        found = list(adapter.clips(split))
        if not found:
            raise InputError(adapter.annotation_files(split)[0], expected=f"clips of split {split!r}", found="none",
                             remedy="Replace it by the file of the release.")  # fmt: skip
        clips += found
    looked_at = check_clips(dataset.root, clips, decoder) if frames else clips
    checked = list(_progress(looked_at, len(clips), on_clip))
    write_index(path, checked)
    return {
        split: (len(of), sum(clip.problem is not None for clip in of))
        for split in dataset.entry.splits
        if (of := [clip for clip in checked if clip.split == split])
    }


def check_clips(root: Path, clips: Sequence[Clip], decoder: Decoder = "opencv") -> Iterator[Clip]:
    """The clips with what their files are found to hold: ``n_frames``, ``fps``, or a ``problem``."""
    # Threads: the work is waiting for the file system, and decoding runs without Python's lock. A recording that
    # many clips are cut from is looked at once.
    with ThreadPoolExecutor(16) as pool:
        sources = {source: pool.submit(_look, root / source, decoder) for source in {c.source: None for c in clips}}
        try:
            for clip in clips:
                yield _check(root, clip, sources[clip.source])
        finally:
            pool.shutdown(cancel_futures=True)


def _look(path: Path, decoder: Decoder) -> int | VideoFacts:
    """Frames of a folder, or what is known of a video file. No such path counts as a folder, unless it looks like
    a file."""
    return check_video(path, decoder) if path.is_file() or path.suffix else check_folder(path)


def _check(root: Path, clip: Clip, look: Future[int | VideoFacts]) -> Clip:
    path = root / clip.source
    try:
        found = look.result()
        if isinstance(found, int):
            return dataclasses.replace(clip, n_frames=found)
        return dataclasses.replace(clip, n_frames=check_span(path, clip, found), fps=found.fps or clip.fps)
    except ClipError as problem:
        return dataclasses.replace(clip, problem=str(problem))
    except OSError as error:  # no permission, a stale mount
        return dataclasses.replace(clip, problem=f"decode: {path}: {error.strerror or error}")


def _progress(clips: Iterable[Clip], total: int, on_clip: Callable[[int, int], None] | None) -> Iterable[Clip]:
    for done, clip in enumerate(clips, start=1):
        yield clip
        if on_clip:
            on_clip(done, total)
