"""What a training run has cost, and how many steps the joint baseline gets for as much."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from extract.atomic_write import write_atomic
from extract.errors import InputError
from train.settings import TrainingSettings

Log = Sequence[Mapping[str, float]]
TRIAL_STEPS = 8
"""Steps that are timed, on a copy of the model, to turn seconds into steps; the first half warms up."""


def clip_passes(log: Log, settings: TrainingSettings, clips: int) -> int:
    """Clips that one training loop has seen, each time counted.

    From its log, which knows of short batches and of an early end, or where it ended in an earlier process, from the
    settings.
    """
    ended = [entry["epoch"] for entry in log if "train_runtime" in entry]
    if ended:
        return round(ended[-1] * clips)
    if settings.steps is None:
        return round((settings.epochs or 0) * clips)
    return settings.steps * settings.batch_size * settings.accumulate


def all_passes(log: Log) -> int:
    """Clips that all phases of a log from pixels have seen, as each phase has noted."""
    return round(sum(entry["clip_passes"] for entry in log if "clip_passes" in entry))


def seconds_of(log: Log) -> float:
    """Wall-clock time in the training loop; of a run that was interrupted, since its last start."""
    return sum(entry["seconds"] for entry in log if "seconds" in entry)


def steps_for_clips(passes: float, batch: int) -> int:
    """Optimiser steps that see as many clips, one at least.

    Args:
        batch: clips of an optimiser step.
    """
    return max(1, round(passes / batch))


def steps_for_seconds(seconds: float, trial: Callable[[Callable[..., None]], object], record: Path) -> int:
    """Optimiser steps that take as long, one at least. Settled once: a resumed run reads the record.

    Args:
        trial: trains for ``TRIAL_STEPS`` and calls what it is given after each.
        record: a JSON file.
    """
    if record.is_file():
        return int(json.loads(record.read_text(encoding="utf-8"))["steps"])
    moments: list[float] = []
    trial(lambda *_: moments.append(time.monotonic()))
    taken = [after - before for before, after in itertools.pairwise(moments)]
    pace = statistics.median(taken[len(taken) // 2 :])
    steps = max(1, round(seconds / pace))
    write_atomic(record, json.dumps({"steps": steps, "seconds_a_step": pace}))
    return steps


def require_amount(amount: float | None, budget: str) -> float:
    """
    Raises:
        InputError: it is not known.
    """
    if not amount:
        raise InputError("train.joint.budget", expected=f"the {budget} of stage 1 and stage 2", found="no record",
                         remedy="Run both stages first, or give train.joint.amount.")  # fmt: skip
    return amount
