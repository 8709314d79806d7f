"""What the adapter gives in the first steps of a run: how large, and whether it still tells steps apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

STEPS = (0, 1, 60)


class AdapterWatch(TrainerCallback):
    """
    Args:
        features: (N, C) of some clips; what the adapter makes of them is looked at.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.seen: dict[str, float] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Also after a step: the last one has no next."""
        if state.global_step in STEPS:
            with torch.no_grad():
                words = model.adapter(self.features.to(model.adapter.hidden.weight.device))
            directions = torch.nn.functional.normalize(words, dim=1)
            self.seen[f"adapter_deviation_{state.global_step}"] = float(words.std())
            self.seen[f"adapter_cosine_{state.global_step}"] = float((directions @ directions.T).mean())

    on_step_end = on_step_begin
