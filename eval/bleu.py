"""BLEU-1..4 over a whole split, by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU

from eval.convention import apply_convention, convention_signature, tokens
from eval.settings import ScoreSettings
from extract.errors import InputError

ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Bleu:
    """Cumulative BLEU-1..4, x100, which never travel without the signature of how they were computed."""

    orders: tuple[float, ...]
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str], settings: ScoreSettings) -> Bleu:
    """BLEU-n = brevity penalty x geometric mean of the 1..n-gram precisions, counted over all sentences.

    Papineni et al. 2002, section 2.3, as sacreBLEU computes it (Post 2018); one reference per hypothesis.
    Tokenizer and smoothing ``none`` give neccam/slt's BLEU, ``13a`` and ``exp`` GFSLT-VLP's.

    Raises:
        InputError: no sentences, or not as many hypotheses as references (sacreBLEU would cut the longer).
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise InputError(
            "BLEU",
            expected="as many hypotheses as references, at least one",
            found=f"{len(hypotheses)} and {len(references)}",
            remedy="Score the whole split: an absent clip is an empty hypothesis.",
        )
    metric = BLEU(
        lowercase=settings.lowercase,
        tokenize=settings.tokenizer or "none",
        smooth_method=settings.smoothing,
        max_ngram_order=max(ORDERS),
        force=True,  # tokenised text is what the convention says, not an oversight to warn about
    )
    counted = metric.corpus_score(
        [_bleu_text(text, settings) for text in hypotheses],
        [[_bleu_text(text, settings) for text in references]],
    )
    # The counts of an order do not depend on the highest: the corpus is tokenised and counted once for all.
    orders = [
        BLEU.compute_bleu(
            correct=counted.counts[:order],
            total=counted.totals[:order],
            sys_len=counted.sys_len,
            ref_len=counted.ref_len,
            smooth_method=settings.smoothing,
            max_ngram_order=order,
        ).score
        for order in ORDERS
    ]
    # exp(log 100) is 100.00000000000004: a perfect score is 100.
    return Bleu(
        orders=tuple(min(100.0, value) for value in orders),
        signature=f"{metric.get_signature()}|{convention_signature(settings)}",
    )


def _bleu_text(text: str, settings: ScoreSettings) -> str:
    """What sacreBLEU gets: the level's tokens joined by spaces for ``none``, the unsplit text otherwise."""
    if settings.tokenizer in (None, "none"):
        return " ".join(tokens(text, settings))
    return apply_convention(text, settings)
