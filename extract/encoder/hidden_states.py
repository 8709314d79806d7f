"""From sign-wise features to hidden states: the part of Light-T that reads the signs (table 8 of the paper)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel


class SignAdapter(nn.Module):
    """MLP with one hidden layer from features to input embeddings of a text transformer (section 3.3).

    mBART multiplies its word embeddings by sqrt(d_model) where they are looked up; embeddings that are handed in
    bypass that. The adapter takes the place of the word embedding, so it gives what is as large as scaled words, by a
    layer norm of its own or by the same factor; positions and layer norm of the transformer follow. See
    docs/decisions/adapter-start.md.
    """

    def __init__(self, width: int, hidden: int, d_model: int, activation: str, scale: float, norm: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.activation = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]()
        self.output = nn.Linear(hidden, d_model)
        self.norm = nn.LayerNorm(d_model) if norm else None
        self.scale = scale

    def start_like(self, embedding: Tensor) -> None:
        """New weights, whose output is as large as the scaled word embeddings are: the standard deviation of a
        (V, d_model) table times the scale; without a norm about so, for features of mean square one."""
        for layer in (self.hidden, self.output):
            nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu")  # keeps the mean square
        words, each = float(embedding.std()), 1 / math.sqrt(self.output.in_features)
        if self.norm is None:
            nn.init.normal_(self.output.weight, std=words * each)
        else:
            nn.init.normal_(self.output.weight, std=each)
            nn.init.constant_(self.norm.weight, words * self.scale)
            nn.init.zeros_(self.norm.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(..., width) to (..., d_model)."""
        words: Tensor = self.output(self.activation(self.hidden(features)))
        return words * self.scale if self.norm is None else self.norm(words)


def embedding_scale(config: Any) -> float:
    """What a language model multiplies its word embeddings by."""
    return math.sqrt(config.d_model) if getattr(config, "scale_embedding", False) else 1.0


class StateEncoder(nn.Module):
    """Adapter and the encoder half of Light-T.

    Args:
        fields: ``transformer`` (a configuration of transformers with its ``model_type``), ``width`` of the features,
            ``hidden``, ``activation`` and ``norm`` of the adapter; before there was a norm, no ``norm``.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__()
        described = dict(fields["transformer"])
        config = AutoConfig.for_model(described.pop("model_type"), **described)
        self.adapter = SignAdapter(
            fields["width"], fields["hidden"], config.d_model, fields["activation"], embedding_scale(config),
            fields.get("norm", False),
        )  # fmt: skip
        whole = AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=False)
        self.transformer = _without_words(whole.get_encoder())
        self.width: int = config.d_model

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) sign-wise features of one clip to (N, d_model) hidden states."""
        embedded = self.adapter(features)[None]
        mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
        states: Tensor = self.transformer(inputs_embeds=embedded, attention_mask=mask).last_hidden_state[0]
        return states


def _without_words(encoder: PreTrainedModel) -> PreTrainedModel:
    # It is never given a word; the table would be most of its weights, and count in the fingerprint.
    encoder.set_input_embeddings(nn.Embedding(1, encoder.config.d_model, padding_idx=0))
    return encoder
