"""Contrastive video-text loss beside text generation, as stage 1 of GFSLT-VLP has it (Zhou et al., ICCV 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from extract.own_device import valid_steps

_LARGEST_SCALE = 100.0


class ContrastiveLoss(nn.Module):
    """Symmetric InfoNCE (CLIP, Radford et al., ICML 2021) between clips and their sentences.

    Both are read by the language model's encoder, the clip as features behind the adapter, the sentence as words, and
    averaged over their length [?: GFSLT-VLP has two encoders].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.video = nn.Linear(width, width, bias=False)
        self.text = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # as CLIP

    def forward(
        self, language_model: PreTrainedModel, states: Tensor, lengths: list[int], labels: Tensor, pad: int
    ) -> Tensor:
        """
        Args:
            states: (B, T, width) hidden states of the clips, of which the first ``lengths`` count.
            labels: (B, L) target ids, -100 where padded.
            pad: id of padding.

        Returns:
            The mean over both directions. Clips with the same sentence are not each other's negatives.
        """
        spoken = labels >= 0
        words = language_model.get_encoder()(
            input_ids=labels.masked_fill(~spoken, pad), attention_mask=spoken.long()
        ).last_hidden_state
        seen = valid_steps(lengths, states.shape[1], states.device)
        video = nn.functional.normalize(self.video(_mean(states, seen)).float(), dim=-1)
        text = nn.functional.normalize(self.text(_mean(words, spoken)).float(), dim=-1)
        logits = self.scale.exp().clamp(max=_LARGEST_SCALE) * video @ text.T
        same = (labels[:, None] == labels[None]).all(-1).float()
        targets = same / same.sum(1, keepdim=True)
        loss: Tensor = nn.functional.cross_entropy(logits, targets) + nn.functional.cross_entropy(logits.T, targets)
        return loss / 2


def _mean(states: Tensor, valid: Tensor) -> Tensor:
    """(B, T, C) to (B, C), over valid steps."""
    weights = valid[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
