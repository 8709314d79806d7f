"""What the decoder looked at: its cross-attention over a clip's features while it wrote a hypothesis."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from extract.store.feature_store import FeatureStore
from train.data.targets import pad_labels
from train.models.translator import SignTranslator

EVEN = 3.0


@dataclass(frozen=True)
class Attention:
    """Cross-attention of one hypothesis over its clip."""

    pieces: tuple[str, ...]
    """As the tokenizer writes them; ``▁`` begins a word."""
    weights: NDArray[np.float32]
    """(pieces, feature steps): mean over layers and heads; each row sums to 1."""

    @property
    def shades(self) -> NDArray[np.float32]:
        """(pieces, feature steps) 0..1: 1 is the largest weight of a row, or ``EVEN`` times the weight of an even look
        where no weight is as large. So a row that looks everywhere alike is pale, and a row that does not is clear."""
        relative = self.weights * self.weights.shape[1]
        shades: NDArray[np.float32] = relative / np.maximum(EVEN, relative.max(axis=1, keepdims=True))
        return shades

    @property
    def png(self) -> bytes:
        """One pixel per weight, black, as opaque as its shade: the page gives it its own colour."""
        alpha = (255 * self.shades).round().astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(np.stack([np.zeros_like(alpha), alpha], axis=-1)).save(file, "png", optimize=True)
        return file.getvalue()

    @property
    def summary(self) -> str:
        """In words, for those who cannot see it: of each piece, where in the clip its largest weight lies."""
        steps = self.weights.shape[1]
        peaks = [
            f"{piece.removeprefix('▁')} {(place + 0.5) / steps:.0%} ({row[place]:.2f})"
            for piece, place, row in zip(self.pieces, self.weights.argmax(axis=1).tolist(), self.weights, strict=True)
        ]
        return f"Where each piece looks most, as a share of the clip, and its weight: {', '.join(peaks)}"


@torch.no_grad()
def cross_attention(
    model: SignTranslator, tokenizer: PreTrainedTokenizerBase, store: FeatureStore, hypotheses: Mapping[str, str]
) -> dict[str, Attention]:
    """Cross-attention of each hypothesis, the decoder being given its own words (one pass, no search).

    A clip without features, or with an empty hypothesis, has none.

    Args:
        model: afterwards it computes its attention without a fused kernel, which is slower.
        store: features as those that the model learnt from; others are refused.
        hypotheses: clip id to text.

    Raises:
        InputError: features of another fingerprint.
    """
    if model.config.features is not None:
        store.require(model.config.features)
    limit = getattr(model.language_model.config, "max_position_embeddings", None) or float("inf")
    present = store.lengths()
    found: dict[str, Attention] = {}
    model.eval()
    model.language_model.set_attn_implementation("eager")  # the fused ones do not tell their weights
    for id, text in hypotheses.items():
        if not text.strip() or not 0 < present.get(id, 0) <= limit:
            continue
        features = torch.from_numpy(store[id]).float().to(model.device)
        targets = tokenizer(text_target=text)["input_ids"]
        weights = _weights(model, features, pad_labels([targets]).to(model.device))
        spoken = [place for place, piece in enumerate(targets) if piece not in tokenizer.all_special_ids]
        if spoken:
            pieces = tokenizer.convert_ids_to_tokens([targets[place] for place in spoken])
            found[id] = Attention(tuple(pieces), weights[spoken].float().cpu().numpy())
    return found


def _weights(model: SignTranslator, features: Tensor, labels: Tensor) -> Tensor:
    """(L, T) weights of one clip: features (T, C), labels (1, L). Row i is the look before piece i is written."""
    packed, steps = model.sign_features(None, features, torch.tensor([len(features)]))
    embeds, mask = model.embed(packed, steps)
    output = model.language_model(
        inputs_embeds=embeds, attention_mask=mask, use_cache=False, output_attentions=True,
        decoder_input_ids=model.language_model.prepare_decoder_input_ids_from_labels(labels),
    )  # fmt: skip
    layers: Tensor = torch.stack(output.cross_attentions)  # (layers, 1, heads, L, T)
    return layers.mean(dim=(0, 2))[0]
