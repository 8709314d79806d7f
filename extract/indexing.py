"""From a dataset's annotations to its clip index: which clips, and whether their frames are whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from extract import remarks
from extract.adapters import dataset_adapter
from extract.errors import ClipError, InputError
from extract.images import check_folder
from extract.index import Clip, write_index
from extract.manifest import Dataset
from extract.settings import Decoder
from extract.text import conventional
from extract.videos import VideoFacts, check_span, check_video


def remarks_path(index: Path) -> Path:
    """The file beside an index that lists what is worth knowing of it (``extract.remarks``)."""
    return index.with_suffix(".remarks.jsonl")


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
    frame and the last second (``check_video``), and a clip's times must lie within it. What was found besides, such
    as clips without a text, stands in ``remarks_path``.

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
        found = [_with_text(clip, dataset) for clip in adapter.clips(split)]
        if not found:
            raise InputError(adapter.annotation_files(split)[0], expected=f"clips of split {split!r}", found="none",
                             remedy="Replace it by the file of the release.")  # fmt: skip
        clips += found
    clamp = dataset.entry.past_end == "clamp"
    looked_at = check_clips(dataset.root, clips, decoder, clamp) if frames else clips
    checked = list(_progress(looked_at, len(clips), on_clip))
    noted = list(adapter.remarks)
    if frames:
        noted += remarks.missing(dataset.root, checked)
        noted += remarks.clamped(clips, checked)
        noted += remarks.unused(dataset.root, checked)
    write_index(path, checked, dataset.about())
    remarks.write_remarks(remarks_path(path), noted)
    return {
        split: (len(of), sum(clip.problem is not None for clip in of))
        for split in dataset.entry.splits
        if (of := [clip for clip in checked if clip.split == split])
    }


def check_clips(root: Path, clips: Sequence[Clip], decoder: Decoder = "opencv", clamp: bool = False) -> Iterator[Clip]:
    """The clips with what their files are found to hold: ``n_frames``, ``fps``, or a ``problem``.

    Args:
        clamp: a clip that ends past the end of its recording ends with it; otherwise it has a problem, unless it is
            ``extract.videos.OVERSHOOT`` at most.
    """
    # Threads: the work is waiting for the file system, and decoding runs without Python's lock. A recording that
    # many clips are cut from is looked at once.
    with ThreadPoolExecutor(16) as pool:
        sources = {source: pool.submit(_look, root / source, decoder) for source in {c.source: None for c in clips}}
        try:
            for clip in clips:
                yield _check(root, clip, sources[clip.source], clamp)
        finally:
            pool.shutdown(cancel_futures=True)


def _with_text(clip: Clip, dataset: Dataset) -> Clip:
    """The clip with its text in the dataset's convention, from here on everywhere the same."""
    convention = dataset.entry.text
    text = conventional(clip.text, convention.case, convention.final_dot)
    if not text:
        raise InputError(f"clip {clip.id!r}", expected="a text", found=repr(clip.text)[:80],
                         remedy="Mend or remove its row in the annotations.")  # fmt: skip
    return dataclasses.replace(clip, text=text)


def _look(path: Path, decoder: Decoder) -> int | VideoFacts:
    """Frames of a folder, or what is known of a video file. No such path counts as a folder, unless it looks like
    a file."""
    return check_video(path, decoder) if path.is_file() or path.suffix else check_folder(path)


def _check(root: Path, clip: Clip, look: Future[int | VideoFacts], clamp: bool) -> Clip:
    path = root / clip.source
    try:
        found = look.result()
        if isinstance(found, int):
            return dataclasses.replace(clip, n_frames=found)
        if clamp:
            clip = _clamped(clip, found)
        return dataclasses.replace(clip, n_frames=check_span(path, clip, found), fps=found.fps or clip.fps)
    except ClipError as problem:
        return dataclasses.replace(clip, problem=str(problem))
    except OSError as error:  # no permission, a stale mount
        return dataclasses.replace(clip, problem=f"decode: {path}: {error.strerror or error}")


def _clamped(clip: Clip, recording: VideoFacts) -> Clip:
    """Ends with its recording at the latest; a frame more is rounding, and says nothing."""
    if clip.end is None or not recording.duration or not (clip.start or 0) < recording.duration:
        return clip
    if clip.end <= recording.duration + 1 / (recording.fps or clip.fps):
        return clip
    return dataclasses.replace(clip, end=recording.duration)


def _progress(clips: Iterable[Clip], total: int, on_clip: Callable[[int, int], None] | None) -> Iterable[Clip]:
    for done, clip in enumerate(clips, start=1):
        yield clip
        if on_clip:
            on_clip(done, total)
