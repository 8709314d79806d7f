"""Denoising pre-training on plain text: mBART's text infilling (Liu et al., TACL 2020, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extract.errors import InputError
from train.labels import encode_targets, pad_labels
from train.settings import DenoisingSettings
from train.trainer import Report, fit


class DenoisingDataset(Dataset[dict[str, Any]]):
    """Sentences with spans of pieces replaced by one mask each, drawn anew in every epoch.

    Args:
        targets: target ids per sentence, as ``encode_targets`` gives them.
    """

    def __init__(self, targets: Sequence[Sequence[int]], mask: int, rate: float, span: float, seed: int) -> None:
        self.targets, self.mask, self.rate, self.span, self.seed = targets, mask, rate, span, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.targets)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, item: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.epoch, item])
        target = list(self.targets[item])
        # The last two ids are end of sentence and language code: never masked.
        source = infill(target[:-2], self.mask, self.rate, self.span, rng) + target[-2:]
        return {"source": source, "labels": target}


def infill(pieces: list[int], mask: int, rate: float, span: float, rng: np.random.Generator) -> list[int]:
    """Replace about ``rate`` of the pieces, in Poisson spans of at least one piece, by one mask per span.

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
            source.append(mask)
    return source


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


def read_sentences(path: Path) -> list[str]:
    """Non-empty lines of a UTF-8 file.

    Raises:
        InputError: no such file, not UTF-8, or nothing in it.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except FileNotFoundError:
        raise InputError(path, expected="a text file, one sentence a line", found="no such file",
                         remedy="Give its path as `text`.") from None  # fmt: skip
    except UnicodeDecodeError as error:
        raise InputError(path, expected="UTF-8", found=f"byte {error.start} is not",
                         remedy="Convert the file, e.g. with iconv.") from error  # fmt: skip
    if not lines:
        raise InputError(path, expected="at least one sentence", found="none", remedy="Give its path as `text`.")
    return lines


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    settings: DenoisingSettings,
    work: Path,
    report: Report | None = None,
) -> list[dict[str, float]]:
    """Teach ``model`` the language of ``lines``, in place.

    Args:
        work: for checkpoints; an interrupted run resumes from there.

    Returns:
        The training log.
    """
    targets = encode_targets(tokenizer, lines)
    data = DenoisingDataset(targets, tokenizer.mask_token_id, settings.mask_rate, settings.span, settings.seed)
    log = fit(model, settings, data, collate_denoising(tokenizer.pad_token_id), work, report=report)
    model.eval()
    return log
