"""The rows of the score table: what is translated, and what is scored."""

from __future__ import annotations

from pipeline.experiment.config import Experiment

ROWS = ("stage1", "stage2", "shuffled", "text_prior")


def rows(experiment: Experiment) -> tuple[str, ...]:
    """What is translated from features: with those from elsewhere there is no stage 1."""
    return ROWS if experiment.data.features is None else ROWS[1:]


def scored_rows(experiment: Experiment) -> tuple[str, ...]:
    """What is scored: the rows from features, and the joint baseline where there is one."""
    joint = experiment.train.joint is not None and experiment.data.features is None
    return (*rows(experiment), "joint") if joint else rows(experiment)
