"""chrF2 (Popović 2015) as sacreBLEU computes it, which tells the scores of sentences but not their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eval.metrics.scored_text import apply_convention
from eval.settings import ScoreSettings

ORDER, BETA = 6, 2


def chrf_counts(hypotheses: Sequence[str], references: Sequence[str], settings: ScoreSettings) -> list[list[float]]:
    """Eighteen counts of each sentence: of each order the character n-grams of hypothesis and reference, and those that
    match. White space is no character. Where a reference is too short for an order, its hypothesis has none either.
    """
    sides = (["".join(apply_convention(text, settings).split()) for text in side] for side in (hypotheses, references))
    return [
        [count for order in range(1, ORDER + 1) for count in _matches(hypothesis, reference, order)]
        for hypothesis, reference in zip(*sides, strict=True)
    ]


def chrf_of_counts(sums: Sequence[float]) -> float:
    """chrF2, x100, of ``chrf_counts`` summed over sentences: F of the mean precision and the mean recall of the orders
    that both sides have."""
    orders = [
        (right / said, right / wanted) for said, wanted, right in zip(*[iter(sums)] * 3, strict=True) if said and wanted
    ]
    precision, recall = (sum(values) / len(orders) for values in zip(*orders, strict=True)) if orders else (0.0, 0.0)
    if not precision + recall:
        return 0.0
    return min(100.0, 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall))


def _matches(hypothesis: str, reference: str, order: int) -> tuple[float, float, float]:
    said, wanted = len(hypothesis) - order + 1, len(reference) - order + 1
    if wanted <= 0 or said <= 0:
        return 0, max(0, wanted), 0
    left = Counter([hypothesis[start : start + order] for start in range(said)])
    right = Counter([reference[start : start + order] for start in range(wanted)])
    return said, wanted, sum([min(times, right[gram]) for gram, times in left.items() if gram in right])
