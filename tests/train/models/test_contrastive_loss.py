"""The contrastive loss of steps and words against its definition, clip by clip: padding has no part in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from train.models.contrastive_loss import ContrastiveLoss
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.settings import TransformerSettings

LINES = ["es regnet", "am montag scheint die sonne", "im norden wird es kalt", "es regnet"]
SIZE = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=40)


def by_hand(loss: ContrastiveLoss, states: list[Tensor], words: list[Tensor]) -> Tensor:
    def unit(values: Tensor, layer: nn.Module) -> Tensor:
        return nn.functional.normalize(layer(values), dim=-1)

    def pair(video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        alike = unit(video, loss.video) @ unit(text, loss.text).T
        return ((alike * (alike / 0.07).softmax(1)).sum(1).mean(), (alike * (alike / 0.07).softmax(0)).sum(0).mean())

    pairs = [[pair(video, text) for text in words] for video in states]
    sides = [torch.stack([torch.stack([one[side] for one in row]) for row in pairs]) for side in (0, 1)]
    same = torch.tensor([[float(a == b) for b in LINES] for a in LINES])
    targets, scale = same / same.sum(1, keepdim=True), loss.scale.exp()
    entropies = [nn.functional.cross_entropy(scale * side, targets) for side in (sides[0], sides[1].T)]
    return sum(entropies) / 2  # type: ignore[return-value]


def test_steps_meet_words_and_see_no_padding() -> None:
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    torch.manual_seed(0)
    model, loss = build_mbart(SIZE, tokenizer, "de_DE").eval(), ContrastiveLoss(16, "token")
    encoded = [torch.tensor(ids) for ids in tokenizer(text_target=LINES)["input_ids"]]
    labels = nn.utils.rnn.pad_sequence(encoded, batch_first=True, padding_value=-100)
    lengths = [5, 2, 7, 3]
    states = torch.randn(4, 7, 16)
    found = loss(model, states, lengths, labels, tokenizer.pad_token_id)
    with torch.no_grad():
        words = [model.get_encoder()(input_ids=ids[None]).last_hidden_state[0] for ids in encoded]
        expected = by_hand(loss, [states[n, :length] for n, length in enumerate(lengths)], words)
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)
    found.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in loss.parameters() if weight.grad is not None)
    assert loss.video.weight.grad is not None
