"""Denoising pre-training on plain text: mBART's text infilling and sentence permutation (Liu et al., TACL 2020,
section 2.2), from random weights or as adaptation of a pre-trained model to a domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extract.errors import InputError
from train.data.drawn_dataset import DrawnDataset
from train.data.targets import encode_targets, pad_labels
from train.loop.callbacks import Report
from train.loop.trainer import fit
from train.settings import DenoisingSettings


class DenoisingDataset(DrawnDataset):
    """Passages in another order of sentences, with spans of pieces replaced by one mask each, drawn anew in every
    epoch; the target is the passage as it was.

    Args:
        passages: sentences of each passage, each its pieces without special ones.
        ending: what a target ends with: end of sentence and, for mBART, the language code. The first of it also
            stands between sentences.
        masks: of the first span, the second and so on, the last one for all that follow: mBART has one mask for all,
            mT5 a row of sentinels.
        rate: share of pieces that are masked.
        span: mean length of a span, Poisson.
    """

    def __init__(
        self, passages: Sequence[Sequence[Sequence[int]]], ending: Sequence[int], masks: Sequence[int],
        rate: float, span: float, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.passages, self.ending, self.masks = passages, list(ending), masks
        self.rate, self.span, self.seed = rate, span, seed

    def __len__(self) -> int:
        return len(self.passages)

    def __getitem__(self, item: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.epoch, item])
        sentences = self.passages[item]
        order = rng.permutation(len(sentences)) if len(sentences) > 1 else [0]
        masks = chain(self.masks, repeat(self.masks[-1]))
        source = [infill(sentences[place], masks, self.rate, self.span, rng) for place in order]
        return {"source": self._joined(source), "labels": self._joined(sentences)}

    def _joined(self, sentences: Sequence[Sequence[int]]) -> list[int]:
        """Never masked: the ends of sentences and the language code."""
        between = self.ending[:1]
        return [id for sentence in sentences[:-1] for id in [*sentence, *between]] + [*sentences[-1], *self.ending]


def infill(
    pieces: Sequence[int], masks: Iterator[int], rate: float, span: float, rng: np.random.Generator
) -> list[int]:
    """Replace about ``rate`` of the pieces, in Poisson spans of at least one piece, by the next of ``masks`` each.

    At least one piece is hidden. Spans that touch become one.
    """
    budget = max(1, round(rate * len(pieces)))
    hidden = np.zeros(len(pieces), dtype=bool)
    while hidden.sum() < budget:
        length = min(max(1, int(rng.poisson(span))), budget - int(hidden.sum()))
        start = int(rng.integers(len(pieces) - length + 1))
        hidden[start : start + length] = True
    source: list[int] = []
    for position, piece in enumerate(pieces):
        if not hidden[position]:
            source.append(piece)
        elif position == 0 or not hidden[position - 1]:
            source.append(next(masks))
    return source


def mask_pieces(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What stands for hidden spans: mBART's mask, or the sentinels of T5 in their order.

    Raises:
        InputError: the tokenizer has neither.
    """
    if tokenizer.mask_token_id is not None:
        return [tokenizer.mask_token_id]
    vocabulary = tokenizer.get_vocab()
    found: list[int] = []
    for number in count():
        sentinel = vocabulary.get(f"<extra_id_{number}>", vocabulary.get(f"▁<extra_id_{number}>"))  # mT5 has the latter
        if sentinel is None:
            break
        found.append(sentinel)
    if not found:
        raise InputError("train.lm", expected="a tokenizer with a mask, as mBART's, or sentinels, as T5's",
                         found=f"{type(tokenizer).__name__} without",
                         remedy="Denoising needs one of them: use another language model.")  # fmt: skip
    return found


def collate_denoising(pad: int) -> Any:
    """Batches of padded sources, their mask and labels."""

    def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        sources = [torch.tensor(example["source"]) for example in examples]
        ids = pad_sequence(sources, batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(source) for source in sources])
        mask = torch.arange(ids.shape[1])[None, :] < lengths[:, None]
        return {
            "labels": pad_labels([example["labels"] for example in examples]),
            "input_ids": ids,
            "attention_mask": mask.long(),
        }

    return collate


def read_documents(path: Path) -> list[list[str]]:
    """Non-empty lines of a UTF-8 file, grouped: an empty line ends a document.

    Raises:
        InputError: no such file, not UTF-8, not text, or nothing in it.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, expected="a text file, one sentence a line", found="no such file",
                         remedy="Give its path as `text`.") from None  # fmt: skip
    except UnicodeDecodeError as error:
        raise InputError(path, expected="UTF-8", found=f"byte {error.start} is not",
                         remedy="Convert the file, e.g. with iconv.") from error  # fmt: skip
    except OSError as error:
        raise InputError(path, expected="a text file, one sentence a line", found=error.strerror or str(error),
                         remedy="Give the path of a file that can be read.") from error  # fmt: skip
    before, zero, _ = content.partition("\0")
    if zero:
        raise InputError(path, expected="text", found=f"a zero byte in line {before.count(chr(10)) + 1}",
                         remedy="Is it a binary file, or UTF-16? Convert it, e.g. with iconv.")  # fmt: skip
    documents: list[list[str]] = [[]]
    for line in content.split("\n"):
        if line.strip():
            documents[-1].append(line.strip())
        elif documents[-1]:
            documents.append([])
    filled = [document for document in documents if document]
    if not filled:
        raise InputError(path, expected="at least one sentence", found="none", remedy="Give its path as `text`.")
    return filled


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Sequence[str]],
    settings: DenoisingSettings,
    work: Path,
    report: Report | None = None,
) -> list[dict[str, float]]:
    """Teach ``model`` the language of ``documents``, in place.

    Args:
        documents: the sentences of each; what has no context is a document by itself.
        work: for checkpoints; an interrupted run resumes from there.

    Returns:
        The training log.

    Raises:
        InputError: a sentence has no piece, or more than the model has positions; or the tokenizer has no mask.
    """
    masks = mask_pieces(tokenizer)
    limit = getattr(model.config, "max_position_embeddings", None)
    passages, ending = _passages(tokenizer, documents, settings.sentences, limit)
    data = DenoisingDataset(passages, ending, masks, settings.mask_rate, settings.span, settings.seed)
    log = fit(model, settings, data, collate_denoising(tokenizer.pad_token_id), work, report=report)
    model.eval()
    return log


def _passages(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Sequence[str]], most: int, limit: int | None
) -> tuple[list[list[list[int]]], list[int]]:
    """Consecutive sentences of a document, at most ``most`` and as many as fit into the model's positions; and what
    a target ends with."""
    special = tokenizer.num_special_tokens_to_add()
    sentences = [sentence for document in documents for sentence in document]
    encoded = iter(encode_targets(tokenizer, sentences, limit))
    passages: list[list[list[int]]] = []
    ending: list[int] = []
    for document in documents:
        passage: list[list[int]] = []
        length = 0
        for _ in document:
            ids = next(encoded)
            pieces, ending = ids[:-special], ids[-special:]
            if passage and (len(passage) == most or (limit and length + len(ids) > limit)):
                passages.append(passage)
                passage, length = [], 0
            passage.append(pieces)
            length += len(pieces) + 1  # the end of the sentence
        passages.append(passage)
    return passages, ending
