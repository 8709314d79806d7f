"""BLEU-1..4 over a whole split, by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence

from sacrebleu.metrics import BLEU

from eval.metrics.scored_text import apply_convention, tokens
from eval.settings import ScoreSettings

ORDERS = (1, 2, 3, 4)


class ConventionBleu(BLEU):
    """sacreBLEU's BLEU-4 of texts as they are given: it applies the settings' convention itself.

    Tokenizer and smoothing ``none`` give neccam/slt's BLEU, ``13a`` and ``exp`` GFSLT-VLP's.
    """

    def __init__(self, settings: ScoreSettings) -> None:
        super().__init__(
            lowercase=settings.lowercase,
            tokenize=settings.tokenizer or "none",
            smooth_method=settings.smoothing,
            max_ngram_order=max(ORDERS),
            force=True,  # tokenised text is what the convention says, not an oversight to warn about
        )
        self._settings = settings

    def _preprocess_segment(self, sent: str) -> str:
        return str(super()._preprocess_segment(_bleu_text(sent, self._settings)))


def bleu_of_counts(sums: Sequence[float], order: int, smoothing: str) -> float:
    """BLEU-``order``, x100: brevity penalty x geometric mean of the n-gram precisions up to that order (Papineni et al.
    2002, section 2.3; Post 2018).

    Args:
        sums: sacreBLEU's ten statistics summed over sentences: lengths of hypotheses and references, matching n-grams
            of the four orders, n-grams of the four orders.

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


def _bleu_text(text: str, settings: ScoreSettings) -> str:
    """What sacreBLEU gets: the level's tokens joined by spaces for ``none``, the unsplit text otherwise."""
    if settings.tokenizer in (None, "none"):
        return " ".join(tokens(text, settings))
    return apply_convention(text, settings)
