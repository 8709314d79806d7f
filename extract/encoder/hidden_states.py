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
    bypass that. The adapter takes the place of the word embedding, so its output is scaled alike; positions and
    layer norm of the transformer follow. See docs/decisions/adapter-scale.md.
    """

    def __init__(self, width: int, hidden: int, d_model: int, activation: str, scale: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.activation = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]()
        self.output = nn.Linear(hidden, d_model)
        self.scale = scale

    def start_like(self, embedding: Tensor) -> None:
        """New weights, whose output is about as large as the scaled word embeddings are: for features of mean square
        one, the standard deviation of a (V, d_model) table times the scale."""
        for layer in (self.hidden, self.output):
            nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu")  # keeps the mean square
        nn.init.normal_(self.output.weight, std=float(embedding.std()) / math.sqrt(self.output.in_features))

    def forward(self, features: Tensor) -> Tensor:
        """(..., width) to (..., d_model)."""
        words: Tensor = self.output(self.activation(self.hidden(features))) * self.scale
        return words


def embedding_scale(config: Any) -> float:
    """What a language model multiplies its word embeddings by."""
    return math.sqrt(config.d_model) if getattr(config, "scale_embedding", False) else 1.0


class StateEncoder(nn.Module):
    """Adapter and the encoder half of Light-T.

    Args:
        fields: ``transformer`` (a configuration of transformers with its ``model_type``), ``width`` of the features,
            ``hidden`` and ``activation`` of the adapter.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__()
        described = dict(fields["transformer"])
        config = AutoConfig.for_model(described.pop("model_type"), **described)
        self.adapter = SignAdapter(
            fields["width"], fields["hidden"], config.d_model, fields["activation"], embedding_scale(config)
        )
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
