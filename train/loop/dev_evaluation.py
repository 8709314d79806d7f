"""A look at dev while training: loss and BLEU-4 of the whole split, by which the best checkpoint is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sacrebleu.metrics import BLEU
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from train.loop.search_batches import BATCH
from train.processes import process_count, process_rank

Bleu4 = Callable[[Sequence[str], Sequence[str]], float]
"""Hypotheses and references of a split to BLEU-4 as the dataset is scored. Given from above: how to score is no matter
of training, and what chooses a checkpoint must be what the test split is measured by."""

LEAST = 1e-6
"""Of a unit of loss, in units of BLEU-4: it decides between equals alone, since counts of whole n-grams lie further
apart."""


@torch.no_grad()
def watch(
    model: Any,
    data: Dataset[Any],
    collate: Callable[..., Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    judge: Callable[[Sequence[str]], float],
    *,
    clips: int = BATCH,
    workers: int = 0,
    to_device: Callable[[Any], Any] = lambda batch: batch,
) -> dict[str, float]:
    """Greedy translations of ``data``, scored as one split.

    Of several processes each takes a part; what they find is put together by the clips' places in the split, each
    clip counted once. Clips of about one length go together.

    Args:
        judge: translations, in the order of ``data``, to BLEU-4.

    Returns:
        ``loss``, the mean over target pieces; ``bleu4``; ``text_alone``, that of the translations of other clips, which
        owe nothing to the video; and ``choice``, by which a checkpoint is chosen: BLEU-4, and of equals the smaller
        loss. No random number is drawn: what is learnt does not depend on the looks.
    """
    model.eval()
    lengths = getattr(data, "lengths", None) or [(0, 0)] * len(data)  # type: ignore[arg-type]
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])[process_rank() :: process_count()]
    batches = [order[start : start + clips] for start in range(0, len(order), clips)]
    loader: DataLoader[Any] = DataLoader(
        data, batch_sampler=batches, collate_fn=collate, num_workers=workers, generator=torch.Generator()
    )
    rows: list[tuple[int, str]] = []
    losses: list[tuple[Tensor, int]] = []
    for places, batch in zip(batches, loader, strict=True):
        labels = batch["labels"]
        batch = to_device(batch)
        losses.append((model(**batch).loss, int((labels >= 0).sum())))
        found = model.generate(**batch, max_new_tokens=max_length, num_beams=1, do_sample=False)
        rows += zip(places, tokenizer.batch_decode(found, skip_special_tokens=True), strict=True)
    rows = sorted(_of_all(rows))
    sums = _of_all([(float(loss) * pieces, pieces) for loss, pieces in losses])
    if [place for place, _ in rows] != list(range(len(lengths))):
        raise RuntimeError(f"{len(rows)} translations of {len(lengths)} clips")
    loss, said = sum(loss for loss, _ in sums) / sum(pieces for _, pieces in sums), [text for _, text in rows]
    bleu4 = judge(said)
    others = [judge(said[place:] + said[:place]) for place in (len(said) * part // 4 for part in (1, 2, 3)) if place]
    alone = sum(others) / len(others) if others else bleu4
    return {"loss": loss, "bleu4": bleu4, "text_alone": alone, "choice": bleu4 - LEAST * loss}


def bleu4_of_words(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of the words between spaces: of German or English, not of Chinese, whose sentences would be one word."""
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(metric.corpus_score(list(hypotheses), [list(references)]).score)


def _of_all(found: list[Any]) -> list[Any]:
    """What all processes have found."""
    if process_count() == 1:
        return found
    parts: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(parts, found)
    return [one for part in parts for one in part]
