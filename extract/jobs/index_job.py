"""From a dataset's annotations to its clip index: which clips, and whether their frames are whole."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from extract.dataset import index_remarks
from extract.dataset.adapters import Adapter, dataset_adapter
from extract.dataset.clip_index import Clip, ClipIndex, write_index
from extract.dataset.manifest import Dataset
from extract.dataset.text_convention import conventional
from extract.errors import InputError
from extract.jobs.check_sources import look_at_sources
from extract.jobs.job_account import Progress
from extract.jobs.source_check import Look, LookFile
from extract.settings import Decoder, ExtractSettings
from extract.strict_json import require_unicode


def remarks_path(index: Path) -> Path:
    """The file beside an index that lists what is worth knowing of it (``extract.dataset.index_remarks``)."""
    return index.with_suffix(".remarks.jsonl")


def index_dataset(
    dataset: Dataset,
    path: Path,
    decoder: Decoder = "opencv",
    frames: bool = True,
    kept: Path | None = None,
    cluster: ExtractSettings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Counter[str | None]]:
    """Write the clip index of all splits.

    Every clip of the annotations is kept. One whose frames are missing, numbered with a gap or truncated has its
    ``problem`` noted and ``n_frames`` 0: training leaves it out and says so, extraction records it as failed,
    scoring counts it as an empty hypothesis. Every frame of a frame folder is decoded; of a video file the first
    frame and the last second (``check_video``), and a clip's times must lie within it. What was found besides, such
    as clips without a text, stands in ``remarks_path``.

    All annotations are read before the first frame. Of the clips, some thousand are in memory at a time; of each frame
    folder or video, its name and what it holds.

    Args:
        decoder: of video files, the one that will read them.
        frames: look at them; without, no clip has a problem, and ``n_frames`` is what the annotations say.
        kept: folder for what was looked at so far: where this is stopped, the next call goes on from there.
        cluster: where the work may go (``extract.jobs.check_sources``); None: it stays in this process.
        on_progress: called while frame folders and videos are looked at; they are what it counts.
        say: called with what a person should know, a line each.

    Returns:
        Per split, the number of clips by kind of problem; None: without one.

    Raises:
        InputError: annotations missing or not as released, a split without clips, an id twice, or the cluster is not
            as it should be.
    """
    root, adapter = dataset.root, dataset_adapter(dataset)
    with tempfile.TemporaryDirectory(prefix="slt-index-") as name:
        first = adapter.annotation_files(next(iter(dataset.entry.splits)))[0]
        annotated = ClipIndex(write_index(Path(name) / "annotated.parquet", _annotated(adapter, dataset), where=first))
        looks: dict[str, Look] | None = None
        if frames:
            file = LookFile(kept, root, decoder) if kept is not None else None
            sources = (clip.source for clip in annotated)
            looks = look_at_sources(sources, root, decoder, file, cluster, on_progress, say)
        counts: dict[str, Counter[str | None]] = {split: Counter() for split in dataset.entry.splits}
        noted = list(adapter.remarks)
        write_index(path, _checked(annotated, looks, dataset, counts, noted), dataset.about())
    if looks is not None:
        noted += index_remarks.unused(root, looks)
    index_remarks.write_remarks(remarks_path(path), noted)
    return counts


def _annotated(adapter: Adapter, dataset: Dataset) -> Iterator[Clip]:
    """What the annotations say, with the texts in the dataset's convention."""
    for split in dataset.entry.splits:
        found = False
        for clip in adapter.clips(split):
            found = True
            yield _with_text(clip, dataset)
        if not found:
            raise InputError(adapter.annotation_files(split)[0], expected=f"clips of split {split!r}", found="none",
                             remedy="Replace it by the file of the release.")  # fmt: skip


def _checked(
    annotated: ClipIndex, looks: Mapping[str, Look] | None, dataset: Dataset,
    counts: Mapping[str, Counter[str | None]], noted: list[index_remarks.Remark],
) -> Iterator[Clip]:  # fmt: skip
    """The clips as the index has them, while they are counted by split and kind of problem."""
    root, clamp = dataset.root, dataset.entry.past_end == "clamp"
    for clip in annotated:
        checked = clip if looks is None else looks[clip.source].at(root, clip, clamp)
        if looks is not None:
            noted += [*index_remarks.missing(root, checked), *index_remarks.clamped(clip, checked)]
        noted += index_remarks.odd_text(checked)
        counts[clip.split][checked.problem and checked.problem.partition(":")[0]] += 1
        yield checked


def _with_text(clip: Clip, dataset: Dataset) -> Clip:
    """The clip with its text in the dataset's convention, from here on everywhere the same."""
    for value in (clip.id, clip.source, clip.text, clip.signer or ""):
        try:
            require_unicode(value)
        except ValueError as error:
            raise InputError(f"clip {clip.id!r}", expected="text that UTF-8 can hold", found=f"{value!a:.80}: {error}",
                             remedy="Mend its row in the annotations.") from None  # fmt: skip
    convention = dataset.entry.text
    text = conventional(clip.text, convention.case, convention.final_dot)
    if not text:
        raise InputError(f"clip {clip.id!r}", expected="a text", found=repr(clip.text)[:80],
                         remedy="Mend or remove its row in the annotations.")  # fmt: skip
    return dataclasses.replace(clip, text=text)
