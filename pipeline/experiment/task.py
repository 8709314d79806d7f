"""What a stage is given to do its work with, and what it reports when it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.experiment.progress_bars import Bars


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a stage reports when it is done."""

    outputs: Sequence[Path | str]
    """Files and folders, or URLs."""
    identity: Any
    """Plain values that identify the outputs: another identity makes the stages that read them stale. By split, where
    those read some only."""
    said: str
    """One line for people."""
    failed: int = 0
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How the work went, for machines."""


HELPED = Result([], None, "")
"""Of a process that computed its share of a training stage; process 0 writes what came out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What a stage is given to do its work with."""

    bars: Bars
    checkpoints: Path
    """Folder of its own, named after the inputs: a stage that is run with other settings never resumes from it."""
    inputs: Mapping[str, Any]
    """All that decides its result, for the provenance."""
