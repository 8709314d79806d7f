"""Sentences as target ids: what the decoder learns to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from extract.errors import InputError


def encode_targets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int | None = None
) -> list[list[int]]:
    """Sentences as target ids: pieces, end of sentence and, for mBART, the language code.

    Args:
        limit: positions of the model; None: any number.

    Raises:
        InputError: a sentence has no piece, or more than the limit with what follows them.
    """
    encoded: list[list[int]] = tokenizer(text_target=list(texts))["input_ids"]
    for text, ids, spoken in zip(texts, encoded, _spoken(tokenizer, encoded), strict=True):
        shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
        if not spoken:
            raise InputError(f"sentence {shown}", expected="at least one known piece", found="none",
                             remedy="Take it out of the annotations or of the text.")  # fmt: skip
        if limit is not None and len(ids) > limit:
            raise InputError(f"sentence {shown}", expected=f"at most {limit} pieces, the model's positions",
                             found=f"{len(ids)}",
                             remedy="Split it, or use a model that has more positions.")  # fmt: skip
    return encoded


def known(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[bool]:
    """Whether each sentence has a piece that the tokenizer knows: of one without there is nothing to learn."""
    return _spoken(tokenizer, tokenizer(text_target=list(texts))["input_ids"]) if texts else []


def _spoken(tokenizer: PreTrainedTokenizerBase, encoded: Sequence[Sequence[int]]) -> list[bool]:
    return [bool(text.strip()) for text in tokenizer.batch_decode(encoded, skip_special_tokens=True)]


def spoken_pieces(tokenizer: PreTrainedTokenizerBase, targets: Sequence[Sequence[int]]) -> list[int]:
    """Ids of the pieces that occur in the targets, special ones apart, the most frequent first."""
    special = set(tokenizer.all_special_ids)
    counts = Counter(id for ids in targets for id in set(ids) if id not in special)
    return [id for id, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def pad_labels(labels: Sequence[Sequence[int]]) -> Tensor:
    """(B, longest) with -100, which the loss ignores, after each sentence."""
    return pad_sequence([torch.tensor(ids) for ids in labels], batch_first=True, padding_value=-100)
