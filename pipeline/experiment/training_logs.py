"""What a training stage leaves of its course."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from extract.atomic_write import write_atomic
from pipeline.experiment.run import Run


def write_log(run: Run, stage: str, log: Sequence[Mapping[str, float]], checkpoints: Path) -> None:
    """``logs/<stage>.json``, and ``logs/<stage>.dominance.parquet`` where the stage has a dominance probe."""
    from train.loop.dominance_probe import collect, parts

    path = run.folder / "logs" / f"{stage}.json"
    write_atomic(path, json.dumps(list(log), indent=1))
    if probes := parts(checkpoints):
        collect(probes, path.with_name(f"{stage}.dominance.parquet"))
