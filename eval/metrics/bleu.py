"""BLEU-1..4 over a whole split, by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence

from sacrebleu.metrics import BLEU

from eval.metrics.scored_text import apply_convention, tokens
from eval.settings import ScoreSettings

ORDERS = (1, 2, 3, 4)


def sacrebleus_bleu(settings: ScoreSettings, *, effective_order: bool = False) -> BLEU:
    """BLEU-4. Tokenizer and smoothing ``none`` give neccam/slt's, ``13a`` and ``exp`` GFSLT-VLP's."""
    return BLEU(
        lowercase=settings.lowercase,
        tokenize=settings.tokenizer or "none",
        smooth_method=settings.smoothing,
        max_ngram_order=max(ORDERS),
        effective_order=effective_order,
        force=True,  # tokenised text is what the convention says, not an oversight to warn about
    )


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str], settings: ScoreSettings) -> list[list[float]]:
    """Ten counts of each sentence: lengths of hypothesis and reference, matching n-grams of the four orders, n-grams of
    the four orders."""
    metric = sacrebleus_bleu(settings, effective_order=True)  # moves no count; without it, a warning per sentence
    sides = ([_bleu_text(text, settings) for text in texts] for texts in (hypotheses, references))
    found = (metric.sentence_score(hypothesis, [reference]) for hypothesis, reference in zip(*sides, strict=True))
    return [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found]


def bleu_of_counts(sums: Sequence[float], order: int, smoothing: str) -> float:
    """BLEU-``order``, x100: brevity penalty x geometric mean of the n-gram precisions up to that order (Papineni et al.
    2002, section 2.3; Post 2018).

    Args:
        sums: ``bleu_counts`` summed over sentences.

    The counts of an order do not depend on the highest: a corpus is tokenised and counted once for all of them.
    """
    value = BLEU.compute_bleu(
        correct=list(sums[2 : 2 + order]),
        total=list(sums[6 : 6 + order]),
        sys_len=int(sums[0]),
        ref_len=int(sums[1]),
        smooth_method=smoothing,
        max_ngram_order=order,
    ).score
    return min(100.0, float(value))  # exp(log 100) is 100.00000000000004: a perfect score is 100


def corpus_bleu4(hypotheses: Sequence[str], references: Sequence[str], settings: ScoreSettings) -> float:
    """BLEU-4 of a split, x100."""
    counts = bleu_counts(hypotheses, references, settings)
    return bleu_of_counts([sum(column) for column in zip(*counts, strict=True)], max(ORDERS), settings.smoothing)


def bleu_tokens(text: str, settings: ScoreSettings) -> list[str]:
    """What BLEU counts of a text."""
    metric = sacrebleus_bleu(settings)
    text = _bleu_text(text, settings)
    return str(metric.tokenizer(text.lower() if settings.lowercase else text)).split()


def _bleu_text(text: str, settings: ScoreSettings) -> str:
    """What sacreBLEU gets: the level's tokens joined by spaces for ``none``, the unsplit text otherwise."""
    if settings.tokenizer in (None, "none"):
        return " ".join(tokens(text, settings))
    return apply_convention(text, settings)
