"""A look at dev while training: loss and BLEU-4 of the whole split, by which the best checkpoint is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sacrebleu.metrics import BLEU
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from train.loop.search_batches import BATCH
from train.processes import process_count, process_rank


@torch.no_grad()
def watch(
    model: Any,
    data: Dataset[Any],
    collate: Callable[..., Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    clips: int = BATCH,
    workers: int = 0,
    to_device: Callable[[Any], Any] = lambda batch: batch,
) -> dict[str, float]:
    """Greedy translations of ``data``, scored as one split.

    Of several processes each takes a part; what they find is put together by the clips' places in the split, each
    clip counted once. Clips of about one length go together.

    Returns:
        ``loss``, the mean over target pieces, and ``bleu4`` on the tokenizer's text. It serves to choose a checkpoint;
        published figures come from ``eval``.
    """
    model.eval()
    lengths = getattr(data, "lengths", None) or [(0, 0)] * len(data)  # type: ignore[arg-type]
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])[process_rank() :: process_count()]
    batches = [order[start : start + clips] for start in range(0, len(order), clips)]
    loader: DataLoader[Any] = DataLoader(data, batch_sampler=batches, collate_fn=collate, num_workers=workers)
    rows: list[tuple[int, str, str]] = []
    losses: list[tuple[Tensor, int]] = []
    for places, batch in zip(batches, loader, strict=True):
        labels = batch["labels"]
        batch = to_device(batch)
        losses.append((model(**batch).loss, int((labels >= 0).sum())))
        found = model.generate(**batch, max_new_tokens=max_length, num_beams=1, do_sample=False)
        texts = (
            tokenizer.batch_decode(ids, skip_special_tokens=True)
            for ids in (found, labels.masked_fill(labels < 0, tokenizer.pad_token_id))
        )
        rows += zip(places, *texts, strict=True)
    rows = sorted(_of_all(rows))
    sums = _of_all([(float(loss) * pieces, pieces) for loss, pieces in losses])
    if [place for place, _, _ in rows] != list(range(len(lengths))):
        raise RuntimeError(f"{len(rows)} translations of {len(lengths)} clips")
    metric = BLEU(tokenize="none", smooth_method="none")
    score = metric.corpus_score([row[1] for row in rows], [[row[2] for row in rows]]).score
    return {"loss": sum(loss for loss, _ in sums) / sum(pieces for _, pieces in sums), "bleu4": score}


def _of_all(found: list[Any]) -> list[Any]:
    """What all processes have found."""
    if process_count() == 1:
        return found
    parts: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(parts, found)
    return [one for part in parts for one in part]
