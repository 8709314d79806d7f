"""The dominance probe: how large gradients, parameters and updates of each part of a model are, step by step.

The paper's analysis (its Figure 2) follows the last layer of the visual encoder and the last layer of the language
model: ``encoder.last`` and ``lm.last`` here. Every other group of modules is followed besides.

Gradients are those before clipping. All norms stay on the device until a checkpoint is due, and the rows up to each
checkpoint lie in a file of their own beside it, so that a resumed run has every step once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from extract.atomic_write import replacing

UPDATE_EVERY = 10
"""Steps between looks at the size of an update, which needs a copy of the weights; the first step has one."""

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.string()),
        ("gradient_norm", pa.float64()),
        ("parameter_norm", pa.float64()),
        ("update_ratio", pa.float64()),
    ]
)
"""``update_ratio`` is the norm of a step's change over the norm before it, null between the looks."""

_GROUPS = (
    (re.compile(r"(?:^|\.)backbone\.encoder\.stages\.(\d+)\."), "backbone.stage{}"),
    (re.compile(r"(?:^|\.)backbone\.(?:embedder|embeddings)\."), "backbone.stem"),
    (re.compile(r"(?:^|\.)backbone\."), "backbone"),
    (re.compile(r"(?:^|\.)temporal\."), "temporal"),
    (re.compile(r"(?:^|\.)adapter\."), "adapter"),
    (re.compile(r"language_model\..*(?:\bshared\b|embed_tokens|embed_positions|lm_head)"), "lm.embeddings"),
    (re.compile(r"language_model\..*\bencoder\."), "lm.encoder"),
    (re.compile(r"language_model\..*\bdecoder\."), "lm.decoder"),
)
_LAST = (
    (re.compile(r"(?:^|\.)temporal\.(?:convs|norms)\.(\d+)\."), "encoder.last"),
    (re.compile(r"language_model\..*\bdecoder\.(?:layers|block)\.(\d+)\."), "lm.last"),
)


def groups_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of parameters by group. The two last layers, which are parts of other groups, come first."""
    names = list(names)
    found: dict[str, list[str]] = {}
    for pattern, group in _LAST:
        numbered = [(int(match[1]), name) for name in names if (match := pattern.search(name))]
        if numbered:
            last = max(number for number, _ in numbered)
            found[group] = [name for number, name in numbered if number == last]
    for name in names:
        found.setdefault(_group(name), []).append(name)
    return found


def _group(name: str) -> str:
    for pattern, group in _GROUPS:
        if match := pattern.search(name):
            return group.format(*(int(number) + 1 for number in match.groups()))
    return "other"


class DominanceProbe(TrainerCallback):
    """Writes ``<folder>/dominance-<last step>.parquet`` whenever a checkpoint is due.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scale: Callable[[], float] = lambda: 1.0
        """What the loss, and so the gradients, are multiplied by at the time (fp16)."""
        self._rows: list[tuple[int, Tensor, Tensor, Tensor | None]] = []
        self._before: list[Tensor] | None = None
        self._norms: tuple[Tensor, Tensor] | None = None
        self._changed: Tensor | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self.writes = state.is_world_process_zero
        named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.weights: list[Tensor] = list(named.values())
        place = {name: number for number, name in enumerate(named)}
        self.groups = {group: [place[name] for name in names] for group, names in groups_of(named).items()}
        self._rows.clear()
        for path in parts(self.folder):
            if _last_step(path) > state.global_step:
                path.unlink()  # of steps after the checkpoint that the run resumes from: they come again

    def before_clipping(self, step: int) -> None:
        """Look at the gradients of a step.

        Args:
            step: optimiser steps that were done before.
        """
        gradients = [weight.new_zeros(()) if weight.grad is None else weight.grad for weight in self.weights]
        self._norms = (self._of_groups(gradients) / self.scale(), self._of_groups(self.weights))
        if step % UPDATE_EVERY == 0:
            self._before = [weight.detach().clone() for weight in self.weights]

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._before is not None:
            with torch.no_grad():
                for before, weight in zip(self._before, self.weights, strict=True):
                    before.sub_(weight)
                self._changed = self._of_groups(self._before)
            self._before = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._norms is not None:
            self._rows.append((state.global_step, *self._norms, self._changed))
        self._norms = self._changed = None
        if control.should_save:
            self._write()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._write()

    @torch.no_grad()
    def _of_groups(self, values: Sequence[Tensor]) -> Tensor:
        """(groups,) norms, without waiting for the device."""
        return torch.stack([get_total_norm([values[place] for place in places]) for places in self.groups.values()])

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if not rows or not self.writes:
            return
        names = list(self.groups)
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        _, of_gradients, of_weights, _ = zip(*rows, strict=True)
        gradients, weights = (torch.stack(norms).cpu().tolist() for norms in (of_gradients, of_weights))
        for number, (step, _, _, changed) in enumerate(rows):
            columns["step"] += [step] * len(names)
            columns["group"] += names
            columns["gradient_norm"] += gradients[number]
            columns["parameter_norm"] += weights[number]
            columns["update_ratio"] += _ratios(None if changed is None else changed.cpu().tolist(), weights[number])
        with replacing(self.folder / f"dominance-{rows[-1][0]:09d}.parquet") as new:
            pq.write_table(pa.table(columns, schema=SCHEMA), new)


def parts(folder: Path) -> list[Path]:
    """Files of a probe, in the order of their steps."""
    return sorted(folder.glob("dominance-*.parquet"))


def collect(files: Sequence[Path], path: Path) -> None:
    """Put the files of a probe together as ``path``."""
    with replacing(path) as new:
        pq.write_table(pa.concat_tables([pq.read_table(file, schema=SCHEMA) for file in files]), new)


def _ratios(changed: list[float] | None, before: list[float]) -> list[float | None]:
    if changed is None:
        return [None] * len(before)
    return [change / norm if norm else None for change, norm in zip(changed, before, strict=True)]


def _last_step(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
