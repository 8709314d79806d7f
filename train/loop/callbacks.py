"""What the training loop tells and obeys: progress, divergence, the epoch of the draws, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from extract.errors import SltError

Report = Callable[[int, int, Mapping[str, float]], None]
"""Called with optimiser steps done, steps in all, and the latest figures (loss, learning_rate, dev bleu4)."""

LOOKING = 1.0
"""BLEU-4 above that of other clips' translations at which a model is said to look at the video [?]."""


class DivergenceError(SltError):
    """The loss is no longer a number."""


class ReportCallback(TrainerCallback):
    """Hands the loop's figures to a ``Report`` and stops the loop's own printing."""

    def __init__(self, report: Report | None) -> None:
        self.report, self.figures = report, {}  # type: ignore[var-annotated]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % state.save_steps == 0:
            # Losses are averaged from one entry of the log to the next: a run that is resumed here logs the same.
            control.should_log = True
        if self.report and state.is_world_process_zero:
            self.report(state.global_step, state.max_steps, self.figures)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        names = {"loss": "loss", "eval_bleu4": "dev bleu4"}
        self.figures |= {names[key]: value for key, value in (logs or {}).items() if key in names}
        if not math.isfinite(self.figures.get("loss", 0.0)):
            raise DivergenceError(f"training diverged: loss {self.figures['loss']} at step {state.global_step}. "
                                  "Use a smaller learning_rate, or more warmup_steps.")  # fmt: skip


class EpochCallback(TrainerCallback):
    """Tells data and batches which epoch it is, for draws that depend on seed, epoch and example alone.

    The trainer does so itself, but not through the wrappers that it uses after a resume.
    """

    def __init__(self, *told: Any) -> None:
        self.told = told

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for one in self.told:
            if hasattr(one, "set_epoch"):
                one.set_epoch(int((state.epoch or 0) + 1e-6))  # resumed within an epoch: a fraction


class PatienceCallback(TrainerCallback):
    """Ends training after looks at dev without a better BLEU-4, or a smaller loss at the same one. It counts in the
    log, which a resumed run has too."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_training_stop = looks_since_best(state.log_history) >= self.patience


def looks_since_best(log: Sequence[Mapping[str, float]]) -> int:
    """Looks at dev since the (first) one with the best BLEU-4, of equals with the smallest loss."""
    seen = [(entry["eval_bleu4"], -entry["eval_loss"]) for entry in log if "eval_bleu4" in entry]
    return len(seen) - 1 - seen.index(max(seen)) if seen else 0


class WatchCallback(TrainerCallback):
    """Looks at dev at the end of the first epoch, and of every so many: to tell, not to choose."""

    def __init__(self, every: float) -> None:
        self.every, self.seen = every, 0

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epochs = int((state.epoch or 0) / self.every + 1e-6)
        if epochs > self.seen or (state.epoch or 0) < 1.5:
            control.should_evaluate = True
        self.seen = epochs


class PlateauCallback(TrainerCallback):
    """Says at each look at dev whether translations are still no better than those of other clips.

    Args:
        options: settings that leave the plateau and are off.
    """

    def __init__(self, say: Callable[[str], None], options: Sequence[str]) -> None:
        self.say, self.options = say, options

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        found = kwargs["metrics"]
        bleu4, alone = found["eval_bleu4"], found["eval_text_alone"]
        if bleu4 < alone + LOOKING:
            remedy = f"; what leaves it: {', '.join(self.options)}" if self.options else ""
            self.say(f"step {state.global_step}: still on the plateau: dev BLEU-4 {bleu4:.2f} is that of the text "
                     f"alone ({alone:.2f}){remedy}")  # fmt: skip
