"""Bag-of-words supervision of the visual encoder: which pieces of the sentence can be seen, not when.

Every step scores every piece; a piece counts as seen in the clip with its best step (multiple-instance learning,
after the conceptual words of GloFE, Lin et al., ACL 2023). No gloss is used: the pieces are those of the clip's
own sentence. It takes the encoder off the plateau where a decoder can lower its loss without looking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from extract.encoder.visual_encoder import VisualEncoder


class WordSpotter(nn.Module):
    """Per-step logits over pieces and the loss of their maximum over time.

    Args:
        width: of a sign-wise feature.
        pieces: ids of the pieces to spot.
    """

    column: Tensor

    def __init__(self, width: int, pieces: Sequence[int], vocabulary: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, len(pieces))
        # A piece is in few sentences: start from a low probability, not from a half.
        nn.init.constant_(self.head.bias, -4.0)
        column = torch.full((vocabulary,), -1)
        column[torch.tensor(pieces)] = torch.arange(len(pieces))
        self.register_buffer("column", column, persistent=False)

    def forward(self, features: Tensor, lengths: list[int], labels: Tensor) -> Tensor:
        """Binary cross entropy, summed over pieces and averaged over clips.

        Args:
            features: (sum of lengths, C).
            labels: (B, L) target ids with -100 where padded.
        """
        scores = nn.utils.rnn.pad_sequence(
            list(self.head(features).split(lengths)), batch_first=True, padding_value=-1e4
        ).amax(dim=1)  # (B, pieces)
        columns = self.column[labels.clamp(min=0)].masked_fill(labels < 0, -1)
        present = torch.zeros(scores.shape[0], scores.shape[1] + 1, device=scores.device)
        present.scatter_(1, columns.masked_fill(columns < 0, scores.shape[1]), 1.0)
        loss = nn.functional.binary_cross_entropy_with_logits(scores, present[:, :-1], reduction="sum")
        return loss / scores.shape[0]


class SpottingEncoder(nn.Module):
    """The model of the warm-up: encoder and spotter, no decoder."""

    def __init__(self, encoder: VisualEncoder, spotter: WordSpotter) -> None:
        super().__init__()
        self.encoder, self.spotter = encoder, spotter

    def forward(self, labels: Tensor, lengths: Sequence[int], frames: Tensor) -> dict[str, Any]:
        features, steps = self.encoder(frames, list(lengths))
        return {"loss": self.spotter(features, steps, labels)}
