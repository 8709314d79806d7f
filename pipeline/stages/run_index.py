"""The stage that makes the clip index: annotations in, clips and whether their frames are whole out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from extract.dataset.clip_index import SCHEMA, SPLITS, ClipIndex
from extract.fingerprint import file_sha256
from pipeline.experiment.progress_bars import follow_looks
from pipeline.experiment.run import Run
from pipeline.experiment.task import Result, Task


def index_inputs(run: Run) -> Mapping[str, Any]:
    from extract.dataset.adapters import dataset_adapter

    entry, adapter = run.dataset.entry, dataset_adapter(run.dataset)
    files = {split: adapter.annotation_files(split) for split in entry.splits}
    unread = {} if run.experiment.data.features is None else {"frames": "not looked at"}
    return {
        **unread,
        "dataset": run.dataset.about(),
        "schema": SCHEMA.metadata[b"schema"].decode(),
        "decoder": run.experiment.frames.decoder,
        **{f"annotations:{split}": [file_sha256(path) for path in of if path.is_file()] for split, of in files.items()},
    }


def run_index(run: Run, task: Task) -> Result:
    """Annotations to ``index.parquet``."""
    from dask.system import CPU_COUNT

    from extract.dataset.index_remarks import read_remarks, summary
    from extract.jobs.index_job import index_dataset, remarks_path

    settings = run.experiment.extract
    with task.bars.bar("looking at frames", "sources") as tick:
        counts = index_dataset(
            run.dataset,
            run.index,
            run.experiment.frames.decoder,
            frames=run.experiment.data.features is None,
            # Not in the folder of these inputs: what was looked at holds for other annotations too.
            kept=task.checkpoints.with_name("index-looks"),
            cluster=settings.model_copy(update={"workers": settings.workers or CPU_COUNT}),
            on_progress=follow_looks(tick),
            say=lambda line: task.bars.say(f"  [yellow]{line}[/yellow]"),
        )
    expected = {str(split): n for split, n in run.dataset.entry.splits.items()}
    parts = [
        f"{split} {of.total()}" + (f" of {expected[split]}" if expected[split] else "") for split, of in counts.items()
    ]
    problems = {split: {kind: n for kind, n in of.items() if kind is not None} for split, of in counts.items()}
    failed = sum(run.failures(split, of) for split, of in problems.items())
    if bad := sum(sum(of.values()) for of in problems.values()):
        known = f", {bad - failed} of them known to be missing from the release" if bad > failed else ""
        parts.append(f"[yellow]{bad} clips with missing or damaged frames{known}: see `problem` in {run.index}; "
                     "`slt index --force` looks again when they are mended[/yellow]")  # fmt: skip
    listed = remarks_path(run.index)
    if remarks := summary(read_remarks(listed)):
        parts.append(f"[yellow]{escape('; '.join(remarks))}: see {listed}[/yellow]")
    outputs = [run.index, *([listed] if listed.is_file() else [])]
    indices = {split: ClipIndex(run.index, split) for split in SPLITS}
    # The files apart from the rest: what they hold decides features, and not what is learnt from an index alone.
    identity = {split: index.digest() for split, index in indices.items()}
    identity |= {f"files:{split}": index.files_digest() for split, index in indices.items()}
    return Result(outputs, identity, f"clips: {', '.join(parts)}", failed)
