"""How a look at dev is scored while something learns: as the test split is, so that the best checkpoint is the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.experiment.run import Run
from train.settings import TrainingSettings

DECIDE = ("level", "tokenizer", "smoothing", "lowercase", "final_dot", "unicode")
"""Settings of scores that BLEU-4 depends on."""


def dev_inputs(run: Run, settings: TrainingSettings) -> Mapping[str, Any]:
    """What decides which checkpoint is kept, where dev is looked at at all."""
    if settings.evaluate_every is None:
        return {}
    return {"dev scoring": {name: getattr(run.scoring, name) for name in DECIDE}}


def dev_bleu4(run: Run) -> Callable[[Sequence[str], Sequence[str]], float]:
    """BLEU-4 of hypotheses and references by the experiment's settings of scores."""
    from eval.metrics.bleu import corpus_bleu4

    return partial(corpus_bleu4, settings=run.scoring)
