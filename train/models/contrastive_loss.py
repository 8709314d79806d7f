"""Contrastive video-text losses beside text generation: of whole clips and sentences, as stage 1 of GFSLT-VLP has it
(Zhou et al., ICCV 2023), or of their steps and words, as CiCo (Cheng et al., CVPR 2023) and C2RL."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from extract.own_device import valid_steps

_LARGEST_SCALE = 100.0
_TEMPERATURE = 0.07
"""By which a step attends to words, and a word to steps (CiCo)."""

Level = Literal["sentence", "token"]


class ContrastiveLoss(nn.Module):
    """Symmetric InfoNCE (CLIP, Radford et al., ICML 2021) between clips and their sentences.

    Both are read by the language model's encoder, the clip as features behind the adapter, the sentence as words [?:
    GFSLT-VLP has two encoders].

    Args:
        width: of the language model.
        level: what is compared: ``sentence``, states averaged over their length; ``token``, each step with the words
            that it attends to, averaged over steps, and each word with its steps, averaged over words.
    """

    def __init__(self, width: int, level: Level = "sentence") -> None:
        super().__init__()
        self.level = level
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
        if self.level == "sentence":
            states, words = _mean(states, seen), _mean(words, spoken)
        video = nn.functional.normalize(self.video(states).float(), dim=-1)
        text = nn.functional.normalize(self.text(words).float(), dim=-1)
        scale = self.scale.exp().clamp(max=_LARGEST_SCALE)
        if self.level == "sentence":
            by_video = by_text = scale * video @ text.T
        else:
            by_video, by_text = (scale * similarity for similarity in _similarities(video, seen, text, spoken))
        same = (labels[:, None] == labels[None]).all(-1).float()
        targets = same / same.sum(1, keepdim=True)
        loss: Tensor = nn.functional.cross_entropy(by_video, targets) + nn.functional.cross_entropy(by_text.T, targets)
        return loss / 2


def _mean(states: Tensor, valid: Tensor) -> Tensor:
    """(B, T, C) to (B, C), over valid steps."""
    weights = valid[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _similarities(video: Tensor, seen: Tensor, text: Tensor, spoken: Tensor) -> tuple[Tensor, Tensor]:
    """(B, B) of each clip with each sentence, from the side of steps and from that of words.

    Args:
        video: (B, T, C) of length 1, valid where ``seen``.
        text: (B, L, C) of length 1, valid where ``spoken``.
    """
    alike = torch.einsum("vtc,slc->vstl", video, text)
    steps, words = seen[:, None, :, None], spoken[None, :, None, :]
    to_words = (alike / _TEMPERATURE).masked_fill(~words, -torch.inf).softmax(3)
    to_steps = (alike / _TEMPERATURE).masked_fill(~steps, -torch.inf).softmax(2)
    of_steps = (alike * to_words).sum(3, keepdim=True) * steps
    of_words = (alike * to_steps).sum(2, keepdim=True) * words
    return of_steps.sum((2, 3)) / seen.sum(1)[:, None], of_words.sum((2, 3)) / spoken.sum(1)[None, :]
